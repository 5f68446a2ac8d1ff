"""Operators in the place of exactly equal ones for which a runtime has faster kernels."""

from __future__ import annotations

from typing import Any

from edgeprof.optimize.apart import CannotMake

__all__ = ["rewrite"]

SPATIAL_AXES = {4: (2, 3), 3: (2,), 5: (2, 3, 4)}


def rewrite(source: str, target: str) -> dict[str, int]:
    """Write the model with everything replaced that can be; how often each rewriting was done.

    Raises:
        CannotMake: there is nothing to rewrite.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(source), data_prop=True)
    done = {"ReduceMean to GlobalAveragePool": _pool_means(model), "BatchNormalization into Conv": _fold_norms(model)}
    done = {name: n for name, n in done.items() if n}
    if not done:
        raise CannotMake("it has nothing to rewrite")
    onnx.checker.check_model(model)
    onnx.save(model, target)
    return done


def _pool_means(model: Any) -> int:
    """The mean over all of an image, kept as 1 x 1, is what GlobalAveragePool computes, in the layout of convolutions.

    ONNX Runtime has no kernel of ReduceMean for blocked channels: it rearranges the image first.
    """
    import onnx
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    ranks = _ranks(model)
    n = 0
    for node in model.graph.node:
        if node.op_type != "ReduceMean" or node.domain not in ("", "ai.onnx"):
            continue
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        axes = attributes.get("axes")
        if axes is None and len(node.input) > 1 and node.input[1] in constants:
            axes = numpy_helper.to_array(constants[node.input[1]]).ravel().tolist()
        rank = ranks.get(node.input[0])
        if rank not in SPATIAL_AXES or axes is None or not attributes.get("keepdims", 1):
            continue
        if tuple(sorted(axis % rank for axis in axes)) != SPATIAL_AXES[rank]:
            continue
        node.op_type = "GlobalAveragePool"
        del node.attribute[:]
        del node.input[1:]
        n += 1
    return n


def _ranks(model: Any) -> dict[str, int]:
    known = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return {
        item.name: len(item.type.tensor_type.shape.dim) for item in known if item.type.tensor_type.HasField("shape")
    }


def _fold_norms(model: Any) -> int:
    """A BatchNormalization behind a Conv of its own is a change of that Conv's weights and bias (in float64, rounded).

    Ioffe and Szegedy, Batch Normalization, 2015, section 3.1: at inference it is one affine map a channel.
    """
    from collections import Counter

    import numpy as np
    from onnx import numpy_helper

    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(item.name for item in graph.output)
    folded = []
    for norm in graph.node:
        conv = makers.get(norm.input[0]) if norm.op_type == "BatchNormalization" and len(norm.output) == 1 else None
        if conv is None or conv.op_type != "Conv" or uses[norm.input[0]] != 1:
            continue
        own = [name for name in conv.input[1:] if name]
        if any(name not in tensors for name in (*norm.input[1:], *own)) or any(uses[name] != 1 for name in own):
            continue
        scale, shift, mean, variance = (
            numpy_helper.to_array(tensors[name]).astype(np.float64) for name in norm.input[1:]
        )
        epsilon = next((one.f for one in norm.attribute if one.name == "epsilon"), 1e-5)
        factor = scale / np.sqrt(variance + epsilon)
        weights = numpy_helper.to_array(tensors[conv.input[1]])
        bias = (
            numpy_helper.to_array(tensors[conv.input[2]]).astype(np.float64) if len(own) > 1 else np.zeros(len(factor))
        )
        new = weights.astype(np.float64) * factor.reshape(-1, *(1,) * (weights.ndim - 1))
        name = own[1] if len(own) > 1 else f"{own[0]}_bias"
        tensors[own[0]].CopyFrom(numpy_helper.from_array(new.astype(weights.dtype), own[0]))
        made = numpy_helper.from_array(((bias - mean) * factor + shift).astype(weights.dtype), name)
        if len(own) > 1:
            tensors[name].CopyFrom(made)
        else:
            graph.initializer.append(made)
            del conv.input[2:]
            conv.input.append(name)
        conv.output[0] = norm.output[0]
        folded.append(norm)
    for norm in folded:
        graph.node.remove(norm)
    return len(folded)
