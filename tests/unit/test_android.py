"""What Android tells of battery and screen, and what is said of it. The texts are written here, not recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from device_agents import android
from device_agents.machine import Machine
from device_agents.wire import Conditions, Profile, Told
from edgeprof.errors import FleetError
from edgeprof.fleet import Device, Fleet
from edgeprof.phones import look_notes
from edgeprof.profiling import misfit_by_program
from edgeprof.verdict import judge
from tests.unit.profiles import make_profile

DUMP = "Current Battery Service state:\n  {feed}: true\n  status: {status}\n  level: {level}\n  scale: {scale}\n"


class Phone(Machine):
    """Programs that print a text; None is one that never answers."""

    def __init__(self, answers: dict[str, str | None]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def run(self, argv: Sequence[str], timeout_s: float = 5.0) -> tuple[int, str]:
        words = " ".join(argv)
        self.asked.append(words)
        if words not in self.answers:
            raise FileNotFoundError(words)
        answer = self.answers[words]
        if answer is None:
            raise TimeoutError(words)
        return 0, answer


@pytest.mark.parametrize(
    ("feed", "status", "level", "scale", "told"),
    [
        ("USB powered", 2, 57, 100, "battery Charging at 57 %, USB online"),
        ("AC powered", 5, 100, 100, "battery Full at 100 %, Mains online"),
        ("Wireless powered", 4, 40, 50, "battery Not charging at 80 %, Wireless online"),
        ("present", 3, 3, 100, "battery Discharging at 3 %"),
    ],
)
def test_dumpsys_is_put_into_the_words_of_the_kernel(feed: str, status: int, level: int, scale: int, told: str) -> None:
    phone = Phone({"dumpsys battery": DUMP.format(feed=feed, status=status, level=level, scale=scale)})

    assert android.power_source(phone) == told


def test_a_battery_that_was_told_what_to_say_is_not_believed_without_a_word() -> None:
    frozen = "Current Battery Service state:\n  (UPDATES STOPPED -- use 'reset' to restart)\n"
    phone = Phone({"dumpsys battery": frozen + DUMP.format(feed="present", status=3, level=90, scale=100)})

    assert "somebody told the phone to say" in (android.power_source(phone) or "")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"plugged": "PLUGGED_USB", "status": "CHARGING", "percentage": 64}, "battery Charging at 64 %, USB online"),
        ({"plugged": "UNPLUGGED", "status": "NOT_CHARGING", "percentage": 7}, "battery Not charging at 7 %"),
        ({"status": "DISCHARGING"}, "battery Discharging"),
        ({"error": "no"}, None),
        ([], None),
    ],
)
def test_termux_is_put_into_the_words_of_the_kernel(answer: object, told: str | None) -> None:
    assert android.power_source(Phone({"termux-battery-status": json.dumps(answer)})) == told


def test_a_termux_without_its_app_is_waited_for_once() -> None:
    phone = Phone({"termux-battery-status": None})

    assert [android.power_source(phone) for _ in range(3)] == [None] * 3
    assert phone.asked.count("termux-battery-status") == 1


@pytest.mark.parametrize(
    ("power", "trust", "told"),
    [
        ("  mWakefulness=Awake\n", "User (id=0) (current): trusted=0, deviceLocked=0,", "on, unlocked"),
        ("  mWakefulness=Asleep\n", "User (id=0) (current): trusted=0, deviceLocked=1,", "off, locked"),
        ("  mWakefulness=Dozing\n", "Permission Denial", "off"),
        ("Permission Denial", "", None),
    ],
)
def test_the_screen_is_told_as_far_as_it_may_be_asked(power: str, trust: str, told: str | None) -> None:
    assert android.screen(Phone({"dumpsys power": power, "dumpsys trust": trust})) == told


def test_nothing_is_known_of_a_screen_where_there_is_no_android() -> None:
    assert android.screen(Phone({})) is None
    assert android.power_source(Phone({})) is None


def test_an_agent_in_the_background_is_said_with_its_cores() -> None:
    look = Conditions(0.0, cpuset="/background", allowed_cpus="0-3")

    ((what, advice),) = look_notes([look, look])

    assert what == "the agent is in Android's cpuset /background: CPUs 0-3 alone, which are the little cores"
    assert "termux-wake-lock" in advice


@pytest.mark.parametrize("screen", ["off", "off, locked", "on, locked"])
def test_a_phone_that_may_sleep_is_said(screen: str) -> None:
    assert [what for what, _ in look_notes([Conditions(0.0, screen=screen)])] == [
        f"the phone's screen is {screen}: it may sleep, and hold clocks and cores back"
    ]


def test_nothing_is_said_of_a_phone_that_is_awake_and_charged() -> None:
    look = Conditions(
        0.0, screen="on, unlocked", cpuset="/top-app", allowed_cpus="0-7", power_source="battery Charging at 3 %"
    )

    assert list(look_notes([look])) == []


def told(std_s: float, n_runs: int = 50) -> Profile:
    """A profile of a program that times itself: of each round the mean, and what it says of the single runs."""
    plain = make_profile([[0.0100], [0.0101], [0.0100], [0.0099], [0.0100]])
    rounds = []
    for one in plain.rounds:
        # The looks enclose all runs, and the start of the program.
        after = replace(one.after, at_s=one.before.at_s + 1.0 + n_runs * 0.01)
        rounds.append(replace(one, n_runs=n_runs, told=Told(0.009, 0.012, std_s), after=after))
    spread = [replace(r, before=shift(r.before, 10 * k), after=shift(r.after, 10 * k)) for k, r in enumerate(rounds)]
    return replace(plain, rounds=tuple(spread), warmup_is_flat=False)


def shift(look: Conditions, seconds: float) -> Conditions:
    return replace(look, at_s=look.at_s + seconds)


def test_runs_of_which_only_the_mean_is_told_are_counted() -> None:
    assert not [reason.what for reason in judge(told(std_s=0.0002)).reasons if "too few" in reason.what]
    assert [what for what in whats(told(std_s=0.0002, n_runs=3)) if what.startswith("15 runs are too few")]


def test_single_runs_that_spread_widely_are_said_by_their_standard_deviation() -> None:
    assert "single runs spread by 20.0% of the median (limit 10%)" in whats(told(std_s=0.002))
    assert not [what for what in whats(told(std_s=0.0002)) if "spread" in what]


def whats(profile: Profile) -> list[str]:
    return [reason.what for reason in judge(profile).reasons]


@pytest.mark.parametrize("address", ["adb:", "adb:R58N12ABCDE", "adb:192.168.1.5:5555", "adb:adb-AB12-x._adb-tls._tcp"])
def test_an_address_of_adb_is_kept_as_adb_writes_it(tmp_path: Path, address: str) -> None:
    fleet = Fleet.read(tmp_path / "fleet.toml").add(Device(name="phone", address=address, benchmark_model="/a/b"))

    device = Fleet.read(fleet.path).device("phone")

    assert device.serial == (address.removeprefix("adb:") or None)
    assert device.benchmark_model == "/a/b"
    assert device.slot.startswith("adb-")


@pytest.mark.parametrize(
    ("device", "said"),
    [
        (Device(name="phone", address="adb:two words"), "cannot be a phone's serial number"),
        (Device(name="phone", address="adb:-s"), "cannot be a phone's serial number"),
        (Device(name="phone", address="adb:", simulate="pi-4"), "a phone behind adb runs no agent"),
    ],
)
def test_an_address_of_adb_that_makes_no_sense_is_refused(tmp_path: Path, device: Device, said: str) -> None:
    with pytest.raises(FleetError, match=said):
        Fleet.read(tmp_path / "fleet.toml").add(device)


@pytest.mark.parametrize(
    ("form", "runtime", "path", "said"),
    [
        ("tflite", None, "/a/b", None),
        ("tflite", "benchmark_model", "/a/b", None),
        ("tflite", "litert", "/a/b", "which runs no litert"),
        ("onnx", None, "/a/b", "does not run .onnx files"),
        ("tflite", None, None, "is not known"),
    ],
)
def test_what_a_phone_cannot_measure_is_known_beforehand(
    form: str, runtime: str | None, path: str | None, said: str | None
) -> None:
    problem = misfit_by_program(Device(name="phone", address="adb:", benchmark_model=path), form, runtime, None)

    assert (problem is None) if said is None else (said in str(problem))
