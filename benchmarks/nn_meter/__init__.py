"""nn-Meter 2.0 beside us: its own kernel detector, features and forests, trained on the kernels that we measured.

Its published predictors no longer load, so that what can be compared is the method. It lives in an environment of its
own (`.cache/nn-meter`), made when it is first needed. To be fair to it, our kernels are handed over under the names
that its detector gives them, whatever else the runtime fused into them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency_models.features import form
from latency_models.kernels import KernelSpec
from latency_models.observations import KernelSample

__all__ = ["Answer", "environment", "predict", "speed"]

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / ".cache" / "nn-meter"
INSTALL_LIMIT_S, RUN_LIMIT_S = 900, 1200
# Its forests are slow on many samples; it was published with a few thousand for each kind.
MOST_SAMPLES = 4000


@dataclass(frozen=True)
class Answer:
    """Of one net: seconds, or why there are none; and how many of its kernels no forest knows, which count nothing."""

    latency_s: float | None
    n_unknown: int
    failure: str | None = None


def environment() -> Path | str:
    """Its Python, installed if need be; or why it cannot be."""
    python = FOLDER / "bin" / "python"
    done = FOLDER / ".ready"
    if done.exists():
        return python
    try:
        subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True, capture_output=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "-r", str(HERE / "requirements.txt")],
            check=True, capture_output=True, timeout=INSTALL_LIMIT_S,
        )  # fmt: skip
    except (subprocess.SubprocessError, OSError) as error:
        return f"nn-Meter cannot be installed: {error}"
    done.touch()
    return python


def predict(samples: Sequence[KernelSample], nets: Mapping[str, Path]) -> dict[str, Answer] | str:
    """What it says of ONNX files, or why it says nothing."""
    return _asked({"samples": _items(samples), "nets": {name: str(path) for name, path in nets.items()}, "repeats": 1})


def speed(samples: Sequence[KernelSample], path: Path, repeats: int = 5) -> float | str:
    """Nets a second from file to number, or why there is no number."""
    python = environment()
    if isinstance(python, str):
        return python
    found = _run(python, {"samples": _items(samples), "nets": {"one": str(path)}, "repeats": repeats})
    if isinstance(found, str):
        return found
    return 1.0 / float(found["seconds"]["one"])


def _asked(question: dict[str, Any]) -> dict[str, Answer] | str:
    python = environment()
    if isinstance(python, str):
        return python
    found = _run(python, question)
    if isinstance(found, str):
        return found
    return {
        name: Answer(one.get("latency_s"), int(one.get("n_unknown", 0)), one.get("failure"))
        for name, one in found["nets"].items()
    }


def _run(python: Path, question: dict[str, Any]) -> dict[str, Any] | str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "question.json"
        path.write_text(json.dumps(question))
        try:
            done = subprocess.run(
                [str(python), str(HERE / "forests.py"), str(path)],
                capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False, cwd=folder,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"nn-Meter took over {RUN_LIMIT_S} s"
    if done.returncode:
        return f"nn-Meter failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}"
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


# --- our kernels in its words -----------------------------------------------------------------------------------------


def _items(samples: Sequence[KernelSample]) -> dict[str, list[dict[str, Any]]]:
    """By its kinds of kernels: what it takes features from, and the milliseconds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for sample in samples:
        item = _item(sample.kernel)
        if item is not None:
            found.setdefault(item["op"], []).append({**item, "latency_ms": 1e3 * sample.time_s})
    return {kind: items[:MOST_SAMPLES] for kind, items in found.items()}


def _item(kernel: KernelSpec) -> dict[str, Any] | None:
    one = form(kernel)
    family = one.family.removesuffix(" in blocks").rpartition(" ")[0]
    shapes = [_last(kernel, each.shape) for each in kernel.inputs if each is not None and not each.is_constant]
    if not shapes or not kernel.outputs or not one.family.startswith(family) or "float32" not in one.family:
        return None
    result = _last(kernel, kernel.outputs[0].shape)
    image = len(shapes[0]) == 4 and shapes[0][0] == 1
    kinds = {
        "convolution": "conv-bn-relu", "pointwise convolution": "conv-bn-relu",
        "depthwise convolution": "dwconv-bn-relu",
        "MaxPool": "maxpool", "MAX_POOL_2D": "maxpool", "AveragePool": "avgpool", "AVERAGE_POOL_2D": "avgpool",
    }  # fmt: skip
    if image and family in kinds:
        window, strides = _window(kernel)
        sizes = {"cin": shapes[0][3], "cout": result[3], "inputh": shapes[0][1]}
        return {"op": kinds[family], **sizes, "ks": window, "strides": strides}
    if family == "dense" and len(shapes[0]) == 2:
        return {"op": "fc", "cin": shapes[0][1], "cout": result[1]}
    simple = {
        "GlobalAveragePool": "global-avgpool", "MEAN": "global-avgpool", "Relu": "relu", "RELU": "relu",
        "HardSwish": "hswish", "HARD_SWISH": "hswish", "Add": "add", "ADD": "add", "Concat": "concat",
        "CONCATENATION": "concat", "Split": "split", "SPLIT": "split",
    }  # fmt: skip
    kind = simple.get(kernel.type, "")
    if not kind or not image or any(len(shape) != 4 for shape in shapes) or (kind == "add" and len(shapes) < 2):
        return None
    # Its features of a global pool look for what only windows have, and do not use it.
    unused = {"cout": shapes[0][3], "ks": [1, 1], "strides": [1, 1]}
    tensors = [list(shape) for shape in shapes]
    return {"op": kind, "cin": shapes[0][3], "inputh": shapes[0][1], "input_tensors": tensors, **unused}


def _last(kernel: KernelSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Channels last, as it counts them."""
    if kernel.format == "onnx" and len(shape) == 4:
        return (shape[0], shape[2], shape[3], shape[1])
    return shape


def _window(kernel: KernelSpec) -> tuple[list[int], list[int]]:
    """Sizes of the window and the strides, height first."""
    named = (("kernel_shape", "strides"), ("filter_height", "filter_width"), ("stride_h", "stride_w"))
    given: Mapping[str, object] = kernel.attributes
    window, strides = (given.get(name) for name in named[0])
    if not isinstance(window, list):
        window = [given.get(name, 1) for name in named[1]]
        weights = [one.shape for one in kernel.inputs if one is not None and one.is_constant and len(one.shape) == 4]
        if weights:
            window = list(weights[0][1:3] if kernel.format == "tflite" else weights[0][2:])
    if not isinstance(strides, list):
        strides = [given.get(name, 1) for name in named[2]]
    return [_whole(one) for one in window], [_whole(one) for one in strides]


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 1
