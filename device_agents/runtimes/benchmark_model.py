"""TFLite's own `benchmark_model`, a program that the user has put on the device: it runs where no wheel does.

It times itself and tells sums alone, so that it has passes of its own (benchmark_passes) instead of a `Session`. Only
long-standing flags are used: a program that does not know one may refuse to run, or go on without it.
"""

import contextlib
import os
from typing import Callable, Dict, Iterator, List, NoReturn, Optional, Sequence, Tuple, TypeVar

from device_agents.machine import Machine
from device_agents.runtimes import RuntimeRefusal
from device_agents.runtimes.benchmark_output import (
    Row,
    Timings,
    UnknownOutput,
    complaint,
    read_operators,
    read_timings,
)
from device_agents.runtimes.options import affinity_text, require_options
from device_agents.runtimes.tflite_file import require_whole
from device_agents.wire import Job

Told = TypeVar("Told")

NAME = "benchmark_model"
CSV = "operators.csv"
# Of one run; TFLite's default of 1024 loses what large models have beyond it.
PROFILING_ENTRIES = 65536
# Beside warm-up and runs, each of which `--max_secs` ends: start, reading the model, printing.
START_S = 60.0
DIGEST_S = 30.0


class BenchmarkModel:
    """The program with a model, ready to be started; `version` is its file's digest: it does not tell its version."""

    def __init__(self, job: Job, machine: Machine, program: str, folder: str, model_path: str) -> None:
        self._job = job
        self._machine = machine
        self._program = program
        self._folder = folder
        self._model_path = model_path
        self.version = _digest(machine, program)

    def time(self, min_runs: int, min_s: float, max_s: float) -> Timings:
        """One start: warm-up, then at least so many runs and seconds, or at most so many seconds.

        Raises:
            RuntimeRefusal: it does not run, or says what cannot be read.
        """
        output = self._start(self._flags(min_runs, min_s, max_s), max_s)
        return self._read(output, read_timings)

    def operators(self, n_runs: int, max_s: float) -> Tuple[Timings, Tuple[Row, ...], str]:
        """One start with operator profiling; (timings, operators, "CSV" or "text").

        Times in CSV have six digits, those of the table end at a microsecond; programs without the flag print it.
        """
        flags = [*self._flags(n_runs, 0.0, max_s), "--enable_op_profiling=true"]
        flags.append(f"--max_profiling_buffer_entries={PROFILING_ENTRIES}")
        path = f"{self._folder}/{CSV}"
        try:
            output = self._start([*flags, f"--profiling_output_csv_file={path}"], max_s)
            table, form = self._machine.read(path), "CSV"
        except (OSError, RuntimeRefusal):
            output = self._start(flags, max_s)
            table, form = output, "text"
        return self._read(output, read_timings), self._read(table, read_operators), form

    def in_force(self, told: Timings) -> Dict[str, str]:
        options = self._job.options
        return {
            "api": NAME,
            "program": self._program,
            "output_format": told.form,
            "threads": str(options.threads),
            "affinity": affinity_text(options.affinity),
            "xnnpack": _xnnpack(told.delegation) if options.xnnpack else "off",
            "load_and_initialise": "one call",
            "samples": "the mean of each round: the program does not tell single latencies",
            "inputs": "random, made by the program",
        }

    def _flags(self, n_runs: int, min_s: float, max_s: float) -> List[str]:
        options = self._job.options
        return [
            f"--graph={self._model_path}",
            f"--num_threads={options.threads}",
            f"--use_xnnpack={'true' if options.xnnpack else 'false'}",
            f"--num_runs={n_runs}",
            f"--min_secs={min_s:g}",
            f"--max_secs={max_s:g}",
            f"--warmup_runs={max(1, self._job.schedule.warmup_min_runs)}",
        ]

    def _start(self, flags: Sequence[str], max_s: float) -> str:
        argv = [self._program, *flags]
        if self._job.options.affinity:
            # A mask without 0x is what util-linux and Android's toybox both read.
            argv = ["taskset", f"{sum(1 << cpu for cpu in set(self._job.options.affinity)):x}", *argv]
        try:
            code, output = self._machine.run_tool(argv, 2 * max_s + START_S)
        except (FileNotFoundError, PermissionError) as error:
            raise RuntimeRefusal(
                "runtime-missing",
                f"{self._program} cannot be run on the device: {error.strerror or error}",
                "put TFLite's benchmark_model for that system there, make it executable (chmod +x), and name its path: "
                "edgeprof devices add NAME ADDRESS --benchmark-model PATH",
            ) from error
        except OSError as error:
            raise RuntimeRefusal("device-error", str(error), "look at the device; then try again") from error
        if code != 0:
            self._refuse(output, f"it ended with code {code}")
        return output

    def _refuse(self, output: str, what: str) -> NoReturn:
        said = complaint(output)
        last = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "")
        words = said or (f"its last line is {last[:200]!r}" if last else "it printed nothing")
        kind = "model-invalid" if "oad model" in words or "interpreter" in words else "device-error"
        raise RuntimeRefusal(
            kind, f"{self._program}: {what}; {words}", "try it by hand on the device with --graph=MODEL", output[-4000:]
        )

    def _read(self, output: str, reader: Callable[[str], Told]) -> Told:
        try:
            return reader(output)
        except UnknownOutput as error:
            raise RuntimeRefusal(
                "unknown-output",
                f"{self._program}: {error}",
                "known are the formats as of TensorFlow 2.3, and as of 2.15 and LiteRT; send the recording that "
                "docs/examples/record_phone.sh makes, and this one can be read, too",
                output[-4000:],
            ) from error


@contextlib.contextmanager
def prepared(job: Job, model_path: str, machine: Machine) -> Iterator[BenchmarkModel]:
    """The program with the job's model where it can read it.

    Raises:
        RuntimeRefusal: it is not named, or cannot do what the job asks.
    """
    program = _require_sense(job)
    require_whole(model_path, job.model.name)
    try:
        with machine.workplace(model_path) as (folder, path):
            yield BenchmarkModel(job, machine, program, folder, path)
    except OSError as error:
        raise RuntimeRefusal("device-error", f"the model does not get there: {error}", "make room there") from error


def _require_sense(job: Job) -> str:
    options = job.options
    require_options(options, NAME, ("xnnpack", "library"))
    if options.library is None:
        raise RuntimeRefusal(
            "runtime-missing",
            "where benchmark_model is on the device is not known",
            "name its path: edgeprof devices add NAME ADDRESS --benchmark-model PATH",
        )
    refused = {
        "values or shapes of inputs": bool(job.inputs or options.shapes or options.batch is not None),
        "rounds without rest": job.schedule.without_rest_s is not None,
    }
    what = next((name for name, is_asked in refused.items() if is_asked), None)
    if what is not None:
        raise RuntimeRefusal("bad-option", f"{NAME} cannot be given {what}", "leave that out")
    return options.library


def _xnnpack(delegation: Optional[str]) -> str:
    if delegation is None:
        return "asked for: the program does not tell whether it is active"
    if not delegation.startswith("XNNPACK"):
        return f"unknown: the model was given to another delegate ({delegation})"
    words = {"completely": "active: of the whole graph", "partially": "active: of a part of the graph"}
    return words.get(delegation.split()[1], "not active: it took no node")


def _digest(machine: Machine, program: str) -> str:
    answer = machine.ask(["sha256sum", program], DIGEST_S)
    return (
        f"sha256:{answer.split()[0][:12]}" if answer and answer.split() else f"of {os.path.basename(program)}, unknown"
    )


def open_session(job: Job, model_path: str, machine: Machine, profiled: bool) -> NoReturn:
    """There is none: what needs single runs cannot be had of it.

    Raises:
        RuntimeRefusal: always.
    """
    raise RuntimeRefusal(
        "bad-option",
        f"{NAME} shows no single runs: no energy, no outputs",
        "leave --energy out, or use another runtime",
    )
