"""ONNX networks in which the shape of what a kernel makes tells which nodes it ran.

Every stage of a network has a size of its own, so all nodes of one stage make tensors of one shape and no other node
does. Within a stage the runtime may fuse as it likes: its kernels together must stand for the nodes of that stage.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from device_agents.wire import Kernel
from edgeprof.run import Operator

Stage = Callable[["_Network", str, int, int], str]


@dataclass(frozen=True)
class Truth:
    """`stages` maps the shape that a stage makes, without batch and in any order, to the names of its nodes."""

    stages: Mapping[tuple[int, ...], frozenset[str]]

    def _stage(self, kernel: Kernel) -> frozenset[str] | None:
        made = {tuple(sorted(shape[1:])) for shape in kernel.output_shapes}
        return self.stages.get(made.pop()) if len(made) == 1 else None

    def n_told(self, kernels: Sequence[Kernel], operators: Sequence[Operator]) -> int:
        return sum(o.origin != "layout" and self._stage(kernels[o.kernel]) is not None for o in operators)

    def wrong(self, kernels: Sequence[Kernel], operators: Sequence[Operator]) -> list[str]:
        """Kernels with a node of another stage or without one, and those whose stage is not covered."""
        covered: dict[frozenset[str], set[str]] = defaultdict(set)
        for operator in operators:
            stage = self._stage(kernels[operator.kernel])
            if stage is not None:
                covered[stage].update(operator.nodes)
        found = []
        for operator in operators:
            kernel = kernels[operator.kernel]
            stage = self._stage(kernel)
            if stage is None or operator.origin == "layout":
                continue
            if not operator.nodes or not set(operator.nodes) <= stage or covered[stage] != stage:
                found.append(f"{kernel.name} ({kernel.type}): {', '.join(operator.nodes) or 'no node'}")
        return found


class _Network:
    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.stages: dict[tuple[int, ...], list[str]] = defaultdict(list)
        self.shape: tuple[int, ...] = ()

    def weight(self, *shape: int, positive: bool = False) -> str:
        values = self.random.uniform(0.5, 1.5, shape) if positive else self.random.standard_normal(shape) * 0.1
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        """A node of the current stage; its name says nothing."""
        name = f"node{len(self.nodes)}"
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=name, **attributes))
        self.stages[tuple(sorted(self.shape))].append(name)
        return output


def _conv_bn_relu(net: _Network, x: str, before: int, after: int) -> str:
    x = net.node("Conv", x, net.weight(after, before, 3, 3), pads=[0, 0, 0, 0])
    statistics = (net.weight(after), net.weight(after), net.weight(after, positive=True))
    x = net.node("BatchNormalization", x, net.weight(after, positive=True), *statistics)
    return net.node("Relu", x)


def _conv_sigmoid(net: _Network, x: str, before: int, after: int) -> str:
    return net.node("Sigmoid", net.node("Conv", x, net.weight(after, before, 3, 3)))


def _swish(net: _Network, x: str, before: int, after: int) -> str:
    x = net.node("Conv", x, net.weight(after, before, 3, 3), net.weight(after))
    return net.node("Mul", x, net.node("Sigmoid", x))


def _hard_swish(net: _Network, x: str, before: int, after: int) -> str:
    return net.node("HardSwish", net.node("Conv", x, net.weight(after, before, 3, 3), net.weight(after)))


def _residual(net: _Network, x: str, before: int, after: int) -> str:
    x = net.node("Relu", net.node("Conv", x, net.weight(after, before, 3, 3)))
    y = net.node("Conv", x, net.weight(after, after, 3, 3), pads=[1, 1, 1, 1])
    return net.node("Relu", net.node("Add", y, x))


def _pool_and_scale(net: _Network, x: str, before: int, after: int) -> str:
    x = (
        net.node("MaxPool", x, kernel_shape=[3, 3])
        if before == after
        else net.node("Conv", x, net.weight(after, before, 3, 3))
    )
    return net.node("Add", net.node("Mul", x, net.weight(after, 1, 1)), net.weight(after, 1, 1))


def _concat(net: _Network, x: str, before: int, after: int) -> str:
    half = after // 2
    left = net.node("Conv", x, net.weight(half, before, 3, 3))
    right = net.node("Conv", x, net.weight(after - half, before, 3, 3))
    # The halves have a shape of their own.
    for name in [net.nodes[-2].name, net.nodes[-1].name]:
        net.stages[tuple(sorted(net.shape))].remove(name)
        net.stages[tuple(sorted((half, *net.shape[1:])))].append(name)
    return net.node("Concat", left, right, axis=1)


STAGES: Mapping[str, tuple[Stage, ...]] = {
    "plain": (_conv_bn_relu,) * 6,
    "activations": (_conv_sigmoid, _swish, _hard_swish, _swish, _conv_sigmoid),
    "residuals": (_residual, _conv_bn_relu, _residual, _residual),
    "mixed": (_conv_bn_relu, _concat, _swish, _pool_and_scale, _residual, _hard_swish, _concat),
}


def unique_networks(seed: int = 0) -> dict[str, tuple[onnx.ModelProto, Truth]]:
    """Every network by name, with its truth. Channels and sizes differ from stage to stage."""
    return {f"unique_{name}": _build(stages, seed + k) for k, (name, stages) in enumerate(STAGES.items())}


def _build(stages: Sequence[Stage], seed: int) -> tuple[onnx.ModelProto, Truth]:
    net, channels, size, x = _Network(seed), 16, 64, "image"
    for k, stage in enumerate(stages):
        after, size = 16 * (2 + k % 5), size - 2
        net.shape = (after, size, size)
        x = stage(net, x, channels, after)
        channels = after
    graph = helper.make_graph(
        net.nodes,
        "unique",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 16, 64, 64])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, channels, size, size])],
        net.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model, Truth({shape: frozenset(names) for shape, names in net.stages.items() if names})
