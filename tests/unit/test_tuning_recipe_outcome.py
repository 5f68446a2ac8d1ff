"""What measurements come to: ties, the default, what needs root, budgets, fronts; and the file that keeps them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from device_agents import conditions, wire
from edgeprof.battery import running_empty
from edgeprof.errors import TuningError
from edgeprof.tuning.configuration import Configuration
from edgeprof.tuning.journal import Entry, Header, Journal, journal_of
from edgeprof.tuning.objective import Measured, Objective
from edgeprof.tuning.outcome import Outcome, Seen, cap_sentence, conclusion, judge
from edgeprof.tuning.topology_notes import topology_notes
from edgeprof.values import Value
from tests.moved_machine import MovedMachine

DEFAULT = Configuration(runtime="onnxruntime", threads=8)
BIG = Configuration(runtime="onnxruntime", threads=4, affinity=(4, 5, 6, 7), placement="big")
LITTLE = Configuration(runtime="onnxruntime", threads=4, affinity=(0, 1, 2, 3), placement="little")
CAPPED = dataclasses.replace(BIG, caps=(wire.ClockCap("policy4", 1.2e9),))
ENERGY = Objective(name="energy", latency_budget_s=0.030)


def seen(configuration: Configuration, latency_s: float, energy_j: float, spread: float = 0.01) -> Seen:
    """Measured twice alike."""
    latency = Value(latency_s, latency_s * (1 - spread), latency_s * (1 + spread), "measured")
    energy = Value(energy_j, energy_j * (1 - spread), energy_j * (1 + spread), "measured")
    measured = (Measured(latency=latency, energy=energy),) * 2
    return Seen(configuration=configuration, levels=(1, 2), measured=measured, runs=("a", "b"))


def judged(*all_seen: Seen, objective: Objective = ENERGY) -> Outcome:
    found = judge(all_seen, DEFAULT, objective)
    assert found is not None
    return found


def test_the_leanest_that_keeps_the_budget_is_handed_over() -> None:
    found = judged(seen(DEFAULT, 0.010, 0.050), seen(BIG, 0.012, 0.030), seen(LITTLE, 0.035, 0.010))

    assert found.chosen.configuration == BIG
    assert found.ties == ()
    assert conclusion(found).startswith("it takes 60.0% (")
    assert [one.configuration for one in found.front] == [DEFAULT, BIG, LITTLE]


def test_a_default_that_cannot_be_told_from_the_best_is_handed_over_and_called_as_good() -> None:
    found = judged(seen(DEFAULT, 0.010, 0.0301), seen(BIG, 0.012, 0.030))

    assert found.best.configuration == BIG
    assert found.chosen.configuration == DEFAULT
    assert found.is_default_as_good
    assert "the default is as good" in conclusion(found)


def test_a_default_of_which_too_little_is_known_is_not_called_as_good() -> None:
    found = judged(seen(DEFAULT, 0.010, 0.040, 0.6), seen(BIG, 0.012, 0.030))

    assert found.chosen.configuration == DEFAULT
    assert found.is_undecided
    assert "undecided" in conclusion(found)
    assert "as good" not in conclusion(found)


def test_what_a_certain_one_surely_beats_is_no_tie_of_an_uncertain_one() -> None:
    found = judged(
        seen(DEFAULT, 0.010, 0.044, 0.1), seen(BIG, 0.012, 0.017, 0.9), seen(LITTLE, 0.012, 0.018, 0.1),
        objective=Objective(name="energy"),
    )  # fmt: skip

    assert found.best.configuration == BIG
    assert [one.configuration for one in found.ties] == [LITTLE]
    assert found.chosen.configuration == LITTLE, "nearly as small, and certain"
    assert not found.is_default_as_good


def test_of_two_that_cannot_be_told_apart_the_one_without_root_is_handed_over() -> None:
    found = judged(seen(DEFAULT, 0.010, 0.050), seen(BIG, 0.012, 0.0301), seen(CAPPED, 0.014, 0.030))

    assert found.best.configuration == CAPPED
    assert found.chosen.configuration == BIG
    assert cap_sentence(found) is None


def test_caps_that_win_are_explained_by_the_same_without_them() -> None:
    found = judged(seen(DEFAULT, 0.010, 0.050), seen(BIG, 0.012, 0.030), seen(CAPPED, 0.0126, 0.020))

    assert found.chosen.configuration == CAPPED
    assert found.without_root is not None
    assert found.without_root.configuration == BIG
    sentence = cap_sentence(found) or ""
    assert "policy4 at 1200 MHz it takes 105.0% (" in sentence
    assert "66.7% (" in sentence
    assert "waits for memory" in sentence
    slow = judged(seen(DEFAULT, 0.010, 0.050), seen(BIG, 0.012, 0.030), seen(CAPPED, 0.024, 0.020))
    assert "waits for memory" not in (cap_sentence(slow) or "")


def test_where_nothing_keeps_the_budget_that_is_said() -> None:
    found = judged(seen(DEFAULT, 0.050, 0.050), seen(BIG, 0.040, 0.030))

    assert not found.chosen.keeps_budget
    assert found.chosen.configuration == BIG
    assert "nothing that was measured surely keeps the latency budget of 30 ms" in conclusion(found)


def test_what_failed_is_told_and_never_chosen() -> None:
    broken = Seen(configuration=LITTLE, levels=(1,), measured=(Measured(failure="crashed: signal 11"),))
    found = judged(seen(DEFAULT, 0.010, 0.050), broken)

    assert [one.failure for one in found.failed] == ["crashed: signal 11"]
    assert found.chosen.configuration == DEFAULT
    no_default = judged(dataclasses.replace(broken, configuration=DEFAULT), seen(BIG, 0.010, 0.050))
    assert no_default.default is None
    assert "the default could not be measured: crashed: signal 11" in conclusion(no_default)
    assert judge([broken], DEFAULT, ENERGY) is None


def test_energy_times_time_is_an_objective() -> None:
    found = judged(seen(DEFAULT, 0.010, 0.05), seen(LITTLE, 0.030, 0.02), objective=Objective(name="edp"))

    assert found.chosen.configuration == DEFAULT
    assert found.chosen.value.value == pytest.approx(5e-4)


# --- the file -------------------------------------------------------------------------------------------------------

HEADER = Header(model="d" * 64, device="phone", address="sim:phone-sdm845", energy=True)


def entry(configuration: Configuration, latency_s: float) -> Entry:
    return Entry(
        configuration=configuration, level=1, measured=seen(configuration, latency_s, 0.1).measured[0], took_s=2.0
    )


def test_what_was_measured_is_found_again_by_configuration_and_turn(tmp_path: Path) -> None:
    path = journal_of(tmp_path / "recipe.toml")
    with Journal(path, HEADER, resume=False) as journal:
        for one in (entry(BIG, 0.1), entry(CAPPED, 0.2), entry(BIG, 0.3)):
            journal.add(one)
        journal.allow(60.0, 17)

    with Journal(path, HEADER, resume=True) as again:
        assert again.entries == journal.entries
        assert again.find(BIG, 1, 0) == entry(BIG, 0.1)
        assert again.find(BIG, 1, 1) == entry(BIG, 0.3)
        assert again.find(BIG, 1, 2) is None
        assert again.find(BIG, 2, 0) is None
        assert again.find(CAPPED, 1, 0) == entry(CAPPED, 0.2)
        assert again.allowed(60.0) == 17
        assert again.allowed(61.0) is None


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_half_a_line_is_taken_off(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "progress"
    with Journal(path, HEADER, resume=False) as journal:
        journal.add(entry(BIG, 0.1))
        journal.add(entry(LITTLE, 0.2))
    path.write_bytes(path.read_bytes()[:-cut])

    with Journal(path, HEADER, resume=True) as again:
        assert again.entries == [entry(BIG, 0.1)]
        again.add(entry(CAPPED, 0.3))

    with Journal(path, HEADER, resume=True) as last:
        assert [one.configuration for one in last.entries] == [BIG, CAPPED]


def test_an_interrupted_tuning_is_not_overwritten_and_a_finished_one_is(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    with Journal(path, HEADER, resume=False) as journal:
        journal.add(entry(BIG, 0.1))

    with pytest.raises(TuningError, match="was interrupted") as refused, Journal(path, HEADER, resume=False):
        pass
    assert "--resume" in refused.value.advice
    with Journal(path, HEADER, resume=True) as journal:
        journal.end("done")
    with Journal(path, HEADER, resume=False) as anew:
        assert anew.entries == []


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    with pytest.raises(TuningError, match="nothing was begun"), Journal(path, HEADER, resume=True):
        pass
    with Journal(path, HEADER, resume=False) as journal:
        journal.add(entry(BIG, 0.1))
        with pytest.raises(TuningError, match="another edgeprof tune"), Journal(path, HEADER, resume=True):
            pass
    other = Header(model="e" * 64, device="phone", address="sim:phone-sdm845", energy=False)
    with pytest.raises(TuningError, match="energy, model differs"), Journal(path, other, resume=True):
        pass
    path.write_bytes(path.read_bytes() + b"garbage\n")
    with pytest.raises(TuningError, match="line 3 cannot be read"), Journal(path, HEADER, resume=True):
        pass
    with pytest.raises(TuningError, match="cannot be written"), Journal(tmp_path / "a" / "b", HEADER, resume=False):
        pass


WRITER = """
import sys, time
from pathlib import Path
from tests.unit.test_tuning_recipe_outcome import HEADER, BIG, entry
from edgeprof.tuning.journal import Journal
with Journal(Path(sys.argv[1]), HEADER, resume=False) as journal:
    for number in range(1, 1000):
        journal.add(entry(BIG, number / 1000))
        print(number, flush=True)
"""


def test_after_a_kill_everything_that_was_said_to_be_kept_is_there(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(5)]
        writer.kill()
        told += [int(line) for line in writer.stdout]

    with Journal(path, HEADER, resume=True) as journal:
        assert len(journal.entries) in (len(told), len(told) + 1)


# --- what the device says of itself ---------------------------------------------------------------------------------


def topology(
    *, usable: tuple[int, ...] = (0, 1, 2, 3), settable: bool = True, with_capacity: bool = True
) -> wire.Topology:
    """Two slow CPUs and two fast ones."""
    cpus = tuple(
        wire.Cpu(
            number=k, online=True, usable=k in usable, policy=f"policy{k // 2 * 2}",
            capacity=(400 if k < 2 else 1024) if with_capacity else None,
        )
        for k in range(4)
    )  # fmt: skip
    policies = tuple(
        wire.ClockPolicy(
            name=f"policy{first}", cpus=(first, first + 1), clocks_hz=(1e9, top_hz), min_hz=1e9, max_hz=top_hz,
            hardware_max_hz=top_hz, governor="schedutil", settable=settable,
            not_settable=None if settable else f"/sys/policy{first}/scaling_max_freq: Permission denied",
        )
        for first, top_hz in ((0, 1.5e9), (2, 2.4e9))
    )  # fmt: skip
    return wire.Topology(cpus=cpus, policies=policies, cpuset="/background")


@pytest.mark.parametrize("with_capacity", [True, False])
def test_an_agent_on_little_cores_only_says_so(with_capacity: bool) -> None:
    (note,) = topology_notes(topology(usable=(0, 1), with_capacity=with_capacity), caps=True)

    assert "may not use the CPUs 2, 3 (its cpuset is /background)" in note
    assert "those are the fast ones" in note
    assert topology_notes(topology(), caps=True) == ()
    (note,) = topology_notes(topology(usable=(2, 3)), caps=True)
    assert "they are left out" in note


def test_clocks_that_may_not_be_capped_are_named_with_the_reason() -> None:
    (note,) = topology_notes(topology(settable=False), caps=True)

    assert note == (
        "caps of clocks are left out of policy0, policy2: /sys/policy*/scaling_max_freq: Permission denied "
        "(who may: docs/how-to/clocks.md)"
    )
    assert topology_notes(topology(settable=False), caps=False) == ()
    (note,) = topology_notes(dataclasses.replace(topology(), policies=()), caps=True)
    assert "no cpufreq policy" in note


@pytest.mark.parametrize(
    ("status", "charge", "low"),
    [("Discharging", 14, 0.14), ("Discharging", 15, None), ("Charging", 3, None), ("Not charging", 3, None)],
)
def test_a_battery_that_runs_empty_is_seen(status: str, charge: int, low: float | None, tmp_path: Path) -> None:
    supply = tmp_path / "sys" / "class" / "power_supply" / "battery"
    supply.mkdir(parents=True)
    for name, text in (("type", "Battery"), ("status", status), ("capacity", str(charge))):
        (supply / name).write_text(f"{text}\n")

    assert running_empty(conditions.read(MovedMachine(tmp_path))) == low
