"""A `tflite::Profiler` made of ctypes callbacks, for tflite-runtime 2.14, whose Python API has no profiler.

Its wrapper library exports `Interpreter::SetProfiler`; the object handed to it is a pointer to an Itanium C++ ABI
vtable. The order of the slots is that of tensorflow/lite/core/api/profiler.h.
"""

import ctypes
from typing import Any, List

from device_agents.runtimes import RuntimeRefusal
from device_agents.runtimes.tflite_events import CallbackRecorder, Event, callback_bias_s

SET_PROFILER = "_ZN6tflite4impl11Interpreter11SetProfilerEPNS_8ProfilerE"
POINTER, TEXT, INT, U32, I64, U64 = (
    ctypes.c_void_p,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_uint32,
    ctypes.c_int64,
    ctypes.c_uint64,
)
# The object pointer points behind these two words: offset to top, and type information.
WORDS_BEFORE_SLOTS = 2


class VtableProfiler:
    """Must be attached before `allocate_tensors`: only then does XNNPACK time its operators.

    Keep it alive as long as the interpreter: the callbacks live here.
    """

    method = "tflite::Profiler callbacks"

    def __init__(self) -> None:
        self.bias_s = callback_bias_s()
        self.resolution_s = 1e-6
        recorder = CallbackRecorder()
        self._recorder = recorder

        def begin(this: int, tag: bytes, kind: int, first: int, second: int) -> int:
            return recorder.begin(kind, tag, first, second)

        def end(this: int, handle: int) -> None:
            recorder.end(handle)

        def end_with_data(this: int, handle: int, first: int, second: int) -> None:
            recorder.end(handle)

        def add(this: int, tag: bytes, kind: int, duration_us: int, first: int, second: int) -> None:
            recorder.add(kind, tag, first, second, duration_us)

        def nothing(*_: Any) -> None:
            return None

        destructor = ctypes.CFUNCTYPE(None, POINTER)
        self._callbacks: List[Any] = [
            destructor(nothing),
            destructor(nothing),
            ctypes.CFUNCTYPE(U32, POINTER, TEXT, INT, I64, I64)(begin),
            ctypes.CFUNCTYPE(None, POINTER, U32, I64, I64)(end_with_data),
            ctypes.CFUNCTYPE(None, POINTER, U32)(end),
            ctypes.CFUNCTYPE(None, POINTER, TEXT, INT, U64, I64, I64)(add),
            ctypes.CFUNCTYPE(None, POINTER, TEXT, INT, POINTER)(nothing),
        ]
        self._vtable = (POINTER * (WORDS_BEFORE_SLOTS + len(self._callbacks)))()
        for k, callback in enumerate(self._callbacks):
            self._vtable[WORDS_BEFORE_SLOTS + k] = ctypes.cast(callback, POINTER).value
        self._object = (POINTER * 1)()
        self._object[0] = ctypes.addressof(self._vtable) + WORDS_BEFORE_SLOTS * ctypes.sizeof(POINTER)

    def attach(self, interpreter: Any, library_path: str) -> None:
        """Make the interpreter report to this profiler.

        Raises:
            RuntimeRefusal: unsupported-model; this build of the runtime lets no profiler in.
        """
        library = ctypes.CDLL(library_path)
        if not hasattr(library, SET_PROFILER) or not hasattr(interpreter, "_native_handle"):
            raise RuntimeRefusal(
                "unsupported-model",
                "this build of tflite-runtime lets no profiler in: no times of operators",
                "use tflite-runtime 2.14, or libtensorflowlite_c.so with --library",
            )
        set_profiler = getattr(library, SET_PROFILER)
        set_profiler.restype = None
        set_profiler.argtypes = [POINTER, POINTER]
        set_profiler(interpreter._native_handle(), ctypes.addressof(self._object))

    def take(self) -> List[Event]:
        return self._recorder.take()
