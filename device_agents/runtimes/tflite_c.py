"""TFLite through its C library (libtensorflowlite_c.so), by ctypes: no Python package, no numpy.

Functions and types: tensorflow/lite/core/c/c_api.h and tensorflow/lite/delegates/xnnpack/xnnpack_delegate.h.
"""

import ctypes
import os
from typing import Any, Dict, List, Sequence, Tuple

from device_agents.machine import Machine
from device_agents.runtimes import Recorded, RuntimeRefusal, xnnpack
from device_agents.runtimes.available import LIBRARY
from device_agents.runtimes.callback_recording import CallbackRecording
from device_agents.runtimes.options import Pinned, affinity_text
from device_agents.runtimes.telemetry_profiler import TelemetryProfiler
from device_agents.runtimes.tensors import Dim, concrete_shapes, require_sizes, require_supported
from device_agents.runtimes.tflite_file import ELEMENT_TYPES
from device_agents.wire import Job, TensorInfo

POINTER, INT = ctypes.c_void_p, ctypes.c_int
# The options begin with int32_t num_threads in every version; their length grows, and 1 KiB is far beyond it.
XNNPACK_OPTIONS_INTS = 256
OK = 0


class XnnpackOptions(ctypes.Structure):
    _fields_ = (("words", ctypes.c_int32 * XNNPACK_OPTIONS_INTS),)


SIGNATURES: Dict[str, Tuple[Any, Tuple[Any, ...]]] = {
    "TfLiteVersion": (ctypes.c_char_p, ()),
    "TfLiteModelCreateFromFile": (POINTER, (ctypes.c_char_p,)),
    "TfLiteModelDelete": (None, (POINTER,)),
    "TfLiteInterpreterOptionsCreate": (POINTER, ()),
    "TfLiteInterpreterOptionsDelete": (None, (POINTER,)),
    "TfLiteInterpreterOptionsSetNumThreads": (None, (POINTER, ctypes.c_int32)),
    "TfLiteInterpreterOptionsAddDelegate": (None, (POINTER, POINTER)),
    "TfLiteInterpreterCreate": (POINTER, (POINTER, POINTER)),
    "TfLiteInterpreterDelete": (None, (POINTER,)),
    "TfLiteInterpreterAllocateTensors": (INT, (POINTER,)),
    "TfLiteInterpreterInvoke": (INT, (POINTER,)),
    "TfLiteInterpreterResizeInputTensor": (INT, (POINTER, ctypes.c_int32, POINTER, ctypes.c_int32)),
    "TfLiteInterpreterGetInputTensorCount": (ctypes.c_int32, (POINTER,)),
    "TfLiteInterpreterGetOutputTensorCount": (ctypes.c_int32, (POINTER,)),
    "TfLiteInterpreterGetInputTensor": (POINTER, (POINTER, ctypes.c_int32)),
    "TfLiteInterpreterGetOutputTensor": (POINTER, (POINTER, ctypes.c_int32)),
    "TfLiteTensorName": (ctypes.c_char_p, (POINTER,)),
    "TfLiteTensorType": (INT, (POINTER,)),
    "TfLiteTensorNumDims": (ctypes.c_int32, (POINTER,)),
    "TfLiteTensorDim": (ctypes.c_int32, (POINTER, ctypes.c_int32)),
    "TfLiteTensorByteSize": (ctypes.c_size_t, (POINTER,)),
    "TfLiteTensorCopyFromBuffer": (INT, (POINTER, ctypes.c_char_p, ctypes.c_size_t)),
    "TfLiteTensorCopyToBuffer": (INT, (POINTER, POINTER, ctypes.c_size_t)),
}
# Not in every build of the library.
OPTIONAL: Dict[str, Tuple[Any, Tuple[Any, ...]]] = {
    "TfLiteInterpreterOptionsSetTelemetryProfiler": (None, (POINTER, POINTER)),
    "TfLiteXNNPackDelegateOptionsDefault": (XnnpackOptions, ()),
    "TfLiteXNNPackDelegateCreate": (POINTER, (POINTER,)),
    "TfLiteXNNPackDelegateDelete": (None, (POINTER,)),
    "TfLiteOpaqueTensorGetNumDimsSignature": (INT, (POINTER, POINTER)),
    "TfLiteOpaqueTensorGetDimSignature": (INT, (POINTER, ctypes.c_int32, POINTER)),
}


def load_library(path: str) -> Any:
    """Load it and declare its functions.

    Raises:
        RuntimeRefusal: bad-option; it is not there, or not that library.
    """
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise RuntimeRefusal(
            "bad-option",
            f"the TFLite C library {path} cannot be loaded: {error}",
            f"give the path on the device of a {LIBRARY} for its architecture",
        ) from error
    missing = [name for name in SIGNATURES if not hasattr(library, name)]
    if missing:
        raise RuntimeRefusal("bad-option", f"{path} is not the TFLite C library: it lacks {missing[0]}")
    for name, (result, arguments) in {**SIGNATURES, **OPTIONAL}.items():
        if hasattr(library, name):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    return library


class CLibrarySession(CallbackRecording):
    """One interpreter of the C library. Operators come from its telemetry profiler."""

    def __init__(self, library_path: str, job: Job, model_path: str, machine: Machine, profiled: bool) -> None:
        start = machine.now()
        self._library = load_library(library_path)
        self.import_s = machine.now() - start
        self.runtime_version = self._library.TfLiteVersion().decode()
        self.notes: List[str] = []
        self._job = job
        self._model = self._options = self._delegate = self._interpreter = None
        self._profiler = self._make_profiler() if profiled else None
        super().__init__(self._profiler)
        self._pinned = Pinned(job.options.affinity)
        try:
            start = machine.now()
            self._load(model_path)
            self.load_s = machine.now() - start
            start = machine.now()
            self._create(machine)
            self.initialise_s = machine.now() - start
            self.inputs = tuple(self._info(tensor) for tensor in self._input_tensors())
            self.outputs = tuple(self._info(tensor) for tensor in self._output_tensors())
            self.in_force = {
                "api": "TFLite C library",
                "library": library_path,
                "threads": str(job.options.threads),
                "affinity": affinity_text(job.options.affinity),
                "xnnpack": "unknown: the C library does not tell; the operator pass does" if self._delegate else "off",
            }
        except BaseException:
            self.close()
            raise

    # --- opening -------------------------------------------------------------------------------------------------

    def _make_profiler(self) -> TelemetryProfiler:
        if not hasattr(self._library, "TfLiteInterpreterOptionsSetTelemetryProfiler"):
            raise RuntimeRefusal(
                "unsupported-model",
                "this build of the TFLite C library has no telemetry profiler: no times of operators",
                "use a build of TFLite 2.14 or newer",
            )
        return TelemetryProfiler()

    def _load(self, model_path: str) -> None:
        self._model = self._library.TfLiteModelCreateFromFile(os.fsencode(model_path))
        if not self._model:
            name = self._job.model.name
            raise RuntimeRefusal("model-invalid", f"{name} is not a valid TFLite model", "convert it again")

    def _create(self, machine: Machine) -> None:
        library, options = self._library, self._job.options
        self._options = library.TfLiteInterpreterOptionsCreate()
        library.TfLiteInterpreterOptionsSetNumThreads(self._options, options.threads)
        if self._profiler is not None:
            library.TfLiteInterpreterOptionsSetTelemetryProfiler(self._options, self._profiler.address())
        if options.xnnpack:
            self._add_xnnpack()
            self.notes += xnnpack.what_is_missing(machine)
        self._interpreter = library.TfLiteInterpreterCreate(self._model, self._options)
        if not self._interpreter:
            raise RuntimeRefusal(
                "unsupported-operator",
                f"{self._job.model.name}: TFLite {self.runtime_version} cannot make an interpreter for it; "
                "the agent's standard error says which operator it does not know",
                "use another runtime, or convert the model for this version",
            )
        self._resize()
        if library.TfLiteInterpreterAllocateTensors(self._interpreter) != OK:
            raise RuntimeRefusal(
                "model-invalid", f"{self._job.model.name}: its tensors cannot be allocated", "check the shapes given"
            )

    def _add_xnnpack(self) -> None:
        if not hasattr(self._library, "TfLiteXNNPackDelegateOptionsDefault"):
            self.notes.append("this build of the TFLite C library has no XNNPACK")
            return
        settings = self._library.TfLiteXNNPackDelegateOptionsDefault()
        settings.words[0] = self._job.options.threads
        self._delegate = self._library.TfLiteXNNPackDelegateCreate(ctypes.byref(settings))
        if self._delegate:
            self._library.TfLiteInterpreterOptionsAddDelegate(self._options, self._delegate)

    def _resize(self) -> None:
        tensors = self._input_tensors()
        infos = [self._info(tensor) for tensor in tensors]
        shapes, notes = concrete_shapes(
            [(info.name, self._declared(tensor)) for info, tensor in zip(infos, tensors)], self._job.options
        )
        self.notes += notes
        require_supported(infos)
        for k, (info, shape) in enumerate(zip(infos, shapes)):
            if info.shape == shape:
                continue
            dims = (INT * len(shape))(*shape)
            if self._library.TfLiteInterpreterResizeInputTensor(self._interpreter, k, dims, len(shape)) != OK:
                raise RuntimeRefusal("bad-option", f"input {info.name!r} cannot be given the shape {list(shape)}")

    # --- tensors -------------------------------------------------------------------------------------------------

    def _input_tensors(self) -> List[int]:
        n = self._library.TfLiteInterpreterGetInputTensorCount(self._interpreter)
        return [self._library.TfLiteInterpreterGetInputTensor(self._interpreter, k) for k in range(n)]

    def _output_tensors(self) -> List[int]:
        n = self._library.TfLiteInterpreterGetOutputTensorCount(self._interpreter)
        return [self._library.TfLiteInterpreterGetOutputTensor(self._interpreter, k) for k in range(n)]

    def _info(self, tensor: int) -> TensorInfo:
        library = self._library
        number = library.TfLiteTensorType(tensor)
        n_dims = max(0, library.TfLiteTensorNumDims(tensor))
        return TensorInfo(
            library.TfLiteTensorName(tensor).decode("utf-8", "replace"),
            ELEMENT_TYPES.get(number, f"type {number}"),
            tuple(library.TfLiteTensorDim(tensor, k) for k in range(n_dims)),
        )

    def _declared(self, tensor: int) -> Tuple[Dim, ...]:
        """With open dimensions, where the library tells them; it has no signature for fixed shapes."""
        shape = self._info(tensor).shape
        size = ctypes.c_int32(-1)
        if not hasattr(self._library, "TfLiteOpaqueTensorGetNumDimsSignature"):
            return shape
        if self._library.TfLiteOpaqueTensorGetNumDimsSignature(tensor, ctypes.byref(size)) != OK:
            return shape
        if size.value != len(shape):
            return shape
        dims: List[Dim] = []
        for k in range(size.value):
            dim = ctypes.c_int32(-1)
            self._library.TfLiteOpaqueTensorGetDimSignature(tensor, k, ctypes.byref(dim))
            dims.append(dim.value if dim.value > 0 else None)
        return tuple(dims)

    # --- running -------------------------------------------------------------------------------------------------

    def set_inputs(self, data: Sequence[bytes]) -> None:
        require_sizes(self.inputs, data)
        for info, tensor, block in zip(self.inputs, self._input_tensors(), data):
            if self._library.TfLiteTensorCopyFromBuffer(tensor, bytes(block), len(block)) != OK:
                raise RuntimeRefusal("bad-input", f"input {info.name!r} does not take {len(block)} bytes")

    def run(self) -> None:
        if self._library.TfLiteInterpreterInvoke(self._interpreter) != OK:
            raise RuntimeRefusal(
                "bad-input",
                f"{self._job.model.name} does not run; the agent's standard error has TFLite's reason",
                "give the shapes this model is meant for",
            )

    def read_outputs(self) -> List[bytes]:
        tensors = self._output_tensors()
        self.outputs = tuple(self._info(tensor) for tensor in tensors)
        return [self._bytes(tensor, info) for tensor, info in zip(tensors, self.outputs)]

    def _bytes(self, tensor: int, info: TensorInfo) -> bytes:
        n = self._library.TfLiteTensorByteSize(tensor)
        block = ctypes.create_string_buffer(max(1, n))
        if n and self._library.TfLiteTensorCopyToBuffer(tensor, block, n) != OK:
            raise RuntimeRefusal("unsupported-model", f"output {info.name!r} cannot be read")
        return block.raw[:n]

    def end_recording(self) -> Recorded:
        recorded = super().end_recording()
        if self._delegate:
            n = self._times.n_delegated()
            self.in_force["xnnpack"] = f"active: {n} operators" if n else "not active: it took no node"
        return recorded

    def close(self) -> None:
        """In this order: the interpreter uses what the others hold."""
        for member, release in (
            ("_interpreter", "TfLiteInterpreterDelete"),
            ("_options", "TfLiteInterpreterOptionsDelete"),
            ("_delegate", "TfLiteXNNPackDelegateDelete"),
            ("_model", "TfLiteModelDelete"),
        ):
            if getattr(self, member):
                getattr(self._library, release)(getattr(self, member))
                setattr(self, member, None)
        self._pinned.release()
