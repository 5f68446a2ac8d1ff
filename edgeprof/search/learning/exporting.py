"""Trained nets as files: the graph that the space builds, with the weights that were learned; without a converter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeprof.errors import ModelError
from edgeprof.search.learning.module import Net
from edgeprof.search.learning.tape import Step, Tape, tape_of
from edgeprof.search.space import Architecture, SearchSpace
from latency_models.building import BuildError
from latency_models.write_onnx import onnx_bytes

__all__ = ["as_onnx", "as_tflite", "as_weights"]

Array = NDArray[np.float32]


def as_weights(net: Net) -> dict[str, Array]:
    """The learned weights by the names that the ONNX file has."""
    found = {}
    for step, own in net.folded():
        for name, tensor in zip(step.weights, own, strict=True):
            found[name] = tensor.detach().cpu().numpy().astype(np.float32)
    return found


def as_onnx(net: Net) -> bytes:
    """The net as an ONNX file."""
    return onnx_bytes(net.tape.graph, weights=as_weights(net))


def as_tflite(net: Net, space: SearchSpace, architecture: Architecture) -> bytes:
    """The net as a TFLite file.

    Raises:
        BuildError: TFLite has no such operators.
        ModelError: its layers are not those of the trained net.
    """
    from edgeprof.models.write_tflite import tflite_bytes

    tape = tape_of(space, architecture, "tflite")
    weights = as_weights(net)
    if [step.layer for step in tape.steps] != [step.layer for step in net.tape.steps]:
        raise ModelError(
            f"{space.name} builds other layers in TFLite than in ONNX, in which it was trained",
            "let `build` say the same whatever the builder",
        )
    flat = _flattened_images(net.tape)
    found: dict[str, Array] = {}
    for own, theirs in zip(net.tape.steps, tape.steps, strict=True):
        values = [_in_tflite(own, weights[name], flat) for name in own.weights]
        # Kernels without a bias have one of zeros there.
        for number, name in enumerate(theirs.weights):
            shape = tuple(dim or 0 for dim in tape.graph.tensors[name].shape or ())
            value = values[number] if number < len(values) else np.zeros(shape, np.float32)
            found[name] = value.reshape(shape) if value.size == np.prod(shape) else value
            if found[name].shape != shape:
                raise ModelError(f"{own.layer}: weights of {value.shape} do not fit TFLite's {shape}", "report it")
    return tflite_bytes(tape.graph, weights=found)


def _flattened_images(tape: Tape) -> dict[str, tuple[int, int, int]]:
    """Vectors that were an image: the order of their numbers differs between the formats."""
    found = {}
    for step in tape.steps:
        if step.layer == "flatten" and step.inputs[0].is_image:
            _, height, width, channels = step.inputs[0].shape
            if height * width > 1:
                found[step.outputs[0].name] = (height, width, channels)
        elif step.layer != "dense" and any(value.name in found for value in step.inputs):
            raise BuildError(
                f"{step.layer} behind a flattened image: TFLite has its numbers in another order; use dense there"
            )
    return found


def _in_tflite(step: Step, values: Array, flat: dict[str, tuple[int, int, int]]) -> Array:
    """One weight in TFLite's order: channels last, and the images that were flattened too."""
    if step.layer == "depthwise" and values.ndim == 4:
        return values.transpose(1, 2, 3, 0)
    if step.layer == "conv" and values.ndim == 4:
        return values.transpose(0, 2, 3, 1)
    if step.layer == "dense" and values.ndim == 2:
        if len(step.inputs[0].shape) > 2:
            return values.T
        if step.inputs[0].name in flat:
            height, width, channels = flat[step.inputs[0].name]
            apart = values.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
            return apart.reshape(values.shape)
    return values
