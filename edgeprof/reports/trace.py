"""One inference of a run in Chrome's trace format, for ui.perfetto.dev and chrome://tracing.

The runtimes tell how long each kernel took and in which order, not when it began. Kernels are therefore laid end to
end, and what no kernel explains stands behind them as one slice; both are said in the trace itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from edgeprof.errors import MeasurementError
from edgeprof.operators import OperatorRow, operator_rows
from edgeprof.run import Run

__all__ = ["trace_json", "trace_of"]

# Order and durations were measured; positions are ours.
LAYOUT = "kernels are laid end to end in execution order: gaps between them were not recorded"
REMAINDER = "not in any kernel"
THREAD = 1

Event = dict[str, Any]


def trace_json(runs: Sequence[Run]) -> bytes:
    """The trace as a file's content; every run is a process of its own."""
    return json.dumps(trace_of(runs), allow_nan=False, ensure_ascii=False, indent=1).encode() + b"\n"


def trace_of(runs: Sequence[Run]) -> dict[str, Any]:
    """The trace in the JSON Object Format of Google's "Trace Event Format".

    Of each run the profiled inference with the median total is shown.

    Raises:
        MeasurementError: a run has no operator times.
    """
    events = [event for pid, run in enumerate(runs, 1) for event in _events(run, pid)]
    return {
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": {"layout": LAYOUT, "runs": ", ".join(run.id for run in runs)},
    }


def _events(run: Run, pid: int) -> list[Event]:
    chosen, total_s = _median_inference(run)
    slices: list[Event] = []
    at_s = 0.0
    for row in operator_rows(run):
        took_s = _time_in(run, row.index, chosen)
        if took_s is not None:
            slices.append(_slice(pid, row.name, _category(run, row), at_s, at_s + took_s, _arguments(run, row)))
            at_s += took_s
    if at_s < total_s:
        arguments = {"note": "its place within the inference is unknown", "share_of_inference": 1 - at_s / total_s}
        slices.append(_slice(pid, REMAINDER, "remainder", at_s, total_s, arguments))
    # The clocks of runtime and agent differ: rounded kernels may add up to a little more than the whole.
    end_s = max(total_s, at_s)
    inference = _slice(pid, run.profile.job.model.name, "inference", 0.0, end_s, _inference(run, chosen))
    return [*_names(run, pid), inference, *slices]


def _median_inference(run: Run) -> tuple[int, float]:
    """Which of the profiled inferences took the median time, and how long it took."""
    recorded = run.profile.operators
    if recorded is None or not recorded.kernels or not recorded.latencies_s:
        reason = run.profile.operators_missing or "no kernel was timed"
        raise MeasurementError(
            f"run {run.id}: no trace without operator times: {reason}", "profile again with --operators"
        )
    ranked = sorted(range(len(recorded.latencies_s)), key=lambda k: recorded.latencies_s[k])
    chosen = ranked[(len(ranked) - 1) // 2]
    return chosen, recorded.latencies_s[chosen]


def _time_in(run: Run, kernel: int, chosen: int) -> float | None:
    recorded = run.profile.operators
    times_s = recorded.kernels[kernel].times_s if recorded else ()
    return max(0.0, times_s[chosen]) if chosen < len(times_s) else None


def _slice(pid: int, name: str, category: str, start_s: float, end_s: float, arguments: dict[str, Any]) -> Event:
    # Both ends are rounded to whole nanoseconds, so that neighbours touch and children stay inside their parent.
    start_ns, end_ns = round(start_s * 1e9), round(end_s * 1e9)
    return {
        "name": name,
        "cat": category,
        "ph": "X",
        "ts": start_ns / 1000,
        "dur": (end_ns - start_ns) / 1000,
        "pid": pid,
        "tid": THREAD,
        "args": arguments,
    }


def _names(run: Run, pid: int) -> list[Event]:
    profile = run.profile
    process = f"{profile.job.model.name} on {run.device} ({profile.origin})"
    thread = f"{profile.job.runtime} {profile.runtime_version}: {LAYOUT}"
    return [_metadata("process_name", pid, process), _metadata("thread_name", pid, thread)]


def _metadata(what: str, pid: int, name: str) -> Event:
    # Only some readers do without category, time and thread of a metadata event; Chrome itself writes them.
    return {"name": what, "cat": "__metadata", "ph": "M", "ts": 0, "pid": pid, "tid": THREAD, "args": {"name": name}}


def _inference(run: Run, chosen: int) -> dict[str, Any]:
    recorded = run.profile.operators
    return {
        "run": run.id,
        "device": run.device,
        "origin": run.profile.origin,
        "model_digest": run.profile.job.model.digest,
        "profiler": recorded.method if recorded else "",
        "profiled_inference": chosen,
        "note": f"with operator profiling on; {LAYOUT}",
    }


def _category(run: Run, row: OperatorRow) -> str:
    recorded = run.profile.operators
    return recorded.kernels[row.index].level if recorded else ""


def _arguments(run: Run, row: OperatorRow) -> dict[str, Any]:
    known = {
        "type": row.type,
        "kernel": row.kernel,
        "mapping": row.origin,
        "nodes": list(row.nodes),
        "share_of_operators": row.share,
        "median_us": None if row.median_s is None else round(row.median_s * 1e6, 3),
        "below_resolution": row.below_resolution,
        "input_shapes": [list(shape) for shape in row.input_shapes],
        "output_shapes": [list(shape) for shape in row.output_shapes],
        "macs": row.macs,
        "moved_bytes": row.moved_bytes,
    }
    return {name: content for name, content in known.items() if content is not None}
