"""Grams per kWh: the tables by code and name, what the user gives, and a live service behind a real HTTP server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edgeprof.carbon.intensity import of_user, of_zone, zones
from edgeprof.carbon.of_run import find_intensity
from edgeprof.carbon.providers import MOST_BYTES, GreatBritain
from edgeprof.errors import CarbonError, UsageError

# The example answer of the API's documentation, https://carbon-intensity.github.io/api-definitions/ (GET /intensity).
DOCUMENTED = b"""{ "data":[{ "from": "2018-01-20T12:00Z", "to": "2018-01-20T12:30Z",
  "intensity": { "forecast": 266, "actual": 263, "index": "moderate" } }] }"""


@contextmanager
def serving(body: bytes, status: int = 200) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/intensity" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --- tables --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "code", "value", "year"),
    [
        ("FR", "FRA", 56.0, "2023"),
        ("fra", "FRA", 56.0, "2023"),
        ("France", "FRA", 56.0, "2023"),
        ("DE", "DEU", 380.95, "2023"),
        ("usa", "USA", 369.5, "2023"),
        ("CN", "CHN", 582.3, "2023"),
        ("UK", "GBR", None, None),
        ("US-CA", "US-CA", 179.1, "2023"),
        ("california", "US-CA", 179.1, "2023"),
        ("world", "WLD", 480.6, "2021-2023"),
    ],
)
def test_a_zone_is_found_by_any_of_its_names(wanted: str, code: str, value: float | None, year: str | None) -> None:
    found = of_zone(wanted)

    assert found.zone == code
    assert found.input.unit == "g/kWh"
    if value is not None:
        assert found.input.value == pytest.approx(value, abs=0.05)
        assert found.input.year == year


def test_every_zone_is_found_by_its_codes_and_has_a_year_and_a_plausible_value() -> None:
    everything = zones()

    assert len(everything) > 260
    for zone in everything:
        if zone.code == "CAF":
            continue
        assert of_zone(zone.code).zone == zone.code
        assert not zone.short or of_zone(zone.short).zone == zone.code
        assert 0 < zone.g_per_kwh < 1400, zone
        assert 2009 <= int(zone.year[:4]) <= 2025, zone


def test_countries_say_whose_figures_they_are_as_their_licence_asks() -> None:
    for wanted in (None, "FR", "world"):
        found = of_zone(wanted)
        assert found.attribution is not None
        for owner in ("Our World in Data", "Ember", "Energy Institute", "CC BY 4.0"):
            assert owner in found.attribution
        assert "location-based, average, generation, life-cycle" in found.kind
    assert of_zone("US-CA").attribution is None
    assert "EPA eGRID2023" in of_zone("US-CA").input.source


def test_without_a_zone_the_world_stands_as_a_default_with_a_wide_range() -> None:
    found = of_zone(None)

    assert (found.zone, found.input.kind) == ("WLD", "default")
    assert found.input.high / found.input.low > 5
    assert found.input.note is not None
    assert "no place was given" in found.input.note
    assert of_zone("world").input.kind == "data sheet"


def test_an_unknown_zone_is_refused_with_near_names() -> None:
    with pytest.raises(CarbonError, match="there is no zone 'Germnay'") as refused:
        of_zone("Germnay")

    assert "DEU (Germany)" in refused.value.advice
    with pytest.raises(CarbonError):
        of_zone("")
    with pytest.raises(CarbonError, match="no zone"):
        of_zone("XX")


def test_a_zone_whose_figure_was_rounded_to_nothing_is_refused_and_an_old_figure_says_so() -> None:
    with pytest.raises(CarbonError, match="0 g/kWh for Central African Republic"):
        of_zone("CF")

    assert "of 2009" in (of_zone("EH").input.note or "")


def test_a_name_of_two_zones_is_refused_with_their_codes() -> None:
    with pytest.raises(CarbonError, match=r"GEO \(Georgia\) and US-GA \(Georgia\)"):
        of_zone("Georgia")


def test_the_users_value_is_taken_and_called_so() -> None:
    exact, ranged = of_user("56 g/kWh"), of_user("40-70 gCO2e/kWh")

    assert (exact.input.value, exact.input.kind, exact.input.low) == (56.0, "user", 56.0)
    assert (ranged.input.value, ranged.input.low, ranged.input.high) == (55.0, 40.0, 70.0)
    assert of_user("0.4 kg/kWh").input.value == pytest.approx(400.0)
    assert of_user("381 kg/MWh").input.value == pytest.approx(381.0)
    with pytest.raises(UsageError, match="is no carbon intensity"):
        of_user("56 lb/MWh")


def test_only_one_source_of_intensity_is_taken() -> None:
    with pytest.raises(UsageError, match="given twice"):
        find_intensity(zone="FR", intensity="56 g/kWh")
    with pytest.raises(UsageError, match="no provider 'mars'"):
        find_intensity(provider="mars")


# --- a live service ------------------------------------------------------------------------------------------------


def test_the_answer_of_great_britains_operator_is_read_with_its_half_hour() -> None:
    with serving(DOCUMENTED) as address:
        found = find_intensity(provider=GreatBritain(address))

    assert (found.input.value, found.input.low, found.input.high) == (263.0, 263.0, 266.0)
    assert found.input.year == "2018-01-20T12:00Z to 2018-01-20T12:30Z"
    assert "half-hourly" in found.kind
    assert found.licence == "CC BY 4.0"


def test_a_half_hour_without_an_actual_figure_has_its_forecast_with_a_range() -> None:
    with serving(DOCUMENTED.replace(b"263", b"null")) as address:
        found = GreatBritain(address).now()

    assert found.input.value == 266.0
    assert found.input.low < 266.0 < found.input.high
    assert found.input.note is not None
    assert "forecast" in found.input.note


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"no json", 200, "makes no sense"),
        (b'{"data": []}', 200, "makes no sense"),
        (b'{"data": [7]}', 200, "makes no sense"),
        (DOCUMENTED.replace(b"263", b'"263"'), 200, "makes no sense"),
        (DOCUMENTED.replace(b"263", b"-5"), 200, "makes no sense"),
        (DOCUMENTED.replace(b"263", b"99999"), 200, "makes no sense"),
        (DOCUMENTED.replace(b"263", b"NaN"), 200, "makes no sense"),
        (DOCUMENTED.replace(b"266", b"null"), 200, "has no figure"),
        (b"[" * 50_000, 200, "makes no sense"),
        (b" " * (MOST_BYTES + 1), 200, "more than"),
        (DOCUMENTED, 503, "does not answer"),
    ],
)
def test_a_service_that_answers_nonsense_or_not_is_refused_with_what_to_do(body: bytes, status: int, said: str) -> None:
    with serving(body, status) as address, pytest.raises(CarbonError, match=said) as refused:
        GreatBritain(address).now()

    assert "--zone GB" in refused.value.advice


def test_a_service_that_answers_without_end_is_left() -> None:
    ticks = iter(range(0, 1000, 7))

    with serving(DOCUMENTED) as address, pytest.raises(CarbonError, match="takes more than 5 s"):
        GreatBritain(address, timeout_s=5.0, clock=lambda: float(next(ticks))).now()


def test_a_service_that_is_not_there_is_refused() -> None:
    with serving(DOCUMENTED) as address:
        pass

    with pytest.raises(CarbonError, match="does not answer"):
        GreatBritain(address, timeout_s=2.0).now()
