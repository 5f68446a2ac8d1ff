"""Predictors of whole graphs as files: the same archive as of all predictors (see `latency_models.archive`).

::

    manifest.json        of all predictors; target, encoder, and the numbers of each expert
    arrays.npz           K/centers/BLOCK, K/scales/BLOCK, K/points/BLOCK, K/targets, K/noise, K/theta of a process,
                         K/weights, K/usual of a sum without negative parts; left_out_s, left_out_sd
    sources/K.predictor  of an adapted one: the predictors that it asks
    inner.predictor      and what it makes of their answers, with the arrays center and axes of their components
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from latency_models.archive import (
    ADAPTED_WHOLE_GRAPHS,
    ARRAYS,
    WHOLE_GRAPHS,
    ArchiveError,
    Arrays,
    manifest_of,
    opened,
    sealed,
    write,
)
from latency_models.scores import Scores
from latency_models.whole_graph.adapting import AdaptedPredictor, Components
from latency_models.whole_graph.additive_process import AdditiveProcess
from latency_models.whole_graph.experts import Experts, Positive
from latency_models.whole_graph.features import Encoder
from latency_models.whole_graph.predictor import WholeGraphPredictor

__all__ = ["load", "save", "unpacked"]

PROCESS, POSITIVE = "process", "positive"
INNER = "inner.predictor"
BY_BLOCK, OF_PROCESS, OF_POSITIVE = ("centers", "scales", "points"), ("targets", "noise", "theta"), ("weights", "usual")
NUMBERS_OF_PROCESS = ("mean", "unit", "evidence", "follows")
NUMBERS_OF_POSITIVE = ("constant", "sd", "each_s", "least_s")


def save(predictor: WholeGraphPredictor | AdaptedPredictor, path: str | os.PathLike[str]) -> None:
    """Write a predictor, whole or not at all; one that is there is replaced.

    Raises:
        OSError: the file cannot be written.
    """
    write(Path(path), _packed(predictor) if isinstance(predictor, WholeGraphPredictor) else _packed_adapted(predictor))


def load(path: str | os.PathLike[str]) -> WholeGraphPredictor | AdaptedPredictor:
    """Read a predictor of whole graphs.

    Raises:
        OSError: the file cannot be read.
        ArchiveError: it is none, damaged, or of a newer schema.
    """
    name = Path(path).name
    parts = opened(Path(path), name)
    return unpacked(manifest_of(parts, name), parts, name)


def unpacked(manifest: dict[str, Any], parts: Mapping[str, bytes], name: str) -> WholeGraphPredictor | AdaptedPredictor:
    """The predictor of an archive whose digests were checked; `name` is for messages.

    Raises:
        ArchiveError: it is of another kind, or what is in it makes no sense.
    """
    kind = manifest.get("kind")
    if kind not in (WHOLE_GRAPHS, ADAPTED_WHOLE_GRAPHS):
        raise ArchiveError(f"{name} was not learned from whole graphs: read it with latency_models.load")
    try:
        return _predictor(manifest, parts) if kind == WHOLE_GRAPHS else _adapted(manifest, parts, name)
    except ArchiveError:
        raise
    except Exception as error:  # whatever a value of a wrong kind makes fail
        raise ArchiveError(f"{name} is damaged: {error!r}; fit it again, or copy it again") from error


# --- writing ----------------------------------------------------------------------------------------------------------


def _packed(predictor: WholeGraphPredictor) -> bytes:
    experts = predictor.experts
    arrays: Arrays = {"left_out_s": experts.left_out_s, "left_out_sd": experts.left_out_sd}
    manifest = {
        "kind": WHOLE_GRAPHS,
        "target": predictor.target,
        "provenance": dict(predictor.provenance),
        "metrics": dict(predictor.metrics),
        "encoder": {"kinds": list(predictor.encoder.kinds), "gene_sizes": list(predictor.encoder.gene_sizes)},
        "experts": [_expert_facts(k, one, arrays) for k, one in enumerate(experts.members)],
        "weights": list(experts.weights),
        "freedom": experts.freedom,
        "scores": list(predictor.scores.values),
    }
    return sealed(manifest, {ARRAYS: _stored(arrays)})


def _packed_adapted(adapted: AdaptedPredictor) -> bytes:
    parts = {f"sources/{k}.predictor": _packed(source) for k, source in enumerate(adapted.sources)}
    parts[INNER] = _packed(adapted.inner)
    parts[ARRAYS] = _stored({"center": adapted.components.center, "axes": adapted.components.axes})
    return sealed({"kind": ADAPTED_WHOLE_GRAPHS, "target": adapted.inner.target}, parts)


def _expert_facts(k: int, expert: AdditiveProcess | Positive, arrays: Arrays) -> dict[str, Any]:
    """The numbers of an expert; its arrays go into `arrays`."""
    if isinstance(expert, Positive):
        arrays.update({f"{k}/{name}": getattr(expert, name) for name in OF_POSITIVE})
        numbers = {name: getattr(expert, name) for name in NUMBERS_OF_POSITIVE}
        return {"form": POSITIVE, "block": expert.block, **numbers}
    arrays.update({f"{k}/{name}": getattr(expert, name) for name in OF_PROCESS})
    for name in BY_BLOCK:
        arrays.update({f"{k}/{name}/{block}": values for block, values in getattr(expert, name).items()})
    numbers = {name: getattr(expert, name) for name in NUMBERS_OF_PROCESS}
    return {"form": PROCESS, "blocks": list(expert.names), "logarithms": expert.logarithms, **numbers}


def _stored(arrays: Arrays) -> bytes:
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    return packed.getvalue()


# --- reading ----------------------------------------------------------------------------------------------------------


def _predictor(manifest: dict[str, Any], parts: Mapping[str, bytes]) -> WholeGraphPredictor:
    arrays = _arrays(parts)
    encoder = manifest["encoder"]
    members = tuple(_expert(k, facts, arrays) for k, facts in enumerate(manifest["experts"]))
    weights = tuple(float(weight) for weight in manifest["weights"])
    if not members or len(members) != len(weights):
        raise ArchiveError(f"there are {len(weights)} weights for {len(members)} experts")
    return WholeGraphPredictor(
        target=str(manifest["target"]),
        encoder=Encoder(tuple(encoder["kinds"]), tuple(int(size) for size in encoder["gene_sizes"])),
        experts=Experts(members, weights, arrays["left_out_s"], arrays["left_out_sd"], float(manifest["freedom"])),
        scores=Scores(tuple(float(value) for value in manifest["scores"])),
        metrics=dict(manifest["metrics"]),
        provenance=dict(manifest["provenance"]),
    )


def _adapted(manifest: dict[str, Any], parts: Mapping[str, bytes], name: str) -> AdaptedPredictor:
    arrays = _arrays(parts)
    n_sources = sum(part.startswith("sources/") for part in parts)
    sources = tuple(_inside(parts, f"sources/{k}.predictor", name) for k in range(n_sources))
    components = Components(arrays["center"], arrays["axes"])
    if not sources or components.axes.shape[0] != len(sources):
        raise ArchiveError(f"there are components of {components.axes.shape[0]} sources, and {len(sources)} sources")
    return AdaptedPredictor(sources, components, _inside(parts, INNER, name))


def _inside(parts: Mapping[str, bytes], part: str, name: str) -> WholeGraphPredictor:
    what = f"{name}: {part}"
    inner = opened(io.BytesIO(parts[part]), what)
    found = unpacked(manifest_of(inner, what), inner, what)
    if not isinstance(found, WholeGraphPredictor):
        raise ArchiveError(f"{what} was adapted from others itself")
    return found


def _expert(k: int, facts: dict[str, Any], arrays: Arrays) -> AdditiveProcess | Positive:
    values: dict[str, Any]
    if facts["form"] == POSITIVE:
        values = {name: arrays[f"{k}/{name}"] for name in OF_POSITIVE}
        values.update({name: float(facts[name]) for name in NUMBERS_OF_POSITIVE})
        return Positive(block=str(facts["block"]), **values)
    blocks = tuple(str(block) for block in facts["blocks"])
    values = {name: {block: arrays[f"{k}/{name}/{block}"] for block in blocks} for name in BY_BLOCK}
    values.update({name: arrays[f"{k}/{name}"] for name in OF_PROCESS})
    values.update({name: float(facts.get(name, 0.0)) for name in NUMBERS_OF_PROCESS})  # old files follow nothing
    return AdditiveProcess(names=blocks, logarithms=bool(facts["logarithms"]), **values)


def _arrays(parts: Mapping[str, bytes]) -> Arrays:
    with np.load(io.BytesIO(parts[ARRAYS]), allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}
