"""Read the profile that ONNX Runtime writes: one JSON event a line, kernels before the `model_run` they belong to.

Categories and fields: onnxruntime/core/common/profiler_common.cc. Times are whole microseconds.
"""

import json
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

from device_agents.wire import Kernel

RESOLUTION_S = 1e-6
# Events beyond this many are dropped by the profiler with only a line in its log.
MAX_EVENTS = 1_000_000
SUFFIX = "_kernel_time"

Key = Tuple[Any, str, str]
Shapes = Tuple[Tuple[int, ...], ...]
# Provider, shapes of inputs, shapes of outputs: an event has ten times as much, and a pass may have 100,000 kernels.
Facts = Tuple[Optional[str], Shapes, Shapes]


def events(lines: Iterable[str]) -> Iterator[Dict[str, Any]]:
    """The events of a profile, one at a time: a profile of 50,000 kernels would take 200 MB as one object."""
    for line in lines:
        cleaned = line.strip().rstrip(",").lstrip("]").strip()
        if cleaned.startswith("{"):
            yield json.loads(cleaned)


class KernelTimes:
    """Times per kernel and run, built up event by event."""

    def __init__(self) -> None:
        self.n_runs = 0
        self.n_events = 0
        self._times_us: Dict[Key, List[Tuple[int, int]]] = {}
        self._facts: Dict[Key, Facts] = {}
        self._kernels: List[Dict[str, Any]] = []
        self._graphs: List[Dict[str, Any]] = []

    def add(self, event: Dict[str, Any]) -> None:
        self.n_events += 1
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith(SUFFIX):
            self._add_kernel(event)
        elif name == "SequentialExecutor::Execute":
            self._graphs.append(event)
        elif name == "model_run":
            self._end_run(event["ts"])

    def _add_kernel(self, event: Dict[str, Any]) -> None:
        """A kernel that ran a graph of its own (If, Loop, Scan) is left with what it spent outside that graph."""
        inner_us = 0
        while self._graphs and self._graphs[-1]["ts"] >= event["ts"]:
            inner_us += self._graphs.pop()["dur"]
        args = event.get("args", {})
        key = (args.get("node_index"), event["name"][: -len(SUFFIX)], args.get("op_name", ""))
        self._kernels.append({"key": key, "ts": event["ts"], "us": max(0, event["dur"] - inner_us)})
        if key not in self._facts:
            shapes = _shapes(args.get("input_type_shape")), _shapes(args.get("output_type_shape"))
            self._facts[key] = (args.get("provider"), *shapes)

    def _end_run(self, start_us: int) -> None:
        for kernel in self._kernels:
            if kernel["ts"] >= start_us:
                self._times_us.setdefault(kernel["key"], []).append((self.n_runs, kernel["us"]))
        self._kernels.clear()
        self._graphs.clear()
        self.n_runs += 1

    def kernels(self, first_run: int) -> Tuple[Kernel, ...]:
        """Every kernel seen from `first_run` on, in order of execution; one that a run did not reach took 0 s there."""
        n_runs = self.n_runs - first_run
        found = []
        for key, times in self._times_us.items():
            sums = [0] * n_runs
            for run, us in times:
                if run >= first_run:
                    sums[run - first_run] += us
            if any(run >= first_run for run, _ in times):
                found.append(_kernel(key, self._facts[key], sums))
        return tuple(found)


def _kernel(key: Key, facts: Facts, sums_us: List[int]) -> Kernel:
    provider, input_shapes, output_shapes = facts
    return Kernel(
        name=key[1],
        type=key[2],
        level="kernel",
        times_s=tuple(us * RESOLUTION_S for us in sums_us),
        provider=provider,
        input_shapes=input_shapes,
        output_shapes=output_shapes,
    )


def _shapes(tensors: Optional[List[Dict[str, List[int]]]]) -> Shapes:
    """From [{"float": [1, 3, 224, 224]}, ...]."""
    return tuple(tuple(dims) for tensor in tensors or [] for dims in tensor.values())
