"""One trace of one meter, read again and again beside whatever else goes on."""

import statistics
from array import array
from typing import List, Optional

from device_agents.machine import Machine
from device_agents.power import PowerMeter
from device_agents.wire import PowerTrace

# More would not fit into a reply: an hour at 100 Hz.
MOST_READS = 360_000
# What a trace says of reads that failed; more of the same say nothing new.
MOST_FAILURES = 1000
# A meter that does not say how often it has a new value is taken for one that has it so often.
UNKNOWN_PERIOD_S = 0.1
READS_PER_VALUE = 4
MOST_RATE_HZ = 50.0


class Sampler:
    """A context manager: the meter is open inside it. `sample` reads once; a read that fails is noted and not raised.

    Raises (on entering):
        OSError: the meter cannot be opened.
    """

    def __init__(self, meter: PowerMeter, machine: Machine) -> None:
        self._meter = meter
        self._machine = machine
        self._at_s = array("d")
        self._took_s = array("d")
        self._values: List[array[float]] = [array("d") for _ in meter.info.channels]
        self._failed_at_s: List[float] = []
        self._failure: Optional[str] = None

    def __enter__(self) -> "Sampler":
        self._meter.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self._meter.close()

    def sample(self) -> None:
        """Read the meter once; its stamp is the middle of the read."""
        if len(self._at_s) >= MOST_READS:
            self._fail(self._machine.now(), f"the trace is full after {MOST_READS} reads")
            return
        begin = self._machine.now()
        try:
            values = self._meter.read()
        except (OSError, ValueError, IndexError, KeyError) as error:
            self._fail(begin, f"{type(error).__name__}: {error}")
            return
        end = self._machine.now()
        self._at_s.append((begin + end) / 2)
        self._took_s.append(end - begin)
        for column, value in zip(self._values, values):
            column.append(value)

    def _fail(self, at_s: float, why: str) -> None:
        self._failure = self._failure or why
        if len(self._failed_at_s) < MOST_FAILURES:
            self._failed_at_s.append(at_s)

    def trace(self) -> PowerTrace:
        """Everything that was read so far."""
        return PowerTrace(
            meter=self._meter.info,
            at_s=tuple(self._at_s),
            values=tuple(tuple(column) for column in self._values),
            read_s=statistics.median(self._took_s) if self._took_s else None,
            failed_at_s=tuple(self._failed_at_s),
            failure=self._failure,
        )


def period_of(meter: PowerMeter) -> float:
    """How often the meter has a new value, in seconds, as far as that is known."""
    return meter.info.period_s or UNKNOWN_PERIOD_S


def usual_rate_hz(meter: PowerMeter) -> float:
    """Four reads for every new value, so that its moment is known to a quarter of a period."""
    return min(MOST_RATE_HZ, READS_PER_VALUE / period_of(meter))
