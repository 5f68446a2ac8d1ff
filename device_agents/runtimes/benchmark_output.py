"""What TFLite's `benchmark_model` prints: timings, and operators as a table or as CSV.

Two generations of the format are known, from TensorFlow's sources (core/util/stats_calculator.cc,
lite/profiling/profile_summarizer.cc, lite/tools/logging.h) and from logs that people posted:

- as of TensorFlow 2.3: no prefix, tables with a column [start] (tensorflow/tensorflow issue 42507);
- as of TensorFlow 2.15 and LiteRT: lines begin with "INFO: ", no [start], XNNPACK's operators stand in the same table
  (issue 62775), and newer ones tell p5, median and p95 as well.

Times are printed in microseconds (timings) and milliseconds (tables); they leave here in seconds.
"""

import re
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from device_agents.wire import Kernel

OLD, NEW = "as of TensorFlow 2.3", "as of TensorFlow 2.15 and LiteRT"
NUMBER = r"[0-9.]+(?:e[+-]?\d+)?"
TIMINGS = re.compile(
    rf"Inference timings in us: Init: ({NUMBER}), First inference: ({NUMBER}), "
    rf"Warmup \(avg\): ({NUMBER}), Inference \(avg\): ({NUMBER})\s*$"
)
# A stream of equal values prints "count=7 curr=812(all same)", one value "count=1 curr=812".
COUNTED = re.compile(r"^count=(\d+) ")
FIELD = re.compile(rf"(\w+)=({NUMBER})")
PREFIX = re.compile(r"^(?:\x1b\[[0-9;]*[A-Za-z])*(?:INFO: )?")
REGULAR = "Operator-wise Profiling Info for Regular Benchmark Runs:"
RUN_ORDER, OTHER_TABLE = "= Run Order =", re.compile(r"^=+ (?!Run Order)")
SUBGRAPH = re.compile(r"^Subgraph \(index: (\d+)[^)]*\) profile:")
# A node is named by its outputs and its index; a delegate's operator by its class and its place.
NODE, DELEGATED = re.compile(r"^\[.*\]:(\d+)$", re.DOTALL), re.compile(r"^Delegate/(.*):(\d+)$", re.DOTALL)
TAKEN = re.compile(r"[Aa]pplied (\w+) delegate, and the model graph will be (completely|partially)")
UNTAKEN = re.compile(r"Though (\w+) delegate is explicitly applied, the model graph will not be")
OWN_WORDS = re.compile(r"^(?:ERROR|FATAL): (.*)$", re.MULTILINE)
S_PER_US, S_PER_MS = 1e-6, 1e-3


class UnknownOutput(Exception):
    """A line that was expected is not there, or one cannot be read; the message quotes it."""


@dataclass(frozen=True)
class Spent:
    """What is told of some runs: single latencies are not."""

    n_runs: int
    mean_s: float
    min_s: float
    max_s: float
    std_s: float


@dataclass(frozen=True)
class Timings:
    """One start of the program; `delegation` is how much of the model a delegate took, where it says so."""

    form: str
    initialise_s: float
    first_inference_s: float
    warmup: Spent
    regular: Spent
    delegation: Optional[str] = None


@dataclass(frozen=True)
class Row:
    """One operator: its time in a run, all its calls together."""

    kernel: Kernel
    time_s: float


def read_timings(output: str) -> Timings:
    """The timings of one start.

    Raises:
        UnknownOutput: they are not there, or not in a format that is known.
    """
    lines = [PREFIX.sub("", line) for line in output.splitlines()]
    found = next((match for line in lines for match in [TIMINGS.search(line)] if match), None)
    if found is None:
        near = next((line for line in lines if "nference timings" in line or "imings in us" in line), None)
        what = (
            f"cannot read the line {near!r}"
            if near
            else f"there is no line 'Inference timings in us: ...'{_end(lines)}"
        )
        raise UnknownOutput(what)
    counted = [line for line in lines if COUNTED.match(line)]
    if len(counted) < 2:
        raise UnknownOutput(
            f"two lines 'count=...' were expected (warm-up, runs), there are {len(counted)}{_end(lines)}"
        )
    init_us, first_us, warmup_us, regular_us = (float(value) for value in found.groups())
    form = NEW if "INFO: Inference timings" in output else OLD
    return Timings(
        form=form,
        initialise_s=init_us * S_PER_US,
        first_inference_s=first_us * S_PER_US,
        warmup=_spent(counted[0], warmup_us),
        regular=_spent(counted[1], regular_us),
        delegation=_delegation(lines),
    )


def _delegation(lines: Sequence[str]) -> Optional[str]:
    """Of several delegates the last: it took what the others had left."""
    found = [match for line in lines for match in [TAKEN.search(line) or UNTAKEN.search(line)] if match]
    if not found:
        return None
    how_much = found[-1].groups()[1] if len(found[-1].groups()) > 1 else "not"
    return f"{found[-1][1]} {how_much}"


def _spent(line: str, mean_us: float) -> Spent:
    fields = {name: float(value) for name, value in FIELD.findall(line)}
    if "curr" not in fields or fields["count"] < 1:
        raise UnknownOutput(f"cannot read the line {line!r}")
    least, most = fields.get("min", fields["curr"]), fields.get("max", fields["curr"])
    return Spent(
        n_runs=int(fields["count"]),
        mean_s=mean_us * S_PER_US,
        min_s=least * S_PER_US,
        max_s=most * S_PER_US,
        std_s=fields.get("std", 0.0) * S_PER_US,
    )


def complaint(output: str) -> Optional[str]:
    """What the program itself says is wrong, if it does."""
    said = OWN_WORDS.findall(output)
    return "; ".join(line.strip() for line in said[:3]) if said else None


def _end(lines: Sequence[str]) -> str:
    said = [line.strip() for line in lines if line.strip()]
    return f"; its last line is {said[-1][:200]!r}" if said else "; it printed nothing"


def read_operators(text: str) -> Tuple[Row, ...]:
    """Operators in order of execution, from the program's output or from its CSV file.

    Raises:
        UnknownOutput: there is no table of them, or a line of it cannot be read.
    """
    lines = [PREFIX.sub("", line) for line in text.splitlines()]
    start = next((k for k, line in enumerate(lines) if line.startswith(REGULAR)), None)
    if start is None:
        raise UnknownOutput(f"there is no line {REGULAR!r}{_end(lines)}")
    rows: Dict[str, Row] = {}
    columns: Optional[_Columns] = None
    is_in_order, subgraph = False, 0
    for line in lines[start + 1 :]:
        named = SUBGRAPH.match(line)
        if named:
            subgraph = int(named[1])
        elif RUN_ORDER in line:
            is_in_order, columns = True, None
        elif not line.strip() or OTHER_TABLE.match(line):
            is_in_order = False
        elif is_in_order and columns is None:
            columns = _Columns(line)
        elif is_in_order and columns is not None:
            row = columns.row(line, subgraph)
            if row is not None:
                rows[row.kernel.name] = row
    if not rows:
        raise UnknownOutput(f"the table after {REGULAR!r} has no operators")
    return tuple(rows.values())


class _Columns:
    """The columns of a table, as its first line names them.

    Commas stand inside names and types, so that a line of CSV is taken apart around its numbers.
    """

    def __init__(self, header: str) -> None:
        self._is_text = header.startswith("\t")
        split = header.split("\t")[1:] if self._is_text else header.split(", ")
        names = [name.strip().strip("[]").replace("_", " ").lower() for name in split]
        if not {"node type", "avg ms", "times called", "name"} <= set(names) or names[-1] != "name":
            raise UnknownOutput(f"cannot read the line {header!r}: columns of a table were expected")
        numbers = names[1:-1]
        self._mean, self._calls = numbers.index("avg ms"), numbers.index("times called")
        gap = r"\t\s*" if self._is_text else ", "
        value = rf"({NUMBER}|-?nan|inf)%?"
        self._line = re.compile(rf"^\s*(.+?){(gap + value) * len(numbers)}{gap}(.*)$", re.DOTALL)

    def row(self, line: str, subgraph: int) -> Optional[Row]:
        """What a line says of an operator; None for one of something else, such as the allocation of tensors."""
        found = self._line.match(line)
        if found is None:
            raise UnknownOutput(f"cannot read the line {line!r} of the table of operators")
        kind, numbers, name = found[1].strip(), found.groups()[1:-1], found.groups()[-1].strip()
        kernel = _kernel(kind, name.replace("\t", ","), subgraph)
        if kernel is None:
            return None
        # 0 calls: fewer than one in each run, as whole numbers have it.
        return Row(kernel, float(numbers[self._mean]) * S_PER_MS * max(1, int(float(numbers[self._calls]))))


def _kernel(kind: str, name: str, subgraph: int) -> Optional[Kernel]:
    """Names are made as those of the other TFLite runtimes are (tflite_events)."""
    node, delegated = NODE.match(name), DELEGATED.match(name)
    if node:
        index = int(node[1])
        where = f"{subgraph}:{index}" if subgraph else str(index)
        short = kind.split("/")[0]
        return Kernel(f"{short} {where}", short, "node", (), node=index, subgraph=subgraph)
    if delegated:
        return Kernel(f"{delegated[1]} part 0 {delegated[2]}", delegated[1], "delegate", (), subgraph=subgraph)
    return None


def without_delegates(rows: Sequence[Row]) -> Tuple[Tuple[Row, ...], List[str]]:
    """Where a delegate's operators are listed, its own rows would count them a second time; (rows, notes)."""
    if not any(row.kernel.level == "delegate" for row in rows):
        return tuple(rows), []
    kept = tuple(row for row in rows if row.kernel.level == "delegate" or "delegate" not in row.kernel.type.lower())
    n_left = len(rows) - len(kept)
    notes = [f"{n_left} rows of whole delegates are left out: their operators are listed"] if n_left else []
    return kept, notes
