"""The work one operator asks for, counted from its type, attributes and shapes alone.

A MAC is one multiplication whose product is added to a sum. Counted are the operators whose definition is a sum of
products: convolutions, matrix products, recurrent cells. Everything that touches each element a fixed number of times
(arithmetic, activations, normalisation, pooling, reductions, copies) counts 0: its cost is in the bytes. A bias
counts 0 too. A type that is in neither group, or a shape that is not known, gives None: not zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

__all__ = ["Shape", "count_macs", "count_moved", "element_count"]

Shape = tuple[int | None, ...] | None
Shapes = Sequence[Shape]
Attributes = Mapping[str, object]
Rule = Callable[[Attributes, Shapes, Shapes], int]


class _Unknown(Exception):
    """A shape that the count needs is not known."""


def element_count(shape: Shape) -> int | None:
    """Number of elements, None if a dimension is unknown, or came out below 0 because inputs are too small."""
    if shape is None or any(dim is None or dim < 0 for dim in shape):
        return None
    return math.prod(dim for dim in shape if dim is not None)


def count_macs(format: str, type: str, attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int | None:
    """Multiply-accumulates of one run of an operator of `format` ("onnx" or "tflite"); None if they are not known."""
    rules, without = (_ONNX_RULES, _ONNX_WITHOUT) if format == "onnx" else (_TFLITE_RULES, _TFLITE_WITHOUT)
    if type in without.split():
        return 0
    if type not in rules:
        return None
    try:
        return rules[type](attributes, inputs, outputs)
    except _Unknown:
        return None


def count_moved(type: str, inputs_bytes: Sequence[int | None], outputs_bytes: Sequence[int | None]) -> int | None:
    """Bytes read and written if every input is read once and every output written once; None if one is not known.

    Operators that pick from their first input (slices, look-ups, shape queries) read no more of it than they pass on.
    """
    written = _sum(outputs_bytes)
    if type in _SHAPE_QUERIES:
        return written
    if type in _PICKERS and written is not None:
        rest = _sum(inputs_bytes[1:])
        return None if rest is None else 2 * written + rest
    read = _sum(inputs_bytes)
    return None if read is None or written is None else read + written


def _sum(sizes: Sequence[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


# --- shapes --------------------------------------------------------------------------------------------------------


def _dims(shapes: Shapes, index: int) -> tuple[int, ...]:
    shape = shapes[index] if index < len(shapes) else None
    if shape is None:
        raise _Unknown
    # Inputs that are too small for a window give dimensions below 0.
    known = tuple(dim for dim in shape if dim is not None and dim >= 0)
    if len(known) != len(shape):
        raise _Unknown
    return known


def _matrix(shapes: Shapes, index: int, rank: int) -> tuple[int, ...]:
    dims = _dims(shapes, index)
    if len(dims) < rank:
        raise _Unknown
    return dims


def _n(shapes: Shapes, index: int) -> int:
    return math.prod(_dims(shapes, index))


# --- ONNX ----------------------------------------------------------------------------------------------------------


def _onnx_conv(weight: int) -> Rule:
    """Weights are [outputs, inputs of a group, kernel...]: every output element sums over all but the first."""
    return lambda attributes, inputs, outputs: _n(outputs, 0) * math.prod(_matrix(inputs, weight, 3)[1:])


def _onnx_conv_transpose(attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int:
    """Weights are [inputs, outputs of a group, kernel...]: every input element is spread over all but the first."""
    return _n(inputs, 0) * math.prod(_matrix(inputs, 1, 3)[1:])


def _onnx_matmul(attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int:
    return _n(outputs, 0) * _matrix(inputs, 0, 1)[-1]


def _onnx_fused_matmul(attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int:
    return _n(outputs, 0) * _matrix(inputs, 0, 2)[-2 if attributes.get("transA") else -1]


def _onnx_gemm(attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int:
    return _n(outputs, 0) * _matrix(inputs, 0, 2)[0 if attributes.get("transA") else 1]


def _onnx_matmul_nbits(attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int:
    return _n(outputs, 0) * _matrix(inputs, 0, 1)[-1]


def _onnx_recurrent(attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int:
    """X is [steps, batch, inputs] (or batch first); W and R hold all gates of all directions."""
    steps_and_batch = math.prod(_matrix(inputs, 0, 3)[:2])
    return steps_and_batch * (_n(inputs, 1) + _n(inputs, 2))


def _onnx_einsum(attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int:
    """Every combination of the labels is one product; a single operand is only rearranged or summed."""
    equation = str(attributes.get("equation", "")).replace(" ", "")
    terms = equation.split("->")[0].split(",")
    if "." in equation or len(terms) != len(inputs):
        raise _Unknown
    sizes: dict[str, int] = {}
    for index, term in enumerate(terms):
        dims = _dims(inputs, index)
        if len(dims) != len(term):
            raise _Unknown
        for label, dim in zip(term, dims, strict=True):
            sizes[label] = max(dim, sizes.get(label, 1))
    return math.prod(sizes.values()) * (len(terms) - 1)


_ONNX_RULES: Mapping[str, Rule] = {
    "Conv": _onnx_conv(1),
    "FusedConv": _onnx_conv(1),
    "ConvInteger": _onnx_conv(1),
    "QLinearConv": _onnx_conv(3),
    "ConvTranspose": _onnx_conv_transpose,
    "MatMul": _onnx_matmul,
    "MatMulInteger": _onnx_matmul,
    "MatMulIntegerToFloat": _onnx_matmul,
    "DynamicQuantizeMatMul": _onnx_matmul,
    "QLinearMatMul": _onnx_matmul,
    "MatMulNBits": _onnx_matmul_nbits,
    "FusedMatMul": _onnx_fused_matmul,
    "Gemm": _onnx_gemm,
    "FusedGemm": _onnx_gemm,
    "QGemm": _onnx_gemm,
    "LSTM": _onnx_recurrent,
    "GRU": _onnx_recurrent,
    "RNN": _onnx_recurrent,
    "DynamicQuantizeLSTM": _onnx_recurrent,
    "Einsum": _onnx_einsum,
}

# Elementwise, pooling, normalisation, reductions and data movement of ai.onnx, and their quantised forms in
# com.microsoft; control flow, whose bodies are counted themselves. A type that is missing here is reported as
# unknown, which is the safe side.
_ONNX_WITHOUT = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Bernoulli BiasGelu
BiasSoftmax BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast CastLike Ceil Celu CenterCropPad
Clip Col2Im Compress Concat ConcatFromSequence Constant ConstantOfShape Cos Cosh CumSum DepthToSpace
DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand EyeLike FastGelu Flatten Floor Gather
GatherElements GatherND Gelu GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity If InstanceNormalization IsInf
IsNaN LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool Max MaxPool
MaxRoiPool MaxUnpool Mean MeanVarianceNormalization Min Mish Mod Mul Multinomial Neg NegativeLogLikelihoodLoss
NonMaxSuppression NonZero Not OneHot Optional OptionalGetElement OptionalHasElement Or PRelu Pad Pow QLinearAdd
QLinearAveragePool QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean
QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu RMSNormalization RandomNormal RandomNormalLike
RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign Round Scan Scatter
ScatterElements ScatterND Selu SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert
SequenceLength SequenceMap Shape Shrink Sigmoid Sign SimplifiedLayerNormalization Sin Sinh Size
SkipLayerNormalization Slice Softmax SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth Split SplitToSequence
Sqrt Squeeze StringNormalizer Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze
Upsample Where Xor
"""


# --- TFLite --------------------------------------------------------------------------------------------------------


def _tflite_conv(attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int:
    """Weights are [outputs, height, width, inputs of a group]."""
    return _n(outputs, 0) * math.prod(_matrix(inputs, 1, 3)[1:])


def _tflite_depthwise(attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int:
    """Weights are [1, height, width, outputs]."""
    return _n(outputs, 0) * math.prod(_matrix(inputs, 1, 4)[1:3])


def _tflite_transpose_conv(attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int:
    """Inputs are the output's shape, weights [outputs, height, width, inputs], data."""
    return _n(inputs, 2) * math.prod(_matrix(inputs, 1, 4)[:3])


def _tflite_conv_3d(attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int:
    """Weights are [depth, height, width, inputs, outputs]."""
    return _n(outputs, 0) * math.prod(_matrix(inputs, 1, 5)[:4])


def _tflite_conv_3d_transpose(attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int:
    """Inputs are the output's shape, weights [depth, height, width, outputs, inputs], data."""
    return _n(inputs, 2) * math.prod(_matrix(inputs, 1, 5)[:4])


def _tflite_fully_connected(attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int:
    """Weights are [outputs, inputs]."""
    return _n(outputs, 0) * _matrix(inputs, 1, 2)[-1]


def _tflite_batch_matmul(attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int:
    return _n(outputs, 0) * _matrix(inputs, 0, 2)[-2 if attributes.get("adj_x") else -1]


def _tflite_recurrent(*weights: int) -> Rule:
    """Every step multiplies by all gates' weights; an optional weight that is omitted has none."""

    def rule(attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int:
        steps_and_batch = math.prod(_matrix(inputs, 0, 2)[:-1])
        present = [index for index in weights if index < len(inputs) and inputs[index] is not None]
        if not present:
            raise _Unknown
        return steps_and_batch * sum(_n(inputs, index) for index in present)

    return rule


def _tflite_lstm(attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int:
    """The basic cell has 5 inputs (data, activations, weights, bias, state), the full one a weight for each gate."""
    rule = _tflite_recurrent(2) if len(inputs) == 5 else _tflite_recurrent(*_GATES)
    return rule(attributes, inputs, outputs)


# Input-to-gate and recurrent-to-gate weights, then the projection (tensorflow/lite/kernels/lstm.cc); the backward
# cell of the bidirectional operator follows at 18 (bidirectional_sequence_lstm.cc).
_GATES = (*range(1, 9), 16)
_BOTH_GATES = (*_GATES, *range(18, 26), 33)

_TFLITE_RULES: Mapping[str, Rule] = {
    "CONV_2D": _tflite_conv,
    "DEPTHWISE_CONV_2D": _tflite_depthwise,
    "TRANSPOSE_CONV": _tflite_transpose_conv,
    "CONV_3D": _tflite_conv_3d,
    "CONV_3D_TRANSPOSE": _tflite_conv_3d_transpose,
    "FULLY_CONNECTED": _tflite_fully_connected,
    "BATCH_MATMUL": _tflite_batch_matmul,
    "LSTM": _tflite_lstm,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _tflite_recurrent(*_GATES),
    "BIDIRECTIONAL_SEQUENCE_LSTM": _tflite_recurrent(*_BOTH_GATES),
    "RNN": _tflite_recurrent(1, 2),
    "UNIDIRECTIONAL_SEQUENCE_RNN": _tflite_recurrent(1, 2),
    "SVDF": _tflite_recurrent(1, 2),
}

_TFLITE_WITHOUT = """
ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE ATAN2 AVERAGE_POOL_2D BATCH_TO_SPACE_ND BITCAST BITWISE_XOR
BROADCAST_ARGS BROADCAST_TO BUCKETIZE CALL CALL_ONCE CAST CEIL COMPLEX_ABS CONCATENATION COS CUMSUM DENSIFY
DEPTH_TO_SPACE DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FAKE_QUANT FILL FLOOR
FLOOR_DIV FLOOR_MOD GATHER GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH IF IMAG L2_NORMALIZATION L2_POOL_2D
LEAKY_RELU LESS LESS_EQUAL LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX
MATRIX_DIAG MATRIX_SET_DIAG MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL MULTINOMIAL NEG NON_MAX_SUPPRESSION_V4
NON_MAX_SUPPRESSION_V5 NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU QUANTIZE RANDOM_STANDARD_NORMAL RANDOM_UNIFORM
RANGE RANK READ_VARIABLE REAL REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_0_TO_1
RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_SEQUENCE REVERSE_V2 RIGHT_SHIFT ROUND RSQRT
SCATTER_ND SEGMENT_SUM SELECT SELECT_V2 SHAPE SIGN SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH
SPARSE_TO_DENSE SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH TILE TOPK_V2
TRANSPOSE UNIQUE UNPACK UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_SUM
VAR_HANDLE WHERE WHILE ZEROS_LIKE
"""

_SHAPE_QUERIES = frozenset(("Shape", "Size", "SHAPE", "RANK", "ZEROS_LIKE"))
_PICKERS = frozenset(
    (
        "Slice",
        "Gather",
        "GatherElements",
        "GatherND",
        "Compress",
        "SLICE",
        "STRIDED_SLICE",
        "GATHER",
        "GATHER_ND",
        "EMBEDDING_LOOKUP",
    )
)
