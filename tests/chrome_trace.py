"""Is this a trace that Chrome and Perfetto read? The format's public description as checks."""

from __future__ import annotations

import math
from typing import Any

# Phases and required members as in "Trace Event Format" (Google, docs.google.com/document/d/
# 1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU), sections JSON Object Format, Event Descriptions, Complete Events and
# Metadata Events.
PHASES = set("BEXiIC") | set("bne") | set("stf") | set("SFTp") | set("NOD") | set("MVvRc") | {"(", ")"}
METADATA = {
    "process_name": "name",
    "process_labels": "labels",
    "process_sort_index": "sort_index",
    "thread_name": "name",
    "thread_sort_index": "sort_index",
}


def check_trace(trace: Any) -> list[dict[str, Any]]:
    """Check a trace in the object form against the format's description; returns its events."""
    assert isinstance(trace, dict)
    assert isinstance(trace["traceEvents"], list)
    assert trace.get("displayTimeUnit", "ms") in ("ms", "ns")
    for event in trace["traceEvents"]:
        assert event["ph"] in PHASES
        assert isinstance(event["name"], str)
        assert event["name"]
        assert type(event["pid"]) is int
        assert isinstance(event.get("cat", ""), str)
        assert isinstance(event.get("args", {}), dict)
        if event["ph"] == "X":
            assert type(event["tid"]) is int
            assert all(isinstance(event[key], int | float) and math.isfinite(event[key]) for key in ("ts", "dur"))
            assert event["dur"] >= 0
        if event["ph"] == "M":
            assert METADATA[event["name"]] in event["args"]
    check_nesting(trace["traceEvents"])
    events: list[dict[str, Any]] = trace["traceEvents"]
    return events


def check_nesting(events: list[dict[str, Any]]) -> None:
    """Slices of one thread lie inside each other or side by side; readers drop those that cross."""
    threads: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for event in events:
        if event["ph"] == "X":
            start_ns = round(event["ts"] * 1000)
            threads.setdefault((event["pid"], event["tid"]), []).append(
                (start_ns, start_ns + round(event["dur"] * 1000))
            )
    for slices in threads.values():
        open_until: list[int] = []
        for start_ns, end_ns in sorted(slices, key=lambda s: (s[0], -s[1])):
            while open_until and open_until[-1] <= start_ns:
                open_until.pop()
            assert not open_until or end_ns <= open_until[-1]
            open_until.append(end_ns)
