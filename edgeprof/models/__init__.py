"""Model files and their inputs: read them, map what a runtime timed back to nodes, hand work to simulated boards."""

from __future__ import annotations

from edgeprof.models.arrays import read_arrays
from edgeprof.models.blocks import with_groups
from edgeprof.models.describing import describe
from edgeprof.models.input_notes import input_notes
from edgeprof.models.mapping import map_operators
from edgeprof.models.reading import ModelFile, read_model
from edgeprof.models.remembered import remembered_model
from edgeprof.models.simulated import board_to_simulate, work

__all__ = [
    "ModelFile",
    "board_to_simulate",
    "describe",
    "input_notes",
    "map_operators",
    "read_arrays",
    "read_model",
    "remembered_model",
    "with_groups",
    "work",
]
