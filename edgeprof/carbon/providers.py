"""Carbon intensity as it is now, asked of a service; the bundled tables need none."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Protocol

from edgeprof.carbon.inputs import MODELLED, TRIANGULAR, Input
from edgeprof.carbon.intensity import INTENSITY, UNIT, Intensity
from edgeprof.errors import CarbonError

__all__ = ["PROVIDERS", "GreatBritain", "IntensityProvider"]

# The API's answer has about 200 bytes.
MOST_BYTES = 65_536
# No grid of the world's table is above 1000 g/kWh, and coal alone has 995: what is above this is no intensity.
MOST_G_PER_KWH = 2000.0
ADVICE = "use the yearly average: --zone GB, or give the number: --intensity"
# For a forecast without the actual figure; assumed, for want of a published error.
FORECAST_LOW, FORECAST_HIGH = 0.8, 1.2


class IntensityProvider(Protocol):
    """A source of carbon intensity that changes with time."""

    def now(self) -> Intensity:
        """The intensity at this moment, with its source, its time and its kind.

        Raises:
            CarbonError: the service cannot be reached, or what it says makes no sense.
        """


class GreatBritain:
    """The Carbon Intensity API of Great Britain's system operator: half-hours, no key (https://carbonintensity.org.uk).

    `GET /intensity` answers ``{"data": [{"from", "to", "intensity": {"forecast", "actual", "index"}}]}`` in g/kWh.
    """

    def __init__(
        self, address: str = "https://api.carbonintensity.org.uk", *, timeout_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._url = f"{address.rstrip('/')}/intensity"
        self._timeout_s = timeout_s
        self._clock = clock

    def now(self) -> Intensity:
        period, forecast, actual = self._read(self._ask())
        if actual is None:
            value, note = forecast, "the operator's forecast: 20 % either way assumed"
            low, high = FORECAST_LOW * value, FORECAST_HIGH * value
        else:
            value, note = actual, "the operator's estimate; its range is to its forecast"
            low, high = min(forecast, actual), max(forecast, actual)
        one = Input(
            name=INTENSITY, value=value, unit=UNIT, kind=MODELLED, source=f"Carbon Intensity API, {self._url}",
            year=period, low=low, high=high, shape=TRIANGULAR, note=note,
        )  # fmt: skip
        return Intensity(
            zone="GB", name="Great Britain", kind="location-based, average, generation, direct emissions; half-hourly",
            licence="CC BY 4.0", input=one,
            attribution="grid intensity: National Energy System Operator, Carbon Intensity API (CC BY 4.0)",
        )  # fmt: skip

    def _ask(self) -> bytes:
        request = urllib.request.Request(self._url, headers={"Accept": "application/json"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310
                return self._whole(answer)
        except urllib.error.HTTPError as error:
            error.close()  # it holds the answer, and its socket
            raise CarbonError(f"{self._url} does not answer: status {error.code}", ADVICE) from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise CarbonError(f"{self._url} does not answer: {reason}", ADVICE) from error

    def _whole(self, answer: http.client.HTTPResponse) -> bytes:
        """The answer's bytes. The time limit of a socket is for each read; this one is for all of them."""
        until_s = self._clock() + self._timeout_s
        text = b""
        while part := answer.read1(MOST_BYTES):
            text += part
            if len(text) > MOST_BYTES:
                raise CarbonError(f"{self._url}: the answer has more than {MOST_BYTES} bytes", ADVICE)
            if self._clock() > until_s:
                raise CarbonError(f"{self._url}: the answer takes more than {self._timeout_s:g} s", ADVICE)
        return text

    def _read(self, text: bytes) -> tuple[str, float, float | None]:
        """The half-hour, its forecast, and its actual figure, which comes later."""
        try:
            entry = json.loads(text)["data"][0]
            period = f"{entry['from']} to {entry['to']}"
            forecast, actual = (_number(entry["intensity"].get(name)) for name in ("forecast", "actual"))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise CarbonError(f"{self._url}: the answer makes no sense: {text[:80]!r}", ADVICE) from error
        if forecast is None:
            raise CarbonError(f"{self._url}: it has no figure for {period}", ADVICE)
        return period, forecast, actual


def _number(value: Any) -> float | None:
    """A figure of the service, None where it has none yet."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST_G_PER_KWH:
        raise ValueError(f"{value!r} is no intensity in g/kWh")
    return float(value)


PROVIDERS = {"gb": GreatBritain}
