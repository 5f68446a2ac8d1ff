"""A predictor as one file: a zip of JSON, LightGBM's text and numpy's arrays, with digests. Nothing in it is executed.

::

    manifest.json        format, schema, target, provenance, metrics, correction, and the digest of every other part
    arrays.npz           the arrays of all families (loaded with allow_pickle=False)
    trees/FAMILY.txt     LightGBM's own text format
    sources/K.predictor  of an adapted predictor: the predictors that it asks, and nothing of the above but the manifest

Predictors of whole graphs are in the same archive with other parts (see `whole_graph.archive`).

A file of a newer schema is refused, and so is one whose parts do not have the digests that the manifest names.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latency_models.correction import Correction
from latency_models.features import NAMES
from latency_models.kernel_times import Bound, KernelTimes, Known
from latency_models.net_sums import NetSums
from latency_models.observations import Target
from latency_models.patterns import Patterns
from latency_models.predictor import Predictor
from latency_models.predictors.family import Family
from latency_models.predictors.gaussian_process import GaussianProcess
from latency_models.predictors.roofline import Roofline
from latency_models.predictors.trees import Trees
from latency_models.scores import Scores

if TYPE_CHECKING:
    from latency_models.adapted import Adapted

__all__ = [
    "SCHEMA",
    "ArchiveError",
    "OtherKind",
    "OtherVersion",
    "load",
    "manifest_of",
    "opened",
    "save",
    "save_adapted",
    "sealed",
    "unpacked",
    "write",
]

FORMAT = "edgeprof predictor"
# Version of the file. History:
# 1  first version
SCHEMA = 1
MANIFEST, ARRAYS = "manifest.json", "arrays.npz"
KERNELS, ADAPTED = "kernels", "adapted"
# These are read by `whole_graph.archive`.
WHOLE_GRAPHS, ADAPTED_WHOLE_GRAPHS = "whole graphs", "whole graphs, adapted"
OF_WHOLE_GRAPHS = (WHOLE_GRAPHS, ADAPTED_WHOLE_GRAPHS)
# A predictor of all families takes a few megabytes; nothing near these limits was ever a predictor.
MAX_BYTES = 512 * 1024 * 1024
MAX_PARTS = 4096
OF_PROCESS = ("points", "targets", "noise", "chosen", "center", "scale", "log_lengths")
OF_FAMILY, SOMETIMES = ("columns", "fill", "low", "high"), "sometimes"

Arrays = dict[str, NDArray[Any]]


class ArchiveError(ValueError):
    """A file is no predictor, is damaged, or was written by a newer edgeprof."""


class OtherVersion(ArchiveError):
    """A predictor that this version does not read; it is not damaged."""


class OtherKind(ArchiveError):
    """A predictor of another kind than can be used here; it is not damaged."""


def save(predictor: Predictor, path: str | os.PathLike[str], provenance: Mapping[str, object] | None = None) -> None:
    """Write a predictor, whole or not at all.

    Args:
        predictor: what to write.
        path: the file; one that is there is replaced.
        provenance: plain values for whoever wants to judge it: what it was trained on, when, by what.

    Raises:
        OSError: the file cannot be written.
    """
    write(Path(path), _packed(predictor, provenance))


def save_adapted(adapted: Adapted, path: str | os.PathLike[str]) -> None:
    """Write a predictor that was adapted from others, with these inside.

    Raises:
        OSError: the file cannot be written.
    """
    parts = {f"sources/{k}.predictor": _packed(source) for k, source in enumerate(adapted.sources)}
    manifest = {
        "kind": ADAPTED,
        "target": asdict(adapted.target),
        "provenance": dict(adapted.provenance),
        "metrics": dict(adapted.metrics),
        "coefficients": adapted.blend.coefficients.tolist(),
        "covariance": adapted.blend.covariance.tolist(),
        "noise": adapted.blend.noise,
        "scores": list(adapted.scores.values),
    }
    write(Path(path), sealed(manifest, parts))


def _packed(predictor: Predictor, provenance: Mapping[str, object] | None = None) -> bytes:
    """The file of a predictor."""
    parts: dict[str, bytes] = {}
    arrays: Arrays = {}
    families = []
    for k, family in enumerate(predictor.times.families.values()):
        families.append(_family_facts(k, family, arrays))
        if family.trees is not None:
            parts[f"trees/{k}.txt"] = family.trees.text.encode()
    arrays.update(_table_arrays(predictor.times))
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    parts[ARRAYS] = packed.getvalue()
    times = predictor.times
    manifest = {
        "kind": KERNELS,
        "features": list(NAMES),
        "target": asdict(predictor.target),
        "provenance": dict(provenance or predictor.provenance),
        "metrics": dict(predictor.metrics),
        "seed": predictor.seed,
        "families": families,
        "table": [name for name, _ in times.table],
        "few": times.few,
        "typical": times.typical,
        "patterns": [[list(types), n] for types, n in sorted(predictor.patterns.counts.items())],
        "correction": asdict(predictor.correction),
        "correction_quantised": asdict(predictor.correction_quantised) if predictor.correction_quantised else None,
        "scores": list(predictor.scores.values),
        "score_families": list(predictor.scores.families),
        "energy": asdict(predictor.energy) if predictor.energy is not None else None,
        "memory": asdict(predictor.memory) if predictor.memory is not None else None,
    }
    return sealed(manifest, parts)


def sealed(manifest: dict[str, Any], parts: dict[str, bytes]) -> bytes:
    """The archive of a manifest and its parts; the same ones make the same bytes, with no date of writing in them."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()}
    whole = {"format": FORMAT, "schema": SCHEMA, **manifest, "parts": digests}
    contents = {**parts, MANIFEST: json.dumps(whole, indent=1, allow_nan=False).encode()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            archive.writestr(zipfile.ZipInfo(name), contents[name], zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def write(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> Predictor | Adapted:
    """Read a predictor that knows kernels; `latency_models.load` reads all kinds.

    Raises:
        OSError: the file cannot be read.
        ArchiveError: it is no predictor of kernels, damaged, or of a newer schema.
    """
    name = Path(path).name
    parts = opened(Path(path), name)
    return unpacked(manifest_of(parts, name), parts, name)


def unpacked(manifest: dict[str, Any], parts: Mapping[str, bytes], name: str) -> Predictor | Adapted:
    """The predictor of an archive whose digests were checked; `name` is for messages.

    Raises:
        ArchiveError: it is no predictor of kernels, or what is in it makes no sense.
    """
    kind = manifest.get("kind")
    if kind in OF_WHOLE_GRAPHS:
        raise OtherKind(f"{name} was learned from whole graphs and knows no kernels: read it with latency_models.load")
    if kind not in (KERNELS, ADAPTED):
        raise OtherVersion(f"{name} is of kind {kind!r}, which this edgeprof does not know: install a newer edgeprof")
    try:
        return _adapted(manifest, parts, name) if kind == ADAPTED else _predictor(manifest, parts)
    except ArchiveError as error:
        raise ArchiveError(f"{name}: {error}; train it again") from error
    except Exception as error:  # whatever a value of a wrong kind makes fail
        raise ArchiveError(f"{name} is damaged: {error!r}; train it again, or copy it again") from error


def opened(file: Path | io.BytesIO, name: str) -> dict[str, bytes]:
    """All parts of an archive; nothing of them is known to be right yet (see `manifest_of`)."""
    again = "copy it again, or train it again"
    if (len(file.getbuffer()) if isinstance(file, io.BytesIO) else file.stat().st_size) == 0:
        raise ArchiveError(f"{name} is empty: {again}")
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            is_none = len(infos) > MAX_PARTS or sum(info.file_size for info in infos) > MAX_BYTES
            parts = {} if is_none else {info.filename: archive.read(info) for info in infos}
    except OSError:
        raise
    except Exception as error:  # zipfile and zlib have many, and no common class
        raise ArchiveError(f"{name} is no predictor, or is damaged: {error}; {again}") from error
    if is_none:
        raise ArchiveError(f"{name} is far larger than any predictor: it is none")
    return parts


def manifest_of(parts: Mapping[str, bytes], name: str) -> dict[str, Any]:
    """The manifest of an archive, after looking whether its parts are what it says."""
    try:
        manifest = json.loads(parts[MANIFEST])
    except (KeyError, ValueError) as error:
        raise ArchiveError(f"{name} is no predictor: it has no readable {MANIFEST}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArchiveError(f"{name} is no predictor")
    schema = manifest.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise OtherVersion(f"{name} has schema {schema}, this edgeprof reads 1 to {SCHEMA}: install a newer edgeprof")
    if not isinstance(schema, int) or schema < 1:
        raise ArchiveError(f"{name} is damaged: its schema is {schema!r}")
    digests = manifest.get("parts")
    if not isinstance(digests, dict) or set(digests) != set(parts) - {MANIFEST}:
        raise ArchiveError(f"{name} is damaged: parts are missing or were added")
    for part, digest in digests.items():
        if hashlib.sha256(parts[part]).hexdigest() != digest:
            raise ArchiveError(f"{name} is damaged: {part} is not what was written; copy it again, or train it again")
    return manifest


def _predictor(manifest: dict[str, Any], parts: Mapping[str, bytes]) -> Predictor:
    if manifest["features"] != list(NAMES):
        raise ArchiveError("it was trained on other features than this edgeprof has")
    with np.load(io.BytesIO(parts[ARRAYS]), allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    families = {}
    for k, facts in enumerate(manifest["families"]):
        text = parts.get(f"trees/{k}.txt")
        families[facts["name"]] = _family(k, facts, arrays, Trees(text.decode()) if text is not None else None)
    bound = Bound(arrays["bound/work"], arrays["bound/log_s"])
    typical = {str(type): float(seconds) for type, seconds in manifest.get("typical", {}).items()}  # not in old files
    times = KernelTimes(families, _table(manifest["table"], arrays), bound, dict(manifest["few"]), typical)
    quantised = manifest.get("correction_quantised")  # not in old files
    return Predictor(
        target=Target(**manifest["target"]),
        times=times,
        patterns=Patterns({tuple(types): int(n) for types, n in manifest["patterns"]}),
        correction=_correction(manifest["correction"]),
        scores=Scores(
            tuple(float(value) for value in manifest["scores"]),
            tuple(str(family) for family in manifest.get("score_families", ())),  # not in old files
        ),
        correction_quantised=_correction(quantised) if quantised is not None else None,
        energy=_net_sums(manifest["energy"]),
        memory=_net_sums(manifest["memory"]),
        seed=int(manifest["seed"]),
        metrics=dict(manifest["metrics"]),
        provenance=dict(manifest["provenance"]),
    )


def _adapted(manifest: dict[str, Any], parts: Mapping[str, bytes], name: str) -> Adapted:
    from latency_models.adapted import Adapted, Blend

    sources = []
    for k in range(len(parts) - 1):
        what = f"{name}: source {k}"
        inner = opened(io.BytesIO(parts[f"sources/{k}.predictor"]), what)
        sources.append(_predictor(manifest_of(inner, what), inner))
    return Adapted(
        target=Target(**manifest["target"]),
        sources=tuple(sources),
        blend=Blend(np.array(manifest["coefficients"]), np.array(manifest["covariance"]), float(manifest["noise"])),
        scores=Scores(tuple(float(value) for value in manifest["scores"])),
        metrics=dict(manifest["metrics"]),
        provenance=dict(manifest["provenance"]),
    )


def _correction(facts: dict[str, Any]) -> Correction:
    return Correction(**{**facts, "factors": tuple(facts["factors"])})


def _net_sums(facts: dict[str, Any] | None) -> NetSums | None:
    if facts is None:
        return None
    scores = Scores(tuple(float(value) for value in facts["scores"]["values"]))
    return NetSums(tuple(float(value) for value in facts["weights"]), scores, int(facts["n_nets"]))


# --- families and the table -------------------------------------------------------------------------------------------


def _family_facts(k: int, family: Family, arrays: Arrays) -> dict[str, Any]:
    """The numbers of a family; its arrays go into `arrays`."""
    process = family.process
    for name in (*OF_FAMILY, SOMETIMES):
        arrays[f"{k}/{name}"] = getattr(family, name)
    for name in OF_PROCESS:
        arrays[f"{k}/process/{name}"] = getattr(process, name)
    scalars = [one.name for one in fields(GaussianProcess) if one.name not in OF_PROCESS]
    return {
        "name": family.name,
        "roofline": asdict(family.roofline),
        "process": {name: float(getattr(process, name)) for name in scalars},
        "process_share": family.process_share,
        "widen": family.widen,
        "n_samples": family.n_samples,
    }


def _family(k: int, facts: dict[str, Any], arrays: Arrays, trees: Trees | None) -> Family:
    of_process: dict[str, Any] = {name: arrays[f"{k}/process/{name}"] for name in OF_PROCESS}
    process = GaussianProcess(**of_process, **facts["process"])
    return Family(
        name=facts["name"],
        roofline=Roofline(**facts["roofline"]),
        process=process,
        trees=trees,
        process_share=float(facts["process_share"]),
        widen=float(facts["widen"]),
        n_samples=int(facts["n_samples"]),
        **{name: arrays[f"{k}/{name}"] for name in OF_FAMILY},
        sometimes=arrays.get(f"{k}/{SOMETIMES}", np.zeros(len(NAMES), dtype=np.bool_)),  # not in old files
    )


def _table_arrays(times: KernelTimes) -> Arrays:
    known = list(times.table.values())
    values = [np.frombuffer(values) for _, values in times.table]
    return {
        "bound/work": times.bound.work,
        "bound/log_s": times.bound.log_s,
        "table/values": np.stack(values) if values else np.zeros((0, len(NAMES))),
        "table/log_ratio": np.array([one.log_ratio for one in known]),
        "table/sd": np.array([one.sd for one in known]),
        "table/n": np.array([one.n for one in known], dtype=np.int64),
    }


def _table(names: list[str], arrays: Arrays) -> dict[tuple[str, bytes], Known]:
    columns = (arrays["table/values"], arrays["table/log_ratio"], arrays["table/sd"], arrays["table/n"])
    return {
        (name, values.tobytes()): Known(float(log_ratio), float(sd), int(n))
        for name, values, log_ratio, sd, n in zip(names, *columns, strict=True)
    }
