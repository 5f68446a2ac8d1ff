"""Model files: read them, map what a runtime timed back to their nodes, and hand their work to simulated boards."""

from __future__ import annotations

from edgeprof.models.blocks import with_groups
from edgeprof.models.mapping import map_operators
from edgeprof.models.reading import ModelFile, read_model
from edgeprof.models.simulated import board_to_simulate, work

__all__ = ["ModelFile", "board_to_simulate", "map_operators", "read_model", "with_groups", "work"]
