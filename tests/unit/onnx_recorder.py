"""Records what this machine's ONNX Runtime executes, in the form in which the agent sends it."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from device_agents.wire import Kernel, OperatorPass

DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}


def record(
    model: Path,
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    values: Mapping[str, int] | None = None,
    level: onnxruntime.GraphOptimizationLevel = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
) -> OperatorPass:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = level
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    options.optimized_model_filepath = str(folder / "executed.onnx")
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "64")
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    feeds: dict[str, NDArray[np.generic]] = {}
    for value in session.get_inputs():
        default = tuple(dim if isinstance(dim, int) else 1 for dim in value.shape)
        shape = (shapes or {}).get(value.name, default)
        feeds[value.name] = np.full(shape, (values or {}).get(value.name, 1), DTYPES[value.type])
    session.run(None, feeds)
    events = json.loads(Path(session.end_profiling()).read_text())
    kernels = [_kernel(event) for event in events if event["cat"] == "Node"]
    graph = base64.b64encode(zlib.compress((folder / "executed.onnx").read_bytes())).decode()
    return OperatorPass("onnxruntime profiler", (1.0,), tuple(kernels), 1e-6, graph=graph)


def _kernel(event: dict[str, dict[str, list[dict[str, list[int]]]]]) -> Kernel:
    args = event["args"]
    inputs = tuple(tuple(dims) for entry in args.get("input_type_shape", []) for dims in entry.values())
    outputs = tuple(tuple(dims) for entry in args.get("output_type_shape", []) for dims in entry.values())
    return Kernel(
        name=str(event["name"]).removesuffix("_kernel_time"),
        type=str(args["op_name"]),
        level="kernel",
        times_s=(float(str(event["dur"])) * 1e-6,),
        input_shapes=inputs,
        output_shapes=outputs,
    )
