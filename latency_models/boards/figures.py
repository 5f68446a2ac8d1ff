"""The figures that a board's file may have: their units, what they may be, and whether a simulation needs them."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

__all__ = ["BOARD_FIGURES", "CLUSTER_FIGURES", "Kind", "Value"]

Value = float | int | str | tuple[float, ...]
SERIES = ("steps", "levels")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What one figure is. `form` is number, whole, steps (rising), levels (not falling) or text.

    Numbers lie in `low` to `high`.
    """

    unit: str = ""
    form: str = "number"
    low: float = 0.0
    high: float = math.inf
    is_needed: bool = False
    may_be_low: bool = False  # whether `low` itself is allowed

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value; None if nothing is."""
        if self.form == "text":
            return None if isinstance(value, str) and value.strip() else "not a text"
        numbers = value if self.form in SERIES else [value]
        if not isinstance(numbers, list) or not numbers:
            return "not a list of numbers"
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
                return "not a number"
            if self.form == "whole" and number != int(number):
                return "not a whole number"
            if number < self.low or (number == self.low and not self.may_be_low):
                return "too small"
            if number > self.high:
                return "too large"
        pairs = list(itertools.pairwise(numbers))
        if self.form == "levels":
            return None if all(a <= b for a, b in pairs) else "falling somewhere"
        return None if all(a < b for a, b in pairs) else "not in rising order"

    def read(self, value: Any) -> Value:
        """A value that has no problem, as it is kept."""
        if self.form == "text":
            return str(value)
        if self.form in SERIES:
            return tuple(float(number) for number in value)
        return int(value) if self.form == "whole" else float(value)


CLUSTER_FIGURES = {
    "core": Kind(form="text"),
    "cores": Kind(form="whole", high=1024, is_needed=True),
    "clocks_hz": Kind(unit="Hz", form="steps", high=2e10, is_needed=True),
    "simd_bits": Kind(unit="bit", form="whole", high=4096),
    "fp32_macs_per_cycle": Kind(unit="MAC/cycle and core", high=4096, is_needed=True),
    "int8_macs_per_cycle": Kind(unit="MAC/cycle and core", high=65536),
    "l1d_bytes": Kind(unit="B", form="whole"),
    "l1i_bytes": Kind(unit="B", form="whole"),
    "l2_bytes": Kind(unit="B", form="whole"),
    "l3_bytes": Kind(unit="B", form="whole"),
    "capacity_dmips_per_mhz": Kind(unit="relative"),
    "dynamic_power_w_per_hz_v2": Kind(unit="W/(Hz V^2)", high=1e-6),
    "core_active_w": Kind(unit="W", high=100, is_needed=True),
    "shared_active_w": Kind(unit="W", high=100, may_be_low=True),
    "volts": Kind(unit="V", form="levels", high=5),
    "core_bandwidth_bytes_per_s": Kind(unit="B/s", high=1e13),
    "bandwidth_bytes_per_s": Kind(unit="B/s", high=1e13),
    "full_memory_from_hz": Kind(unit="Hz", high=2e10, may_be_low=True),
}
BOARD_FIGURES = {
    "memory.bytes": Kind(unit="B", form="whole", is_needed=True),
    "memory.bandwidth_bytes_per_s": Kind(unit="B/s", high=1e13, is_needed=True),
    "memory.contention": Kind(unit="share for each core beyond the first", high=10, may_be_low=True),
    "memory.slow_share": Kind(unit="share of the bandwidth", high=1),
    "power.idle_w": Kind(unit="W", high=1000, is_needed=True),
    "power.stalled_share": Kind(unit="share of a core's power", high=1, may_be_low=True),
    "power.asleep_share": Kind(unit="share of a core's power", high=1, may_be_low=True),
    "thermal.ambient_c": Kind(unit="C", low=-60, high=100, is_needed=True),
    "thermal.resistance_k_per_w": Kind(unit="K/W", high=1000, is_needed=True),
    "thermal.capacitance_j_per_k": Kind(unit="J/K", high=1e6, is_needed=True),
    "thermal.trip_c": Kind(unit="C", low=-60, high=200, is_needed=True),
    "thermal.hysteresis_k": Kind(unit="K", high=100, may_be_low=True, is_needed=True),
    "thermal.poll_s": Kind(unit="s", low=0.01, high=60, may_be_low=True, is_needed=True),
    "thermal.critical_c": Kind(unit="C", low=-60, high=200),
    "software.operator_overhead_s": Kind(unit="s", high=1, may_be_low=True, is_needed=True),
    "software.run_overhead_s": Kind(unit="s", high=1, may_be_low=True, is_needed=True),
    "software.noise": Kind(unit="relative standard deviation", high=0.5, may_be_low=True, is_needed=True),
    "software.barrier_s": Kind(unit="s", high=1, may_be_low=True),
    "software.crossing_s": Kind(unit="s", high=1, may_be_low=True),
    "software.wake_s": Kind(unit="s", high=1, may_be_low=True),
    "software.balance": Kind(unit="share", high=1, may_be_low=True),
    "software.migration": Kind(unit="share of the time", high=10, may_be_low=True),
    "software.collision": Kind(unit="share of the time", high=100, may_be_low=True),
    "sensor.boundary": Kind(form="text"),
    "sensor.rate_hz": Kind(unit="Hz", low=0.01, high=1000, may_be_low=True),
    "sensor.noise_w": Kind(unit="W", high=100, may_be_low=True),
    "sensor.step_w": Kind(unit="W", high=10, may_be_low=True),
}
