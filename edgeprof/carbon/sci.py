"""The formula of ISO/IEC 21031 (Software Carbon Intensity): SCI = ((E * I) + M) per R, and how a device is shared out.

E is energy at the socket, I the grid's intensity, M the share of what making the device emitted, R one inference.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["ACTIVE", "J_PER_KWH", "MARGINAL", "METHOD", "MODES", "RESERVED", "embodied_g", "energy_j", "operational_g"]

J_PER_KWH = 3.6e6
METHOD = "SCI = ((E * I) + M) per R, M = TE * TiR / EL (ISO/IEC 21031:2024); offsets and market-based figures excluded"

# How the device's life and its rest are shared out among inferences. Marginal is no SCI: the device exists anyway.
ACTIVE, RESERVED, MARGINAL = "active", "reserved", "marginal"
MODES = {
    ACTIVE: "the device does other useful work between inferences: an inference pays for its own duration",
    RESERVED: "a device for this alone: an inference pays for the whole time until the next one",
    MARGINAL: "the device is there and on anyway: what one more inference adds. Not an SCI",
}

Number = TypeVar("Number", float, NDArray[np.float64])


def operational_g(energy_j: Number, g_per_kwh: Number) -> Number:
    """E * I: grams of CO2e of energy taken from the socket."""
    return energy_j * g_per_kwh / J_PER_KWH


def embodied_g(total_g: Number, reserved_s: Number, lifetime_s: Number, share: float = 1.0) -> Number:
    """M = TE * (TiR / EL) * (RR / ToR): grams of the device's making for `reserved_s` of its life."""
    return total_g * reserved_s / lifetime_s * share


def energy_j(net_j: Number, idle_w: Number, reserved_s: Number) -> Number:
    """Joules of an inference with its share of rest: P_idle * TiR + E_net."""
    return net_j + idle_w * reserved_s
