"""Every rule of the verdict, met and just not met; and what the verdict says of a profile that breaks several."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from device_agents.wire import SIMULATED, ClockCap, Clocks, MachineInfo, Profile, Schedule
from edgeprof.cli.profile import profile as profile_command
from edgeprof.statistics import summarise
from edgeprof.verdict import LEVELS, Verdict, judge, mann_kendall, other_busy_share, stolen_share
from tests.unit.profiles import CLOCKS, GAP_S, LOW_HZ, N_CPUS, TOP_HZ, Change, latencies, make_profile, with_gate

STEADY = latencies()
PERFORMANCE_AT_LOW = replace(CLOCKS, current_hz=LOW_HZ)


def whats(verdict: Verdict) -> str:
    return " | ".join(reason.what for reason in verdict.reasons)


def test_a_steady_profile_on_a_readable_board_is_trusted_without_a_word() -> None:
    verdict = judge(make_profile(STEADY))

    assert verdict == Verdict(level="trusted", reasons=(), unreadable=(), notes=())
    assert verdict.is_trusted


def test_the_levels_are_those_of_the_design_most_severe_first() -> None:
    assert LEVELS == ("invalid", "throttled", "gate-timeout", "drifting", "noisy", "steady-unverified", "trusted")


def test_origin_is_not_part_of_the_verdict() -> None:
    profile = make_profile(STEADY)

    assert judge(replace(profile, origin=SIMULATED)) == judge(profile)


def test_a_summary_that_is_handed_in_is_used() -> None:
    profile = make_profile(STEADY)

    assert judge(profile, replace(summarise(profile), relative_spread=0.5)).level == "noisy"


def test_the_most_severe_level_wins_and_every_reason_stays() -> None:
    noisy_and_hot = make_profile(latencies(noise=0.3), lambda _k, _after: {"throttled": 0b100})
    late = with_gate(noisy_and_hot, passed=False, reasons=("still cooling: 70 C",))

    verdict = judge(late)

    levels = [reason.level for reason in verdict.reasons]
    assert verdict.level == "throttled"
    assert levels == sorted(levels, key=LEVELS.index)
    assert {"throttled", "gate-timeout", "noisy"} <= set(levels)
    assert all(reason.what and reason.do for reason in verdict.reasons)


# --- invalid


def test_no_sample_at_all_is_invalid() -> None:
    assert judge(make_profile([[]])).level == "invalid"
    assert judge(make_profile([])).level == "invalid"


@pytest.mark.parametrize("bad", [0.0, -0.01, math.nan, math.inf])
def test_a_sample_that_no_clock_could_give_is_invalid(bad: float) -> None:
    verdict = judge(make_profile([*STEADY[:4], [*STEADY[4][:-1], bad]]))

    assert verdict.level == "invalid"
    assert "1 of 200 samples" in whats(verdict)


def test_a_clock_that_goes_backwards_is_invalid() -> None:
    verdict = judge(make_profile(STEADY, lambda k, after: {"at_s": 50.0} if k == 2 and after else {}))

    assert verdict.level == "invalid"
    assert "went backwards" in whats(verdict)


def test_samples_that_last_longer_than_their_round_are_invalid() -> None:
    profile = make_profile(STEADY)
    short = replace(profile.rounds[0], after=replace(profile.rounds[0].after, at_s=profile.rounds[0].before.at_s + 0.2))

    verdict = judge(replace(profile, rounds=(short, *profile.rounds[1:])))

    assert verdict.level == "invalid"
    assert "round 1 add up to 0.3994 s, but the round took 0.2 s" in whats(verdict)


def test_outputs_that_differ_or_are_not_finite_are_notes_and_change_no_level() -> None:
    verdict = judge(make_profile(STEADY, outputs_repeat=False, outputs_are_finite=False))

    assert verdict.level == "trusted"
    assert any("keeps state" in note for note in verdict.notes)
    assert any("NaN" in note for note in verdict.notes)


# --- throttled


@pytest.mark.parametrize(
    ("bits", "name"), [(0x1, "under-voltage"), (0x2, "clock capped"), (0x4, "throttled"), (0x8, "soft temperature")]
)
def test_any_firmware_bit_of_now_is_throttled(bits: int, name: str) -> None:
    verdict = judge(make_profile(STEADY, lambda k, after: {"throttled": bits} if k == 3 and after else {}))

    assert verdict.level == "throttled"
    assert name in whats(verdict)
    assert f"{bits:#x}" in whats(verdict)


def test_under_voltage_sends_to_the_power_supply_and_heat_to_cooling() -> None:
    weak = judge(make_profile(STEADY, lambda _k, _after: {"throttled": 0x1}))
    hot = judge(make_profile(STEADY, lambda _k, _after: {"throttled": 0x4}))

    assert "power supply" in weak.reasons[0].do
    assert "cool" in hot.reasons[0].do


def test_a_firmware_bit_newly_set_during_the_run_is_throttled() -> None:
    verdict = judge(make_profile(STEADY, lambda k, _after: {"throttled": 0x40000 if k >= 2 else 0}))

    assert verdict.level == "throttled"
    assert "newly recorded throttled" in whats(verdict)


def test_a_firmware_bit_from_before_the_run_is_only_a_note() -> None:
    verdict = judge(make_profile(STEADY, lambda _k, _after: {"throttled": 0x50000}))

    assert verdict.level == "trusted"
    assert any("under-voltage, throttled" in note for note in verdict.notes)


def test_a_clock_far_under_its_maximum_under_governor_performance_is_throttled() -> None:
    verdict = judge(
        make_profile(STEADY, lambda k, after: {"clocks": (PERFORMANCE_AT_LOW,)} if k == 1 and after else {})
    )

    assert verdict.level == "throttled"
    assert "after 1 of 5 rounds" in whats(verdict)
    assert "56%" in whats(verdict)


@pytest.mark.parametrize(
    "fields",
    [
        {"clocks": (replace(PERFORMANCE_AT_LOW, governor="ondemand"),)},
        {"clocks": (replace(CLOCKS, current_hz=0.91 * TOP_HZ),)},
    ],
)
def test_another_governor_or_a_clock_near_its_maximum_is_not_throttled(fields: dict[str, Any]) -> None:
    assert judge(make_profile(STEADY, lambda _k, after: fields if after else {})).level == "trusted"


def test_a_pc_below_its_turbo_clock_is_not_throttled() -> None:
    machine = MachineInfo(None, "x86_64", "6.1", "glibc 2.36", "some CPU", N_CPUS, None)
    profile = make_profile(STEADY, lambda _k, _after: {"clocks": (PERFORMANCE_AT_LOW,)}, machine=machine)

    assert judge(profile).level == "trusted"


def test_a_cluster_that_the_job_may_not_use_does_not_count() -> None:
    big = replace(CLOCKS, cpus="4-7")
    profile = make_profile(STEADY, lambda _k, _after: {"clocks": (PERFORMANCE_AT_LOW, big)})
    pinned = replace(profile, job=replace(profile.job, options=replace(profile.job.options, affinity=(4, 5))))

    assert judge(profile).level == "throttled"
    assert judge(pinned).level == "trusted"


@pytest.mark.parametrize("lowered", [replace(CLOCKS, max_hz=1.5e9), replace(CLOCKS, hardware_max_hz=1.5e9)])
def test_a_limit_that_falls_during_the_run_is_throttled(lowered: Clocks) -> None:
    verdict = judge(make_profile(STEADY, lambda k, _after: {"clocks": (lowered,)} if k >= 3 else {}))

    assert verdict.level == "throttled"
    assert "from 1800 MHz to 1500 MHz" in whats(verdict)


def test_a_limit_set_before_the_run_is_only_a_note() -> None:
    limited = replace(CLOCKS, max_hz=1.5e9, current_hz=1.5e9)
    verdict = judge(make_profile(STEADY, lambda _k, _after: {"clocks": (limited,)}))

    assert verdict.level == "trusted"
    assert any("limited to 1500 MHz of 1800 MHz" in note for note in verdict.notes)


def test_a_cap_that_the_job_asked_for_is_called_so_and_is_no_throttling() -> None:
    capped, free = replace(CLOCKS, max_hz=1.5e9, current_hz=1.5e9), replace(CLOCKS, cpus="4-7", max_hz=1.5e9)
    profile = make_profile(STEADY, lambda _k, _after: {"clocks": (capped, free)})
    verdict = judge(replace(profile, job=replace(profile.job, clock_caps=(ClockCap("policy0", 1.6e9),))))

    assert verdict.level == "trusted"
    assert "CPUs 0 1 2 3: the clock was limited to 1500 MHz of 1800 MHz as the job asked (--clock-cap)" in verdict.notes
    assert "CPUs 4-7: the clock was limited to 1500 MHz of 1800 MHz before the run began" in verdict.notes


def test_a_limit_that_falls_below_the_cap_is_throttled() -> None:
    capped, hot = replace(CLOCKS, max_hz=1.5e9), replace(CLOCKS, max_hz=LOW_HZ)
    profile = make_profile(STEADY, lambda k, _after: {"clocks": (hot if k >= 3 else capped,)})
    verdict = judge(replace(profile, job=replace(profile.job, clock_caps=(ClockCap("policy0", 1.5e9),))))

    assert verdict.level == "throttled"
    assert "fell from 1500 MHz" in whats(verdict)


def time_in_state(low_s: float) -> Change:
    """Every round adds one second, `low_s` of it in the lower state; the pauses add 5 s there."""

    def change(k: int, is_after: bool) -> dict[str, Any]:
        low = 5.0 * (k + 1) + low_s * (k + is_after)
        top = (1 - low_s) * (k + is_after)
        return {"clocks": (replace(CLOCKS, time_in_state_s={"1000000000": low, "1800000000": top}),)}

    return change


def test_time_in_lower_states_during_rounds_is_throttled_and_in_pauses_is_not() -> None:
    throttled, fine = judge(make_profile(STEADY, time_in_state(0.2))), judge(make_profile(STEADY, time_in_state(0.04)))

    assert throttled.level == "throttled"
    assert "20% of the rounds below 1800 MHz" in whats(throttled)
    assert fine.level == "trusted"


# --- gate


def test_a_gate_that_did_not_open_in_time_says_which_round_and_why() -> None:
    profile = with_gate(make_profile(STEADY), passed=False, reasons=("other programs keep 40% of the CPUs busy",))

    verdict = judge(profile)

    assert verdict.level == "gate-timeout"
    assert "before round 5: other programs keep 40%" in whats(verdict)


# --- drifting


@pytest.mark.parametrize(("step", "verb"), [(0.02, "rose"), (-0.02, "fell")])
def test_rounds_that_go_one_way_are_drifting_with_their_direction(step: float, verb: str) -> None:
    trend = [1 + step * k for k in range(6)]
    verdict = judge(make_profile(latencies(n_rounds=6, trend=trend)))

    assert verdict.level == "drifting"
    assert f"{verb} by" in whats(verdict)


def test_a_drift_names_the_temperature_that_went_with_it() -> None:
    profile = make_profile(
        latencies(trend=[1, 1.02, 1.04, 1.06, 1.08]), lambda k, _after: {"temperatures_c": {"cpu": 40.0 + 3 * k}}
    )

    assert "temperature rose 12 C" in whats(judge(profile))


def test_a_trend_of_less_than_three_percent_is_not_drifting() -> None:
    profile = make_profile(latencies(round_noise=0.0, trend=[1, 1.005, 1.01, 1.015, 1.02]))

    assert judge(profile).level == "trusted"


def test_heat_within_each_round_that_is_lost_in_the_pauses_is_drifting() -> None:
    warming = [[s * (1 + 0.002 * i) for i, s in enumerate(r)] for r in STEADY]

    verdict = judge(make_profile(warming))

    assert verdict.level == "drifting"
    assert "within every round latency rises" in whats(verdict)


def test_an_unfinished_warm_up_is_drifting_only_if_the_first_round_is_another() -> None:
    slow_start = make_profile(latencies(trend=[1.05, 1, 1, 1, 1]), warmup_is_flat=False)
    even = make_profile(STEADY, warmup_is_flat=False)

    assert judge(slow_start).level == "drifting"
    assert "first round is" in whats(judge(slow_start))
    assert "slower" in whats(judge(slow_start))
    assert judge(even).level == "trusted"
    assert any("warm-up" in note for note in judge(even).notes)


@pytest.mark.parametrize("n", [2, 4, 5, 6])
def test_the_exact_trend_test_counts_all_permutations(n: int) -> None:
    def score(values: tuple[float, ...]) -> int:
        return sum((b > a) - (b < a) for i, a in enumerate(values) for b in values[i + 1 :])

    every = [tuple(float(v) for v in p) for p in permutations(range(n))]
    for values in every[:: max(1, len(every) // 24)]:
        as_extreme = sum(abs(score(other)) >= abs(score(values)) for other in every)

        assert mann_kendall(values) == pytest.approx(as_extreme / len(every))


def test_the_exact_trend_test_agrees_with_scipys_kendall() -> None:
    values = (1.0, 3.0, 2.0, 4.0, 6.0, 5.0, 7.0)

    assert mann_kendall(values) == pytest.approx(stats.kendalltau(range(7), values, method="exact").pvalue)


@given(st.lists(st.integers(0, 5).map(float), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_the_trend_test_gives_a_probability_and_does_not_care_for_direction(values: list[float]) -> None:
    p_value = mann_kendall(tuple(values))

    assert 0 <= p_value <= 1
    assert mann_kendall(tuple(reversed(values))) == pytest.approx(p_value)


# --- noisy


def test_rounds_that_disagree_make_a_wide_interval_and_are_noisy() -> None:
    verdict = judge(make_profile(latencies(2, round_noise=0.05)))

    assert verdict.level == "noisy"
    assert "95% interval of the median" in whats(verdict)


def test_runs_that_spread_are_noisy_even_with_a_narrow_interval() -> None:
    verdict = judge(make_profile(latencies(n_runs=2000, noise=0.15, round_noise=0.0)))

    assert verdict.level == "noisy"
    assert "single runs spread by" in whats(verdict)


def test_too_few_runs_are_noisy() -> None:
    verdict = judge(make_profile([[0.01] * 3] * 5))

    assert verdict.level == "noisy"
    assert "15 runs are too few" in whats(verdict)
    assert "5 of 5 rounds ended at their limit" in whats(verdict)


def test_missing_rounds_are_noisy() -> None:
    profile = make_profile(STEADY)
    asked = replace(profile, job=replace(profile.job, schedule=replace(profile.job.schedule, rounds=8)))

    assert "only 5 of 8 rounds" in whats(judge(asked))


def busy(share: float, *, field: str) -> Change:
    """CPU time of others: `share` of all CPUs while rounds run. Stolen time counts as busy, as the agent sends it."""
    lasted_s = 40 * 0.01

    def change(k: int, is_after: bool) -> dict[str, Any]:
        done = k + is_after
        own, total = 5.0 + lasted_s * done, N_CPUS * (100.0 + lasted_s * done + GAP_S * k)
        taken = share * N_CPUS * lasted_s * done
        return {"busy_s": own + taken, "total_s": total, "process_s": own} | (
            {"steal_s": taken} if field == "steal" else {}
        )

    return change


ROUNDS_OF_40 = [[0.01] * 40] * 5


def test_other_programs_during_the_rounds_are_noisy_beyond_a_tenth_of_the_cpus() -> None:
    loud = make_profile(ROUNDS_OF_40, busy(0.25, field="busy"))
    quiet = make_profile(ROUNDS_OF_40, busy(0.05, field="busy"))

    assert other_busy_share(loud) == pytest.approx(0.25)
    assert judge(loud).level == "noisy"
    assert "other programs used 25.0%" in whats(judge(loud))
    assert judge(quiet).level == "trusted"


def test_stolen_time_is_noisy_and_not_blamed_on_programs_of_the_device() -> None:
    profile = make_profile(ROUNDS_OF_40, busy(0.25, field="steal"))

    assert stolen_share(profile) == pytest.approx(0.25)
    assert other_busy_share(profile) == pytest.approx(0, abs=1e-9)
    assert "hypervisor gave 25.0%" in whats(judge(profile))


def test_unknown_cpu_times_are_listed_and_never_taken_for_zero() -> None:
    profile = make_profile(STEADY, lambda _k, _after: {"process_s": None, "busy_s": None, "steal_s": None})

    assert other_busy_share(profile) is None
    assert stolen_share(profile) is None
    assert judge(profile).unreadable == ("own cpu time: the device did not tell",)


# --- steady-unverified


def test_without_governor_clock_and_temperature_the_best_verdict_is_unverified() -> None:
    blind = make_profile(STEADY, lambda _k, _after: {"clocks": (), "temperatures_c": {}})

    verdict = judge(blind)

    assert verdict.level == "steady-unverified"
    assert [line.split(":")[0] for line in verdict.unreadable] == ["governor", "clock", "temperature"]


def test_one_missing_condition_is_listed_with_the_devices_reason_and_changes_nothing() -> None:
    profile = make_profile(
        STEADY, lambda _k, _after: {"temperatures_c": {}, "unreadable": {"temperature": "no sensor", "load": "flaky"}}
    )

    verdict = judge(profile)

    assert verdict.level == "trusted"
    assert verdict.unreadable == ("temperature: no sensor",)


def test_throttle_bits_are_missed_only_on_a_raspberry_pi() -> None:
    pi = make_profile(STEADY, lambda _k, _after: {"throttled": None})
    other = replace(pi, machine=replace(pi.machine, model="Some Board"))

    assert [line.split(":")[0] for line in judge(pi).unreadable] == ["throttle bits"]
    assert judge(other).unreadable == ()


def test_two_rounds_cannot_be_trusted() -> None:
    verdict = judge(make_profile(latencies(n_rounds=2)))

    assert verdict.level == "steady-unverified"
    assert "2 rounds cannot show" in whats(verdict)


def test_what_to_do_names_only_what_the_command_line_has() -> None:
    options = {name for parameter in profile_command.params for name in parameter.opts}
    hot = [latencies(trend=[1.0, 1.05, 1.1, 1.15, 1.2])[k] for k in range(5)]
    rising = [sorted(samples) for samples in latencies(noise=0.1)]
    schedule = Schedule(rounds=9, min_runs=500)
    few = make_profile(latencies(n_rounds=2, n_runs=4))
    cold = make_profile(latencies(trend=[1.2, 1.0, 1.0, 1.0, 1.0]), warmup_is_flat=False)
    profiles = [
        make_profile(hot),
        make_profile(rising, lambda _k, _after: {"throttled": 0b100}),
        replace(few, job=replace(few.job, schedule=schedule)),
        cold,
        with_gate(make_profile(STEADY), passed=False),
        make_profile([[0.0, -1.0], [1e-3], [1.0]]),
    ]

    advice = [reason.do for profile in profiles for reason in judge(profile).reasons]

    text = " | ".join(advice)
    assert set(re.findall(r"--[a-z-]+", text)) <= options
    assert not re.search(r"min_s|max_s|cool gate|larger share|gate timeout|batch size", text)
    for wanted in ("--rounds", "--min-runs", "--min-time", "--max-time", "--gate-timeout", "--threads", "--batch"):
        assert wanted in text


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.01, 0.3]), st.integers(1, 8), st.integers(0, 25))
@settings(max_examples=40, deadline=None)
def test_any_profile_gets_one_level_and_reasons_that_name_it(
    seed: int, noise: float, n_rounds: int, n_runs: int
) -> None:
    profile: Profile = make_profile(latencies(seed, n_rounds=n_rounds, n_runs=max(1, n_runs), noise=noise))

    verdict = judge(profile)

    assert verdict.level in LEVELS
    assert verdict.is_trusted == (not verdict.reasons)
    assert verdict.is_trusted or verdict.reasons[0].level == verdict.level
