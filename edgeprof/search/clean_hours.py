"""Work when the electricity is clean: in given hours, or while a provider of its intensity says less than a limit."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edgeprof.carbon.of_run import find_intensity
from edgeprof.errors import CarbonError, UsageError
from edgeprof.search.plan import Carbon

__all__ = ["CleanHours"]

SPAN = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")
DAY_MIN = 24 * 60
# How often it looks again.
LOOK_EVERY_S = 60.0


@dataclass
class CleanHours:
    """Waits until it is clean. `minute` is that of the day here, `intensity` g/kWh now; `tell` hears why it waits."""

    carbon: Carbon
    tell: Callable[[str], None]
    minute: Callable[[], int] = lambda: time.localtime().tm_hour * 60 + time.localtime().tm_min
    sleep: Callable[[float], None] = time.sleep
    intensity: Callable[[], float] | None = None
    _spans: list[tuple[int, int]] = field(default_factory=list)
    _clean_until_s: float = 0.0
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._spans = [_span(one) for one in self.carbon.clean_hours]
        if self.carbon.below_g_per_kwh is not None and self.carbon.provider is None and self.intensity is None:
            raise UsageError("below_g_per_kwh needs a provider that says what it is now", 'carbon.provider = "gb"')
        if self.intensity is None:
            self.intensity = self._asked

    def wait(self) -> None:
        """Return when it is clean; what a provider said counts for a while."""
        told = ""
        while (why := self._why_not()) is not None:
            if why != told:
                self.tell(f"waiting for clean electricity: {why}")
                told = why
            self.sleep(LOOK_EVERY_S)

    def _why_not(self) -> str | None:
        if self._spans and not any(_is_inside(self.minute(), span) for span in self._spans):
            return f"it is not within {', '.join(self.carbon.clean_hours)}"
        limit = self.carbon.below_g_per_kwh
        if limit is None or self.clock() < self._clean_until_s:
            return None
        assert self.intensity is not None  # noqa: S101, set when it was made
        try:
            now = self.intensity()
        except CarbonError as error:
            return f"the provider does not answer: {error}"
        if now > limit:
            return f"{now:.0f} g/kWh, and {limit:.0f} is the most"
        self._clean_until_s = self.clock() + 10 * LOOK_EVERY_S
        return None

    def _asked(self) -> float:
        return find_intensity(provider=self.carbon.provider).input.value


def _span(text: str) -> tuple[int, int]:
    found = SPAN.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{text!r} are no hours", 'write them as "22:00-06:00"')
    start, end = (int(found[k]) * 60 + int(found[k + 1]) for k in (1, 3))
    if max(start, end) > DAY_MIN or start == end:
        raise UsageError(f"{text!r} are no hours of a day", 'write them as "22:00-06:00"')
    return start, end


def _is_inside(minute: int, span: tuple[int, int]) -> bool:
    start, end = span
    return start <= minute < end if start < end else minute >= start or minute < end
