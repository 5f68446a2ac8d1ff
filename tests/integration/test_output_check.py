"""Outputs of real runtimes checked against plain kernels on this machine; a check that fails costs no profile."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from device_agents import wire
from edgeprof.agent import Agent
from edgeprof.errors import AgentError
from edgeprof.fleet import Device
from edgeprof.links.local import LocalLink
from edgeprof.models import ModelFile, read_model
from edgeprof.outputs import disagreements
from edgeprof.profiling import OpenDevice, Settings
from edgeprof.provision import own_environment
from edgeprof.reference import check_outputs, reference_job
from edgeprof.run import OutputCheck, Run
from tests.integration.command_line import CommandLine
from tests.integration.sshd import Sshd

PYTHON = sys.executable
QUICK = wire.Schedule(rounds=1, min_runs=1, min_s=0.0)
SETTINGS = Settings(schedule=QUICK, gate=wire.Gate(timeout_s=0.0))
SILERO = wire.RuntimeOptions(shapes={"input": (1, 576), "state": (2, 1, 128)})
CASES = {
    "nmp.onnx": ("onnxruntime", wire.RuntimeOptions()),
    "silero_vad_16k_op15.onnx": ("onnxruntime", SILERO),
    "face_detection_short_range.tflite": ("litert", wire.RuntimeOptions(threads=2)),
    "hey_mycroft.tflite": ("litert", wire.RuntimeOptions()),  # keeps state, and answers in 8 bits
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def model(models_dir: Path) -> Callable[[str], ModelFile]:
    def read(name: str) -> ModelFile:
        shapes = SILERO.shapes if name.startswith("silero") else {}
        return read_model(next(models_dir.rglob(name)), shapes=shapes)

    return read


@pytest.fixture
def agent() -> Iterator[Agent]:
    with LocalLink() as link, Agent(link, sys.executable, name="here") as agent:
        yield agent


def profiled(model: ModelFile, settings: Settings = SETTINGS, address: str = "local:") -> Run:
    with OpenDevice(Device(name="here", address=address)) as opened:
        return opened.profile(model, settings)


def profiled_over_ssh(model: ModelFile, sshd: Sshd) -> Run:
    device = msgspec.structs.replace(sshd.device(), python=PYTHON)
    with OpenDevice(device, link=sshd.link()) as opened:
        return opened.profile(model, SETTINGS)


def checked(run: Run) -> OutputCheck:
    assert run.output_check is not None, run.output_check_missing
    return run.output_check


@pytest.mark.parametrize("name", CASES)
def test_optimised_kernels_agree_with_plain_ones(name: str, model: Callable[[str], ModelFile]) -> None:
    runtime, options = CASES[name]

    run = profiled(model(name), dataclasses.replace(SETTINGS, runtime=runtime, options=options))

    check = checked(run)
    assert disagreements(check) == ()
    assert [output.missing for output in check.outputs] == [None] * len(run.profile.outputs)
    assert (check.runtime, check.runtime_version) == (runtime, run.profile.runtime_version)
    assert check.in_force["threads"] == "1"
    assert run.profile.output_values == ()


def test_tflite_runtime_is_checked_in_its_own_environment(model: Callable[[str], ModelFile]) -> None:
    if not (own_environment("tflite") / "bin" / "python").exists():
        pytest.skip("tflite-runtime has no wheel for Python 3.12 and newer: run `make setup` with Python 3.11")

    check = checked(profiled(model("okay_nabu.tflite"), dataclasses.replace(SETTINGS, runtime="tflite")))

    assert disagreements(check) == ()
    assert check.in_force["xnnpack"].startswith("off")


@pytest.mark.ssh
def test_a_device_over_ssh_is_checked_here(sshd: Sshd, model: Callable[[str], ModelFile]) -> None:
    assert disagreements(checked(profiled_over_ssh(model("nmp.onnx"), sshd))) == ()


def test_other_answers_are_told_apart_from_rounding(agent: Agent, model: Callable[[str], ModelFile]) -> None:
    file = model("nmp.onnx")
    profile = _raw_profile(agent, file)
    others = agent.outputs(reference_job(dataclasses.replace(profile.job, seed=1)))

    check = check_outputs(agent, file.files, dataclasses.replace(profile, output_values=others.values))

    assert any("cosine similarity" in doubt or "max error" in doubt for doubt in disagreements(check))


def test_a_reference_for_other_inputs_is_none(agent: Agent, model: Callable[[str], ModelFile]) -> None:
    file = model("nmp.onnx")
    profile = _raw_profile(agent, file)

    with pytest.raises(AgentError, match="other inputs"):
        check_outputs(agent, file.files, dataclasses.replace(profile, input_digest="0" * 64))


def test_garbage_for_values_is_an_error_with_words(agent: Agent, model: Callable[[str], ModelFile]) -> None:
    file = model("nmp.onnx")
    profile = _raw_profile(agent, file)
    garbage = tuple(wire.OutputValues("garbage!") for _ in profile.outputs)

    with pytest.raises(AgentError, match="cannot be read"):
        check_outputs(agent, file.files, dataclasses.replace(profile, output_values=garbage))


def test_the_reference_has_nothing_of_the_devices_options() -> None:
    options = wire.RuntimeOptions(
        threads=4,
        affinity=(1,),
        delegate="/lib/x.so",
        provider="XnnpackExecutionProvider",
        batch=2,
        library="/lib/y.so",
    )
    job = wire.Job(wire.ModelRef("m", "tflite", "0", ()), "tflite", options, operators=True, seed=7)

    plain = reference_job(job)

    assert plain.options == wire.RuntimeOptions(xnnpack=False, batch=2)
    assert (plain.operators, plain.seed) == (False, 7)


@pytest.mark.ssh
def test_a_host_without_the_runtime_costs_the_check_and_not_the_profile(
    sshd: Sshd, model: Callable[[str], ModelFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The reference runs in the Python that runs edgeprof; let that be one without any runtime.
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {PYTHON} -S -I "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))

    run = profiled_over_ssh(model("nmp.onnx"), sshd)

    assert run.output_check is None
    assert "this machine cannot run onnxruntime" in (run.output_check_missing or "")
    assert len(run.profile.rounds) == 1


def test_without_the_check_nothing_is_sent_and_the_run_says_so(model: Callable[[str], ModelFile]) -> None:
    run = profiled(model("nmp.onnx"), dataclasses.replace(SETTINGS, check_outputs=False))

    assert not run.profile.job.send_outputs
    assert (run.output_check, run.output_check_missing) == (None, "not asked for (--no-check-outputs)")


def test_the_command_line_shows_the_check_and_leaves_it_out_when_told(tmp_path: Path, models_dir: Path) -> None:
    command_line = CommandLine(tmp_path)
    quick = ("profile", next(models_dir.rglob("nmp.onnx")), "--rounds", "1", "--min-time", "0", "--gate-timeout", "0")

    page = command_line.run(*quick)
    left_out = command_line.run(*quick, "--no-check-outputs", "--json", "-")

    assert "Outputs           agree with onnxruntime" in page.stdout
    assert json.loads(left_out.stdout)["output_check_missing"] == "not asked for (--no-check-outputs)"


def test_a_simulation_has_no_values_to_check(model: Callable[[str], ModelFile]) -> None:
    run = profiled(model("nmp.onnx"), address="sim:example")

    assert (run.output_check, run.output_check_missing) == (None, "a simulation computes times, not values")


def _raw_profile(agent: Agent, file: ModelFile) -> wire.Profile:
    agent.push(file.files)
    job = wire.Job(file.ref(), "onnxruntime", schedule=QUICK, gate=wire.Gate(timeout_s=0.0), send_outputs=True)
    return agent.profile(job)
