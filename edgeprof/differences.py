"""Every recorded condition in which two runs differ, the likeliest causes of a different latency first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from device_agents.wire import Conditions, Profile
from edgeprof.run import Run
from edgeprof.throttling import PI_BITS
from edgeprof.verdict import conditions, other_busy_share, stolen_share

__all__ = ["KINDS", "Difference", "Kind", "why"]

Value = str | float | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One recorded condition that differs; `a` and `b` are texts with units, "not recorded" where one has none.

    `rank` counts from 1, the likeliest cause first; `because` says how the condition acts on latency.
    """

    rank: int
    condition: str
    a: str
    b: str
    because: str


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A family of conditions. Numbers closer than `tolerance` (absolute) or `relative` count as equal."""

    because: str
    read: Callable[[Run], Mapping[str, Value]]
    unit: str = ""
    scale: float = 1.0
    tolerance: float = 0.0
    relative: float = 0.0


def why(a: Run, b: Run) -> list[Difference]:
    """The recorded conditions that differ between two runs, ranked by how plausibly and strongly they act on latency.

    The ranking is a table of judgement (docs/measuring.md), not a statistical finding.
    """
    found = [
        (kind, name, left.get(name), right.get(name))
        for kind in KINDS
        for left, right in [(kind.read(a), kind.read(b))]
        for name in dict.fromkeys([*left, *right])
        if _differ(kind, left.get(name), right.get(name))
    ]
    return [
        Difference(rank=rank, condition=name, a=_text(kind, x), b=_text(kind, y), because=kind.because)
        for rank, (kind, name, x, y) in enumerate(found, 1)
    ]


def _differ(kind: Kind, a: Value, b: Value) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) > max(kind.tolerance, kind.relative * max(abs(a), abs(b)))
    return a != b


def _text(kind: Kind, value: Value) -> str:
    if value is None:
        return "not recorded"
    return f"{value * kind.scale:.4g}{kind.unit}" if isinstance(value, float) else value


# --- what is read from a run ---------------------------------------------------------------------------------------


def _fields(prefix: str, record: object) -> dict[str, Value]:
    if not dataclasses.is_dataclass(record):
        return {}
    values = ((f.name, getattr(record, f.name)) for f in dataclasses.fields(record))
    return {f"{prefix} {name}": _plain(value) for name, value in values}


def _plain(value: object) -> Value:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_plain(value[key])}" for key in sorted(value)) or "none"
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value) or "none"
    if isinstance(value, float):
        return value
    return None if value is None else str(value)


def _model(run: Run) -> dict[str, Value]:
    return {"model digest": run.profile.job.model.digest, "model format": run.profile.job.model.format}


def _device(run: Run) -> dict[str, Value]:
    p = run.profile
    hardware = ("model", "architecture", "cpu", "n_cpus", "memory_bytes", "emulator")
    machine = {f"machine {name}": _plain(getattr(p.machine, name)) for name in hardware}
    return {"origin": p.origin, "device": run.device, **machine} | _board(p)


def _board(p: Profile) -> dict[str, Value]:
    board = p.job.board
    if board is None:
        return {}
    values = _fields("board", board)
    values.pop("board clusters")
    for cluster in board.clusters:
        values |= _fields(f"board {cluster.name}", cluster)
    return values


def _in_force(run: Run) -> dict[str, Value]:
    return {f"in force: {key}": value for key, value in run.profile.in_force.items()}


def _throttling(run: Run) -> dict[str, Value]:
    seen = [c.throttled for c in conditions(run.profile) if c.throttled is not None]
    if not seen:
        return {"throttle bits": None}
    bits = 0
    for value in seen:
        bits |= value
    names = ", ".join(name for bit, name in PI_BITS.items() if bits >> bit & 1)
    return {"throttle bits": f"{bits:#x} ({names or 'none now'})"}


def _clocks(run: Run) -> dict[str, Value]:
    found: dict[str, Value] = {}
    ends = [r.after for r in run.profile.rounds]
    for policy in _policies(run.profile):
        clocks = [c for look in ends for c in look.clocks if c.cpus == policy]
        for name, values in (
            ("clock after the rounds", [c.current_hz for c in clocks if c.current_hz is not None]),
            ("lowest clock allowed", [c.min_hz for c in clocks if c.min_hz is not None]),
            ("highest clock allowed", [c.max_hz for c in clocks if c.max_hz is not None]),
        ):
            found[f"{name}, CPUs {policy}"] = median(values) if values else None
    return found


def _governors(run: Run) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for policy in _policies(run.profile):
        clocks = [c for look in conditions(run.profile) for c in look.clocks if c.cpus == policy]
        names = dict.fromkeys(c.governor for c in clocks if c.governor)
        found[f"governor, CPUs {policy}"] = " then ".join(names) or None
    return found


def _policies(profile: Profile) -> list[str]:
    return list(dict.fromkeys(c.cpus for look in conditions(profile) for c in look.clocks))


def _temperatures(run: Run) -> dict[str, Value]:
    looks = conditions(run.profile)
    zones = dict.fromkeys(zone for look in looks for zone in look.temperatures_c)
    return {
        f"hottest {zone}": max(look.temperatures_c[zone] for look in looks if zone in look.temperatures_c)
        for zone in zones
    }


def _power(run: Run) -> dict[str, Value]:
    sources = dict.fromkeys(look.power_source for look in conditions(run.profile) if look.power_source)
    return {"power source": " then ".join(sources) or None}


def _load(run: Run) -> dict[str, Value]:
    return {
        "CPU share of other programs": other_busy_share(run.profile),
        "CPU share of other virtual machines": stolen_share(run.profile),
    } | _pressure(run.profile)


def _pressure(profile: Profile) -> dict[str, Value]:
    spans = [(r.before, r.after) for r in profile.rounds]
    lasted = sum(after.at_s - before.at_s for before, after in spans)
    if lasted <= 0:
        return {}
    resources = dict.fromkeys(key for before, _ in spans for key in before.pressure_s)
    return {f"{key} pressure": sum(_waited(key, *span) for span in spans) / lasted for key in resources}


def _waited(key: str, before: Conditions, after: Conditions) -> float:
    if key not in before.pressure_s or key not in after.pressure_s:
        return 0.0
    return after.pressure_s[key] - before.pressure_s[key]


def _load_average(run: Run) -> dict[str, Value]:
    seen = [look.load_1min for look in conditions(run.profile) if look.load_1min is not None]
    return {"load average": seen[0] if seen else None}


def _gate(run: Run) -> dict[str, Value]:
    missed = sum(not r.gate.passed for r in run.profile.rounds)
    return {"rounds begun without passing the gate": str(missed)}


def _memory(run: Run) -> dict[str, Value]:
    seen = [m for look in conditions(run.profile) if (m := look.memory_available_bytes) is not None]
    return {"least memory available": float(min(seen)) if seen else None}


def _software(run: Run) -> dict[str, Value]:
    p = run.profile
    return {
        "kernel": p.machine.kernel,
        "libc": p.machine.libc,
        "python": p.python,
        "agent digest": p.agent_digest,
        "edgeprof version": run.edgeprof_version,
    }


# Most plausible and strongest first. A literal table: docs/measuring.md repeats it for readers.
KINDS: tuple[Kind, ...] = (
    Kind(because="another model is other work", read=_model),
    Kind(because="another machine computes at another speed", read=_device),
    Kind(
        because="another runtime has other kernels",
        read=lambda run: {"runtime": run.profile.job.runtime},
    ),
    Kind(because="what the runtime really did: kernels, threads and delegates", read=_in_force),
    Kind(
        because="options choose kernels, threads and CPUs",
        read=lambda run: _fields("option", run.profile.job.options),
    ),
    Kind(because="the firmware holds the clock down", read=_throttling),
    Kind(because="latency is in inverse proportion to the clock", read=_clocks, unit=" MHz", scale=1e-6, relative=0.02),
    Kind(because="the governor decides how fast clocks follow the work", read=_governors),
    Kind(
        because="versions of a runtime differ in kernels and graph rewriting",
        read=lambda run: {"runtime version": run.profile.runtime_version},
    ),
    Kind(because="heat leads to lower clocks", read=_temperatures, unit=" C", tolerance=2.0),
    Kind(because="batteries and weak supplies lead to lower clocks", read=_power),
    Kind(
        because="others take CPU time, caches and memory bandwidth",
        read=_load,
        unit=" %",
        scale=100.0,
        tolerance=0.02,
    ),
    Kind(because="others were busy shortly before", read=_load_average, tolerance=0.2),
    Kind(because="the device was not quiet and cool when a round began", read=_gate),
    Kind(
        because="other inputs can take other paths through a model",
        read=lambda run: {"seed": str(run.profile.job.seed), "input digest": run.profile.input_digest},
    ),
    Kind(
        because="longer rounds reach higher temperatures; shorter ones see more of the beginning",
        read=lambda run: _fields("schedule", run.profile.job.schedule) | _fields("gate", run.profile.job.gate),
    ),
    Kind(
        because="little memory means paging",
        read=_memory,
        unit=" MB",
        scale=1e-6,
        relative=0.2,
    ),
    Kind(because="scheduler, allocator and the measuring loop itself", read=_software),
)
