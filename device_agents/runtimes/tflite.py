"""TensorFlow Lite as tflite-runtime 2.14, or as the C library where that is found or named."""

from importlib.util import find_spec
from typing import Optional, Union

from device_agents.machine import Machine
from device_agents.runtimes import RuntimeRefusal
from device_agents.runtimes.available import (
    NO_TFLITE,
    NUMPY_TOO_NEW,
    distribution_version,
    find_tflite_library,
)
from device_agents.runtimes.options import require_file, require_options, require_threads
from device_agents.runtimes.tflite_c import CLibrarySession
from device_agents.runtimes.tflite_file import require_whole
from device_agents.runtimes.tflite_interpreter import InterpreterSession
from device_agents.runtimes.vtable_profiler import VtableProfiler
from device_agents.wire import Job

NAME = "tflite"


def open_session(
    job: Job, model_path: str, machine: Machine, profiled: bool
) -> Union[InterpreterSession, CLibrarySession]:
    """Open the model; the C library is used if it was named, or if there is no tflite-runtime.

    Raises:
        RuntimeRefusal: the options, the model or the device do not allow it.
    """
    require_options(job.options, NAME, ("xnnpack", "delegate", "delegate_options", "library", "streams"))
    require_threads(job.options)
    require_file(model_path, job.model.name, "model-invalid")
    if job.options.library:
        require_file(job.options.library, "library", "bad-option")
    if job.options.delegate:
        require_file(job.options.delegate, "delegate", "delegate-failed")
    require_whole(model_path, job.model.name)
    if job.options.library or find_spec("tflite_runtime") is None:
        return _open_c_library(find_tflite_library(job.options.library), job, model_path, machine, profiled)
    return _open_interpreter(job, model_path, machine, profiled)


def _open_c_library(
    path: Optional[str], job: Job, model_path: str, machine: Machine, profiled: bool
) -> CLibrarySession:
    if path is None:
        raise RuntimeRefusal("runtime-missing", NO_TFLITE, "see `edgeprof devices doctor`")
    if job.options.delegate:
        raise RuntimeRefusal(
            "bad-option",
            "the TFLite C library cannot load an external delegate",
            "use tflite-runtime 2.14 (leave --library out), or --runtime litert",
        )
    return CLibrarySession(path, job, model_path, machine, profiled)


def _open_interpreter(job: Job, model_path: str, machine: Machine, profiled: bool) -> InterpreterSession:
    start = machine.now()
    try:
        from tflite_runtime import _pywrap_tensorflow_interpreter_wrapper as wrapper
        from tflite_runtime import interpreter
    except (ImportError, AttributeError) as error:
        # With numpy 2 the wrapper fails with AttributeError: _ARRAY_API not found.
        raise RuntimeRefusal(
            "runtime-missing",
            f"tflite-runtime cannot be imported: {error}",
            NUMPY_TOO_NEW,
        ) from error
    import_s = machine.now() - start
    found = distribution_version("tflite-runtime", "tflite-runtime-nightly") or "unknown"
    return InterpreterSession(
        interpreter,
        (found, "tflite_runtime.Interpreter"),
        import_s,
        job,
        model_path,
        machine,
        VtableProfiler() if profiled else None,
        wrapper.__file__,
    )
