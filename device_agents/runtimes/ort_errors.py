"""ONNX Runtime's exceptions in the agent's words. Told by their messages: the classes alone say too little."""

import re
from typing import Tuple

from device_agents.runtimes import RuntimeRefusal

MAX_TEXT = 400
# "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from /path/model.onnx failed:" and places in its sources.
NOISE = (
    r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ",
    r"Load model from .*? failed:",
    r"Exception during initialization: ",
    r"/\S*onnxruntime\S*\.(?:cc|h):\d+ [^\[]*?\((?:[^()]|\([^()]*\))*\)(?: const)? ",
    r"(?:\w+\.cc|\w+\.h):\d+ \w+ ",
)


def essential(error: BaseException) -> str:
    """The part of the message that is about the model."""
    words = str(error)
    for pattern in NOISE:
        words = re.sub(pattern, "", words)
    return " ".join(words.split())[:MAX_TEXT] or type(error).__name__


def refusal_at_load(error: BaseException, model: str) -> RuntimeRefusal:
    """What to tell the user when a session could not be made of `model`."""
    words, name = essential(error), type(error).__name__
    kind, advice = _classify_load(name, words)
    return RuntimeRefusal(kind, f"{model}: {words}", advice, f"{name}: {error}"[:4000])


def _classify_load(name: str, words: str) -> Tuple[str, str]:
    table = (
        (
            r"Failed to allocate memory|bad_alloc|MemoryError",
            "out-of-memory",
            "use a smaller model, or quantize this one",
        ),
        (
            r"(?!com\.microsoft)\b[\w-]+(\.[\w-]+)+:\w+\(-?\d+\) is not a registered",
            "unsupported-operator",
            "operators of other domains need a library, which edgeprof cannot load: replace it when exporting",
        ),
        (
            r"two nodes with same node name",
            "model-invalid",
            "give each node a name of its own; onnxruntime refuses what onnx.checker.check_model lets pass",
        ),
        (
            r"No Op registered|is not a registered function|Could not find an implementation",
            "unsupported-operator",
            "update onnxruntime on the device, or replace this operator when exporting the model",
        ),
        (
            r"official released onnx opset|Unsupported model IR version|opset .* is under development",
            "unsupported-opset",
            "update onnxruntime on the device, or export the model with an older opset",
        ),
        (
            r"[Ee]xternal (data|initializer)|external_data",
            "model-invalid",
            "the weights lie in a file of their own: keep it whole, beside the model, under its original name",
        ),
        (r"Protobuf parsing failed", "model-invalid", "is it an ONNX file, and did all of it arrive?"),
        (r"No graph was found", "model-invalid", "the file is empty or not an ONNX model: export it again"),
    )
    for pattern, kind, advice in table:
        if re.search(pattern, words) or name == pattern:
            return kind, advice
    if name == "NotImplemented":
        return "unsupported-operator", "update onnxruntime on the device, or replace this operator"
    if name in ("EPFail", "EngineError"):
        return "delegate-failed", "try without the execution provider"
    return "model-invalid", "check it with onnx.checker.check_model, and export it again"


def refusal_at_run(error: BaseException) -> RuntimeRefusal:
    """What to tell the user when a loaded model could not run."""
    words, detail = essential(error), f"{type(error).__name__}: {error}"[:4000]
    if re.search(r"Failed to allocate memory|bad_alloc", words) or isinstance(error, MemoryError):
        return RuntimeRefusal("out-of-memory", words, "use smaller shapes, or a smaller model", detail)
    return RuntimeRefusal(
        "bad-input", words, "give the shapes this model is meant for (--shape NAME=1,3,224,224)", detail
    )
