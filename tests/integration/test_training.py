"""Training on real runtimes and on a simulated board: what is measured, what is not used, and going on after a kill."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from device_agents import wire
from edgeprof.errors import AgentLost, DeviceGivenUp, EdgeprofError, LinkError, MeasurementError, UsageError
from edgeprof.fleet import Device
from edgeprof.profiling import OpenDevice
from edgeprof.run import Run
from edgeprof.store import Store
from edgeprof.training.evaluating import evaluate_runs
from edgeprof.training.fitting import fit, observations
from edgeprof.training.loop import Event, Training
from edgeprof.training.measuring import NET, Bench
from edgeprof.training.nets import FAMILIES, draw_net, family_at
from edgeprof.training.observed import anchor_s, kernel_samples, net_sample
from edgeprof.training.plan import CANDIDATES, CYCLE, Plan, next_step, parse_name, step_at
from edgeprof.training.probes import draw_probe
from edgeprof.training.scenes import SCENES
from latency_models.building import BuildError
from latency_models.features import form
from tests.waiting import Clock

# LiteRT times no model that has recurrent layers, and what is over time is an image of one row there. ONNX has no
# variables, to remember what came before.
NOT_IN = {"tflite": {"recurrent", "sound"}, "onnx": {"streaming"}}
# On a busy machine a training takes minutes.
pytestmark = pytest.mark.timeout(900)
LOCAL = Device(name="local", python=sys.executable)
BOARD = Device(name="pi5", address="sim:pi-5")
NET_STEP = next(k for k in range(20) if step_at(k).kind == "net")


def runs_of(store: Store) -> list[Run]:
    return [one for one in store.read(store.list()) if isinstance(one, Run)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_a_probe_and_a_net_tell_of_their_kernels_on_a_real_runtime(runtime: str) -> None:
    if runtime == "litert":
        pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    with OpenDevice(LOCAL) as opened:
        bench = Bench(opened, runtime, seed=0)
        probe, net = bench.probe(3), bench.net(0, "bottlenecks")

    samples = kernel_samples(probe)
    assert len(samples) > 10
    assert all(sample.time_s > 0 for sample in samples)
    assert len({form(sample.kernel).family for sample in samples}) > 3
    assert anchor_s(probe) is not None
    whole = net_sample(net, "bottlenecks")
    assert whole is not None
    assert whole.latency_s > 0
    assert len(whole.kernels) > 5
    assert parse_name(probe.profile.job.model.name) == ("probe", "", "float32", 3)
    assert parse_name(net.profile.job.model.name) == ("net", "bottlenecks", "float32", 0)


def test_a_probe_is_the_same_whenever_it_is_drawn_with_its_seed() -> None:
    for format in ("onnx", "tflite"):
        assert draw_probe(1, 5, format) == draw_probe(1, 5, format)
        assert draw_probe(1, 5, format) != draw_probe(2, 5, format)


@pytest.mark.parametrize("scene", SCENES)
def test_every_scene_can_be_drawn(scene: str) -> None:
    format = "tflite" if scene == "remembered" else "onnx"
    kinds = {node.type for number in range(3) for node in draw_probe(0, number, format, only=scene).operators}

    assert len(kinds) > 1


@pytest.mark.slow
def test_a_simulated_board_is_learned_until_it_is_good_enough_and_then_further(tmp_path: Path) -> None:
    heard: list[Event] = []
    enough = Plan(runtime="simulated", budget_s=3600, target_error=0.5)
    with Store(str(tmp_path / "runs.sqlite")) as store, OpenDevice(BOARD) as opened:
        trained = Training(opened, store, enough).run(most_steps=200)
        assert trained.ended_by == "target"
        assert trained.predictor.provenance["n_models"] == 48

        further = dataclasses.replace(enough, target_error=None)
        trained = Training(opened, store, further, on_event=heard.append).run(most_steps=10)

    assert trained.ended_by == "steps"
    assert trained.predictor.target.origin == "simulated"
    assert trained.predictor.metrics["nets/mape"] < 0.1
    assert trained.predictor.provenance["n_nets"] == 22
    assert [event.what for event in heard].count("measured") == 10
    assert [event.what for event in heard].count("fitted") == 2


def test_another_training_is_not_mixed_into_a_store(tmp_path: Path) -> None:
    with Store(str(tmp_path / "runs.sqlite")) as store, OpenDevice(BOARD) as opened:
        Training(opened, store, Plan(runtime="simulated", budget_s=3600)).run(most_steps=3)

        with pytest.raises(UsageError, match=r"has a training with seed 0, and not with seed 1"):
            Training(opened, store, Plan(runtime="simulated", budget_s=3600, seed=1)).run(most_steps=3)


def test_a_device_whose_runtime_was_updated_is_not_mixed_into_what_was_before(
    measured: list[Run], tmp_path: Path
) -> None:
    older = dataclasses.replace(measured[0], profile=dataclasses.replace(measured[0].profile, runtime_version="0.9"))
    with Store(str(tmp_path / "runs.sqlite")) as store, OpenDevice(BOARD) as opened:
        store.add(older)

        with pytest.raises(UsageError, match=r"its runtime version was '0.9' and is '.*'") as caught:
            Training(opened, store, Plan(runtime="simulated", budget_s=3600)).run(most_steps=3)

        assert len(store.list()) == 1
    assert "another --name" in caught.value.advice


@pytest.mark.slow
def test_a_training_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    place = tmp_path / "runs.sqlite"
    program = (
        "from edgeprof.fleet import Device\n"
        "from edgeprof.profiling import OpenDevice\n"
        "from edgeprof.store import Store\n"
        "from edgeprof.training.loop import Training\n"
        "from edgeprof.training.plan import Plan\n"
        f"with Store({str(place)!r}) as store, OpenDevice(Device(name='pi5', address='sim:pi-5')) as opened:\n"
        "    Training(opened, store, Plan(runtime='simulated', budget_s=3600)).run(most_steps=1000)\n"
    )
    training = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    try:
        wait_for_runs(place, 10)
    finally:
        os.killpg(training.pid, signal.SIGKILL)
        training.wait()

    with Store(str(place)) as store, OpenDevice(BOARD) as opened:
        before = runs_of(store)
        Training(opened, store, Plan(runtime="simulated", budget_s=3600)).run(most_steps=6)
        after = runs_of(store)

    names = [run.profile.job.model.name for run in after]
    assert len(after) == len(before) + 6
    assert len(set(names)) == len(names)
    steps = sorted(parse_name(name).number // CANDIDATES for name in names)  # type: ignore[union-attr]
    assert steps == list(range(len(after)))
    assert next_step(after) == len(after)


def wait_for_runs(place: Path, n: int) -> None:
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        if place.exists():
            with Store(str(place)) as store:
                if len(store.list()) >= n:
                    return
        time.sleep(0.1)
    raise AssertionError(f"not {n} runs in a minute")


class LostLater:
    """A device whose link breaks after some measurements, and comes back after so many attempts."""

    def __init__(self, opened: OpenDevice, after: int, attempts: int, error: type[EdgeprofError] = LinkError) -> None:
        self._opened, self._left, self._attempts, self._error = opened, after, attempts, error
        self.device = opened.device

    def profile(self, *arguments: object) -> Run:
        if self._left == 0 and self._attempts > 0:
            self._attempts -= 1
            raise self._error("pi5: the link broke")
        self._left = max(0, self._left - 1) if self._attempts else self._left
        return self._opened.profile(*arguments)  # type: ignore[arg-type]

    def disconnect(self) -> None:
        self._opened.disconnect()


def test_a_link_that_breaks_is_opened_again(tmp_path: Path) -> None:
    clock = Clock()
    heard: list[Event] = []
    plan = Plan(runtime="simulated", budget_s=3600)
    with Store(str(tmp_path / "runs.sqlite")) as store, OpenDevice(BOARD) as opened:
        lost = LostLater(opened, after=4, attempts=2)
        training = Training(lost, store, plan, on_event=heard.append)  # type: ignore[arg-type]
        training.patience.wait = clock.wait
        trained = training.run(most_steps=9)

    assert trained.ended_by == "steps"
    assert clock.waits_s == [0.5, 1.0]
    assert [event.what for event in heard if event.what not in ("measured", "fitted")] == [
        "lost",
        "reconnected",
    ]


@pytest.mark.parametrize("error", [LinkError, AgentLost, DeviceGivenUp])
def test_a_device_that_does_not_come_back_ends_the_training_with_what_there_is(
    tmp_path: Path, error: type[EdgeprofError]
) -> None:
    with Store(str(tmp_path / "runs.sqlite")) as store, OpenDevice(BOARD) as opened:
        lost = LostLater(opened, after=8, attempts=1000, error=error)
        training = Training(lost, store, Plan(runtime="simulated", budget_s=3600))  # type: ignore[arg-type]
        clock = Clock()
        training.patience.wait, training.patience.now = clock.wait, clock.now
        trained = training.run(most_steps=50)

    assert trained.ended_by == "lost"
    assert "the link broke" in (trained.lost or "")
    assert trained.predictor.provenance["n_models"] == 8


def slower(run: Run, factor: float) -> Run:
    """The same run as if the whole device had been so much slower."""
    recorded = run.profile.operators
    assert recorded is not None
    kernels = tuple(
        dataclasses.replace(one, times_s=tuple(factor * seconds for seconds in one.times_s)) for one in recorded.kernels
    )
    operators = dataclasses.replace(recorded, kernels=kernels)
    return dataclasses.replace(run, profile=dataclasses.replace(run.profile, operators=operators))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    with Store(str(tmp_path_factory.mktemp("training") / "runs.sqlite")) as store, OpenDevice(BOARD) as opened:
        Training(opened, store, Plan(runtime="simulated", budget_s=3600)).run(most_steps=16)
        return sorted(runs_of(store), key=lambda run: run.profile.started_at_s)


def test_models_beside_which_the_anchor_was_slow_are_left_out_and_counted(measured: list[Run]) -> None:
    disturbed = [slower(run, 1.6) if k in (0, 3, NET_STEP) else run for k, run in enumerate(measured)]

    clean, found = observations(measured), observations(disturbed)

    assert clean.n_disturbed == 0
    assert found.n_disturbed == 3
    assert len(found.nets) == len(clean.nets) - 1
    assert len(found.kernels) < len(clean.kernels)


def test_a_kernel_that_the_clock_never_saw_is_learned_as_next_to_nothing(measured: list[Run]) -> None:
    run = measured[0]
    recorded = run.profile.operators
    assert recorded is not None
    first = run.described[0].kernels[0]
    unseen = [
        dataclasses.replace(one, times_s=(0.0,) * len(one.times_s)) if place == first else one
        for place, one in enumerate(recorded.kernels)
    ]
    profile = dataclasses.replace(run.profile, operators=dataclasses.replace(recorded, kernels=tuple(unseen)))

    samples = kernel_samples(dataclasses.replace(run, profile=profile))

    assert len(samples) == len(run.described)
    assert 0 < samples[0].time_s < 1e-6
    assert samples[0].spread == 1.0


def test_a_training_in_which_nothing_was_quiet_is_an_error_that_says_what_to_do(measured: list[Run]) -> None:
    without_anchor = [dataclasses.replace(run, described=()) for run in measured]

    with pytest.raises(MeasurementError, match="were disturbed and are not used") as caught:
        fit(without_anchor, seed=0)

    assert "train again" in caught.value.advice
    with pytest.raises(MeasurementError, match="nothing was measured"):
        fit([], seed=0)


def with_gate(run: Run, *, passed: bool) -> Run:
    rounds = tuple(
        dataclasses.replace(one, gate=dataclasses.replace(one.gate, passed=passed)) for one in run.profile.rounds
    )
    return dataclasses.replace(run, profile=dataclasses.replace(run.profile, rounds=rounds))


def test_runs_of_the_user_on_the_same_target_are_learned_from_and_others_are_not(measured: list[Run]) -> None:
    own = [with_gate(run, passed=True) for run in measured[:2]]
    other_version = [
        dataclasses.replace(run, profile=dataclasses.replace(run.profile, runtime_version="9")) for run in own
    ]
    not_quiet = with_gate(measured[2], passed=False)

    predictor = fit(measured, 0, [*own, *other_version, not_quiet])

    assert predictor.provenance["n_kernels_of_own_runs"] == sum(len(kernel_samples(run)) for run in own)
    assert predictor.provenance["own_runs"] == [run.id for run in own]
    assert predictor.provenance["n_own_runs_left_out"] == 1
    evaluation = evaluate_runs(predictor, [own[0], not_quiet, *(with_gate(run, passed=True) for run in measured[3:4])])
    assert evaluation.left_out[own[0].id] == "the predictor was trained with it"
    assert [row.verdict for row in evaluation.rows if not row.is_dependable] == ["gate-timeout"]
    assert evaluation.figures is None or evaluation.figures.n == sum(row.is_dependable for row in evaluation.rows)


def test_energy_of_nets_is_learned_where_a_meter_measured_it(tmp_path: Path) -> None:
    plan = Plan(runtime="simulated", budget_s=3600, energy=wire.EnergyPlan(observer_windows=0))
    with Store(str(tmp_path / "runs.sqlite")) as store, OpenDevice(BOARD) as opened:
        trained = Training(opened, store, plan).run(most_steps=len(CYCLE))

    assert trained.predictor.energy is not None
    assert trained.predictor.energy.n_nets == 6


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_nets_of_all_families_are_measured_in_turn(precision: str) -> None:
    steps = [step_at(k) for k in range(len(CYCLE) * len(FAMILIES))]
    turns = [step.turn for step in steps if (step.kind, step.precision) == (NET, precision)]

    assert turns == list(range(len(turns)))
    families = {format: [family_at(turn, format, precision) for turn in turns] for format in ("onnx", "tflite")}
    for format, found in families.items():
        own = set(FAMILIES) - NOT_IN[format]
        assert set(found) == own if precision == "float32" else len(set(found)) >= 7
        assert max(map(found.count, set(found))) - min(map(found.count, set(found))) <= 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_a_net_of_every_family_can_be_drawn_anew(family: str, format: str) -> None:
    if family in NOT_IN[format]:
        with pytest.raises(BuildError, match=f"can be built as {format}"):
            draw_net(0, 3, family, format)
        return
    graph = draw_net(0, 3, family, format)

    assert graph == draw_net(0, 3, family, format)
    assert graph != draw_net(0, 4, family, format)
