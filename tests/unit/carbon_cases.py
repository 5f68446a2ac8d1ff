"""Cases of carbon made by hand, for tests of what is computed from them."""

from __future__ import annotations

from typing import Any

from device_agents.wire import DC_INPUT, WALL
from edgeprof.carbon.embodied import Embodied, of_user
from edgeprof.carbon.inputs import DATA_SHEET, MEASURED, Input
from edgeprof.carbon.intensity import Intensity
from edgeprof.carbon.intensity import of_user as intensity_of_user
from edgeprof.carbon.statement import Case
from edgeprof.carbon.supply import Supply, supply
from edgeprof.carbon.usage import IDLE, LATENCY, NET, Usage

__all__ = ["DC_INPUT", "WALL", "make_case", "make_usage"]


def make_usage(
    *, latency_s: float = 0.020, net_j: float = 0.12, idle_w: float = 0.0, boundary: str = WALL, run_id: str = "r1",
    is_measured: bool = True, origin: str = "measured",
) -> Usage:  # fmt: skip
    """One inference of 0.12 J in 20 ms, seen at the wall, known exactly."""

    def exactly(name: str, value: float, unit: str) -> Input:
        return Input.exactly(name, value, unit, MEASURED, "by hand")

    return Usage(
        run_id=run_id, subject=f"m.onnx on {run_id}", origin=origin, boundary=boundary, is_measured=is_measured,
        method="by hand", latency=exactly(LATENCY, latency_s, "s"), net=exactly(NET, net_j, "J"),
        idle=exactly(IDLE, idle_w, "W"), memory_bytes=4_000_000_000,
    )  # fmt: skip


def make_case(
    *, intensity: str = "480 g/kWh", embodied: str = "10 kg", lifetime: str = "4 y", rate_hz: float | None = None,
    is_exact: bool = True, **usage: Any,
) -> Case:  # fmt: skip
    """The worked example: 480 g/kWh, 10 kg over 4 years. Without ranges, unless they are asked for."""
    used = make_usage(**usage)
    made = of_user(embodied, lifetime)
    if is_exact:
        made = Embodied(
            device="by hand", lifetime=made.lifetime,
            total=Input.exactly(made.total.name, made.total.value, "g", DATA_SHEET, "by hand"),
        )  # fmt: skip
    grid: Intensity = intensity_of_user(intensity)
    upstream: Supply = supply(used.boundary)
    return Case(usage=used, supply=upstream, intensity=grid, embodied=made, rate_hz=rate_hz)
