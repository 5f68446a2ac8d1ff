"""Joules from power traces: of a whole inference, and of its operators, with intervals and the reasons for doubt."""

from edgeprof.energy.attribution import attribute
from edgeprof.energy.boundaries import comparable
from edgeprof.energy.model import model_energy
from edgeprof.energy.results import (
    Discarded,
    Interval,
    ModelEnergy,
    ObserverEffect,
    OperatorEnergies,
    OperatorEnergy,
    WindowEnergy,
)

__all__ = [
    "Discarded",
    "Interval",
    "ModelEnergy",
    "ObserverEffect",
    "OperatorEnergies",
    "OperatorEnergy",
    "WindowEnergy",
    "attribute",
    "comparable",
    "model_energy",
]
