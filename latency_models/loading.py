"""Read a predictor of whatever kind: learned from kernels, from whole graphs, or adapted from others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from latency_models import archive

if TYPE_CHECKING:
    from latency_models.adapted import Adapted
    from latency_models.predictor import Predictor
    from latency_models.whole_graph import AdaptedPredictor, WholeGraphPredictor

__all__ = ["load"]


def load(path: str | os.PathLike[str]) -> Predictor | Adapted | WholeGraphPredictor | AdaptedPredictor:
    """Read a predictor; all kinds have `predict`.

    Raises:
        OSError: the file cannot be read.
        ArchiveError: it is no predictor, damaged, or of a newer schema.
    """
    name = Path(path).name
    parts = archive.opened(Path(path), name)
    manifest = archive.manifest_of(parts, name)
    if manifest.get("kind") not in archive.OF_WHOLE_GRAPHS:
        return archive.unpacked(manifest, parts, name)
    from latency_models.whole_graph.archive import unpacked

    return unpacked(manifest, parts, name)
