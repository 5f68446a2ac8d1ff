"""A power trace that another instrument recorded, from a CSV file with a line of column names.

Numbers have a decimal point. The unit may stand in a column's name, as in `power_mw` or `Power (mW)`.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device_agents import wire
from edgeprof.errors import MeterError

__all__ = ["CLOCKS", "DEVICE", "OWN", "TIME_UNITS", "UNITS", "UNIX", "Columns", "read_trace"]

# Whose clock the times are of: the device's monotonic one, the wall clock, or nobody's that we know.
DEVICE, UNIX, OWN = "device", "unix", "own"
CLOCKS = (DEVICE, UNIX, OWN)
TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
UNITS = {"w": 1.0, "mw": 1e-3, "uw": 1e-6}
VOLTS = {"v": 1.0, "mv": 1e-3, "uv": 1e-6}
AMPERES = {"a": 1.0, "ma": 1e-3, "ua": 1e-6}
MAX_BYTES, MAX_VALUES, MAX_LINE = 500_000_000, 5_000_000, 10_000
# Of a bench: what is above is a unit that was mistaken.
MAX_W = 100_000.0
NAME = re.compile(r"\s*(?P<name>[A-Za-z]+)[\s_]*[(\[]?(?P<unit>[A-Za-z\u00b5\u03bc]*)[)\]]?\s*")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns hold what, by name; None: by their usual names. `unit` goes before one in the power's name."""

    time: str | None = None
    power: str | None = None
    unit: str | None = None


def read_trace(path: Path, boundary: str, columns: Columns | None = None) -> wire.PowerTrace:
    """The trace in a file, in watts, on its own clock.

    Raises:
        MeterError: the file, the line and what is wrong there.
    """
    times: list[float] = []
    powers: list[float] = []
    try:
        if path.stat().st_size > MAX_BYTES:
            raise MeterError(f"{path}: larger than {MAX_BYTES // 10**6} MB", "record fewer values a second, or cut it")
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = _Lines(file, path)
            # A file that is no table at all is refused by its names.
            rows = csv.reader(lines, strict=True)
            layout = _Layout(next(rows, []), columns or Columns(), path)
            for row in rows:
                if not row:
                    continue
                time_s, power_w = layout.read(row, f"{path}, line {rows.line_num}")
                if times and time_s <= times[-1]:
                    what = "the time of the line before again" if time_s == times[-1] else "an earlier time"
                    raise MeterError(f"{path}, line {rows.line_num}: {what}", "sort the trace, one line a moment")
                if len(times) >= MAX_VALUES:
                    raise MeterError(f"{path}: more than {MAX_VALUES} values", "record fewer values a second")
                times.append(time_s)
                powers.append(power_w)
    except OSError as error:
        raise MeterError(f"{path}: cannot be read: {error.strerror}", "check the name of the file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise MeterError(f"{path}: no CSV text: {error}", "export the trace as CSV in UTF-8") from error
    if len(times) < 2:
        raise MeterError(
            f"{path}: {len(times)} values are no trace", "it needs a line of names and at least two values"
        )
    return wire.PowerTrace(_info(path, boundary, times, powers), tuple(times), (tuple(powers),), clock=OWN)


def _info(path: Path, boundary: str, times: list[float], powers: list[float]) -> wire.MeterInfo:
    steps = np.diff(np.unique(powers))
    return wire.MeterInfo(
        name=f"csv:{path.name}",
        source="a trace from a CSV file",
        kind=wire.POWER,
        boundary=boundary,
        channels=("power",),
        # How often the instrument had a new value is seen in the values: it may have written each of them many times.
        period_s=None,
        resolution=float(steps.min()) if len(steps) else None,
        averages=False,
    )


class _Lines:
    """The lines of a file, none of them endless."""

    def __init__(self, file: object, path: Path) -> None:
        self._file, self._path = file, path

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(MAX_LINE):  # type: ignore[attr-defined]
            if len(line) >= MAX_LINE or "\0" in line:
                raise MeterError(f"{self._path}: no CSV text: a line is too long or binary", "export the trace as CSV")
            yield line


class _Layout:
    """Where time and power stand in a row, and in what units."""

    def __init__(self, names: list[str], columns: Columns, path: Path) -> None:
        self._path = path
        self._names = [name.strip() for name in names]
        self._n = len(names)
        if self._n == 1 and ";" in names[0]:
            raise MeterError(
                f"{path}: columns are separated by semicolons", "export it with commas, and points in numbers"
            )
        self._time = self._find(columns.time, ("time", "timestamp", "t"), TIME_UNITS, "s")
        power = self._find(columns.power, ("power", "p"), UNITS, "w", columns.unit)
        volts = self._find(None, ("voltage", "v", "volts"), VOLTS, "v")
        amperes = self._find(None, ("current", "i", "amps"), AMPERES, "a")
        if self._time is None:
            raise self._missing("time", "--column-time")
        if power is None and (volts is None or amperes is None):
            raise self._missing("power (nor of voltage and current)", "--column-power")
        self._factors = [power] if power is not None else [part for part in (volts, amperes) if part is not None]

    def read(self, row: list[str], where: str) -> tuple[float, float]:
        if len(row) != self._n:
            hint = "write numbers with a decimal point: a comma separates columns"
            raise MeterError(f"{where}: {len(row)} columns, the first line names {self._n}", hint)
        time = self._time or (0, 1.0)
        power_w = math.prod(_number(row[k], where) * scale for k, scale in self._factors)
        if abs(power_w) > MAX_W:
            raise MeterError(f"{where}: {power_w:g} W", "is the unit right? say it: --unit mW")
        return _number(row[time[0]], where) * time[1], power_w

    def _find(
        self, asked: str | None, usual: tuple[str, ...], units: dict[str, float], base: str, unit: str | None = None
    ) -> tuple[int, float] | None:
        if asked is not None and asked not in self._names:
            raise MeterError(f"{self._path}: no column {asked!r}", "columns are " + ", ".join(map(repr, self._names)))
        for k, name in enumerate(self._names):
            found = NAME.fullmatch(name)
            word, said = (found["name"].lower(), found["unit"]) if found else ("", "")
            if name != asked if asked is not None else word not in usual:
                continue
            # Of units with a small and a large letter alone (mW, MW) only the small ones are meant here.
            said = (unit or said or base).replace("\u00b5", "u").replace("\u03bc", "u")
            if said[:1] == "M" or said.lower() not in units:
                raise MeterError(
                    f"{self._path}: column {name!r}: unit {said!r} is not known", "use one of " + ", ".join(units)
                )
            return k, units[said.lower()]
        return None

    def _missing(self, what: str, option: str) -> MeterError:
        told = ", ".join(map(repr, self._names)) or "none"
        return MeterError(f"{self._path}: no column of {what}; columns are {told}"[:500], f"name it: {option}")


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        hint = "write it with a decimal point" if "," in text else "remove lines that hold no values"
        raise MeterError(f"{where}: {text[:40]!r} is no number", hint) from error
    if not math.isfinite(value):
        raise MeterError(f"{where}: {text[:40]!r} is no value", "remove the lines where the instrument saw nothing")
    return value
