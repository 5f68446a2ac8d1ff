"""A Python script that runs a model as a recipe says, on zeros or on values from an .npz file."""

from __future__ import annotations

from string import Template

from edgeprof.tuning.literals import is_one_to_one, python_literal, worker_cpus
from edgeprof.tuning.recipe import RecipeSettings

__all__ = ["script"]

CPU = "CPUExecutionProvider"
MODULES = {"litert": "ai_edge_litert.interpreter", "tflite": "tflite_runtime.interpreter"}

HEAD = '''$comments
"""Run a model as `edgeprof tune` found best."""

import argparse
import os
import sys
import time

import numpy as np
$imports

MODEL = $model
THREADS = $threads
# In this order; empty for any. As many as threads (and more than one) mean one for each.
CPUS = $cpus
'''

PIN = '''

def pin(cpus):
    """Keep this thread, and every thread that it starts from now on, on these CPUs."""
    if not cpus:
        return
    if not hasattr(os, "sched_setaffinity"):
        sys.exit("this system cannot pin threads to CPUs: empty CPUS")
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        sys.exit(f"this machine does not have the CPUs {cpus}, or not for this process: {error}")
'''

TAIL = """

def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default=MODEL)
    parser.add_argument("--inputs", metavar="FILE.npz", help="values of the inputs by name; zeros without it")
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    values = dict(np.load(arguments.inputs)) if arguments.inputs else {}
    run = open_model(arguments.model, values)
    if values:
        sys.exit("the model has no inputs called " + ", ".join(values))
    outputs = run()
    took_s = []
    for _ in range(arguments.runs):
        begin_s = time.perf_counter()
        outputs = run()
        took_s.append(time.perf_counter() - begin_s)
    for name, value in outputs.items():
        print(f"{name}: {value.dtype} {value.shape}")
    if took_s:
        print(f"median of {len(took_s)} runs: {np.median(took_s) * 1e3:.3f} ms")


if __name__ == "__main__":
    main()
"""

ONNX = """# None leaves it to the runtime whether threads that wait for work keep their CPU busy.
SPINNING = $spinning
# Of all threads but the calling one: CPUs counted from 1, threads parted by semicolons.
WORKER_CPUS = $worker_cpus
PROVIDERS = $providers
TYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(bool)": "bool",
    "tensor(int8)": "int8", "tensor(int16)": "int16", "tensor(int32)": "int32", "tensor(int64)": "int64",
    "tensor(uint8)": "uint8", "tensor(uint16)": "uint16", "tensor(uint32)": "uint32", "tensor(uint64)": "uint64",
}
"""

OPEN_ONNX = '''

def open_model(path, values):
    """What runs the model once and returns its outputs by name; takes its inputs out of `values`."""
    pin(CPUS)
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    if SPINNING is not None:
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if SPINNING else "0")
    if WORKER_CPUS is not None:
        options.add_session_config_entry("session.intra_op_thread_affinities", WORKER_CPUS)
    session = ort.InferenceSession(path, options, providers=PROVIDERS, enable_fallback=0)
$one_to_one
    feeds = {node.name: values.pop(node.name) if node.name in values else zeros(node) for node in session.get_inputs()}
    names = [node.name for node in session.get_outputs()]
    return lambda: dict(zip(names, map(np.asarray, session.run(None, feeds))))


def zeros(node):
    if node.type not in TYPES:
        sys.exit(f"give values for the input {node.name} of type {node.type}: --inputs")
    return np.zeros([dim if isinstance(dim, int) and dim > 0 else 1 for dim in node.shape], TYPES[node.type])
'''

TFLITE = """XNNPACK = $xnnpack
# A delegate's library, and its options.
DELEGATE = $delegate
"""

OPEN_TFLITE = '''

def open_model(path, values):
    """What runs the model once and returns its outputs by name; takes its inputs out of `values`."""
    # Its threads start here, and stay where this one is.
    pin(CPUS)
    settings = {"model_path": path, "num_threads": THREADS}
    if not XNNPACK:
        settings["experimental_op_resolver_type"] = tflite.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    if DELEGATE is not None:
        settings["experimental_delegates"] = [tflite.load_delegate(DELEGATE)]
    interpreter = tflite.Interpreter(**settings)
    inputs = interpreter.get_input_details()
    given = {detail["index"]: values.pop(detail["name"]) for detail in inputs if detail["name"] in values}
    for index, value in given.items():
        interpreter.resize_tensor_input(index, value.shape)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        zeros = np.zeros(detail["shape"], detail["dtype"])
        interpreter.set_tensor(detail["index"], given.get(detail["index"], zeros))
    outputs = interpreter.get_output_details()

    def run():
        interpreter.invoke()
        return {detail["name"]: interpreter.get_tensor(detail["index"]) for detail in outputs}

    return run
'''

ONE_TO_ONE = """    # The session's other threads have CPUs of their own now; this one keeps the first.
    pin(CPUS[:1])"""


def script(settings: RecipeSettings, runtime: str, model: str, comments: str) -> str:
    """The whole script; `comments` come first."""
    if runtime == "onnxruntime":
        provider = settings.provider
        providers = [CPU] if provider in (None, CPU) else [provider, CPU]
        workers = worker_cpus(settings)
        head = HEAD + ONNX
        body = OPEN_ONNX.replace("$one_to_one\n", ONE_TO_ONE + "\n" if is_one_to_one(settings) else "")
        values = {
            "imports": "import onnxruntime as ort",
            "spinning": repr(settings.spinning),
            "worker_cpus": python_literal(workers) if workers is not None else "None",
            "providers": "[" + ", ".join(python_literal(one or "") for one in providers) + "]",
        }
    else:
        head, body = HEAD + TFLITE, OPEN_TFLITE
        values = {
            "imports": f"import {MODULES[runtime]} as tflite",
            "xnnpack": repr(settings.xnnpack),
            "delegate": python_literal(settings.delegate) if settings.delegate is not None else "None",
        }
    values |= {
        "comments": comments,
        "model": python_literal(model),
        "threads": repr(settings.threads),
        "cpus": repr(settings.affinity),
    }
    return Template(head).substitute(values) + PIN + body + TAIL
