"""Grams of CO2e per inference, by the SCI of ISO/IEC 21031: every input with its source, its kind and its range.

from edgeprof.carbon import carbon_of
statement = carbon_of(run, zone="FR", rate="10/s")
"""

from __future__ import annotations

from edgeprof.carbon.break_even import BreakEven, break_even, require_comparable
from edgeprof.carbon.inputs import Input
from edgeprof.carbon.intensity import Intensity
from edgeprof.carbon.monte_carlo import Spread
from edgeprof.carbon.of_run import carbon_of, case_of
from edgeprof.carbon.providers import IntensityProvider
from edgeprof.carbon.statement import Allocation, Case, Statement, state

__all__ = [
    "Allocation",
    "BreakEven",
    "Case",
    "Input",
    "Intensity",
    "IntensityProvider",
    "Spread",
    "Statement",
    "break_even",
    "carbon_of",
    "case_of",
    "require_comparable",
    "state",
]
