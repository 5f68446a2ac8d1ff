"""How models come to run without rest: the schedule, cooling down between them, and a battery that is too low."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from device_agents.wire import Conditions
from edgeprof.errors import JobRefused
from edgeprof.profiling import Settings
from edgeprof.without_rest import LONGEST_S, SHORTEST_S, Cooling, _require_power, cool_down, without_rest
from tests.unit.profiles import CLOCKS, LOW_HZ
from tests.unit.sustained_runs import NOTHING_READABLE, at


class Room:
    """A device that cools by itself: `look` is what it is like at `at_s`, which passes only by `pause`."""

    def __init__(self, change: Callable[[float], dict[str, Any]]) -> None:
        self.at_s = 0.0
        self._change = change
        self.told: list[Cooling] = []

    def look(self) -> Conditions:
        return at(self.at_s, self._change(self.at_s))

    def pause(self, seconds: float) -> None:
        self.at_s += seconds

    def now(self) -> float:
        return self.at_s

    def cool_down(self, start: dict[str, Any], heated_s: float = 1200.0) -> str:
        return cool_down(self.look, at(0.0, start), heated_s, self.pause, self.now, self.told.append)


def heat(celsius: float) -> dict[str, Any]:
    return {"temperatures_c": {"cpu": celsius, "case": 30.0}}


# --- the schedule --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lasts_s", [SHORTEST_S, 300.0, 1200.0, 3600.0, LONGEST_S])
def test_rounds_fill_the_time_and_what_is_kept_of_them_is_bounded(lasts_s: float) -> None:
    schedule = without_rest(Settings(), lasts_s).schedule

    assert schedule.rounds * schedule.min_s == pytest.approx(lasts_s, abs=schedule.min_s)
    assert schedule.min_s == schedule.max_s
    assert schedule.min_s <= 20.0
    assert schedule.rounds >= 24
    assert schedule.rounds * schedule.keep_runs <= 30_000
    assert schedule.keep_runs >= 80
    assert schedule.warmup_share * schedule.rounds * schedule.min_s <= 2.5


def test_the_time_without_rest_comes_on_top_of_the_deadline_and_other_passes_are_left_out() -> None:
    settings = without_rest(Settings(operators=True, deadline_s=100.0), 1200.0)

    assert settings.deadline_s == 1300.0
    assert settings.operators is False
    assert settings.energy is None
    assert settings.options == Settings().options


# --- cooling down --------------------------------------------------------------------------------------------------


def test_it_waits_until_the_device_is_as_cool_as_at_first() -> None:
    room = Room(lambda at_s: heat(80.0 - 0.2 * at_s))

    ended = room.cool_down(heat(44.0))

    assert room.at_s == 170.0
    assert ended == "the device rested 170 s and was at 46 C (44 C before the first model)"


def test_what_is_left_is_told_at_the_pace_of_now() -> None:
    room = Room(lambda at_s: heat(80.0 - 0.2 * at_s))

    room.cool_down(heat(44.0))

    assert room.told[0].left_s is None
    assert room.told[0].reasons == ("it is at 80 C, 44 C at first",)
    assert [round(one.left_s or 0.0, 6) + one.waited_s for one in room.told[1:]] == [170.0] * (len(room.told) - 1)


def test_a_device_that_is_cool_is_not_waited_for() -> None:
    room = Room(lambda _: heat(45.0))

    assert room.cool_down(heat(44.0)).startswith("the device rested 0 s")
    assert room.told == []


def test_clocks_and_bits_that_are_still_held_down_are_waited_for_too() -> None:
    def still_low(at_s: float) -> dict[str, Any]:
        clocks = (replace(CLOCKS, max_hz=LOW_HZ),) if at_s < 20 else (CLOCKS,)
        return {"clocks": clocks, "throttled": 0b100 if at_s < 40 else 0b100 << 16}

    room = Room(still_low)

    room.cool_down({})

    assert room.at_s == 40.0
    assert room.told[0].reasons == (
        "the firmware holds the clock down (get_throttled 0x4)",
        "the clock of CPUs 0 1 2 3 is limited to 1000 MHz",
    )


def test_a_room_that_became_warmer_ends_the_wait_and_the_result_says_how_warm_it_was() -> None:
    room = Room(lambda at_s: heat(max(55.0, 80.0 - 0.2 * at_s)))

    ended = room.cool_down(heat(44.0))

    assert room.at_s == 900.0
    assert ended == "the device rested 900 s and was not as at first: it is at 55 C, 44 C at first"


@pytest.mark.parametrize(("heated_s", "rested_s"), [(120.0, 120.0), (1200.0, 300.0), (0.0, 0.0)])
def test_a_device_that_tells_nothing_rests_as_long_as_it_was_heated_but_not_for_ever(
    heated_s: float, rested_s: float
) -> None:
    room = Room(lambda _: NOTHING_READABLE)

    ended = room.cool_down(NOTHING_READABLE, heated_s)

    assert room.at_s == rested_s
    assert "nobody knows how warm it began" in ended


# --- the battery ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source", ["battery Discharging at 15 %", "battery Charging at 3 %", "battery Discharging", "Mains online", None]
)
def test_enough_power_or_a_charger_lets_it_begin(source: str | None) -> None:
    _require_power("phone", dataclasses.replace(at(0.0, {}), power_source=source))


def test_a_low_battery_that_is_discharging_is_refused_with_what_to_do() -> None:
    with pytest.raises(JobRefused, match="phone: its battery is down to 14% and discharging") as caught:
        _require_power("phone", at(0.0, {"power_source": "battery Discharging at 14 %"}))

    assert caught.value.kind == "battery-low"
    assert caught.value.advice == "plug it in, or charge it above 15%"
