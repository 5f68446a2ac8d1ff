"""Joulescope JS110 and JS220, through their own library (pip install "edgeprof[meters]").

The instrument itself takes means over stretches of samples and numbers the samples; a mean is stamped by its last
sample, on a line through the stretches that arrived soonest: messages are late by what USB takes, never early.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from device_agents import wire
from edgeprof.errors import MeterError

__all__ = ["Joulescope", "on_host_clock", "stretch_of"]

RATE_HZ = 20.0
MAX_VALUES = 2_000_000
# Samples a second before any decimation: data sheets of JS110 and JS220.
SAMPLES_HZ = {"js110": 2_000_000, "js220": 1_000_000}
# (last sample's number, samples a second, mean power in W)
Stretch = tuple[float, float, float]


class Joulescope:
    """One Joulescope, by serial number or the only one that is plugged in. It sits in the device's DC supply."""

    def __init__(
        self, serial: str | None = None, *, boundary: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._serial = serial
        self._boundary = boundary or wire.DC_INPUT
        self._clock = clock
        self._path = ""
        self._driver: Any = None
        self._lock = threading.Lock()
        self._recording = False
        self._stretches: list[Stretch] = []
        self._arrived_s: list[float] = []
        self._failure: str | None = None

    @property
    def info(self) -> wire.MeterInfo:
        serial = self._serial or self._path.rpartition("/")[2]
        return wire.MeterInfo(
            name="joulescope" + (f":{serial}" if serial else ""),
            source=f"Joulescope {self._path} through pyjoulescope_driver",
            kind=wire.POWER,
            boundary=self._boundary,
            channels=("power",),
            period_s=1 / RATE_HZ,
            averages=True,
        )

    def __enter__(self) -> Self:
        try:
            from pyjoulescope_driver import Driver
        except ImportError as error:
            raise MeterError(
                "a Joulescope needs the package pyjoulescope-driver", 'pip install "edgeprof[meters]"'
            ) from error
        try:
            self._driver = Driver()
            self._path = chosen(self._driver.device_paths(), self._serial)
            self._driver.open(self._path)
            self._configure()
        except MeterError:
            self._close()
            raise
        except (RuntimeError, TimeoutError, OSError, ValueError) as error:
            self._close()
            raise MeterError(f"joulescope: cannot be used: {error}", "does another program have it open?") from error
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def start(self) -> None:
        with self._lock:
            self._stretches, self._arrived_s, self._failure = [], [], None
            self._recording = True

    def stop(self) -> wire.PowerTrace:
        with self._lock:
            self._recording = False
        if not self._stretches:
            what = self._failure or "unplugged, or too short a time"
            raise MeterError(f"{self.info.name}: it told no power while the device worked: {what}", "measure again")
        return wire.PowerTrace(
            meter=self.info,
            at_s=on_host_clock(self._stretches, self._arrived_s),
            values=(tuple(power_w for _, _, power_w in self._stretches),),
            failure=self._failure,
            clock="host",
        )

    def _configure(self) -> None:
        """Have it send means `RATE_HZ` times a second, as the library's own `statistics` command does."""
        model = model_of(self._path)
        if model == "js110":
            settings = {"s/i/range/select": "auto", "s/i/ctrl": "on", "s/v/ctrl": "on", "s/p/ctrl": "on"}
        else:
            settings = {"s/i/range/mode": "auto"}
        for topic, value in settings.items():
            self._driver.publish(f"{self._path}/{topic}", value)
        self._driver.publish(f"{self._path}/s/stats/scnt", round(SAMPLES_HZ[model] / RATE_HZ))
        self._driver.publish(f"{self._path}/s/stats/ctrl", "on" if model == "js110" else 1)
        self._driver.subscribe(f"{self._path}/s/stats/value", "pub", self._on_statistics)

    def _on_statistics(self, _topic: str, message: object) -> None:
        """Called by the library's own thread."""
        now_s = self._clock()
        with self._lock:
            if not self._recording or len(self._stretches) >= MAX_VALUES:
                return
            try:
                stretch = stretch_of(message)
            except MeterError as error:
                self._failure = self._failure or str(error)
                return
            self._stretches.append(stretch)
            self._arrived_s.append(now_s)

    def _close(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.finalize()


def chosen(paths: Sequence[str], serial: str | None) -> str:
    """The instrument that is meant, of those that are plugged in, such as u/js220/002557.

    Raises:
        MeterError: none, several, or not this one.
    """
    fitting = [path for path in paths if serial is None or path.rpartition("/")[2] == serial]
    if len(fitting) == 1:
        model_of(fitting[0])
        return fitting[0]
    if not paths:
        raise MeterError(
            "no Joulescope is plugged in", "plug it in; on Linux its udev rule must be installed, see its documentation"
        )
    serials = ", ".join(path.rpartition("/")[2] for path in paths)
    raise MeterError(f"which Joulescope is meant? There are {serials}", "name one, as in joulescope:SERIAL")


def model_of(path: str) -> str:
    """js110 or js220."""
    model = next((part for part in path.lower().split("/") if part in SAMPLES_HZ), None)
    if model is None:
        raise MeterError(f"{path}: this kind of Joulescope is not known", f"known: {', '.join(SAMPLES_HZ)}")
    return model


def stretch_of(message: Any) -> Stretch:
    """What a statistics message of pyjoulescope_driver says.

    Raises:
        MeterError: it is none.
    """
    try:
        last = float(message["time"]["samples"]["value"][1])
        rate_hz = float(message["time"]["sample_freq"]["value"])
        power_w = float(message["signals"]["power"]["avg"]["value"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise MeterError(f"joulescope: a message without {error}", "update pyjoulescope-driver") from error
    if not (math.isfinite(power_w) and math.isfinite(last) and rate_hz > 0):
        raise MeterError("joulescope: a message without a value", "is the device's current within its range?")
    return last, rate_hz, power_w


def on_host_clock(stretches: Sequence[Stretch], arrived_s: Sequence[float]) -> tuple[float, ...]:
    """When each stretch ended, on the clock of its arrival: by its sample's number, as early as the soonest allows."""
    ends_s = [last / rate_hz for last, rate_hz, _ in stretches]
    soonest_s = min(at_s - end_s for at_s, end_s in zip(arrived_s, ends_s, strict=True))
    return tuple(end_s + soonest_s for end_s in ends_s)
