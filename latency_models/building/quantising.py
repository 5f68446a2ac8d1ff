"""The int8 form of an ONNX graph: QuantizeLinear and DequantizeLinear around every operator, as quantisers write it.

ONNX Runtime makes its int8 kernels of such groups (onnxruntime/core/optimizer/qdq_transformer). Scales are set here so
that activations of about unit size use the range: a latency does not depend on them.
"""

from __future__ import annotations

from latency_models.building.recording import Recorder

__all__ = ["ACTIVATION_SCALE", "WEIGHT_SCALE", "Quantiser"]

ACTIVATION_SCALE = 0.05
WEIGHT_SCALE = 0.002
# Activations are uint8 and weights int8: ONNX Runtime has kernels for that on every processor, and on x86-64 none for
# int8 with int8 (QDQIsInt8Allowed in its selectors_actions).
ACTIVATION_TYPE = "uint8"
MIDDLE, LOWEST = 128, 0


class Quantiser:
    """Adds the rounding to a graph under construction."""

    def __init__(self, made: Recorder) -> None:
        self._made = made
        self._scales: dict[str, float] = {}

    def settled(self, name: str, *, highest: float | None = None) -> str:
        """A tensor rounded to 8 bits and back; the name of the result. `highest`: of values that are 0 or more."""
        shape = tuple(dim or 0 for dim in self._made.tensor(name).shape or ())
        kind = (ACTIVATION_SCALE, MIDDLE) if highest is None else (highest / 255, LOWEST)
        rounded = self._made.add("QuantizeLinear", [name, *self._constants(*kind)], [shape], dtype=ACTIVATION_TYPE)[0]
        result = self._made.add("DequantizeLinear", [rounded, *self._constants(*kind)], [shape])[0]
        self._scales[result] = kind[0]
        return result

    def weights(self, shape: tuple[int, ...], axis: int = 0) -> str:
        """Weights in int8 with a scale for each channel, the channels along `axis`."""
        n = shape[axis]
        scales = self._made.weights((n,), scale=WEIGHT_SCALE)
        zeros = self._made.weights((n,), "int8", zero_point=0, scale=0.0)
        stored = self._made.weights(shape, "int8")
        return self._made.add("DequantizeLinear", [stored, scales, zeros], [shape], {"axis": axis})[0]

    def bias(self, data: str, channels: int) -> str:
        """A bias in int32, whose scale is that of `data` times that of weights: else the runtime computes in float."""
        scales = self._made.weights((channels,), scale=WEIGHT_SCALE * self._scales.get(data, ACTIVATION_SCALE))
        zeros = self._made.weights((channels,), "int32", zero_point=0, scale=0.0)
        stored = self._made.weights((channels,), "int32")
        return self._made.add("DequantizeLinear", [stored, scales, zeros], [(channels,)], {"axis": 0})[0]

    def plain(self, shape: tuple[int, ...]) -> str:
        """A stored tensor that is data and no weights: one scale."""
        stored = self._made.weights(shape, ACTIVATION_TYPE)
        return self._made.add("DequantizeLinear", [stored, *self._constants()], [shape])[0]

    def _constants(self, scale: float = ACTIVATION_SCALE, zero_point: int = MIDDLE) -> list[str]:
        return [
            self._made.constant([scale], "float32", ()),
            self._made.constant([zero_point], ACTIVATION_TYPE, ()),
        ]
