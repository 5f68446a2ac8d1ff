"""Read a model into a `Graph`, whatever it comes as: a file or its bytes, ONNX or TFLite, told by the content."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from latency_models.graph import Graph, ShapeError

__all__ = ["read"]

# Bytes 4 to 7 of a TFLite file (tensorflow/compiler/mlir/lite/schema/schema.fbs).
TFLITE_IDENTIFIER = b"TFL3"


def read(
    source: str | os.PathLike[str] | bytes,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    batch: int | None = None,
    default_dim: int | None = None,
    name: str = "the model",
) -> Graph:
    """Read a model's graph; `notes` of it name every dimension that was assumed.

    Args:
        source: a file, or the bytes of one.
        shapes: the shape of inputs by name.
        batch: the first dimension of every other input whose first dimension is open.
        default_dim: what to put for input dimensions that are still open then; None leaves them unknown.
        name: of bytes, for messages.

    Raises:
        OSError: the file cannot be read.
        GraphError: it is no model, damaged, or (a ShapeError) the shapes do not fit its inputs.
    """
    if batch is not None and batch < 1:
        raise ShapeError(f"the batch is {batch}: give a whole number above 0")
    is_bytes = isinstance(source, bytes)
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    called = name if is_bytes else Path(os.fspath(source)).name  # type: ignore[arg-type]
    if data[4:8] == TFLITE_IDENTIFIER:
        from latency_models import tflite_graph

        graph = tflite_graph.parse(data, called, shapes, batch)
        return replace(graph, notes=(*graph.notes, *_ignored(graph, shapes or {}, batch)))
    from latency_models import onnx_graph

    graph = onnx_graph.of_model(onnx_graph.parse(data, called), called, shapes, batch, default_dim)
    assumed = _assumed(graph, shapes or {}, batch, default_dim)
    return replace(graph, notes=(*graph.notes, *assumed, *_ignored(graph, shapes or {}, batch)))


def _ignored(graph: Graph, shapes: Mapping[str, tuple[int, ...]], batch: int | None) -> tuple[str, ...]:
    """In words, that a batch was asked for which no input has."""
    first = [(graph.shape(name) or (None,))[0] for name in graph.inputs]
    if batch is None or batch in first:
        return ()
    if shapes and set(graph.inputs) <= shapes.keys():
        return (f"a batch of {batch} was asked for, but shapes were given for all inputs: these count",)
    return (f"a batch of {batch} was asked for, but the file fixes the first dimension of its inputs: nothing changed",)


def _assumed(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]], batch: int | None, default_dim: int | None
) -> tuple[str, ...]:
    """In words, which inputs were given sizes that nobody asked for."""
    if default_dim is None:
        return ()
    notes = []
    for declared in graph.declared:
        if declared.name in shapes or declared.dims is None:
            continue
        unknown = [
            place for place, dim in enumerate(declared.dims) if not isinstance(dim, int) and not (place == 0 and batch)
        ]
        if unknown:
            shape = list(graph.shape(declared.name) or ())
            notes.append(f"input {declared.name} leaves sizes open: it is taken as {shape}; give its shape")
    return tuple(notes)
