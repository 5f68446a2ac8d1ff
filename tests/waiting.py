"""A clock for whoever waits for a lost device: time passes only by waiting."""

from __future__ import annotations


class Clock:
    """Time passes only by waiting; `stops_after_s` says when to stop."""

    def __init__(self, stops_after_s: float | None = None) -> None:
        self.now_s = 0.0
        self.waits_s: list[float] = []
        self._stops_after_s = stops_after_s

    def now(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> bool:
        self.now_s += seconds
        if seconds:  # 0 only asks whether to stop
            self.waits_s.append(seconds)
        return self._stops_after_s is not None and self.now_s >= self._stops_after_s
