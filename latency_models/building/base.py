"""What every builder of graphs offers: layers in the words of networks, not of a file format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from latency_models.graph import Graph, GraphError, Operator, Tensor

__all__ = ["ACTIVATIONS", "BuildError", "GraphBuilder", "Pair", "Value", "broadcast", "pair", "windows"]

# "swish" is x * sigmoid(x), also called SiLU.
ACTIVATIONS = (
    "relu", "relu6", "hard_swish", "hard_sigmoid", "sigmoid", "tanh", "swish", "gelu", "leaky_relu", "elu", "prelu",
)  # fmt: skip

Pair = int | tuple[int, int]


class BuildError(GraphError):
    """A layer was asked for that cannot be built on what it is given."""


def pair(value: Pair) -> tuple[int, int]:
    """A size for height and width."""
    first, second = (value, value) if isinstance(value, int) else value
    if first < 1 or second < 1:
        raise BuildError(f"a size of {value}: it is 1 or more in both directions")
    return first, second


def windows(size: int, window: int, stride: int, dilation: int, padding: str) -> tuple[int, int]:
    """How often a window fits along a side, and the padding in all that "same" needs for it."""
    if padding not in ("same", "valid"):
        raise BuildError(f"padding {padding!r}: it is same or valid")
    reach = dilation * (window - 1) + 1
    if padding == "same":
        count = -(-size // stride)
        return count, max(0, (count - 1) * stride + reach - size)
    if reach > size:
        raise BuildError(f"a window of {reach} does not fit into {size} without padding")
    return (size - reach) // stride + 1, 0


def broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an operation on two tensors, element by element."""
    rank = max(len(a), len(b))
    left, right = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    if any(x != y and 1 not in (x, y) for x, y in zip(left, right, strict=True)):
        raise BuildError(f"{list(a)} and {list(b)} do not fit element by element")
    return tuple(max(x, y) for x, y in zip(left, right, strict=True))


@dataclass(frozen=True)
class Value:
    """A tensor under construction.

    `shape` is in the order of the words: images are (batch, height, width, channels), tokens (batch, length, width),
    vectors (batch, width), whatever order the format stores them in.
    """

    name: str
    shape: tuple[int, ...]
    is_image: bool = False

    @property
    def channels(self) -> int:
        return self.shape[-1]


class GraphBuilder(ABC):
    """Builds one graph. Layers take values and give values; each adds the operators that exporters write for it.

    In precision "int8" activations are int8 and weights int8 with a scale for each channel: in TFLite as quantised
    tensors, in ONNX as QuantizeLinear and DequantizeLinear around each operator. The graph's inputs and outputs are
    then int8 (TFLite) or float32 with a QuantizeLinear behind them (ONNX). What has no int8 form is a BuildError.
    `activation` is None or one of `ACTIVATIONS`; TFLite fuses relu and relu6 into the operator before, ONNX never does.
    `padding` is "same" or "valid".
    """

    # "onnx" or "tflite".
    format: str

    def __init__(self, name: str, precision: str) -> None:
        if precision not in ("float32", "int8"):
            raise BuildError(f"no precision {precision!r}: it is float32 or int8")
        self.name = name
        self.precision = precision
        self._parts: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that are being built, from the outermost on."""
        return self._parts

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is built inside belongs to a part of the net: nets of a search share the weights of equal parts."""
        self._parts = (*self._parts, name)
        try:
            yield
        finally:
            self._parts = self._parts[:-1]

    # --- what comes in and goes out ---

    @abstractmethod
    def image(self, height: int, width: int, channels: int = 3, batch: int = 1) -> Value:
        """An input that is an image, or any map of features."""

    @abstractmethod
    def input(self, shape: Sequence[int], dtype: str = "float32") -> Value:
        """Any other input: tokens, vectors, matrices; in int8 those of type float32 are int8."""

    @abstractmethod
    def operator(
        self,
        type: str,
        inputs: Sequence[Value],
        shapes: Sequence[Sequence[int]],
        attributes: Mapping[str, object] | None = None,
        dtype: str | None = None,
    ) -> tuple[Value, ...]:
        """Any operator in the format's own words, for what has no layer here; its outputs have these shapes and type.

        None is float32; in int8, TFLite has int8 with the scale of the first input instead, and in ONNX nothing is
        rounded around it.
        """

    @abstractmethod
    def constant(self, values: Sequence[float], dtype: str, shape: Sequence[int] | None = None) -> Value:
        """Small stored numbers that tell an operator what to do."""

    @property
    @abstractmethod
    def operators(self) -> tuple[Operator, ...]:
        """What was built so far."""

    @property
    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors so far, in the order in which they came to be; weights have no values."""

    @abstractmethod
    def graph(self, *outputs: Value) -> Graph:
        """The finished graph; values that no output needs stay in it, as they would in a file."""

    @abstractmethod
    def weights(self, shape: Sequence[int]) -> Value:
        """Stored numbers in float32 whose values do not matter, for `operator`."""

    # --- layers that multiply ---

    @abstractmethod
    def conv(
        self,
        x: Value,
        channels: int,
        kernel: Pair = 3,
        stride: Pair = 1,
        *,
        dilation: Pair = 1,
        groups: int = 1,
        padding: str = "same",
        bias: bool = True,
        activation: str | None = None,
    ) -> Value:
        """A convolution over an image, in `groups`; batch normalisation is in its weights."""

    @abstractmethod
    def depthwise(
        self,
        x: Value,
        kernel: Pair = 3,
        stride: Pair = 1,
        *,
        multiplier: int = 1,
        dilation: Pair = 1,
        padding: str = "same",
        bias: bool = True,
        activation: str | None = None,
    ) -> Value:
        """A convolution of each channel by itself."""

    @abstractmethod
    def transpose_conv(
        self, x: Value, channels: int, kernel: Pair = 2, stride: Pair = 2, *, activation: str | None = None
    ) -> Value:
        """The transpose of a convolution; the image grows by `stride`."""

    @abstractmethod
    def dense(self, x: Value, units: int, *, bias: bool = True, activation: str | None = None) -> Value:
        """Fully connected over the last dimension, of vectors (Gemm) and tokens (MatMul and Add)."""

    @abstractmethod
    def matmul(self, a: Value, b: Value, *, transpose_b: bool = False) -> Value:
        """A product of matrices, batched over all but the last two dimensions."""

    @abstractmethod
    def lstm(self, x: Value, units: int) -> Value:
        """A long short-term memory over tokens: (batch, length, units)."""

    @abstractmethod
    def gru(self, x: Value, units: int) -> Value:
        """A gated recurrent unit over tokens. TFLite has no such operator: BuildError."""

    # --- layers of one number after another ---

    @abstractmethod
    def activate(self, x: Value, activation: str) -> Value:
        """One of `ACTIVATIONS`, as an operator (or a few) of its own."""

    @abstractmethod
    def add(self, a: Value, b: Value, *, activation: str | None = None) -> Value:
        """Element by element; a dimension of 1 is repeated."""

    @abstractmethod
    def multiply(self, a: Value, b: Value) -> Value:
        """Element by element; a dimension of 1 is repeated."""

    @abstractmethod
    def subtract(self, a: Value, b: Value) -> Value:
        """Element by element; a dimension of 1 is repeated."""

    @abstractmethod
    def scale(self, x: Value) -> Value:
        """Times and plus a stored number for each channel: a batch normalisation that was not folded."""

    @abstractmethod
    def softmax(self, x: Value) -> Value:
        """Over the last dimension."""

    @abstractmethod
    def layer_norm(self, x: Value) -> Value:
        """Over the last dimension; TFLite has no such operator and gets the five or so that stand for it."""

    # --- layers that gather ---

    @abstractmethod
    def pool(self, x: Value, kind: str, kernel: Pair = 2, stride: Pair = 2, *, padding: str = "valid") -> Value:
        """`kind` is "max" or "average"."""

    @abstractmethod
    def global_average(self, x: Value, *, keep: bool = True) -> Value:
        """The mean of each channel, as an image of one pixel or (`keep` False) as a vector."""

    @abstractmethod
    def mean(self, x: Value) -> Value:
        """The mean over the length of tokens: (batch, width)."""

    # --- layers that move ---

    @abstractmethod
    def concat(self, values: Sequence[Value], axis: int = -1) -> Value:
        """One behind the other along `axis` (of the order of `Value.shape`)."""

    @abstractmethod
    def split(self, x: Value, parts: int, axis: int = -1) -> tuple[Value, ...]:
        """Into equal parts along `axis`."""

    @abstractmethod
    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """Of what is no image: tokens, vectors, matrices."""

    @abstractmethod
    def to_tokens(self, x: Value) -> Value:
        """An image as tokens: (batch, height * width, channels); in ONNX with a Transpose."""

    @abstractmethod
    def to_image(self, x: Value, height: int, width: int) -> Value:
        """Tokens as an image; in ONNX with a Transpose."""

    @abstractmethod
    def transpose(self, x: Value, permutation: Sequence[int]) -> Value:
        """Dimensions in another order, of what is no image."""

    @abstractmethod
    def flatten(self, x: Value) -> Value:
        """As vectors: (batch, all the rest)."""

    @abstractmethod
    def remember(self, x: Value, rows: int) -> Value:
        """An image behind the last `rows` rows of those that came in the runs before: models of sound as it comes.

        In TFLite a variable keeps them. In ONNX a model has no variables: BuildError.
        """

    @abstractmethod
    def resize(self, x: Value, factor: int, mode: str = "nearest") -> Value:
        """An image `factor` times as large; `mode` is "nearest" or "bilinear"."""

    @abstractmethod
    def pad(self, x: Value, pixels: int) -> Value:
        """An image with so many rows and columns of zeros on every side."""

    @abstractmethod
    def channel_shuffle(self, x: Value, groups: int) -> Value:
        """The channels dealt out over `groups` (reshape, transpose, reshape)."""
