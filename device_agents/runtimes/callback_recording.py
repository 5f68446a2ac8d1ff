"""The recording half of a session whose profiler is called back by the interpreter for every operator."""

from typing import List, Optional, Protocol

from device_agents.runtimes import Recorded
from device_agents.runtimes.tflite_events import Event, KernelTimes


class Profiler(Protocol):
    """What times the operators of an interpreter."""

    method: str
    bias_s: float
    resolution_s: float

    def take(self) -> List[Event]:
        """What happened since the last call."""


class CallbackRecording:
    """Collects the events of every run between `begin_recording` and `end_recording`; nothing without a profiler."""

    piled_up_per_run: Optional[int] = 0

    def __init__(self, profiler: Optional[Profiler]) -> None:
        self._callbacks = profiler
        self._times = KernelTimes(profiler.bias_s if profiler else 0.0)
        self._is_recording = False

    def begin_recording(self) -> None:
        self.after_run()
        self._times.clear()
        self._is_recording = True

    def after_run(self) -> None:
        if self._callbacks is not None:
            events = self._callbacks.take()
            if self._is_recording:
                self._times.add_run(events)

    def end_recording(self) -> Recorded:
        if self._callbacks is None:
            raise RuntimeError("end_recording needs a profiled session")
        self._is_recording = False
        return Recorded(
            method=self._callbacks.method,
            kernels=self._times.kernels(),
            resolution_s=self._callbacks.resolution_s,
            bias_s=self._callbacks.bias_s,
        )

    def executed_graph(self) -> Optional[str]:
        return None
