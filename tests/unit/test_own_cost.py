"""What the tool itself takes: counted where the processor counts, modelled and called so where it does not."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from device_agents.machine import Machine
from device_agents.wire import MeterInfo
from edgeprof.campaign import campaign_cost
from edgeprof.own_cost import CORE_W, NOTHING, Joules, OwnCost, recording, total
from edgeprof.reports.campaign import render_recap
from edgeprof.store import Campaign, CampaignJob, Store
from tests.unit.run_factory import make_run


class Clock(Machine):
    """A machine whose time the test moves; who asks to be called again and again is called by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.cpu_s = 7.0

    def now(self) -> float:
        return self.now_s

    @contextmanager
    def every(self, period_s: float, call: Any) -> Iterator[Any]:
        self.call = call
        yield None


class Counter:
    """An energy counter that shows what it is told to, and fails where that is nothing."""

    def __init__(self, *, wraps_at_j: float | None = 1000.0) -> None:
        self.info = MeterInfo("rapl:package-0", "intel-rapl", "energy", "core", ("package-0",), wraps_at_j=wraps_at_j)
        self.joules: float | None = 950.0
        self.is_open = False

    def open(self) -> None:
        self.is_open = True

    def read(self) -> tuple[float, ...]:
        if self.joules is None:
            raise OSError("No such device")
        return (self.joules,)

    def close(self) -> None:
        self.is_open = False


def test_without_a_counter_cpu_time_is_taken_and_called_modelled() -> None:
    clock = Clock()

    with recording(clock, find=lambda _: None, cpu_s=lambda: clock.cpu_s, wall_s=lambda: 1000.0) as recorder:
        clock.now_s, clock.cpu_s = 160.0, 37.0
    clock.now_s, clock.cpu_s = 999.0, 999.0

    cost = recorder.cost()
    assert (cost.began_at_s, cost.elapsed_s, cost.cpu_s) == (1000.0, 60.0, 30.0)
    assert cost.host.value_j == 30.0 * CORE_W
    assert cost.host.low_j < cost.host.value_j < cost.host.high_j
    assert cost.host.kind == "modelled"
    assert "assumed" in cost.host.words
    assert cost.devices is None


def test_a_counter_is_measured_over_its_wrap_and_closed() -> None:
    clock, counter = Clock(), Counter()

    with recording(clock, find=lambda _: counter, cpu_s=lambda: clock.cpu_s) as recorder:
        assert counter.is_open
        counter.joules = 20.0
        clock.call()
        counter.joules = 50.0
        assert recorder.cost().host.value_j == pytest.approx(100.0)
        counter.joules = 60.0

    assert recorder.cost().host.value_j == pytest.approx(110.0)
    assert recorder.cost().host.kind == "measured"
    assert not counter.is_open


@pytest.mark.parametrize("wraps_at_j", [1000.0, None])
def test_a_counter_that_fails_or_falls_without_a_wrap_is_replaced_by_the_model_that_says_so(
    wraps_at_j: float | None,
) -> None:
    clock, counter = Clock(), Counter(wraps_at_j=wraps_at_j)

    with recording(clock, find=lambda _: counter, cpu_s=lambda: clock.cpu_s) as recorder:
        counter.joules = None if wraps_at_j else 3.0
        clock.call()
        counter.joules = 970.0

    assert recorder.cost().host.kind == "modelled"
    assert "counter could not be read" in recorder.cost().host.words


def test_this_machine_is_recorded_by_whatever_it_has() -> None:
    with recording() as recorder:
        sum(k * k for k in range(10_000))

    assert recorder.cost().host.kind in ("measured", "modelled")
    assert recorder.cost().elapsed_s > 0
    assert recorder.cost().cpu_s >= 0


def test_devices_that_worked_are_added_up_and_measured_only_if_all_are() -> None:
    clock = Clock()

    with recording(clock, find=lambda _: None, cpu_s=lambda: clock.cpu_s) as recorder:
        recorder.device(10.0, (5.0, 4.0, 6.0), "measured", "a meter")
        recorder.device(20.0, (2.0, 1.0, 4.0), "modelled", "its board")

    found = recorder.cost().devices
    assert found == Joules(value_j=90.0, low_j=60.0, high_j=140.0, kind="modelled", words="a meter; its board")
    assert total([]) == NOTHING


# --- in a store, and of a campaign ---------------------------------------------------------------------------------

HOST = Joules(value_j=300.0, low_j=200.0, high_j=400.0, kind="measured", words="intel-rapl")
COST = OwnCost(began_at_s=1000.0, elapsed_s=60.0, cpu_s=30.0, host=HOST)
NIGHT = Campaign(id="20260101-night", name="night", created_at_s=1000.0, plan="{}")


def test_what_a_session_said_last_is_kept_beside_other_sessions(tmp_path: Any) -> None:
    later = replace(COST, began_at_s=2000.0)
    with Store(str(tmp_path / "store.sqlite")) as store:
        store.keep_own_cost("c1", "two", later)
        store.keep_own_cost("c1", "one", replace(COST, elapsed_s=1.0))
        store.keep_own_cost("c1", "one", COST)
        store.keep_own_cost("c2", "one", COST)

    with Store(str(tmp_path / "store.sqlite")) as store:
        assert store.own_costs("c1") == (COST, later)
        assert store.own_costs("c3") == ()


def test_a_campaign_tells_what_it_took_in_joules_and_grams_with_the_worlds_intensity() -> None:
    jobs = (CampaignJob(number=0, device="local", label="m", state="done", attempt=2, took_s=5.0, run_id="r"),)

    found = campaign_cost([COST, COST], jobs, {"r": replace(make_run("r"), device="local")})

    assert found.host is not None
    assert (found.host.value_j, found.host.kind) == (600.0, "measured")
    assert found.devices is None
    assert found.grams is not None
    assert found.grams.nominal == pytest.approx(600.0 / 3.6e6 * 480.6)
    assert found.grams.low < found.grams.nominal < found.grams.high
    assert found.intensity.input.kind == "default"
    assert any("tried again" in note for note in found.notes)
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(render_recap(NIGHT, jobs, cost=found))
    text = console.export_text()
    assert "600 J (400 to 800), measured: intel-rapl" in text
    assert "481 g/kWh (default: World" in text


def test_devices_without_a_meter_are_modelled_from_their_board_over_the_time_of_their_jobs() -> None:
    made = make_run("r")
    machine = replace(made.profile.machine, model="Raspberry Pi 5 Model B Rev 1.0")
    run = replace(made, device="pi5", profile=replace(made.profile, machine=machine))
    job = CampaignJob(number=0, device="pi5", label="m", state="done", attempt=1, took_s=100.0, run_id="r")

    found = campaign_cost([COST], (job,), {"r": run})

    assert found.devices is not None
    assert (found.devices.kind, found.device_s) == ("modelled", 100.0)
    threads = run.profile.job.options.threads
    assert found.devices.value_j == pytest.approx(100.0 * (2.76 + 0.655 * threads))
    assert found.grams is not None
    assert found.grams.nominal == pytest.approx((300.0 + found.devices.value_j) / 3.6e6 * 480.6)


def test_jobs_of_this_machine_are_in_its_own_part_where_cpu_time_does_not_tell_of_them() -> None:
    run = replace(make_run("r"), device="local")
    job = CampaignJob(number=0, device="local", label="m", state="done", attempt=1, took_s=10.0, run_id="r")
    modelled = replace(COST, host=replace(HOST, kind="modelled"))

    found = campaign_cost([modelled], (job,), {"r": run})

    assert found.host is not None
    assert found.host.value_j == pytest.approx(300.0 + 10.0 * run.profile.job.options.threads * CORE_W)
    assert found.host.low_j == pytest.approx(200.0)


def test_a_campaign_of_which_nothing_was_recorded_says_nothing() -> None:
    found = campaign_cost([], (), {})

    assert (found.host, found.devices, found.grams) == (None, None, None)
