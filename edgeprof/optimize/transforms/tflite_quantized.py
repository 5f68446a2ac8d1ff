"""Int8 of TFLite models by LiteRT's own quantizer (ai-edge-quantizer), which needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeprof.optimize.apart import CannotMake

__all__ = ["RECIPES", "quantisable", "quantise", "sensitivities"]

RECIPES = {
    "static-int8": "static_wi8_ai8",
    "dynamic-int8": "dynamic_wi8_afp32",
    "weight-only-int8": "weight_only_wi8_afp32",
}
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL")
THREADS = 2
SENSITIVITY_SAMPLES = 16


def quantise(
    source: str,
    target: str,
    recipe: str,
    samples: str = "",
    names: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the model in the numbers of a recipe; which version did it, and from how many samples.

    Args:
        source: the file; one without a signature is given one.
        target: where to write.
        recipe: of RECIPES.
        samples: an .npz with input0, input1, ... (n, ...) to calibrate with, in the order of `names`.
        names: of the model's inputs, as its tensors are called.
        exclude: names of output tensors of operators to leave as they are.
    """
    import importlib.metadata

    source = _with_signature(source)
    work = _quantizer(source, recipe, exclude=exclude)
    rows = _rows(source, samples, names) if work.need_calibration else {}
    found = work.calibrate(rows, num_threads=THREADS) if rows else None
    _export(work, found, target)
    n = len(next(iter(rows.values()))) if rows else 0
    return {"version": importlib.metadata.version("ai-edge-quantizer"), "samples": n}


def sensitivities(source: str, recipe: str, samples: str, names: Sequence[str], most_s: float) -> dict[str, float]:
    """For each operator with weights, the error of the outputs when it alone is quantised, until `most_s` are over."""
    import time

    from edgeprof.optimize.transforms.onnx_quantized import relative_error

    source = _with_signature(source)
    rows = _rows(source, samples, names)
    key = next(iter(rows))
    some = rows[key][:SENSITIVITY_SAMPLES]
    expected = _run_all(source, key, some)
    ranges = _quantizer(source, recipe).calibrate(rows, num_threads=THREADS)
    begin, found = time.monotonic(), {}
    target = str(Path.cwd() / "one.tflite")
    for operator in quantisable(source):
        if time.monotonic() - begin > most_s:
            break
        _export(_quantizer(source, recipe, only=[operator["name"]]), ranges, target)
        found[operator["name"]] = relative_error(_run_all(target, key, some), expected)
    return found


def _with_signature(source: str) -> str:
    from edgeprof.optimize.transforms.tflite_file import add_signature, read, write

    model = read(source)
    if not add_signature(model):
        return source
    target = str(Path.cwd() / "with_signature.tflite")
    write(model, target)
    return target


def _quantizer(source: str, recipe: str, exclude: Sequence[str] = (), only: Sequence[str] = ()) -> Any:
    import re

    from ai_edge_quantizer import qtyping, quantizer
    from ai_edge_quantizer import recipe as recipes

    entries = getattr(recipes, RECIPES[recipe])()
    if only:
        entries = [{**one, "regex": "|".join(f"^{re.escape(name)};?$" for name in only)} for one in entries]
    work = quantizer.Quantizer(source)
    work.load_quantization_recipe(entries)
    # Inputs and outputs stay what they are: the file takes the original's place.
    for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        work.update_quantization_recipe(regex=".*", operation_name=end, algorithm_key="no_quantize")
    for name in exclude:
        work.update_quantization_recipe(
            regex=f"^{re.escape(name)};?$",
            operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
            algorithm_key="no_quantize",
        )
    return work


def _export(work: Any, ranges: Any, target: str) -> None:
    Path(target).unlink(missing_ok=True)  # it refuses to write over a file
    work.quantize(ranges).export_model(target)


def _rows(source: str, samples: str, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The samples by signature, as the quantizer takes them."""
    import numpy as np

    from edgeprof.optimize.transforms.tflite_file import read

    model = read(source)
    signature = model.signatureDefs[0]
    keys = _keys(model, signature, names)
    with np.load(samples, allow_pickle=False) as archive:
        arrays = [archive[f"input{k}"] for k in range(len(names))]
    rows = [{keys[name]: array[k] for name, array in zip(names, arrays, strict=True)} for k in range(len(arrays[0]))]
    return {_text(signature.signatureKey): rows}


def _run_all(model: str, key: str, rows: Sequence[dict[str, Any]]) -> list[Any]:
    """The outputs, each over all rows."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model, num_threads=THREADS).get_signature_runner(key)
    found = [runner(**row) for row in rows]
    return [np.stack([one[name] for one in found]) for name in found[0]]


def _keys(model: Any, signature: Any, names: Sequence[str]) -> dict[str, str]:
    """What the signature calls each input."""
    graph = model.subgraphs[signature.subgraphIndex or 0]
    found = {_text(graph.tensors[one.tensorIndex].name): _text(one.name) for one in signature.inputs}
    missing = [name for name in names if name not in found]
    if missing:
        raise CannotMake(f"its signature has no input for the tensor {missing[0]!r}")
    return found


def quantisable(source: str) -> list[dict[str, str]]:
    """The operators with weights, by the name of their output tensor, and their type, in order."""
    from ai_edge_litert import schema_py_generated as schema

    from edgeprof.optimize.transforms.tflite_file import read

    names = {value: key for key, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    model = read(source)
    graph = model.subgraphs[0]
    found = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        # Old files have the code in the older field alone.
        kind = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if kind in WEIGHTED:
            found.append({"name": _text(graph.tensors[operator.outputs[0]].name), "type": kind})
    return found


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
