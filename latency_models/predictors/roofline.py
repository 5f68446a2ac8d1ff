"""The roofline as a sum: latency = overhead + MACs / rate + bytes / bandwidth, fitted to measurements.

Williams, Waterman and Patterson, Roofline (CACM 2009), give the larger of the last two as a bound; what is measured
lies between that and their sum. It is crude, but it goes on where nothing was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Roofline"]

Array = NDArray[np.float64]
ROUNDS = 4


@dataclass(frozen=True)
class Roofline:
    """Seconds of a kernel: `overhead_s`, `s_per_mac` and `s_per_byte`, none below 0 and not all 0."""

    overhead_s: float
    s_per_mac: float
    s_per_byte: float

    @classmethod
    def fit(cls, macs: Array, moved_bytes: Array, time_s: Array) -> Roofline:
        """Fit by relative errors, those that stick out counting less (iterated weights, Huber 1964).

        Args:
            macs: multiply-accumulates of each kernel, shape (n,).
            moved_bytes: bytes of each kernel, shape (n,).
            time_s: what it took, above 0, shape (n,).
        """
        from scipy.optimize import nnls

        columns = np.stack([np.ones_like(time_s), macs, moved_bytes], axis=1) / time_s[:, None]
        scale = np.maximum(np.abs(columns).max(axis=0), 1e-300)
        weights = np.ones_like(time_s)
        found = np.zeros(3)
        for _ in range(ROUNDS):
            found = nnls(columns / scale * weights[:, None], weights)[0] / scale
            # In logarithms, so that twice too much counts as half too little.
            errors = np.abs(np.log(np.maximum(columns @ found, 1e-6)))
            typical = max(1e-3, float(np.median(errors)))
            weights = np.sqrt(np.minimum(1.0, 2.0 * typical / np.maximum(errors, 1e-9)))
        if not found.any():
            found[0] = float(np.median(time_s))
        return cls(*(float(value) for value in found))

    def log_latency(self, macs: Array, moved_bytes: Array) -> Array:
        """Logarithm of the seconds of each kernel, shape (n,)."""
        total = self.overhead_s + self.s_per_mac * macs + self.s_per_byte * moved_bytes
        # A kernel without MACs and bytes in a family without overhead: a nanosecond, and never nothing.
        return np.log(np.maximum(total, 1e-9))
