"""Meters of the host: addresses, plugs by real HTTP on loopback, traces from CSV, and clocks brought together."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from device_agents import wire
from device_agents.device_state import Conditions
from edgeprof.errors import EdgeprofError, MeterError, UsageError
from edgeprof.meters import open_meter
from edgeprof.meters.address import read_address
from edgeprof.meters.alignment import Offset, RoundTrip, align, of_round_trips
from edgeprof.meters.csv_trace import Columns, read_trace
from edgeprof.meters.http import get_json
from edgeprof.meters.joulescope import chosen, on_host_clock, stretch_of
from edgeprof.meters.plugs import Plug, Shelly, Tasmota

# As in the manufacturers' documentation of these interfaces.
GEN2 = {
    "/shelly": {"id": "shellyplugs-aabbcc", "model": "SNPL-00112EU", "gen": 2, "ver": "1.0.0", "auth_en": False},
    "/rpc/Switch.GetStatus?id=0": {"id": 0, "output": True, "apower": 8.9, "voltage": 237.5, "current": 0.04},
}
GEN1 = {
    "/shelly": {"type": "SHPLG-S", "mac": "AABBCCDDEEFF", "auth": False, "num_meters": 1},
    "/status": {"meters": [{"power": 2.21, "is_valid": True, "timestamp": 1680779310, "total": 439237}]},
}
TASMOTA = {
    "/cm?cmnd=WattRes": {"WattRes": 0},
    "/cm?cmnd=Status%208": {"StatusSNS": {"Time": "2018-02-15T01:00:50", "ENERGY": {"Power": 27, "Voltage": 234}}},
}


@contextmanager
def answering(answers: dict[str, object]) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers.get(self.path)).encode()
            self.send_response(200 if self.path in answers else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def sending(chunks: Callable[[], Iterator[bytes]]) -> Iterator[str]:
    """A server that sends these bytes, whatever it is asked."""

    class Send(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            try:
                for chunk in chunks():
                    self.request.sendall(chunk)
            except OSError:
                pass  # the client has left

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Send) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


# --- addresses -----------------------------------------------------------------------------------------------------


def test_an_address_names_host_port_switch_and_boundary() -> None:
    found = read_address("shelly:plug.local:8080/1?boundary=dc-input")

    assert (found.kind, found.place, found.switch, found.boundary) == ("shelly", "plug.local:8080", 1, "dc-input")


@pytest.mark.parametrize(
    "text",
    ["", "kasa:1.2.3.4", "shelly:", "shelly:a/b", "tasmota:a/1", "shelly:a:99999", "joulescope:", "shelly:a?x=1"],
)
def test_what_is_no_address_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        open_meter(text)

    assert refused.value.advice


# --- plugs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answers", "power_w"), [(GEN2, 8.9), (GEN1, 2.21)])
def test_both_generations_of_shelly_tell_watts(answers: dict[str, object], power_w: float) -> None:
    with answering(answers) as place, Plug(Shelly(place), period_s=0.01) as plug:
        plug.start()
        time.sleep(0.1)
        trace = plug.stop()

    assert set(trace.values[0]) == {power_w}
    assert (trace.clock, trace.meter.boundary) == ("host", "wall")
    assert list(trace.at_s) == sorted(trace.at_s)


def test_the_resolution_of_a_tasmota_plug_is_a_watt_unless_it_says_otherwise() -> None:
    with answering(TASMOTA) as place, Plug(Tasmota(place)) as plug:
        assert plug.info.resolution == 1.0
    with answering(TASMOTA | {"/cm?cmnd=WattRes": {"WattRes": 2}}) as place, Plug(Tasmota(place)) as plug:
        assert plug.info.resolution == 0.01


def test_a_plug_that_goes_in_mid_run_leaves_what_it_said_and_when_it_failed() -> None:
    answers = dict(GEN2)
    with answering(answers) as place, Plug(Shelly(place), period_s=0.01) as plug:
        plug.start()
        time.sleep(0.1)
        del answers["/rpc/Switch.GetStatus?id=0"]
        time.sleep(0.1)
        trace = plug.stop()

    assert trace.at_s
    assert trace.failed_at_s
    assert "404" in (trace.failure or "")


def test_a_plug_that_tells_no_power_is_refused_before_anything_is_measured() -> None:
    answers = GEN2 | {"/rpc/Switch.GetStatus?id=0": {"id": 0, "output": True}}
    with answering(answers) as place, pytest.raises(MeterError, match="no power"), Plug(Shelly(place)):
        pass


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    def endless() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        while True:
            yield b"[" * 4096

    with sending(endless) as place, pytest.raises(MeterError, match="more than"):
        get_json(place, "/", 5.0)


def test_a_peer_that_dribbles_is_left_in_time() -> None:
    def dribble() -> Iterator[bytes]:
        for letter in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 60:
            time.sleep(0.02)
            yield bytes([letter])

    with sending(dribble) as place, pytest.raises(MeterError, match=r"within 0\.2 s"):
        get_json(place, "/", 0.2)


@pytest.mark.parametrize(
    "said", [b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nno json", b"", b"HTTP/1.1 401 No\r\n\r\n"]
)
def test_garbage_is_an_error_that_names_the_plug(said: bytes) -> None:
    with sending(lambda: iter([said])) as place, pytest.raises(MeterError, match=r"127\.0\.0\.1"):
        get_json(place, "/", 2.0)


# --- joulescope ----------------------------------------------------------------------------------------------------


def test_without_an_instrument_the_library_is_opened_and_the_error_is_clear() -> None:
    pytest.importorskip("pyjoulescope_driver")

    with pytest.raises(MeterError, match="Joulescope"), open_meter("joulescope:000000"):
        pass


def test_a_statistics_message_is_stamped_by_its_samples_and_not_by_its_arrival() -> None:
    def message(k: int) -> dict[str, object]:
        samples = {"value": [50_000 * k, 50_000 * (k + 1)], "units": "samples"}
        power = {"avg": {"value": 1.0 + k, "units": "W"}}
        return {"time": {"samples": samples, "sample_freq": {"value": 1e6, "units": "Hz"}}, "signals": {"power": power}}

    stretches = [stretch_of(message(k)) for k in range(3)]

    assert [power_w for _, _, power_w in stretches] == [1.0, 2.0, 3.0]
    assert on_host_clock(stretches, [10.06, 10.104, 10.2]) == pytest.approx((10.054, 10.104, 10.154))


def test_of_several_joulescopes_one_must_be_named() -> None:
    with pytest.raises(MeterError, match="which"):
        chosen(["u/js220/1", "u/js110/2"], None)
    assert chosen(["u/js220/1", "u/js110/2"], "2") == "u/js110/2"


# --- traces from CSV -----------------------------------------------------------------------------------------------


def test_units_stand_in_the_names_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("Time (ms),Power (mW)\n0,1500\n100,2500\n")

    trace = read_trace(path, "dc-input")

    assert trace.at_s == pytest.approx((0.0, 0.1))
    assert trace.values[0] == pytest.approx((1.5, 2.5))


def test_power_is_voltage_times_current(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("t,voltage_v,current_ma\n0,5,100\n1,5,200\n")

    assert read_trace(path, "dc-input").values[0] == pytest.approx((0.5, 1.0))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no column of time"),
        ("time,volts\n0,1\n", "no column of power"),
        ("time;power\n0;1,5\n", "semicolons"),
        ("time,power\n0,1,5\n", "3 columns"),
        ('time,power\n0,"1,5"\n', "no number"),
        ("time,power\n0,nan\n", "no value"),
        ("time,power\n1,1\n0,1\n", "an earlier time"),
        ("time,power\n1,1\n1,1\n", "again"),
        ("time,power\n1,1\n", "no trace"),
        ("time,power_hp\n1,1\n2,1\n", "unit"),
        ("time,power\n1,9999999\n2,1\n", r"1e\+07 W"),
        ("x" * 20_000, "too long"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_with_what_is_wrong(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)

    with pytest.raises(MeterError, match=what):
        read_trace(path, "wall")


def test_a_column_that_was_asked_for_and_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("time,power\n0,1\n1,2\n")

    with pytest.raises(MeterError) as refused:
        read_trace(path, "wall", Columns(power="watts"))

    assert "'power'" in refused.value.advice


# --- clocks --------------------------------------------------------------------------------------------------------

CALM = Conditions(0.0)


def a_pass(begin_s: float = 1000.0) -> list[wire.EnergyWindow]:
    windows: list[wire.EnergyWindow] = []
    now_s = begin_s

    def add(kind: str, lasting_s: float, then_s: float = 0.0) -> None:
        nonlocal now_s
        windows.append(wire.EnergyWindow(kind, now_s, now_s + lasting_s, CALM, CALM))
        now_s += lasting_s + then_s

    for _ in range(3):
        add(wire.MARK, 0.5, 0.5)
    add(wire.IDLE, 5.0)
    for _ in range(5):
        add(wire.BUSY, 10.0)
        add(wire.IDLE, 5.0)
    for _ in range(3):
        add(wire.MARK, 0.5, 0.5)
    return windows


def seen(
    windows: list[wire.EnergyWindow],
    offset_s: float,
    period_s: float,
    noise_w: float,
    step_w: float,
    seed: int,
    load_w: float = 2.0,
) -> wire.PowerTrace:
    """What a meter that averages over its period says, its clock `offset_s` behind the device's."""
    random = np.random.default_rng(seed)
    begin_s, end_s = windows[0].start_s - 20, windows[-1].end_s + 20
    ends_s = np.arange(begin_s + random.uniform(0, period_s), end_s, period_s)
    edges = np.array([edge for w in windows if w.kind != wire.IDLE for edge in (w.start_s, w.end_s)])
    worked = np.concatenate([[0.0], np.cumsum(np.where(np.arange(len(edges) - 1) % 2 == 0, np.diff(edges), 0.0))])
    share = (np.interp(ends_s, edges, worked) - np.interp(ends_s - period_s, edges, worked)) / period_s
    power_w = 3 + load_w * share + 0.002 * (ends_s - begin_s) + random.normal(0, noise_w, len(ends_s))
    power_w = np.round(power_w / step_w) * step_w
    meter = wire.MeterInfo("m", "synthetic", wire.POWER, wire.WALL, ("p",), period_s, averages=True)
    return wire.PowerTrace(meter, tuple(ends_s - offset_s), (tuple(power_w),), clock="host")


@pytest.mark.parametrize(
    ("period_s", "noise_w", "step_w", "within_s"),
    [(1, 0.1, 0.1, 0.2), (0.1, 0.15, 0.02, 0.03), (0.001, 0.3, 0.001, 0.01)],
)
def test_the_load_tells_the_offset_of_a_clock_that_is_not_known(
    period_s: float, noise_w: float, step_w: float, within_s: float
) -> None:
    windows = a_pass()
    trace = seen(windows, 5000.317, period_s, noise_w, step_w, seed=3)

    aligned = align(trace, windows, None, must_show=True)

    assert aligned.clock == "device"
    assert aligned.offset_error_s is not None
    assert abs((aligned.offset_s or 0) - 5000.317) <= min(within_s, aligned.offset_error_s)


def test_the_stated_error_covers_the_offsets_of_a_plug_that_rounds_to_watts() -> None:
    windows = a_pass()
    covered = 0
    for seed in range(20):
        offset_s = 0.2 + 0.137 * seed
        known = Offset(at_s=0, offset_s=offset_s + 0.01, error_s=0.02)
        aligned = align(seen(windows, offset_s, 1.0, 0.1, 1.0, seed), windows, known, must_show=True)
        covered += abs((aligned.offset_s or 0) - offset_s) <= (aligned.offset_error_s or 0)

    assert covered >= 17


def test_a_trace_that_shows_no_load_is_refused_or_keeps_the_round_trips() -> None:
    windows = a_pass()
    trace = seen(windows, 100.0, 1.0, 0.1, 0.1, seed=1, load_w=0.0)
    known = Offset(at_s=0, offset_s=100.0, error_s=0.01)

    with pytest.raises(MeterError, match="does not show the load"):
        align(trace, windows, None, must_show=True)
    with pytest.raises(MeterError, match="does not show the load"):
        align(trace, windows, known, must_show=True)
    kept = align(trace, windows, known, must_show=False)

    assert kept.offset_s == 100.0
    assert kept.offset_error_s == pytest.approx(1.01)
    assert "not recognised" in (kept.alignment or "")


@pytest.mark.parametrize("rate", [0.98, 1.02])
def test_a_clock_that_runs_at_another_rate_is_refused(rate: float) -> None:
    windows = a_pass()
    trace = seen(windows, 0.0, 0.1, 0.1, 0.01, seed=4)
    trace = replace(trace, at_s=tuple(1000.0 + (at_s - 1000.0) * rate for at_s in trace.at_s))

    with pytest.raises(MeterError, match="at another rate"):
        align(trace, windows, None, must_show=True)


def test_a_clock_that_is_a_little_off_costs_certainty() -> None:
    windows = a_pass()
    trace = seen(windows, 0.0, 0.1, 0.1, 0.01, seed=4)
    exact = align(trace, windows, None, must_show=True)
    slow = replace(trace, at_s=tuple(at_s * 1.001 for at_s in trace.at_s))

    found = align(slow, windows, None, must_show=True)

    assert exact.offset_error_s is not None
    assert found.offset_error_s is not None
    assert found.offset_error_s > exact.offset_error_s


def test_a_trace_shorter_than_the_pass_is_refused_where_its_clock_is_not_known() -> None:
    windows = a_pass()
    trace = seen(windows[:8], 0.0, 0.1, 0.1, 0.01, seed=1)

    with pytest.raises(EdgeprofError, match="lasts"):
        align(trace, windows, None, must_show=True)


def test_the_shortest_round_trip_tells_the_offset_and_how_well() -> None:
    slow = RoundTrip(sent_s=10.0, device_s=110.4, received_s=10.5)
    fast = RoundTrip(sent_s=11.0, device_s=111.01, received_s=11.02)

    offset = of_round_trips([slow, fast])

    assert offset.offset_s == pytest.approx(100.0)
    assert offset.error_s == pytest.approx(0.01)
