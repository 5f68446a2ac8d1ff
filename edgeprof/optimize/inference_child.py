"""Run a model on many samples, in a process of its own: `python inference_child.py ORDER.json`.

It may crash, hang, or eat memory without taking edgeprof along. It runs in whichever Python has the runtime, and so
imports numpy and that alone. The order names the runtime, the model, an .npz of inputs (n, ...) by name, and where to
put an .npz of outputs (n, ...) by name.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

MOST_BYTES = 2 << 30


def main() -> int:
    """Do what the order says; what is wrong with the model goes to standard error, one line."""
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123 - as little as possible is imported here
        order = json.load(file)
    with np.load(order["inputs"], allow_pickle=False) as archive:
        inputs = {name: archive[f"input{k}"] for k, name in enumerate(order["names"])}
    run = _onnxruntime if order["runtime"] == "onnxruntime" else _tflite
    try:
        names, rows = run(order, inputs)
        stacked = {f"output{k}": np.stack([row[k] for row in rows]) for k in range(len(names))}
    except Exception as error:  # the runtime's own, of which there are many
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}", file=sys.stderr)  # noqa: T201
        return 3
    with open(order["outputs"], "wb") as file:  # noqa: PTH123
        np.savez(file, names=np.array(names), **stacked)  # type: ignore[arg-type]
    return 0


def _rows(inputs: dict[str, Any]) -> list[dict[str, Any]]:
    n = len(next(iter(inputs.values())))
    return [{name: array[k] for name, array in inputs.items()} for k in range(n)]


def _require_room(row: list[Any], n: int) -> None:
    size = sum(np.asarray(one).nbytes for one in row) * n
    if size > MOST_BYTES:
        raise MemoryError(f"its outputs on {n} samples take {size} bytes: give fewer samples")


def _onnxruntime(order: dict[str, Any], inputs: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = order["threads"]
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(order["model"], options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    rows: list[list[Any]] = []
    for feeds in _rows(inputs):
        rows.append(session.run(names, feeds))
        if len(rows) == 1:
            _require_room(rows[0], len(next(iter(inputs.values()))))
    return names, rows


def _tflite(order: dict[str, Any], inputs: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    if order["runtime"] == "litert":
        from ai_edge_litert.interpreter import Interpreter
    else:
        from tflite_runtime.interpreter import Interpreter
    interpreter = Interpreter(order["model"], num_threads=order["threads"])
    places = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
    for name, array in inputs.items():
        interpreter.resize_tensor_input(places[name], array.shape[1:])
    interpreter.allocate_tensors()
    details = interpreter.get_output_details()
    rows: list[list[Any]] = []
    for feeds in _rows(inputs):
        interpreter.reset_all_variables()  # of streaming models: every sample begins anew
        for name, array in feeds.items():
            interpreter.set_tensor(places[name], array)
        interpreter.invoke()
        rows.append([_real(detail, interpreter.get_tensor(detail["index"])) for detail in details])
        if len(rows) == 1:
            _require_room(rows[0], len(next(iter(inputs.values()))))
    return [detail["name"] for detail in details], rows


def _real(detail: dict[str, Any], values: Any) -> Any:
    """Quantised outputs in real numbers, as a user of the model would read them."""
    scales = detail["quantization_parameters"]["scales"]
    if len(scales) != 1 or not np.issubdtype(values.dtype, np.integer):
        return values
    zero = detail["quantization_parameters"]["zero_points"][0]
    return (values.astype(np.float32) - np.float32(zero)) * np.float32(scales[0])


if __name__ == "__main__":
    sys.exit(main())
