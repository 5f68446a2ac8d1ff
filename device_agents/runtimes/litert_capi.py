"""LiteRT's C API by ctypes, on the libLiteRt.so of the ai-edge-litert wheel: models, buffers, runs, profiler events.

Layouts: litert/c/litert_layout.h, litert_model_types.h and litert_profiler_event.h; checked against 2.3.0.
"""

import ctypes
import os
from typing import Any, List, Sequence, Tuple

from device_agents.runtimes.tflite_events import DELEGATED, OPERATOR, SECTION, Event

POINTER, SIZE, INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
CPU = 1
LOCK_TO_READ, LOCK_TO_WRITE = 0, 1
RANK_MASK = 0x7F
RUNTIME_FAILURE = 3


class Layout(ctypes.Structure):
    _fields_ = (("bits", ctypes.c_uint32), ("dims", ctypes.c_int32 * 8), ("strides", ctypes.c_uint32 * 8))

    def shape(self) -> Tuple[int, ...]:
        return tuple(self.dims[: self.bits & RANK_MASK])


class TensorType(ctypes.Structure):
    _fields_ = (("element", ctypes.c_int), ("layout", Layout))


class Memory(ctypes.Structure):
    _fields_ = (("total", SIZE), ("in_use", SIZE), ("private", SIZE))


class ProfiledEvent(ctypes.Structure):
    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory_begin", Memory),
        ("memory_end", Memory),
        ("index", ctypes.c_uint64),
        ("subgraph", ctypes.c_uint64),
        ("source", ctypes.c_int),
    )


class LiteRtError(Exception):
    """A function of the library did not return kLiteRtStatusOk."""

    def __init__(self, function: str, status: int) -> None:
        super().__init__(f"{function} returned status {status}")
        self.function = function
        self.status = status


class Library:
    """The loaded library; every function returns a status."""

    def __init__(self, path: str) -> None:
        self.functions = ctypes.CDLL(path)
        # Strings of options are freed by the library with the function it is given: they must come from malloc.
        libc = ctypes.CDLL(None)
        libc.strdup.restype = POINTER
        libc.strdup.argtypes = [ctypes.c_char_p]
        self._strdup = libc.strdup
        self._free = ctypes.cast(libc.free, POINTER)

    def call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.functions, name)(*arguments)
        if status != 0:
            raise LiteRtError(name, status)

    def get(self, name: str, *arguments: Any, kind: Any = POINTER) -> Any:
        """Call a function whose last argument is where its result goes."""
        result = kind()
        self.call(name, *arguments, ctypes.byref(result))
        return result

    def destroy(self, name: str, handle: Any) -> None:
        function = getattr(self.functions, name)
        function.restype = None
        function(handle)

    def add_options(self, options: Any, identifier: bytes, toml: str) -> None:
        made = self.get("LiteRtCreateOpaqueOptions", identifier, POINTER(self._strdup(toml.encode())), self._free)
        self.call("LiteRtAddOpaqueOptions", options, made)


class CompiledModel:
    """A model with its buffers; the first signature is what runs. Handles are freed by `close`, in reverse order."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._handles: List[Tuple[str, Any]] = []
        self._profiler: Any = None
        self.input_types: List[TensorType] = []
        self.output_types: List[TensorType] = []

    def _own(self, destroy: str, handle: Any) -> Any:
        self._handles.append((destroy, handle))
        return handle

    def load(self, path: str) -> None:
        """Read the model.

        Raises:
            LiteRtError: it is not a model, or not all of it.
        """
        get = self._library.get
        self._environment = self._own("LiteRtDestroyEnvironment", get("LiteRtCreateEnvironment", INT(0), POINTER()))
        self._model = self._own(
            "LiteRtDestroyModel", get("LiteRtCreateModelFromFile", self._environment, os.fsencode(path))
        )
        self._signature = get("LiteRtGetModelSignature", self._model, SIZE(0))
        self.n_signatures: int = get("LiteRtGetNumModelSignatures", self._model, kind=SIZE).value
        self.n_inputs: int = get("LiteRtGetNumSignatureInputs", self._signature, kind=SIZE).value
        self.n_outputs: int = get("LiteRtGetNumSignatureOutputs", self._signature, kind=SIZE).value
        self.input_types = [self._type("Input", k) for k in range(self.n_inputs)]
        self.output_types = [self._type("Output", k) for k in range(self.n_outputs)]

    def compile(self, threads: int, xnnpack: bool, profiled: bool) -> None:
        """Prepare the graph for the CPU.

        Raises:
            LiteRtError: status 3 where the graph has tensors whose shape is only known at run time.
        """
        library = self._library
        options = self._own("LiteRtDestroyOptions", library.get("LiteRtCreateOptions"))
        library.call("LiteRtSetOptionsHardwareAccelerators", options, INT(CPU))
        library.add_options(
            options, b"runtime_options_string", f"enable_profiling = {'true' if profiled else 'false'}\n"
        )
        mode = "delegate" if xnnpack else "builtin"
        library.add_options(options, b"xnnpack", f'kernel_mode = "{mode}"\nnum_threads = {threads}\n')
        self._compiled = self._own(
            "LiteRtDestroyCompiledModel",
            library.get("LiteRtCreateCompiledModel", self._environment, self._model, options),
        )
        if profiled:
            self._profiler = library.get("LiteRtCompiledModelGetProfiler", self._compiled)

    def allocate(self, shapes: Sequence[Tuple[int, ...]]) -> None:
        """Set the shapes of inputs that the file leaves open, and make a buffer for every input and output."""
        is_resized = False
        for k, (tensor, shape) in enumerate(zip(self.input_types, shapes)):
            if tensor.layout.shape() != shape:
                self._resize(k, shape)
                is_resized = True
        if is_resized:
            self._read_layouts()
        self._inputs = (POINTER * self.n_inputs)(*(self._buffer("Input", k, t) for k, t in enumerate(self.input_types)))
        self._outputs = (POINTER * self.n_outputs)(
            *(self._buffer("Output", k, t) for k, t in enumerate(self.output_types))
        )
        run = self._library.functions.LiteRtRunCompiledModel
        run.argtypes = [POINTER, SIZE, SIZE, POINTER, SIZE, POINTER]
        self._run = run

    def _resize(self, k: int, shape: Tuple[int, ...]) -> None:
        self._library.call(
            "LiteRtCompiledModelResizeInputTensorNonStrict",
            self._compiled,
            SIZE(0),
            SIZE(k),
            (INT * len(shape))(*shape),
            SIZE(len(shape)),
        )

    def _read_layouts(self) -> None:
        call = self._library.call
        for k, tensor in enumerate(self.input_types):
            layout = ctypes.byref(tensor.layout)
            call("LiteRtGetCompiledModelInputTensorLayout", self._compiled, SIZE(0), SIZE(k), layout)
        layouts = (Layout * self.n_outputs)()
        call(
            "LiteRtGetCompiledModelOutputTensorLayouts",
            self._compiled,
            SIZE(0),
            SIZE(self.n_outputs),
            layouts,
            ctypes.c_bool(True),
        )
        for tensor, layout in zip(self.output_types, layouts):
            tensor.layout = layout

    def _tensor(self, side: str, k: int) -> Any:
        return self._library.get(f"LiteRtGetSignature{side}TensorByIndex", self._signature, SIZE(k))

    def _type(self, side: str, k: int) -> TensorType:
        found = TensorType()
        self._library.call("LiteRtGetRankedTensorType", self._tensor(side, k), ctypes.byref(found))
        return found

    def name(self, side: str, k: int) -> str:
        """The tensor's own name, which the interpreter shows too; a signature may call it differently."""
        text = self._library.get("LiteRtGetTensorName", self._tensor(side, k), kind=ctypes.c_char_p).value
        return (text or b"").decode("utf-8", "replace")

    def _buffer(self, side: str, k: int, tensor: TensorType) -> int:
        get = self._library.get
        wanted = get(f"LiteRtGetCompiledModel{side}BufferRequirements", self._compiled, SIZE(0), SIZE(k))
        made = get("LiteRtCreateManagedTensorBufferFromRequirements", self._environment, ctypes.byref(tensor), wanted)
        value: int = self._own("LiteRtDestroyTensorBuffer", made).value
        return value

    def write_input(self, k: int, data: bytes) -> None:
        buffer = POINTER(self._inputs[k])
        address = POINTER()
        self._library.call("LiteRtLockTensorBuffer", buffer, ctypes.byref(address), INT(LOCK_TO_WRITE))
        ctypes.memmove(address, bytes(data), len(data))
        self._library.call("LiteRtUnlockTensorBuffer", buffer)

    def read_output(self, k: int, n_bytes: int) -> bytes:
        buffer = POINTER(self._outputs[k])
        address = POINTER()
        self._library.call("LiteRtLockTensorBuffer", buffer, ctypes.byref(address), INT(LOCK_TO_READ))
        data = ctypes.string_at(address, n_bytes)
        self._library.call("LiteRtUnlockTensorBuffer", buffer)
        return data

    def run(self) -> None:
        status = self._run(self._compiled, 0, self.n_inputs, self._inputs, self.n_outputs, self._outputs)
        if status != 0:
            raise LiteRtError("LiteRtRunCompiledModel", status)

    def is_fully_accelerated(self) -> bool:
        return bool(
            self._library.get("LiteRtCompiledModelIsFullyAccelerated", self._compiled, kind=ctypes.c_bool).value
        )

    def start_profiler(self) -> None:
        self._library.call("LiteRtResetProfiler", self._profiler)
        self._library.call("LiteRtStartProfiler", self._profiler)

    def stop_profiler(self) -> List[Event]:
        """The events since the start. Only these kinds: others carry no time of an operator, or garbage."""
        self._library.call("LiteRtStopProfiler", self._profiler)
        n = self._library.get("LiteRtGetNumProfilerEvents", self._profiler, kind=INT).value
        if n == 0:
            return []  # asked for none, the library answers with status 1
        found = (ProfiledEvent * n)()
        self._library.call("LiteRtGetProfilerEvents", self._profiler, INT(n), found)
        return [_event(item) for item in found if item.kind in (SECTION, OPERATOR, DELEGATED)]

    def close(self) -> None:
        while self._handles:
            destroy, handle = self._handles.pop()
            self._library.destroy(destroy, handle)


def _event(item: ProfiledEvent) -> Event:
    """Delegates report durations alone: their start is 0."""
    return Event(
        kind=item.kind,
        name=(item.tag or b"").decode("utf-8", "replace"),
        index=ctypes.c_int64(item.index).value,
        subgraph=ctypes.c_int64(item.subgraph).value,
        start_s=None if item.kind == DELEGATED else item.start_us * 1e-6,
        duration_s=item.elapsed_us * 1e-6,
    )
