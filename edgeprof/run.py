"""A `Run` is what the store keeps: a device's raw `Profile` with what only the host knows about it.

Statistics and verdicts are not stored: they are computed from the raw samples whenever they are shown.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, field

import msgspec

from device_agents.wire import EnergyPass, Profile, RuntimeOptions
from edgeprof.errors import StoreError
from latency_models.kernels import KernelSpec

__all__ = [
    "SCHEMA",
    "Described",
    "Operator",
    "OperatorLoop",
    "OperatorLoops",
    "OutputCheck",
    "OutputDifference",
    "Run",
    "check_run",
    "check_schema",
    "decode_run",
    "encode_run",
    "new_run_id",
]

# Version of the JSON document of a run (docs/reference/run.md). History:
# 1  first version
SCHEMA = 1
# What a person can type, what no shell and no terminal interprets, and what cannot be mistaken for a path.
RUN_ID = re.compile(r"(?!latest$)[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# The end of the year 9999, the last that Python's datetime can show.
END_OF_TIME_S = 253_402_300_800
REREAD = "export the run again where it came from: edgeprof runs export ID --json FILE"
UNWRITABLE = "every number of a run must be finite and every text valid Unicode; profile again and report this"


@dataclass(frozen=True, kw_only=True)
class Operator:
    """What one timed kernel means in the words of the user's file.

    `kernel` is its index in `profile.operators.kernels`, where the raw times are. `origin` is "node" (one node of
    the file), "fused" (several), "layout" (inserted by the runtime to rearrange data) or "unmapped". `macs` and the
    byte count are None where they could not be derived. `block` and `layer` are the part of the network that its nodes
    belong to (docs/measuring.md, groups of operators), None where nothing tells.
    """

    kernel: int
    origin: str
    nodes: tuple[str, ...] = ()
    node_types: tuple[str, ...] = ()
    input_shapes: tuple[tuple[int, ...], ...] = ()
    output_shapes: tuple[tuple[int, ...], ...] = ()
    macs: int | None = None
    moved_bytes: int | None = None
    block: str | None = None
    layer: str | None = None


@dataclass(frozen=True, kw_only=True)
class OutputDifference:
    """One output of the device against the reference's, value by value: `n_compared` of `n_values`.

    `n_unequal` counts values that are not the same (NaN is the same as NaN), `n_not_finite` those of them where one
    side has NaN or infinity and the other has not, or another. `max_error` and `cosine` are of the values that are
    finite on both sides, `peak` is the largest magnitude among the reference's. None where it cannot be computed:
    `missing` says why nothing could be compared, `cosine_missing` why there is no cosine.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    n_values: int
    n_compared: int = 0
    n_unequal: int | None = None
    n_not_finite: int | None = None
    cosine: float | None = None
    cosine_missing: str | None = None
    max_error: float | None = None
    max_error_of_peak: float | None = None
    peak: float | None = None
    missing: str | None = None


@dataclass(frozen=True, kw_only=True)
class OutputCheck:
    """The device's outputs of the first inference against those of the same runtime on the host.

    What the reference was is told so that anybody can repeat it: with the run's model, seed and these options.
    """

    runtime: str
    runtime_version: str
    python: str
    architecture: str
    options: RuntimeOptions
    in_force: dict[str, str]
    outputs: tuple[OutputDifference, ...]


@dataclass(frozen=True, kw_only=True)
class Structure:
    """How the nodes of the file and the timed kernels cover each other.

    Every node is grouped (in the nodes of exactly one group of kernels), folded (computed when the model was loaded),
    idle (in a branch that was not taken), or a failure: repeated (in several groups) or missing (in none). A kernel of
    which nobody knows the origin is a failure too: unmapped. Of failures the first 50 are named, kernels by index.
    """

    n_nodes: int
    n_grouped: int
    n_folded: int
    n_idle: int
    n_repeated: int = 0
    n_missing: int = 0
    n_unmapped: int = 0
    repeated: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unmapped: tuple[int, ...] = ()

    @property
    def n_failures(self) -> int:
        return self.n_repeated + self.n_missing + self.n_unmapped


@dataclass(frozen=True, kw_only=True)
class Described:
    """Timed kernels in the words that predictors learn from: what they were given, and the types of the nodes they ran.

    `kernels` are indices as in `Operator.kernel`: several where the runtime made several kernels of the same nodes.
    """

    kernels: tuple[int, ...]
    kernel: KernelSpec
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OperatorLoop:
    """An operator as the runtime executed it, cut out as a small model of its own and measured in a loop.

    It stands for all `kernels` (indices as in `Operator.kernel`) that are the same operator on the same shapes.
    `model_digest` is that of the small model. `missing` says why there is no `energy`.
    """

    kernels: tuple[int, ...]
    model_digest: str | None = None
    energy: EnergyPass | None = None
    missing: str | None = None


@dataclass(frozen=True, kw_only=True)
class OperatorLoops:
    """The loops of every distinct operator, measured in the order that `seed` shuffled them into.

    `empty` is the same loop around a model that does nothing: what calling the runtime costs. None where there is none,
    and `empty_missing` says why.
    """

    seed: int
    operators: tuple[OperatorLoop, ...]
    empty: EnergyPass | None = None
    empty_missing: str | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """One profile as it is stored and exported. `operators[i]` explains kernel `operators[i].kernel`.

    `notes` says in words what of the mapping is doubtful, which nodes of the file no kernel covers, and which runtimes
    were passed over and why. `stages_s` tells where the host's time went (connect, probe, push, profile, map).
    `structure` is the structural check of the operators; None where they were not timed.
    `output_check_missing` says why outputs were not compared; both are None in documents from before that was done.
    `loops` has the raw energy of single operators; `loops_missing` says why not. `described` is what predictors learn
    from.
    """

    id: str
    created_at_s: float
    device: str
    edgeprof_version: str
    profile: Profile
    operators: tuple[Operator, ...] = ()
    notes: tuple[str, ...] = ()
    stages_s: dict[str, float] = field(default_factory=dict)
    output_check: OutputCheck | None = None
    output_check_missing: str | None = None
    structure: Structure | None = None
    loops: OperatorLoops | None = None
    loops_missing: str | None = None
    described: tuple[Described, ...] = ()
    schema: int = SCHEMA


def new_run_id(now_s: float | None = None) -> str:
    """A short id that sorts by time: UTC date and time, then four random hex digits."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(time.time() if now_s is None else now_s))
    return f"{stamp}-{secrets.token_hex(2)}"


def encode_run(run: Run) -> bytes:
    """The run as JSON, which `decode_run` reads back as an equal run.

    Raises:
        StoreError: it is inconsistent, or holds what JSON cannot carry (NaN, infinity, half a surrogate pair).
    """
    check_run(run, f"run {run.id}")
    try:
        document = msgspec.json.encode(run)
        # msgspec writes NaN as null, which nobody could read back as a number: find out now, not years later.
        same = msgspec.json.decode(document, type=Run) == run
    except (msgspec.MsgspecError, ValueError, OverflowError, TypeError) as error:
        raise StoreError(f"run {run.id}: cannot be written as JSON: {error}", UNWRITABLE) from error
    if not same:
        raise StoreError(f"run {run.id}: would not read back as it was written", UNWRITABLE)
    return document


def decode_run(document: bytes | str, where: str) -> Run:
    """Read a run; `where` names its place in messages. Unknown fields are ignored.

    Raises:
        StoreError: not JSON, a newer schema, or a field of a wrong shape, which the message names by its path.
    """
    try:
        head = msgspec.json.decode(document, type=_Head)
        check_schema(head.schema, where)
        run = msgspec.json.decode(document, type=Run)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise StoreError(f"{where}: not a run: {error}", REREAD) from error
    check_run(run, where)
    return run


class _Head(msgspec.Struct):
    schema: int = SCHEMA


def check_schema(schema: int, where: str) -> None:
    """Refuse a document that a newer edgeprof wrote.

    Raises:
        StoreError: it is newer than this edgeprof knows.
    """
    if not 1 <= schema <= SCHEMA:
        raise StoreError(
            f"{where}: the run has schema {schema}, this edgeprof reads 1 to {SCHEMA}",
            "install a newer edgeprof: pip install --upgrade edgeprof",
        )


def check_run(run: Run, where: str) -> None:
    """Refuse what the types allow but no reader could use.

    Raises:
        StoreError: an impossible id or date, or an operator that points at no kernel.
    """
    if not RUN_ID.fullmatch(run.id):
        raise StoreError(
            f"{where}: {run.id!r} cannot be a run's id", "an id is letters, digits and ._- as in 20260131-1200"
        )
    if not 0 <= run.created_at_s < END_OF_TIME_S:
        raise StoreError(f"{where}: created_at_s is {run.created_at_s}, which is no date", REREAD)
    kernels = run.profile.operators.kernels if run.profile.operators else ()
    for k, operator in enumerate(run.operators):
        if not 0 <= operator.kernel < len(kernels):
            raise StoreError(
                f"{where}: operators[{k}].kernel is {operator.kernel}, but the profile has {len(kernels)} kernels",
                REREAD,
            )
