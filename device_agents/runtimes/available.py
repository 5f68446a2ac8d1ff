"""Which runtimes this Python could use, found out without importing any of them: this runs whenever an agent starts."""

import os
import sys
import sysconfig
from importlib.util import find_spec
from typing import Optional, Tuple

from device_agents.machine import phone_serial
from device_agents.wire import RuntimeInfo

LIBRARY = "libtensorflowlite_c.so"
ENVIRONMENT = "EDGEPROF_TFLITE_C"
NO_TFLITE = (
    "neither tflite-runtime (pip install 'tflite-runtime==2.14.0' 'numpy<2', Python 3.11 at most) nor "
    f"{LIBRARY} ({ENVIRONMENT}=path, or pip install pymicro-wakeword) is there"
)
# Its metadata does not say so: the wheel was built against numpy 1 and fails to import with numpy 2.
NUMPY_TOO_NEW = "it needs numpy below 2: pip install 'numpy<2' in an environment of its own"

NOT_NAMED = "where the program is has not been said: edgeprof devices add NAME ADDRESS --benchmark-model PATH"
BEHIND_ADB = "adb runs programs on a phone, and no Python: this runtime needs Termux (docs/android.md)"


def installed() -> Tuple[RuntimeInfo, ...]:
    """Every runtime, with its version, or the reason why it cannot be used."""
    by_program = RuntimeInfo("benchmark_model", None, NOT_NAMED)
    if phone_serial() is not None:
        others = tuple(RuntimeInfo(name, None, BEHIND_ADB) for name in ("onnxruntime", "litert", "tflite"))
        return (*others, by_program)
    return (onnxruntime(), litert(), tflite(), by_program, RuntimeInfo("simulated", "1"))


def onnxruntime() -> RuntimeInfo:
    found = distribution_version("onnxruntime", "onnxruntime-gpu", "onnxruntime-qnn", "onnxruntime-openvino")
    reason = None if found else "onnxruntime is not installed: pip install onnxruntime"
    return RuntimeInfo("onnxruntime", found, reason)


def litert() -> RuntimeInfo:
    found = distribution_version("ai-edge-litert", "ai-edge-litert-nightly")
    reason = None if found else "ai-edge-litert is not installed: pip install ai-edge-litert"
    return RuntimeInfo("litert", found, reason)


def tflite() -> RuntimeInfo:
    """The C library is asked itself, where there is no tflite-runtime: nothing else knows its version."""
    if find_spec("tflite_runtime") is not None:
        if int((distribution_version("numpy") or "0").split(".")[0]) >= 2:
            return RuntimeInfo("tflite", None, f"tflite-runtime is there, but {NUMPY_TOO_NEW}")
        return RuntimeInfo("tflite", distribution_version("tflite-runtime", "tflite-runtime-nightly"))
    path = find_tflite_library()
    if path is None:
        return RuntimeInfo("tflite", None, NO_TFLITE)
    import ctypes

    try:
        tell_version = ctypes.CDLL(path).TfLiteVersion
    except (OSError, AttributeError) as error:
        return RuntimeInfo("tflite", None, f"the TFLite C library {path} cannot be used: {error}")
    tell_version.restype = ctypes.c_char_p
    return RuntimeInfo("tflite", tell_version().decode())


def distribution_version(*names: str) -> Optional[str]:
    """The version of the first of these installed packages.

    Read from the names of the folders that installers leave (packaging.python.org: recording installed projects):
    importlib.metadata would cost an idle agent two megabytes.
    """
    wanted = [name.replace("-", "_").lower() + "-" for name in names]
    for folder in sys.path:
        try:
            entries = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in entries:
            name, suffix = os.path.splitext(entry)
            if suffix in (".dist-info", ".egg-info") and name.lower().startswith(tuple(wanted)):
                return name.split("-")[1]
    return None


def find_tflite_library(named: Optional[str] = None) -> Optional[str]:
    """The path of TFLite's C library: as named, from the environment, from pymicro-wakeword, or the system's.

    `ctypes.util.find_library` is not asked: it starts a compiler and a linker to find out.
    """
    for chosen in (named, os.environ.get(ENVIRONMENT)):
        if chosen:
            return chosen
    folders = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    # This wheel carries TFLite 2.17 for x86-64 and aarch64.
    package = find_spec("pymicro_wakeword")
    folders += [
        os.path.join(folder, "lib") for folder in (package.submodule_search_locations if package else None) or ()
    ]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    folders += ["/usr/local/lib", "/usr/lib", "/usr/lib64"] + ([f"/usr/lib/{multiarch}"] if multiarch else [])
    paths = [os.path.join(folder, LIBRARY) for folder in folders]
    return next((path for path in paths if os.path.isfile(path)), None)
