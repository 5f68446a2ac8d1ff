"""Dynamic batch and shapes, fixed: runtimes plan memory and choose kernels for shapes that they know."""

from __future__ import annotations

from edgeprof.optimize.apart import CannotMake

__all__ = ["fix_onnx", "fix_tflite"]


def fix_onnx(source: str, target: str, shapes: dict[str, list[int]]) -> None:
    """Write the model with these input shapes, and what follows from them.

    Raises:
        CannotMake: nothing is dynamic about it.
    """
    import onnx

    model = onnx.load(source)
    changed = False
    weights = {tensor.name for tensor in model.graph.initializer}
    for item in model.graph.input:
        if item.name in weights or item.name not in shapes:
            continue
        dims = item.type.tensor_type.shape.dim
        for dim, size in zip(dims, shapes[item.name], strict=True):
            changed = changed or dim.dim_value != size
            dim.ClearField("dim_param")
            dim.dim_value = size
    if not changed:
        raise CannotMake("its shapes are fixed already")
    # What was inferred for dynamic shapes is in the way of what follows from fixed ones.
    del model.graph.value_info[:]
    for item in model.graph.output:
        item.type.tensor_type.ClearField("shape")
    onnx.save(onnx.shape_inference.infer_shapes(model, data_prop=True), target)


def fix_tflite(source: str, target: str) -> None:
    """Write the model without the note that a dimension may change: its shapes are then those in the file.

    Raises:
        CannotMake: nothing is dynamic about it.
    """
    from edgeprof.optimize.transforms.tflite_file import read, write

    model = read(source)
    changed = False
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            if tensor.shapeSignature is not None and list(tensor.shapeSignature) != list(tensor.shape):
                changed = True
            tensor.shapeSignature = None
    if not changed:
        raise CannotMake("its shapes are fixed already")
    write(model, target)
