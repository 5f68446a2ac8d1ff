"""What edgeprof's own work takes on this machine: measured where the processor counts its energy, else modelled.

    with recording() as recorder:
        ...
    cost = recorder.cost()

Campaigns record it while they run; whatever else works for long (a training, a search) does the same.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from device_agents.machine import Machine
from device_agents.power import PowerMeter, meters
from device_agents.wire import ENERGY

__all__ = [
    "CORE_HIGH_W",
    "CORE_W",
    "MEASURED",
    "MODELLED",
    "NOTHING",
    "Joules",
    "OwnCost",
    "Recorder",
    "recording",
    "total",
]

MEASURED, MODELLED = "measured", "modelled"
# A 32-bit counter of 61 uJ wraps after 262 kJ (Linux, Documentation/power/powercap/powercap.rst): at 300 W that is
# a quarter of an hour.
PERIOD_S = 60.0
# Thermal design power over cores: 15 W / 4 in a laptop, 125 W / 8 in a desktop; assumed between them.
CORE_W, CORE_LOW_W, CORE_HIGH_W = 8.0, 4.0, 16.0
CORE_WORDS = (
    f"CPU time x {CORE_W:g} W for each busy core, assumed ({CORE_LOW_W:g} to {CORE_HIGH_W:g} W: 15 W for 4 cores of a"
    f" laptop, 125 W for 8 of a desktop); this machine at rest is not counted"
)


@dataclass(frozen=True, kw_only=True)
class Joules:
    """An energy and where it may lie; `kind` says whether it is measured or modelled, `words` how."""

    value_j: float
    low_j: float
    high_j: float
    kind: str
    words: str


NOTHING = Joules(value_j=0.0, low_j=0.0, high_j=0.0, kind=MEASURED, words="nothing")


@dataclass(frozen=True, kw_only=True)
class OwnCost:
    """A stretch of work: when it began (seconds since 1970), its length, the CPU time of this process and its children.

    `host` is the energy of this machine, `devices` that of devices that worked for it; None where nobody recorded it.
    """

    began_at_s: float
    elapsed_s: float
    cpu_s: float
    host: Joules
    devices: Joules | None = None


class Recorder:
    """Counts while its context lasts. `cost` may be asked at any time, and after it ended."""

    def __init__(self, machine: Machine, meter: PowerMeter | None, cpu_s: Callable[[], float], wall_s: float) -> None:
        self._machine = machine
        self._cpu_s = cpu_s
        self._counter = None if meter is None else _Counter(meter)
        self._began_s, self._began_at_s, self._began_cpu_s = machine.now(), wall_s, cpu_s()
        self._ended: tuple[float, float] | None = None
        self._devices: list[Joules] = []

    def tick(self) -> None:
        """Look at the counter, so that no wrap is missed."""
        if self._counter is not None:
            self._counter.look()

    def end(self) -> None:
        self.tick()
        self._ended = (self._machine.now(), self._cpu_s())

    def device(self, seconds: float, power_w: tuple[float, float, float], kind: str, words: str) -> None:
        """Add a device that worked `seconds` at (middle, low, high) watts."""
        middle, low, high = (seconds * one for one in power_w)
        self._devices.append(Joules(value_j=middle, low_j=low, high_j=high, kind=kind, words=words))

    def cost(self) -> OwnCost:
        """What it took so far, or until its end."""
        if self._ended is None:
            self.tick()
        now_s, now_cpu_s = self._ended or (self._machine.now(), self._cpu_s())
        cpu_s = max(0.0, now_cpu_s - self._began_cpu_s)
        return OwnCost(
            began_at_s=self._began_at_s,
            elapsed_s=now_s - self._began_s,
            cpu_s=cpu_s,
            host=self._host(cpu_s),
            devices=total(self._devices) if self._devices else None,
        )

    def _host(self, cpu_s: float) -> Joules:
        counter = self._counter
        if counter is not None and counter.failure is None:
            found = counter.joules
            words = (
                f"{counter.meter.info.source}: all that this processor did meanwhile, without memory, disk and supply"
            )
            return Joules(value_j=found, low_j=found, high_j=found, kind=MEASURED, words=words)
        why = "" if counter is None else f" (its counter could not be read: {counter.failure})"
        return Joules(
            value_j=CORE_W * cpu_s, low_j=CORE_LOW_W * cpu_s, high_j=CORE_HIGH_W * cpu_s, kind=MODELLED,
            words=CORE_WORDS + why,
        )  # fmt: skip


def energy_counter(machine: Machine) -> PowerMeter | None:
    """The energy counter of a machine, if it has one that may be read."""
    return next((one for one in meters(machine) if one.info.kind == ENERGY and one.info.unusable is None), None)


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


@contextmanager
def recording(
    machine: Machine | None = None,
    *,
    find: Callable[[Machine], PowerMeter | None] = energy_counter,
    cpu_s: Callable[[], float] = cpu_seconds,
    wall_s: Callable[[], float] = time.time,
) -> Iterator[Recorder]:
    """Record what the work inside takes; clocks, counter and CPU time can be another's."""
    machine = machine or Machine()
    meter = find(machine)
    recorder = Recorder(machine, meter, cpu_s, wall_s())
    try:
        if meter is None:
            yield recorder
        else:
            with machine.every(PERIOD_S, recorder.tick):
                yield recorder
    finally:
        recorder.end()
        if meter is not None:
            meter.close()


def total(parts: Sequence[Joules]) -> Joules:
    """The sum; measured only if every part is. Low and high are added up too: nobody knows that errors cancel out."""
    if not parts:
        return NOTHING
    return Joules(
        value_j=sum(one.value_j for one in parts), low_j=sum(one.low_j for one in parts),
        high_j=sum(one.high_j for one in parts), words="; ".join(dict.fromkeys(one.words for one in parts)),
        kind=MEASURED if all(one.kind == MEASURED for one in parts) else MODELLED,
    )  # fmt: skip


class _Counter:
    """Joules of an energy counter since it was made, wraps removed. A failure stays: what was missed nobody knows."""

    def __init__(self, meter: PowerMeter) -> None:
        self.meter = meter
        self.joules = 0.0
        self.failure: str | None = None
        self._last: tuple[float, ...] | None = None
        self._lock = threading.Lock()  # it is looked at by the clock, and by whoever asks for the cost
        self.look()

    def look(self) -> None:
        with self._lock:
            self._look()

    def _look(self) -> None:
        if self.failure is not None:
            return
        try:
            if self._last is None:
                self.meter.open()
            values = self.meter.read()
            if self._last is not None:
                self.joules += sum(self._gone(a, b) for a, b in zip(self._last, values, strict=True))
            self._last = values
        except (OSError, ValueError) as error:
            self.failure = str(error)

    def _gone(self, before_j: float, now_j: float) -> float:
        if now_j >= before_j:
            return now_j - before_j
        if self.meter.info.wraps_at_j is None:
            raise ValueError("it fell, and nobody knows where it wraps")
        return now_j + self.meter.info.wraps_at_j - before_j
