"""Ask the ONNX Runtime on this machine what it makes of a model: its own optimiser answers, nothing is guessed.

The answer holds for this version and this kind of processor: which nodes are fused, and which layout convolutions run
in, depends on both. Shapes are those of the file's tensors, which keep their names; those of tensors that the optimiser
made follow from the nodes (`_inferred`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latency_models.graph import Graph, GraphError, Operator, Shape, Tensor, branch_taken, size_of, with_work

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["executed_graph", "version"]

LAYOUTS = ("_nchwc", "_nhwc")
# What keeps the shape of its first input, beside the operators that onnx itself knows.
SAME_SHAPE = frozenset(
    (
        "QuantizeLinear", "DequantizeLinear", "Gelu", "BiasGelu", "FastGelu",
        "QuickGelu", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "SkipLayerNormalization",
        "SimplifiedLayerNormalization", "LayerNormalization", "DynamicQuantizeLinear", "BiasSoftmax",
    )
)  # fmt: skip
# Element by element on two inputs; the quantised ones have a scale and a zero point behind each.
POOLS = frozenset(("MaxPool", "AveragePool", "LpPool", "QLinearAveragePool"))
ELEMENTWISE = {"QLinearAdd": (0, 3), "QLinearMul": (0, 3)}
WEIGHTS_ELSEWHERE_BYTES = 1024
# What is computed with shapes, on a few numbers.
FOLDING = frozenset(
    (
        "Gather", "Concat", "Unsqueeze", "Squeeze", "Cast", "Slice", "Mul", "Add", "Sub", "Div", "Reshape",
        "ReduceProd", "Equal", "Where", "Floor", "Ceil", "Min", "Max", "ConstantOfShape", "Range", "Identity",
        "Neg", "Mod", "Size", "Not",
    )
)  # fmt: skip
MAX_VALUES = 64
# Operators that take and give quantised numbers alone.
QUANTISED = "QLinear"


def version() -> str | None:
    """The version of the ONNX Runtime here, None if there is none."""
    try:
        import onnxruntime
    except ImportError:
        return None
    return str(onnxruntime.__version__)


def executed_graph(model: bytes | Path, graph: Graph, optimization: str = "all") -> Graph:
    """The graph that this machine's ONNX Runtime would execute for a model on its CPU.

    Args:
        model: the file or its bytes; a file's external weights lie beside it.
        graph: the same model as `onnx_graph` read it, with the shapes that it shall run with.
        optimization: the level: all, extended, basic or none.

    Raises:
        GraphError: the runtime refuses the model.
    """
    import onnx
    import onnxruntime

    levels = {
        "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
        "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    }
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = levels[optimization]
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Weights are neither rearranged nor written beside the graph: only the graph is wanted.
    options.add_session_config_entry("session.disable_prepacking", "1")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "executed.onnx"
        options.optimized_model_filepath = str(path)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", str(WEIGHTS_ELSEWHERE_BYTES)
        )
        try:
            source = model if isinstance(model, bytes) else str(model)
            onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
            proto = onnx.load_model(str(path), load_external_data=False)
        except Exception as error:  # onnxruntime's exceptions have no common class below Exception
            raise GraphError(f"ONNX Runtime does not take {graph.name}: {str(error).strip()}") from error
    from latency_models import onnx_graph

    return with_shapes_of(onnx_graph.of_model(proto, graph.name, infer=False), graph)


def with_shapes_of(executed: Graph, graph: Graph) -> Graph:
    """The executed graph with every shape that the file's `graph` tells, or that follows from its own nodes."""
    tensors = dict(executed.tensors)
    for name, tensor in executed.tensors.items():
        known = _of_file(graph, name)
        if known is not None and not tensor.is_constant:
            tensors[name] = _shaped(tensor, known.shape, tensor.dtype or known.dtype)
    choices: list[Operator] = []
    for operator in executed.operators:
        while choices and not f"{operator.body}/".startswith(f"{choices[-1].name}/"):
            _leave(choices.pop(), tensors)
        if operator.type == "If":
            choices.append(operator)
            continue
        _remember_values(operator, tensors, executed.opsets)
        inferred: Sequence[tuple[Shape, str | None]] | None = None
        for place, name in enumerate(operator.outputs):
            old = tensors.get(name) or Tensor(name=name, dtype=None, shape=None)
            if not name or (_is_known(old) and old.dtype is not None and not operator.type.startswith(QUANTISED)):
                continue
            if inferred is None:
                inferred = _inferred(operator, tensors, executed.opsets)
            shape, dtype = inferred[place] if place < len(inferred) else (None, None)
            if operator.type.startswith(QUANTISED):
                old = replace(old, dtype=None)  # a name of the file, where it was float32
            tensors[name] = _shaped(
                old, old.shape if _is_known(old) else shape, old.dtype or dtype or _dtype_of_data(operator, tensors)
            )
    for choice in reversed(choices):
        _leave(choice, tensors)
    operators = tuple(with_work(executed.format, operator, tensors) for operator in executed.operators)
    return replace(executed, tensors=tensors, operators=operators)


def _leave(choice: Operator, tensors: dict[str, Tensor]) -> None:
    """After its branches: what comes out of a choice is as in the one that is taken, or as in both where they agree."""
    branch = branch_taken(choice, tensors)
    results = list(choice.results.values()) if branch is None else [choice.results.get(branch, ())]
    for name, *ends in zip(choice.outputs, *results, strict=False):
        found = [tensors.get(end) for end in ends]
        first = found[0]
        if not name or first is None or not all(one and _is_known(one) and one.shape == first.shape for one in found):
            continue
        old = tensors.get(name) or Tensor(name=name, dtype=None, shape=None)
        if not _is_known(old):
            tensors[name] = _shaped(old, first.shape, first.dtype)


def _remember_values(operator: Operator, tensors: dict[str, Tensor], opsets: Mapping[str, int]) -> None:
    """Fill in what an operator computes, where that follows from shapes: it may be the shape of what comes next."""
    inputs = [tensors.get(name) for name in operator.inputs if name]
    if operator.domain or len(operator.outputs) != 1 or operator.outputs[0] not in tensors:
        return
    old = tensors[operator.outputs[0]]
    if operator.type == "Shape" and inputs and inputs[0] is not None and _is_known(inputs[0]) and inputs[0].shape:
        whole = tuple(dim or 0 for dim in inputs[0].shape)
        begin, end = operator.attributes.get("start", 0), operator.attributes.get("end")
        values = whole[begin if isinstance(begin, int) else 0 : end if isinstance(end, int) else None]
        tensors[old.name] = replace(old, dtype="int64", shape=(len(values),), values=tuple(values))
        return
    if operator.type not in FOLDING or any(one is None or one.values is None for one in inputs):
        return
    found = _computed(operator, [one for one in inputs if one is not None], opsets)
    if found is not None and found.size <= MAX_VALUES:
        values = tuple(found.reshape(-1).tolist())
        tensors[old.name] = replace(old, dtype=str(found.dtype), shape=found.shape, values=values)


def _computed(operator: Operator, inputs: Sequence[Tensor], opsets: Mapping[str, int]) -> NDArray[Any] | None:
    """The value of one of onnx's own operators, by onnx's reference; None where it cannot tell."""
    import numpy as np
    import onnx
    from onnx.reference import ReferenceEvaluator

    node = onnx.helper.make_node(operator.type, operator.inputs, operator.outputs, **operator.attributes)
    values = {
        one.name: np.array(one.values, dtype=one.dtype).reshape([dim or 0 for dim in one.shape or ()]) for one in inputs
    }
    try:
        return np.asarray(ReferenceEvaluator(node, opsets=dict(opsets)).run(None, values)[0])
    except Exception:  # an attribute that was only described, an operator that the reference lacks
        return None


def _of_file(graph: Graph, name: str) -> Tensor | None:
    for suffix in ("", *LAYOUTS):
        if name.endswith(suffix):
            found = graph.tensors.get(name.removesuffix(suffix) if suffix else name)
            if _is_known(found):
                return found
    return None


def _dtype_of_data(operator: Operator, tensors: Mapping[str, Tensor]) -> str | None:
    """The type of what comes in, which most operators keep."""
    inputs = [tensors[name] for name in operator.inputs if name in tensors]
    return next((one.dtype for one in inputs if not one.is_constant and one.dtype is not None), None)


def _is_known(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.shape is not None and None not in tensor.shape


def _shaped(tensor: Tensor, shape: Shape, dtype: str | None) -> Tensor:
    return replace(tensor, shape=shape, dtype=dtype, size_bytes=size_of(dtype, shape))


# --- shapes of what the optimiser made -------------------------------------------------------------------------------


def _inferred(
    operator: Operator, tensors: Mapping[str, Tensor], opsets: Mapping[str, int]
) -> Sequence[tuple[Shape, str | None]]:
    """Shape and type of each output; empty where they do not follow."""
    inputs = [tensors.get(name) for name in operator.inputs]
    first = inputs[0] if inputs else None
    if operator.type in ("ReorderInput", "ReorderOutput") and first is not None and _is_known(first):
        return [(_reordered(operator, first), first.dtype)]
    if operator.type in SAME_SHAPE and first is not None and _is_known(first):
        dtype = first.dtype
        if operator.type == "DequantizeLinear":
            dtype = "float32"
        elif operator.type in ("QuantizeLinear", "DynamicQuantizeLinear"):
            zero = inputs[2] if len(inputs) > 2 else None
            dtype = zero.dtype if zero is not None else "uint8"
        return [(first.shape, dtype)]
    if operator.type in ELEMENTWISE:
        return _broadcast([inputs[place] for place in ELEMENTWISE[operator.type] if place < len(inputs)])
    if operator.type in ("Conv", "FusedConv", "QLinearConv") and first is not None and _is_known(first):
        weights = inputs[3 if operator.type == "QLinearConv" else 1]
        return _convolved(operator, first, weights)
    if operator.type in POOLS and first is not None and _is_known(first):
        return [(_slid(operator, first, _window(operator)), first.dtype)]
    if operator.type in ("GlobalAveragePool", "QLinearGlobalAveragePool") and first is not None and _is_known(first):
        return [
            (_put_back(operator, (*_image(operator, first)[:2], *(1 for _ in (first.shape or ())[2:]))), first.dtype)
        ]
    if operator.type == "FusedMatMul" and len(inputs) > 1:
        return _multiplied(operator, inputs[0], inputs[1])
    return _by_onnx(operator, inputs, opsets)


def _multiplied(operator: Operator, a: Tensor | None, b: Tensor | None) -> Sequence[tuple[Shape, str | None]]:
    """A product of matrices, either of which may be transposed on the way."""
    if a is None or b is None or a.shape is None or b.shape is None or min(len(a.shape), len(b.shape)) < 2:
        return []
    flags = operator.attributes
    if flags.get("transBatchA") or flags.get("transBatchB") or None in (*a.shape, *b.shape):
        return []
    rows = a.shape[-1 if flags.get("transA") else -2]
    columns = b.shape[-2 if flags.get("transB") else -1]
    batches = _broadcast([replace(a, shape=a.shape[:-2]), replace(b, shape=b.shape[:-2])])
    return [((*(batches[0][0] or ()), rows, columns), a.dtype)] if batches else []


def _broadcast(inputs: Sequence[Tensor | None]) -> Sequence[tuple[Shape, str | None]]:
    shapes = [one.shape for one in inputs if one is not None and one.shape is not None]
    if len(shapes) < len(inputs) or not shapes or any(None in shape for shape in shapes):
        return []
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    dtype = inputs[0].dtype if inputs[0] is not None else None
    return [(tuple(max(dim or 1 for dim in dims) for dims in zip(*padded, strict=True)), dtype)]


def _convolved(operator: Operator, data: Tensor, weights: Tensor | None) -> Sequence[tuple[Shape, str | None]]:
    if weights is None or weights.shape is None or None in weights.shape:
        return []
    shape = _slid(operator, data, [dim for dim in weights.shape[2:] if dim is not None])
    if shape is None:
        return []
    first = (
        (shape[0], *shape[1:-1], weights.shape[0]) if _is_last(operator) else (shape[0], weights.shape[0], *shape[2:])
    )
    return [(first, data.dtype)]


def _is_last(operator: Operator) -> bool:
    """Whether channels are the last dimension, as the runtime arranges int8 images."""
    return bool(operator.attributes.get("channels_last"))


def _reordered(operator: Operator, data: Tensor) -> Shape:
    """Into blocks, whose shape has the channels second, or out of them, less the channels that filled the last one."""
    if operator.type == "ReorderInput":
        return _image(operator, data)
    batch, *sizes = tuple(dim for dim in data.shape or () if dim is not None)
    channels = operator.attributes.get("channels")
    return _put_back(operator, (batch, channels if isinstance(channels, int) else sizes[0], *sizes[1:]))


def _image(operator: Operator, data: Tensor) -> tuple[int, ...]:
    """A known shape with the channels second."""
    shape = tuple(dim for dim in data.shape or () if dim is not None)
    return (shape[0], shape[-1], *shape[1:-1]) if _is_last(operator) else shape


def _put_back(operator: Operator, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that has its channels second, as the operator has it."""
    return (shape[0], *shape[2:], shape[1]) if _is_last(operator) else shape


def _window(operator: Operator) -> list[int]:
    found = operator.attributes.get("kernel_shape")
    return [int(value) for value in found] if isinstance(found, list) else []


def _slid(operator: Operator, data: Tensor, window: Sequence[int]) -> Shape:
    """The shape that comes of sliding a window over an image, channels unchanged; None if it does not follow."""
    if data.shape is None or None in data.shape or len(window) != len(data.shape) - 2:
        return None
    n = len(window)
    strides = _numbers(operator, "strides", [1] * n)
    dilations = _numbers(operator, "dilations", [1] * n)
    pads = _numbers(operator, "pads", [0] * (2 * n))
    is_same = str(operator.attributes.get("auto_pad", "NOTSET")).startswith("SAME")
    round_up = bool(operator.attributes.get("ceil_mode"))
    sizes: list[int] = []
    image = _image(operator, data)
    for k, size in enumerate(image[2:]):
        if is_same:
            sizes.append(-(-size // strides[k]))
            continue
        room = size + pads[k] + pads[k + n] - dilations[k] * (window[k] - 1) - 1
        sizes.append((-(-room // strides[k]) if round_up else room // strides[k]) + 1)
    return _put_back(operator, (*image[:2], *sizes))


def _numbers(operator: Operator, name: str, default: list[int]) -> list[int]:
    found = operator.attributes.get(name)
    return [int(value) for value in found] if isinstance(found, list) and len(found) == len(default) else default


def _by_onnx(
    operator: Operator, inputs: Sequence[Tensor | None], opsets: Mapping[str, int]
) -> Sequence[tuple[Shape, str | None]]:
    """What onnx itself infers for one of its own operators, from the shapes and the small constants that come in."""
    import onnx

    from latency_models.onnx_graph import element_type

    if operator.domain:
        return []
    try:
        schema = onnx.defs.get_schema(operator.type, opsets.get("", onnx.defs.onnx_opset_version()), "")
        node = onnx.helper.make_node(operator.type, operator.inputs, operator.outputs, **operator.attributes)
        types, data = {}, {}
        for tensor in inputs:
            if tensor is None or tensor.dtype is None:
                continue
            types[tensor.name] = onnx.helper.make_tensor_type_proto(element_type(tensor.dtype), tensor.shape)
            if tensor.values is not None and tensor.shape is not None:
                data[tensor.name] = onnx.helper.make_tensor(
                    tensor.name, element_type(tensor.dtype), [dim or 0 for dim in tensor.shape], tensor.values
                )
        found = onnx.shape_inference.infer_node_outputs(schema, node, types, data)
    except Exception:  # an attribute that was only described, a schema that is not known: then nothing follows
        return []
    result: list[tuple[Shape, str | None]] = []
    for name in operator.outputs:
        if name not in found:
            result.append((None, None))
            continue
        tensor_type = found[name].tensor_type
        dims = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor_type.shape.dim)
        result.append((dims if tensor_type.HasField("shape") else None, _dtype(tensor_type.elem_type)))
    return result


def _dtype(code: int) -> str | None:
    from latency_models.onnx_graph import dtype_name

    return dtype_name(code)
