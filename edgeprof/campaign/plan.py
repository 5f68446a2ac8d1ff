"""What a campaign is to measure: models x devices x configurations x repetitions, from a plan.toml or from flags.

::

    name = "nightly"
    models = ["models/*.tflite"]          # beside the plan; a pattern is sorted by name
    groups = ["kitchen"]                  # or devices = ["pi4", "pi5"], or all = true
    repetitions = 3

    [defaults]                            # of every configuration
    operators = true

    [matrix]                              # every combination is a configuration
    runtime = ["litert", "tflite"]
    threads = [1, 4]
"""

from __future__ import annotations

import difflib
import glob
import itertools
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from device_agents import wire
from edgeprof import gate_timeout
from edgeprof.errors import PlanError
from edgeprof.profiling import Settings

__all__ = ["Configuration", "Plan", "Rest", "plan_of", "read_plan"]

Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
# So that a slip of the pen does not fill the store with a year of jobs.
MOST_CONFIGURATIONS = 10_000
RUNTIMES = ("onnxruntime", "litert", "tflite", "benchmark_model", "simulated")
# Configurations are multiplied out: which of them a wrong value stands in says nothing to whoever wrote it once.
IN_LIST = re.compile(r"`\$\.(configurations\[\d+\]\.)?")
TABLES = ("defaults", "matrix", "configurations")


class Configuration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How one job measures: the options of `edgeprof profile` under the same names; those in seconds end with `_s`.

    `clock_caps` has the highest clock in Hz by policy, as {policy0 = 1.2e9}.
    """

    name: str = ""
    runtime: Literal["onnxruntime", "litert", "tflite", "benchmark_model", "simulated"] | None = None
    threads: Count = 1
    streams: Count = 1
    affinity: tuple[int, ...] = ()
    spinning: bool | None = None
    clock_caps: dict[str, Annotated[float, msgspec.Meta(gt=0, le=1e11)]] = {}
    batch: Count | None = None
    shapes: dict[str, tuple[Count, ...]] = {}
    optimization: Literal["all", "extended", "basic", "none"] = "all"
    provider: str | None = None
    provider_options: dict[str, str] = {}
    xnnpack: bool = True
    delegate: str | None = None
    delegate_options: dict[str, str] = {}
    library: str | None = None
    operators: bool = False
    operator_runs: Count = 30
    energy: bool = False
    meter: str = ""
    energy_windows: Annotated[int, msgspec.Meta(ge=5, le=1000)] = 5
    energy_window_s: Annotated[float, msgspec.Meta(ge=10, le=3600)] = 10.0
    rounds: Count = 5
    min_runs: Count = 20
    min_s: Seconds = 1.0
    max_s: Seconds | None = None
    gate_timeout_s: Seconds = msgspec.field(default_factory=gate_timeout.usual_s)
    deadline_s: Annotated[float, msgspec.Meta(ge=1, le=1e6)] = 900.0
    seed: int = 0
    check_outputs: bool = True

    def settings(self) -> Settings:
        """As the profiler takes them."""
        usual_s = wire.Schedule().max_s
        return Settings(
            runtime=self.runtime,
            options=wire.RuntimeOptions(
                threads=self.threads,
                streams=self.streams,
                affinity=self.affinity,
                spinning=self.spinning,
                batch=self.batch,
                shapes=dict(self.shapes),
                optimization=self.optimization,
                provider=self.provider,
                provider_options=dict(self.provider_options),
                xnnpack=self.xnnpack,
                delegate=self.delegate,
                delegate_options=dict(self.delegate_options),
                library=self.library,
            ),
            schedule=wire.Schedule(
                rounds=self.rounds,
                min_runs=self.min_runs,
                min_s=self.min_s,
                max_s=max(usual_s, self.min_s) if self.max_s is None else self.max_s,
                operator_runs=self.operator_runs,
            ),
            gate=wire.Gate(timeout_s=self.gate_timeout_s),
            operators=self.operators,
            seed=self.seed,
            deadline_s=self.deadline_s,
            check_outputs=self.check_outputs,
            energy=wire.EnergyPlan(meter=self.meter, windows=self.energy_windows, window_s=self.energy_window_s)
            if self.energy
            else None,
            clock_caps=tuple(wire.ClockCap(policy, max_hz) for policy, max_hz in self.clock_caps.items()),
        )

    def title_among(self, others: Sequence[Configuration]) -> str:
        """Its name, or what sets it apart from the others; empty where it is the only one."""
        if self.name:
            return self.name
        mine = msgspec.structs.asdict(self)
        differing = [key for key, value in mine.items() if any(getattr(one, key) != value for one in others)]
        return " ".join(f"{key}={_worded(mine[key])}" for key in differing)


class Rest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a device does between two jobs: rest at least `min_s`, and until it is at `cool_c`, for at most `max_s`."""

    min_s: Seconds = 0.0
    cool_c: Annotated[float, msgspec.Meta(ge=-50, le=200)] | None = None
    max_s: Seconds = 300.0


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A campaign as it was asked for. Times are seconds.

    `time_budget_s` is for each device: none begins a job that would end after it. A job that failed for a reason that
    may pass is tried again, at most `retries` times, after `retry_delay_s` and twice as long each time. A device that
    cannot be reached for `lost_s`, or is held by somebody else for `wait_s`, is given up; when more than
    `fail_percent` of the devices were, the campaign stops. `quiet` closes the link while rounds are measured; None
    leaves that to each device (it is done where the job uses every CPU).
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] = "campaign"
    models: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    devices: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    all: bool = False
    repetitions: Count = 1
    seed: int = 0
    retries: Annotated[int, msgspec.Meta(ge=0, le=100)] = 2
    retry_delay_s: Seconds = 2.0
    lost_s: Seconds = 300.0
    wait_s: Seconds = 600.0
    time_budget_s: Annotated[float, msgspec.Meta(gt=0, le=1e9)] | None = None
    fail_percent: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    parallel: Count | None = None
    quiet: bool | None = None
    rest: Rest = Rest()
    configurations: tuple[Configuration, ...] = (Configuration(),)

    def title(self, configuration: int) -> str:
        """One of its configurations in a person's words; empty where it is the only one."""
        return self.configurations[configuration].title_among(self.configurations)


def read_plan(path: Path) -> Plan:
    """Read a plan; models become absolute paths, and every combination of its matrix a configuration.

    Raises:
        PlanError: names the file, the place in it and what is wrong.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = "it is no text" if isinstance(error, UnicodeDecodeError) else error.strerror
        advice = "name a plan such as docs/how-to/campaigns.md shows; a model is given by -m FILE"
        raise PlanError(f"{path}: cannot be read: {why}", advice) from error
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{path}: not valid TOML: {error}", "mend that line") from error
    return plan_of(raw, str(path), path.parent)


def plan_of(raw: Mapping[str, Any], where: str, folder: Path) -> Plan:
    """The plan that such a document means; `folder` is where its relative paths begin.

    Raises:
        PlanError: names the place in it and what is wrong.
    """
    _check_keys(raw, (*Plan.__struct_fields__, *TABLES), where)
    defaults, matrix = _table(raw, "defaults", where), _table(raw, "matrix", where)
    given = raw.get("configurations", [{}])
    if not (isinstance(given, list) and given and all(isinstance(one, dict) for one in given)):
        raise PlanError(f"{where}: configurations is not a list of tables", "write [[configurations]] above each")
    bodies = [defaults | one | combination for one in given for combination in _combinations(matrix, where)]
    if len(bodies) > MOST_CONFIGURATIONS:
        raise PlanError(f"{where}: {len(bodies)} configurations are too many", f"at most {MOST_CONFIGURATIONS}")
    for body in bodies:
        _check_keys(body, Configuration.__struct_fields__, f"{where}: a configuration")
    rest = {key: value for key, value in raw.items() if key not in TABLES}
    try:
        plan = msgspec.convert({**rest, "configurations": bodies}, Plan)
    except msgspec.ValidationError as error:
        raise PlanError(
            f"{where}: {IN_LIST.sub('`', str(error))}", f"{_hint(str(error))}see docs/how-to/campaigns.md"
        ) from error
    _check_values(plan, where)
    return msgspec.structs.replace(plan, models=_models(plan.models, folder, where))


def _hint(said: str) -> str:
    """What such a value may be."""
    if ".runtime`" in said:
        return f"runtimes are {', '.join(RUNTIMES)}; "
    return "" if "`$" in said else 'write models = ["model.onnx"]; '


def _check_keys(given: Iterable[str], known: Sequence[str], where: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            advice = f"did you mean {near[0]}?" if near else f"keys are {', '.join(known)}"
            raise PlanError(f"{where}: unknown key {key!r}", advice)


def _table(raw: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    table = raw.get(key, {})
    if not isinstance(table, dict):
        raise PlanError(f"{where}: {key} is not a table", f"write [{key}] above its keys")
    return dict(table)


def _combinations(matrix: dict[str, Any], where: str) -> list[dict[str, Any]]:
    for key, values in matrix.items():
        if not (isinstance(values, list) and values):
            raise PlanError(f"{where}: matrix.{key} is not a list of values", f"write {key} = [1, 2]")
    return [dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())]


def _check_values(plan: Plan, where: str) -> None:
    if not (plan.devices or plan.groups or plan.all):
        raise PlanError(f"{where}: no device is named", 'write devices = ["pi5"], groups = ["kitchen"] or all = true')
    for one in plan.configurations:
        if one.max_s is not None and one.max_s < one.min_s:
            raise PlanError(f"{where}: max_s = {one.max_s:g} is less than min_s = {one.min_s:g}", "mend one of them")
    twice = [one for k, one in enumerate(plan.configurations) if one in plan.configurations[:k]]
    if twice:
        shown = msgspec.to_builtins(twice[0]) or "all by default"
        raise PlanError(f"{where}: a configuration is there twice: {shown}", "use repetitions for that")


def _models(patterns: Sequence[str], folder: Path, where: str) -> tuple[str, ...]:
    """Absolute paths, each once, in the order of asking."""
    found: dict[str, None] = {}
    for pattern in patterns:
        whole = str((folder / Path(pattern).expanduser()).absolute())
        paths = sorted(glob.glob(whole, recursive=True)) if glob.has_magic(pattern) else [whole]  # noqa: PTH207
        if not paths:
            raise PlanError(f"{where}: no file is like {pattern!r} in {folder}", "mend the pattern in models")
        found.update(dict.fromkeys(paths))
    return tuple(found)


def _worded(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}:{_worded(one)}" for key, one in value.items())
    return (
        ",".join(map(str, value))
        if isinstance(value, list | tuple)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
