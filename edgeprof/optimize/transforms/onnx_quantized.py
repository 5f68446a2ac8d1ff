"""Int8 and float16 of ONNX models, by ONNX Runtime's own tools; weight-only int8 in plain operators.

Which of them is fast depends on the device: u8 activations on x86, where s8 falls back to float, and perhaps s8 on Arm.
Nothing here is assumed to be fast or right: the gate and the device say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeprof.optimize.apart import CannotMake

__all__ = ["dynamic", "half", "prepare", "quantisable", "sensitivities", "static", "weight_only"]

ACTIVATIONS = {"u8": "QUInt8", "s8": "QInt8"}
METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
# Of each tensor the calibrators keep a histogram or all values: no more samples than these bytes of activations.
MOST_CALIBRATION_BYTES = 512 << 20
LEAST_SAMPLES = 8
PERCENTILE = 99.99
SENSITIVITY_SAMPLES = 16
# Weights of fewer values are not worth an operator of their own.
LEAST_WEIGHTS = 1024
WEIGHTED = {"Conv": 0, "ConvTranspose": 1, "Gemm": None, "MatMul": -1}


def prepare(source: str, target: str) -> str:
    """Shapes inferred and norms folded, as ONNX Runtime's documentation asks for before quantising; its version."""
    import onnxruntime
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(source, target, skip_symbolic_shape=True)
    return str(onnxruntime.__version__)


def static(
    source: str,
    target: str,
    samples: str,
    names: list[str],
    activations: str,
    per_channel: bool,
    method: str,
    cache: str,
    seven_bits: bool = False,
    exclude: Sequence[str] = (),
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """Static int8 with QuantizeLinear and DequantizeLinear around what is computed in int8.

    Args:
        source: a file that `prepare` wrote.
        target: where to write.
        samples: an .npz with input0, input1, ... (n, ...) to calibrate with, in the order of `names`.
        names: of the model's inputs.
        activations: u8 or s8; weights are s8, symmetric.
        per_channel: a scale for each output channel of the weights.
        method: minmax, entropy or percentile.
        seven_bits: weights take half the range: x86 without VNNI adds products of u8 and s8 in 16 bits, which overflow
            (ONNX Runtime's documentation on quantisation: reduce_range).
        cache: where the ranges are kept; they are the same for all activations and both granularities.
        exclude: names of nodes to leave in float32.
        only: the only nodes to quantise, if any are named.
    """
    import onnxruntime
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    reader = _reader(source, samples, names)
    quantize_static(
        source,
        target,
        reader,
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        reduce_range=seven_bits,
        activation_type=getattr(QuantType, ACTIVATIONS[activations]),
        weight_type=QuantType.QInt8,
        calibrate_method=getattr(CalibrationMethod, METHODS[method]),
        nodes_to_exclude=list(exclude),
        nodes_to_quantize=list(only),
        calibration_cache_path=cache,
        extra_options={"ActivationSymmetric": activations == "s8", "CalibPercentile": PERCENTILE},
    )
    return {"version": str(onnxruntime.__version__), "samples": reader.n}


def dynamic(source: str, target: str) -> str:
    """Weights in int8, activations quantised as they come."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, target, weight_type=QuantType.QInt8)
    return str(onnxruntime.__version__)


def half(source: str, target: str) -> str:
    """float16 inside, the inputs and outputs as they were."""
    import onnx
    import onnxruntime
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
    return str(onnxruntime.__version__)


def weight_only(source: str, target: str) -> int:
    """Weights in int8 with a scale for each channel, read as float32; how many tensors that was.

    Raises:
        CannotMake: there are no weights of that size, or the model's operators are older than per-channel scales.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(source)
    opset = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)
    if opset < 13:
        raise CannotMake(f"its operators are of opset {opset}, and scales for each channel came with 13")
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes, done = [], set()
    for node in model.graph.node:
        axis = _channel_axis(node)
        name = node.input[1] if axis is not None and len(node.input) > 1 else ""
        weights = numpy_helper.to_array(tensors[name]) if name in tensors else None
        if (
            axis is None
            or weights is None
            or weights.dtype != np.float32
            or weights.size < LEAST_WEIGHTS
            or name in done
        ):
            continue
        done.add(name)
        axis %= weights.ndim
        others = tuple(k for k in range(weights.ndim) if k != axis)
        scale = np.maximum(np.abs(weights).max(axis=others), np.finfo(np.float32).tiny) / np.float32(127.0)
        shape = [1] * weights.ndim
        shape[axis] = -1
        packed = np.clip(np.rint(weights / scale.reshape(shape)), -127, 127).astype(np.int8)
        model.graph.initializer.remove(tensors[name])
        model.graph.initializer.extend(
            (
                numpy_helper.from_array(packed, f"{name}_int8"),
                numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"),
            )
        )
        nodes.append(
            helper.make_node(
                "DequantizeLinear", [f"{name}_int8", f"{name}_scale"], [name], name=f"{name}_weights", axis=axis
            )
        )
    if not done:
        raise CannotMake("it has no weights that are worth it")
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    onnx.checker.check_model(model)
    onnx.save(model, target)
    return len(done)


def _channel_axis(node: Any) -> int | None:
    """Of the weights of a node, the axis of output channels; None where it has none."""
    if node.op_type not in WEIGHTED or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Gemm":
        return 0 if any(one.name == "transB" and one.i for one in node.attribute) else 1
    return WEIGHTED[node.op_type]


def quantisable(source: str) -> list[dict[str, str]]:
    """The nodes of a prepared file that have weights, and so gain by int8: name and type, in order."""
    import onnx

    model = onnx.load(source, load_external_data=False)
    tensors = {tensor.name for tensor in model.graph.initializer}
    return [
        {"name": node.name, "type": node.op_type}
        for node in model.graph.node
        if node.op_type in WEIGHTED and len(node.input) > 1 and node.input[1] in tensors and node.name
    ]


def sensitivities(
    source: str,
    samples: str,
    names: list[str],
    activations: str,
    per_channel: bool,
    method: str,
    cache: str,
    most_s: float,
    seven_bits: bool = False,
) -> dict[str, float]:
    """For each node with weights, the error of the outputs when it alone is quantised, until `most_s` are over.

    The error is the root of the mean square of the difference, as a share of that of the outputs.
    """
    import time

    import numpy as np

    with np.load(samples, allow_pickle=False) as archive:
        arrays = [archive[f"input{k}"][:SENSITIVITY_SAMPLES] for k in range(len(names))]
    rows = [{name: array[k] for name, array in zip(names, arrays, strict=True)} for k in range(len(arrays[0]))]
    expected = _run_all(source, rows)
    begin, found = time.monotonic(), {}
    target = str(Path.cwd() / "one.onnx")
    for node in quantisable(source):
        if time.monotonic() - begin > most_s:
            break
        only = [node["name"]]
        static(source, target, samples, names, activations, per_channel, method, cache, seven_bits, only=only)
        found[node["name"]] = relative_error(_run_all(target, rows), expected)
    return found


def relative_error(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """The worst of the outputs: root of the mean square of its differences over that of its values."""
    import numpy as np

    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        size = float(np.sqrt(np.mean(np.square(other, dtype=np.float64))))
        off = float(np.sqrt(np.mean(np.square(np.subtract(one, other, dtype=np.float64)))))
        worst = max(worst, off / size if size else off)
    return worst if np.isfinite(worst) else float(np.finfo(np.float64).max)


def _run_all(model: str, rows: Sequence[dict[str, Any]]) -> list[Any]:
    """The floating-point outputs, each over all rows."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    stacked = [np.stack(values) for values in zip(*(session.run(None, row) for row in rows), strict=True)]
    return [one for one in stacked if np.issubdtype(one.dtype, np.floating)]


# --- calibration ---


def _reader(source: str, samples: str, names: list[str]) -> Any:
    """Hands out one sample after the other, as many as memory allows."""
    import numpy as np
    from onnxruntime.quantization import CalibrationDataReader

    with np.load(samples, allow_pickle=False) as archive:
        arrays = [archive[f"input{k}"] for k in range(len(names))]
    most = max(LEAST_SAMPLES, MOST_CALIBRATION_BYTES // max(1, _activation_bytes(Path(source))))
    n = min(len(arrays[0]), most)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.n = n
            self._rows: Iterator[dict[str, Any]] = (
                {name: array[k] for name, array in zip(names, arrays, strict=True)} for k in range(n)
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self._rows, None)

    return Reader()


def _activation_bytes(source: Path) -> int:
    """Of all tensors in between, of one sample, as far as their shapes are known."""
    import onnx

    model = onnx.load(source, load_external_data=False)
    total = 0
    for item in model.graph.value_info:
        size = 4
        for dim in item.type.tensor_type.shape.dim:
            size *= max(1, dim.dim_value)
        total += size
    return total
