"""A meter beside the device: a plug on loopback whose power follows what the device's own processes really compute."""

from __future__ import annotations

import csv
import dataclasses
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from device_agents import wire
from edgeprof.cli.runs import runs
from edgeprof.errors import MeterError, StoreError
from edgeprof.fleet import Device
from edgeprof.metering import attach, metered
from edgeprof.meters.plugs import Plug, Shelly
from edgeprof.models import read_model
from edgeprof.models.example import write_example
from edgeprof.profiling import OpenDevice, Settings
from edgeprof.run import Run
from edgeprof.store import Store
from tests.unit.test_meters import GEN2, answering

TICKS_HZ = os.sysconf("SC_CLK_TCK")
PLAN = wire.EnergyPlan(windows=3, window_s=3.0, idle_s=1.5, min_updates=1, observer_windows=0)
QUICK = wire.Schedule(rounds=1, min_runs=5, min_s=0.05, max_s=1.0)


def cpu_s_below(root: int) -> float:
    """CPU time of all processes below one: what a power supply would see of them."""
    parents: dict[int, int] = {}
    used_s: dict[int, float] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(name)] = int(fields[1])
        used_s[int(name)] = (int(fields[11]) + int(fields[12])) / TICKS_HZ
    below, added = {root}, True
    while added:
        new = {pid for pid, parent in parents.items() if parent in below} - below
        below, added = below | new, bool(new)
    return sum(used_s[pid] for pid in below - {root} if pid in used_s)


class PowerOfProcesses(dict[str, object]):
    """A Shelly whose power is 3 W, and 4 W for each CPU that this test's children kept busy since it was last asked."""

    def __init__(self) -> None:
        super().__init__(GEN2)
        self.seen: list[tuple[float, float]] = []  # (Unix time, W)
        self._last = (time.monotonic(), cpu_s_below(os.getpid()))

    def get(self, key: str, default: object = None) -> object:
        if "Switch" in key:
            now_s, used_s = time.monotonic(), cpu_s_below(os.getpid())
            busy = max(0.0, used_s - self._last[1]) / max(now_s - self._last[0], 1e-3)
            self._last = (now_s, used_s)
            self.seen.append((time.time(), 3.0 + 4.0 * min(busy, 4.0)))
            return {"id": 0, "apower": round(self.seen[-1][1], 2)}
        return super().get(key, default)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[tuple[float, float]]]:
    """A run by this machine's real agent, with the plug's own account of what it told."""
    folder = tmp_path_factory.mktemp("metered")
    model = folder / "example.onnx"
    write_example(model)
    answers = PowerOfProcesses()
    with answering(answers) as place:
        measure = metered(open_by_address=lambda _: Plug(Shelly(place), period_s=0.25))
        device = Device(name="here", meter=f"shelly:{place}")
        settings = Settings(schedule=QUICK, gate=wire.Gate(timeout_s=0.0), energy=PLAN, check_outputs=False)
        with OpenDevice(device, measure=measure) as opened:
            run = opened.profile(read_model(model), settings)
    return run, answers.seen


def written(seen: list[tuple[float, float]], path: Path, shift_s: float = 0.0) -> Path:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time_s", "power_w"])
        rows.writerows([f"{at_s + shift_s:.6f}", power_w] for at_s, power_w in seen)
    return path


def without_trace(run: Run) -> Run:
    energy = run.profile.energy
    assert energy is not None
    energy = dataclasses.replace(energy, trace=None)
    return dataclasses.replace(run, profile=dataclasses.replace(run.profile, energy=energy))


def test_the_marks_and_windows_are_seen_in_the_power_of_the_processes(
    measured: tuple[Run, list[tuple[float, float]]],
) -> None:
    energy = measured[0].profile.energy

    assert energy is not None
    assert energy.trace is not None
    assert energy.trace.clock == "device"
    assert energy.trace.meter.boundary == "wall"
    assert "own pattern" in (energy.trace.alignment or "")
    # This machine is the device: both clocks are one, and what remains is how old a value was.
    assert abs(energy.trace.offset_s or 0.0) < 1.0
    assert {window.kind for window in energy.windows} == {wire.IDLE, wire.BUSY, wire.MARK}


@pytest.mark.parametrize(("clock", "shift_s"), [("unix", 0.0), ("own", -1.7e9 + 12.3)])
def test_a_trace_is_attached_by_its_clock_and_by_the_load(
    measured: tuple[Run, list[tuple[float, float]]], tmp_path: Path, clock: str, shift_s: float
) -> None:
    run, seen = measured
    path = written(seen, tmp_path / "trace.csv", shift_s)
    with Store(str(tmp_path / "runs.db")) as store:
        store.add(without_trace(run))

    options = ["--boundary", "wall", "--clock", clock, "--store", str(tmp_path / "runs.db")]
    said = CliRunner().invoke(runs, ["attach", run.id, str(path), *options])

    assert said.exit_code == 0, said.output
    with Store(str(tmp_path / "runs.db")) as store:
        energy = store.get(run.id).profile.energy
        listed = store.list()
    assert energy is not None
    assert energy.trace is not None
    began = run.profile.energy.began if run.profile.energy else None
    assert began is not None
    assert began.wall_s is not None
    assert (energy.trace.offset_s or 0.0) == pytest.approx(began.at_s - began.wall_s - shift_s, abs=1.0)
    assert len(listed) == 1


def test_a_second_trace_needs_to_be_asked_for(measured: tuple[Run, list[tuple[float, float]]], tmp_path: Path) -> None:
    run, seen = measured
    path = written(seen, tmp_path / "trace.csv")

    with pytest.raises(MeterError, match="has a trace already"):
        attach(run, path, boundary="wall", clock="unix")
    assert attach(run, path, boundary="wall", clock="unix", replace=True).id == run.id


def test_a_trace_that_ends_before_the_pass_is_refused(
    measured: tuple[Run, list[tuple[float, float]]], tmp_path: Path
) -> None:
    run, seen = measured
    path = written(seen[: len(seen) * 2 // 3], tmp_path / "trace.csv")

    # Beside other work on the machine, what is left of the load may not fit the trace either, which is found first.
    with pytest.raises(MeterError, match=r"does not cover|at another rate"):
        attach(without_trace(run), path, boundary="wall", clock="unix")


def test_a_run_that_somebody_changed_meanwhile_is_not_overwritten(
    measured: tuple[Run, list[tuple[float, float]]], tmp_path: Path
) -> None:
    run, _ = measured
    with Store(str(tmp_path / "runs.db")) as store:
        store.add(run)

        with pytest.raises(StoreError, match="not what it was"):
            store.replace(without_trace(run), dataclasses.replace(run, notes=("mine",)))

        assert store.get(run.id) == run


def test_a_plug_that_dies_in_mid_run_costs_the_energy_and_not_the_latency(tmp_path: Path) -> None:
    write_example(tmp_path / "example.onnx")
    plan = wire.EnergyPlan(windows=1, window_s=1.0, idle_s=0.3, min_updates=1, observer_windows=0, marks=1, mark_s=0.3)
    settings = Settings(schedule=QUICK, gate=wire.Gate(timeout_s=0.0), energy=plan, check_outputs=False)
    answers = dict(GEN2)

    class Dying(Plug):
        def start(self) -> None:
            answers.clear()
            super().start()

    with answering(answers) as place:
        measure = metered(open_by_address=lambda _: Dying(Shelly(place), period_s=0.1))
        with OpenDevice(Device(name="here", meter=f"shelly:{place}"), measure=measure) as opened:
            run = opened.profile(read_model(tmp_path / "example.onnx"), settings)

    assert run.profile.rounds
    assert run.profile.energy is not None
    assert run.profile.energy.trace is None
    assert "404" in (run.profile.energy_missing or "")
