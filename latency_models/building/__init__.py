"""Build a model's `Graph` in code, without weights: for architecture search, probes, and nets that nobody has exported.

    net = builder("onnx")
    image = net.image(224, 224)
    x = net.conv(image, 32, kernel=3, stride=2, activation="relu6")
    x = net.depthwise(x, kernel=3, activation="relu6")
    graph = net.graph(net.dense(net.flatten(net.global_average(x)), 1000))

The same calls build the graph in the operators of either format, as the usual exporters write them.
"""

from __future__ import annotations

from latency_models.building.base import BuildError, GraphBuilder, Value

__all__ = ["BuildError", "GraphBuilder", "Value", "builder"]


def builder(format: str, *, name: str = "built", precision: str = "float32") -> GraphBuilder:
    """A builder of graphs in this format ("onnx" or "tflite"); `precision` is "float32" or "int8".

    Raises:
        BuildError: there is no such format or precision.
    """
    if format == "onnx":
        from latency_models.building.onnx import OnnxBuilder

        return OnnxBuilder(name, precision)
    if format == "tflite":
        from latency_models.building.tflite import TfliteBuilder

        return TfliteBuilder(name, precision)
    raise BuildError(f"no format {format!r}: it is onnx or tflite")
