"""From what TFLite's profilers tell during a run to times per kernel; the same for all three of them.

Event kinds: tensorflow/lite/core/api/profiler.h.
"""

import ctypes
import statistics
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from device_agents.wire import Kernel

SECTION, OPERATOR, DELEGATED = 1, 2, 8
# The section that a graph, or a nested one, runs in.
INVOKE = "Invoke"
CALIBRATION_ITEMS = 300


@dataclass(frozen=True)
class Event:
    """`index` is a TFLite node, or the position inside a delegate's part; `start_s` is None where it is not told."""

    kind: int
    name: str
    index: int
    subgraph: int
    start_s: Optional[float]
    duration_s: float


# level, subgraph, part of the delegate, index, name
Key = Tuple[str, int, int, int, str]


class KernelTimes:
    """Times per kernel and run. `bias_s` is subtracted from every operator that was timed by callbacks."""

    def __init__(self, bias_s: float = 0.0) -> None:
        self._bias_s = bias_s
        self._runs: List[Dict[Key, float]] = []
        self._order: Dict[Key, None] = {}

    def clear(self) -> None:
        self._runs.clear()
        self._order.clear()

    def add_run(self, events: Sequence[Event]) -> None:
        times: Dict[Key, float] = {}
        parts = _Parts()
        for event, own_s in zip(events, own_times(events)):
            if event.kind == SECTION:
                if event.name == INVOKE:
                    parts.restart(event.subgraph)
                continue
            if event.kind == OPERATOR:
                key: Key = ("node", event.subgraph, 0, event.index, event.name)
                own_s = max(0.0, own_s - self._bias_s)
            else:
                key = ("delegate", event.subgraph, parts.part(event), event.index, event.name)
            times[key] = times.get(key, 0.0) + own_s
            self._order.setdefault(key)
        self._runs.append(times)

    def kernels(self) -> Tuple[Kernel, ...]:
        """In order of execution; one that a run did not reach took 0 s there."""
        return tuple(_kernel(key, tuple(run.get(key, 0.0) for run in self._runs)) for key in self._order)

    def n_delegated(self) -> int:
        return sum(key[0] == "delegate" for key in self._order)


class _Parts:
    """A delegate may take several parts of a graph; inside each its operators are counted from 0."""

    def __init__(self) -> None:
        self._last: Dict[int, Tuple[int, int]] = {}

    def restart(self, subgraph: int) -> None:
        self._last.pop(subgraph, None)

    def part(self, event: Event) -> int:
        part, last = self._last.get(event.subgraph, (0, -1))
        part += 1 if event.index <= last else 0
        self._last[event.subgraph] = (part, event.index)
        return part


def _kernel(key: Key, times_s: Tuple[float, ...]) -> Kernel:
    level, subgraph, part, index, name = key
    where = f"{subgraph}:{index}" if subgraph else str(index)
    if level == "node":
        return Kernel(f"{name} {where}", name, level, times_s, node=index, subgraph=subgraph)
    return Kernel(f"{name} part {part} {where}", name, level, times_s, subgraph=subgraph)


def own_times(events: Sequence[Event]) -> List[float]:
    """Each event's duration without what ran inside it: WHILE and IF contain the graphs they call."""
    own = [event.duration_s for event in events]
    open_events: List[Tuple[float, int]] = []
    for k, event in enumerate(events):
        if event.kind == SECTION and event.name != INVOKE:
            continue
        if event.start_s is None:
            continue
        while open_events and open_events[-1][0] <= event.start_s:
            open_events.pop()
        if open_events:
            own[open_events[-1][1]] -= event.duration_s
        if event.kind != DELEGATED:
            open_events.append((event.start_s + event.duration_s, k))
    return [max(0.0, value) for value in own]


class CallbackRecorder:
    """What a profiler's callbacks write; kept lean, because their time lands in what they measure."""

    def __init__(self) -> None:
        self._entries: List[List[Any]] = []

    def begin(self, kind: int, name: bytes, index: int, subgraph: int) -> int:
        entries = self._entries
        entry = [kind, name, index, subgraph, 0, 0]
        entries.append(entry)
        handle = len(entries) - 1
        entry[4] = time.perf_counter_ns()
        return handle

    def end(self, handle: int) -> None:
        now = time.perf_counter_ns()
        if handle < len(self._entries):
            self._entries[handle][5] = now

    def add(self, kind: int, name: bytes, index: int, subgraph: int, duration_us: int) -> None:
        """An event that the delegate timed itself and reports when its part is over."""
        if kind == DELEGATED:
            now = time.perf_counter_ns()
            self._entries.append([kind, name, index, subgraph, now, now + duration_us * 1000])

    def take(self) -> List[Event]:
        """The events since the last call."""
        events = [
            Event(kind, name.decode("utf-8", "replace"), index, subgraph, start * 1e-9, (end - start) * 1e-9)
            for kind, name, index, subgraph, start, end in self._entries
            if kind in (SECTION, OPERATOR, DELEGATED) and end >= start
        ]
        self._entries.clear()
        return events


def callback_bias_s() -> float:
    """What a begin and an end callback add to the time between them, on this device now.

    The C library's qsort calls a Python comparison again and again, as a runtime calls the profiler: from the last
    thing one call does to the first thing the next one does there is nothing but the way out of Python and back in.
    """
    marks: List[int] = []

    def compare(first: Any, second: Any) -> int:
        marks.append(time.perf_counter_ns())
        marks.append(time.perf_counter_ns())
        return 0

    signature = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    callback = signature(compare)
    items = (ctypes.c_int * CALIBRATION_ITEMS)()
    qsort = ctypes.CDLL(None).qsort
    qsort.restype = None
    qsort.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, signature]
    qsort(items, CALIBRATION_ITEMS, ctypes.sizeof(ctypes.c_int), callback)
    return statistics.median(after - before for before, after in zip(marks[1::2], marks[2::2])) * 1e-9
