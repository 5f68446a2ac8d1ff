"""Wall plugs that tell their power over HTTP: Shelly (both generations of its interface) and Tasmota.

A plug has about one new value a second and does not say when it was taken, so a value is stamped with the middle of the
exchange and may be a period old; the marks of an energy pass tell by how much (edgeprof/meters/alignment.py).
"""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, Self

from device_agents import wire
from edgeprof.errors import MeterError
from edgeprof.meters.http import get_json

__all__ = ["Plug", "Shelly", "Tasmota"]

POLL_PERIOD_S = 0.5  # twice as often as they have new values
ANSWER_S = 3.0
# Days of polling: what is beyond would only fill the memory.
MAX_VALUES = 2_000_000
LOSSES = "the device's power supply: its losses are in the number"


class Dialect(Protocol):
    """One kind of plug. `name` is what its meter is called."""

    name: str
    source: str
    resolution: float

    def probe(self, within_s: float) -> None:
        """Find out what it is; raises MeterError."""

    def power_w(self, within_s: float) -> float:
        """What it shows now; raises MeterError."""


class Shelly:
    """Gen2 and later answer /rpc/Switch.GetStatus with `apower`, Gen1 answers /status with `meters[].power`; both W.

    shelly-api-docs.shelly.cloud: Gen1 "Common HTTP API", Gen2 "Switch". A generation-1 device's /shelly has no `gen`.
    """

    resolution = 0.1  # of the examples in the documentation; Gen1 tells hundredths

    def __init__(self, place: str, switch: int = 0) -> None:
        self._place = place
        self._switch = switch
        self._generation = 0
        self.name = f"shelly:{place}" + (f"/{switch}" if switch else "")
        self.source = "Shelly plug"

    def probe(self, within_s: float) -> None:
        told = _table(get_json(self._place, "/shelly", within_s), self.name)
        generation = told.get("gen", 1)
        if not isinstance(generation, int) or not ("gen" in told or "type" in told):
            raise MeterError(f"{self.name}: what answers there is no Shelly", "check the address")
        self._generation = generation
        model = told.get("model" if generation >= 2 else "type", "")
        self.source = f"Shelly {str(model)[:40]} (generation {generation}) over HTTP"

    def power_w(self, within_s: float) -> float:
        if self._generation >= 2:
            told = _table(
                get_json(self._place, f"/rpc/Switch.GetStatus?id={self._switch}", within_s), f"{self.name}: status"
            )
            return _watts(told.get("apower"), self.name, "apower")
        told = _table(get_json(self._place, "/status", within_s), f"{self.name}: status")
        meters = told.get("meters")
        if not isinstance(meters, list) or len(meters) <= self._switch:
            raise MeterError(f"{self.name}: it tells no power of switch {self._switch}", "use a plug that meters power")
        meter = _table(meters[self._switch], self.name)
        if meter.get("is_valid") is False:
            raise MeterError(f"{self.name}: it says itself that its value is not valid", "see the plug's own page")
        return _watts(meter.get("power"), self.name, "power")


class Tasmota:
    """/cm?cmnd=Status%208 (in later versions a synonym of 10) answers with `StatusSNS.ENERGY.Power` in W.

    Tasmota's documentation, "Commands", "JSON Status Responses". Whole watts unless `WattRes` asks for decimals.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self.name = f"tasmota:{place}"
        self.source = "Tasmota plug over HTTP"
        self.resolution = 1.0

    def probe(self, within_s: float) -> None:
        told = _table(get_json(self._place, "/cm?cmnd=WattRes", within_s), self.name)
        decimals = told.get("WattRes")
        if isinstance(decimals, int) and 0 <= decimals <= 3:
            self.resolution = 10.0**-decimals

    def power_w(self, within_s: float) -> float:
        told = _table(get_json(self._place, "/cm?cmnd=Status%208", within_s), f"{self.name}: status")
        energy = _table(told.get("StatusSNS", told.get("StatusPWR")), f"{self.name}: StatusSNS")
        energy = energy.get("ENERGY", energy)
        return _watts(_table(energy, self.name).get("Power"), self.name, "Power")


class Plug:
    """A plug as a meter, asked twice a second. `clock` and `pause` (which returns early once it is told to end) are
    time's own.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        boundary: str | None = None,
        period_s: float = POLL_PERIOD_S,
        answer_s: float = ANSWER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dialect = dialect
        self._boundary = boundary or wire.WALL
        self._period_s = period_s
        self._answer_s = answer_s
        self._clock = clock
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._reads: list[tuple[float, float, float]] = []  # middle of the exchange, its duration, W
        self._failed_at_s: list[float] = []
        self._failure: str | None = None

    @property
    def info(self) -> wire.MeterInfo:
        return wire.MeterInfo(
            name=self._dialect.name,
            source=self._dialect.source,
            kind=wire.POWER,
            boundary=self._boundary,
            channels=("power",),
            period_s=1.0,
            resolution=self._dialect.resolution,
            averages=True,
            not_covered=() if self._boundary != wire.WALL else (LOSSES,),
        )

    def __enter__(self) -> Self:
        self._dialect.probe(self._answer_s)
        self._dialect.power_w(self._answer_s)
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def start(self) -> None:
        self._end()
        self._ending.clear()
        self._reads, self._failed_at_s, self._failure = [], [], None
        self._thread = threading.Thread(target=self._poll, name=self._dialect.name, daemon=True)
        self._thread.start()

    def stop(self) -> wire.PowerTrace:
        self._end()
        if not self._reads:
            why = self._failure or "too short a time"
            raise MeterError(
                f"{self._dialect.name}: it told no power while the device worked: {why}",
                "is it still there? then measure again",
            )
        return wire.PowerTrace(
            meter=self.info,
            at_s=tuple(at_s for at_s, _, _ in self._reads),
            values=(tuple(power_w for _, _, power_w in self._reads),),
            read_s=statistics.median(took_s for _, took_s, _ in self._reads),
            failed_at_s=tuple(self._failed_at_s),
            failure=self._failure,
            clock="host",
        )

    def _end(self) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _poll(self) -> None:
        begin, k = self._clock(), 0
        while len(self._reads) + len(self._failed_at_s) < MAX_VALUES:
            self._read()
            # The next moment of the grid that has not passed: a slow plug is asked less often, never in a burst.
            k = max(k + 1, int((self._clock() - begin) / self._period_s) + 1)
            if self._ending.wait(max(0.0, begin + k * self._period_s - self._clock())):
                return

    def _read(self) -> None:
        before_s = self._clock()
        try:
            power_w = self._dialect.power_w(self._answer_s)
        except MeterError as error:
            self._failed_at_s.append(before_s)
            self._failure = self._failure or str(error)
            return
        after_s = self._clock()
        self._reads.append(((before_s + after_s) / 2, after_s - before_s, power_w))


def _table(told: Any, where: str) -> dict[str, Any]:
    if not isinstance(told, dict):
        raise MeterError(f"{where}: the answer is not what such a plug says", "check the address, and the kind of plug")
    return told


def _watts(told: Any, name: str, field: str) -> float:
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        power_w = float(told) if not isinstance(told, bool) else float("nan")
        if -1e6 < power_w < 1e6:
            return power_w
    raise MeterError(
        f"{name}: it tells no power ({field})", "use a plug that meters power, and the number of its switch"
    )
