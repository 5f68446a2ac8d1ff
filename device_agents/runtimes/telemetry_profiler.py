"""The telemetry profiler of TFLite's C library: a struct of callbacks.

Fields and signatures: tensorflow/lite/profiling/telemetry/c/profiler.h.
"""

import ctypes
from typing import Any, List

from device_agents.runtimes.tflite_events import DELEGATED, OPERATOR, CallbackRecorder, Event, callback_bias_s

POINTER, TEXT, U32, I64, U64 = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32, ctypes.c_int64, ctypes.c_uint64


class TelemetryStruct(ctypes.Structure):
    _fields_ = (
        ("data", POINTER),
        ("report_telemetry_event", POINTER),
        ("report_telemetry_op_event", POINTER),
        ("report_settings", POINTER),
        ("report_begin_op_invoke_event", POINTER),
        ("report_end_op_invoke_event", POINTER),
        ("report_op_invoke_event", POINTER),
    )


class TelemetryProfiler:
    """Keep it alive as long as the interpreter: the callbacks live here."""

    method = "TFLite telemetry callbacks"

    def __init__(self) -> None:
        self.bias_s = callback_bias_s()
        self.resolution_s = 1e-6
        recorder = CallbackRecorder()
        self._recorder = recorder

        def begin(this: int, name: bytes, node: int, subgraph: int) -> int:
            return recorder.begin(OPERATOR, name, node, subgraph)

        def end(this: int, handle: int) -> None:
            recorder.end(handle)

        def add(this: int, name: bytes, duration_us: int, index: int, subgraph: int) -> None:
            recorder.add(DELEGATED, name, index, subgraph, duration_us)

        def nothing(*_: Any) -> None:
            return None

        self._callbacks: List[Any] = [
            ctypes.CFUNCTYPE(None, POINTER, TEXT, U64)(nothing),
            ctypes.CFUNCTYPE(None, POINTER, TEXT, I64, I64, U64)(nothing),
            ctypes.CFUNCTYPE(None, POINTER, TEXT, POINTER)(nothing),
            ctypes.CFUNCTYPE(U32, POINTER, TEXT, I64, I64)(begin),
            ctypes.CFUNCTYPE(None, POINTER, U32)(end),
            ctypes.CFUNCTYPE(None, POINTER, TEXT, U64, I64, I64)(add),
        ]
        self._struct = TelemetryStruct(None, *(ctypes.cast(callback, POINTER) for callback in self._callbacks))

    def address(self) -> int:
        return ctypes.addressof(self._struct)

    def take(self) -> List[Event]:
        return self._recorder.take()
