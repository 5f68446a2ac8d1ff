"""What holds for every runtime, as plain functions of the standard library.

The tflite-runtime wheel lives in an environment without pytest; there this file is run as a program:
`python runtime_laws.py LAW CASE`, the case as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from device_agents import inputs
from device_agents.decoding import build
from device_agents.machine import Machine
from device_agents.runtimes import Recorded, RuntimeRefusal, Session, machine_for, open_session
from device_agents.wire import Board, Cluster, FileRef, Job, ModelRef, RuntimeOptions, Work

RUNS = 3
MOST_RUNS = 2000
CLUSTER = Cluster("cpu", 4, (0.5e9, 1e9), 4.0, 0.75)
BOARD = Board("test-board", (CLUSTER,), 10**9, 2e9, 2e-6, 0.01, 1.0, 25.0, 10.0, 5.0, 80.0, 2.0, 1.0)
WORK = (Work("conv", "Conv", 4_000_000, 100_000), Work("relu", "Relu", 0, 200_000))


@dataclass(frozen=True)
class Case:
    """One implementation, with a small real model that it can run."""

    runtime: str
    model_path: str
    options: RuntimeOptions = field(default_factory=RuntimeOptions)

    def job(self, model_path: str | None = None, **changes: Any) -> Job:
        path = Path(model_path or self.model_path)
        size_bytes = path.stat().st_size if path.is_file() else 0
        model = ModelRef(path.name, path.suffix, "digest", (FileRef(path.name, "digest", size_bytes),))
        options = replace(self.options, **changes)
        if self.runtime == "simulated":
            return Job(model, self.runtime, options, board=BOARD, work=WORK)
        return Job(model, self.runtime, options)

    def open(self, profiled: bool = False, model_path: str | None = None, **changes: Any) -> tuple[Session, Machine]:
        job = self.job(model_path, **changes)
        machine = machine_for(job)
        return open_session(job, model_path or self.model_path, machine, profiled), machine


def refusal_of(case: Case, profiled: bool = False, **changes: Any) -> RuntimeRefusal:
    """The refusal that opening ends in."""
    try:
        session, _ = case.open(profiled, **changes)
    except RuntimeRefusal as refusal:
        return refusal
    session.close()
    raise AssertionError(f"{case.runtime} accepted {changes}")


def record(case: Case) -> tuple[Recorded, list[float]]:
    """A profiled session's record of RUNS runs, after two that must not count, and the latencies of those runs."""
    session, machine = case.open(profiled=True)
    try:
        session.set_inputs(inputs.make(session.inputs, seed=0))
        for _ in range(2):
            session.run()
            session.after_run()
        session.begin_recording()
        latencies = []
        for _ in range(RUNS):
            start = machine.now()
            session.run()
            latencies.append(machine.now() - start)
            session.after_run()
        return session.end_recording(), latencies
    finally:
        session.close()


def outputs(case: Case, profiled: bool = False) -> list[bytes]:
    session, _ = case.open(profiled)
    try:
        session.set_inputs(inputs.make(session.inputs, seed=0))
        session.run()
        return session.read_outputs()
    finally:
        session.close()


def the_same_inputs_give_the_same_outputs(case: Case) -> None:
    session, _ = case.open()
    data = inputs.make(session.inputs, seed=0)

    session.set_inputs(data)
    session.run()
    first = session.read_outputs()
    session.set_inputs(inputs.make(session.inputs, seed=1))
    session.run()
    other = session.read_outputs()
    session.set_inputs(data)
    session.run()
    again = session.read_outputs()
    session.close()

    assert first == again
    assert first != other
    assert all(len(block) > 0 for block in first)


def data_of_a_wrong_size_is_refused(case: Case) -> None:
    session, _ = case.open()
    data = inputs.make(session.inputs, seed=0)
    kinds = []

    for wrong in ((data[0][:-1], *data[1:]), (*data, b"one too many"), ()):
        try:
            session.set_inputs(wrong)
        except RuntimeRefusal as refusal:
            kinds.append(refusal.kind)
    session.close()

    assert kinds == ["bad-input"] * 3


def outputs_are_the_same_with_the_profiler_on(case: Case) -> None:
    assert outputs(case) == outputs(case, profiled=True)


def tensors_say_what_they_are(case: Case) -> None:
    session, _ = case.open()
    session.set_inputs(inputs.make(session.inputs, seed=0))
    session.run()
    blocks = session.read_outputs()
    described = list(session.outputs)
    session.close()

    assert [inputs.size_bytes(tensor) for tensor in described] == [len(block) for block in blocks]


def every_kernel_has_one_time_per_recorded_run(case: Case) -> None:
    recorded, _ = record(case)

    assert recorded.kernels
    assert {len(kernel.times_s) for kernel in recorded.kernels} == {RUNS}
    assert all(time_s >= 0.0 for kernel in recorded.kernels for time_s in kernel.times_s)
    names = [(kernel.name, kernel.node, kernel.subgraph, kernel.type) for kernel in recorded.kernels]
    assert len(set(names)) == len(names)


def kernels_do_not_take_longer_than_their_run(case: Case) -> None:
    recorded, latencies = record(case)

    for k, latency_s in enumerate(latencies):
        total_s = sum(kernel.times_s[k] for kernel in recorded.kernels)
        # Each time is rounded to the step of the clock, up or down.
        assert 0.0 < total_s <= latency_s + len(recorded.kernels) * recorded.resolution_s / 2


def closing_leaves_no_temporary_files(case: Case) -> None:
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        try:
            record(case)
            session, _ = case.open(profiled=True)
            session.close()
            refusal_of(case, profiled=True, shapes={"no such input": (1,)})
            left = os.listdir(folder)
        finally:
            tempfile.tempdir = before

    assert left == []


def what_is_no_model_is_refused(case: Case) -> None:
    if case.runtime == "simulated":
        return  # it never opens the file: the work of the model is in the job
    whole = Path(case.model_path).read_bytes()
    contents = {
        "text": b"this is not a model\n" * 20,
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "short": whole[:-3],
        "head": whole[:1000],
        "zeros": bytes(4096),
    }

    with tempfile.TemporaryDirectory() as folder:
        for name, content in contents.items():
            path = Path(folder) / f"{name}{Path(case.model_path).suffix}"
            path.write_bytes(content)
            refusal = refusal_of(case, model_path=str(path))
            assert refusal.kind == "model-invalid", f"{name}: {refusal.kind}: {refusal}"
            assert refusal.advice

    assert refusal_of(case, model_path=str(Path(folder) / "gone")).kind == "model-invalid"


def in_force_names_the_api_and_the_threads(case: Case) -> None:
    session, _ = case.open(threads=2)
    in_force = dict(session.in_force)
    version = session.runtime_version
    session.close()

    assert in_force["threads"] == "2"
    assert in_force["api"]
    assert version
    assert all(isinstance(value, str) for value in in_force.values())


def starting_up_takes_time_that_is_told(case: Case) -> None:
    session, _ = case.open()
    times = (session.import_s, session.load_s, session.initialise_s)
    session.close()

    assert min(times) >= 0.0
    assert session.initialise_s > 0.0


def impossible_options_are_refused(case: Case) -> None:
    wrong: tuple[dict[str, Any], ...] = (
        {"threads": 0},
        {"threads": -1},
        {"streams": 0},
        {"streams": 100_000},
        {"batch": 0},
        {"shapes": {"no such input": (1,)}},
        {"affinity": (4096,)},
        {"provider": "NoSuchExecutionProvider"},
        {"provider_options": {"key": "value"}},
        {"delegate_options": {"key": "value"}},
        {"optimization": "utmost"},
    )

    for changes in wrong:
        refusal = refusal_of(case, **changes)
        assert refusal.kind == "bad-option", f"{changes}: {refusal.kind}: {refusal}"


def affinity_ends_with_the_session(case: Case) -> None:
    before = os.sched_getaffinity(0)

    session, _ = case.open(affinity=(min(before),))
    told = session.in_force.get("affinity", "simulated")
    session.close()

    assert os.sched_getaffinity(0) == before
    assert told in (str(min(before)), "simulated")


def a_run_lets_other_threads_go_on(case: Case) -> None:
    """Without that several streams would wait for each other, and only look as if they ran at once."""
    if case.runtime == "simulated":
        return  # it runs nothing, and refuses several streams
    session, _ = case.open()
    session.set_inputs(inputs.make(session.inputs, seed=0))
    has_begun, was_seen, n_runs = threading.Event(), threading.Event(), 0

    def run() -> None:
        nonlocal n_runs
        has_begun.set()
        while n_runs < MOST_RUNS and not was_seen.is_set():
            session.run()
            n_runs += 1

    thread = threading.Thread(target=run)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e6)  # nobody takes the lock: a thread gives it away, or keeps it
    try:
        thread.start()
        has_begun.wait()
        was_seen.set()
        thread.join()
    finally:
        sys.setswitchinterval(interval)
        session.close()

    assert n_runs < MOST_RUNS


LAWS = (
    the_same_inputs_give_the_same_outputs,
    data_of_a_wrong_size_is_refused,
    outputs_are_the_same_with_the_profiler_on,
    tensors_say_what_they_are,
    every_kernel_has_one_time_per_recorded_run,
    kernels_do_not_take_longer_than_their_run,
    closing_leaves_no_temporary_files,
    what_is_no_model_is_refused,
    in_force_names_the_api_and_the_threads,
    starting_up_takes_time_that_is_told,
    impossible_options_are_refused,
    affinity_ends_with_the_session,
    a_run_lets_other_threads_go_on,
)


def to_json(case: Case) -> str:
    return json.dumps(asdict(case))


def from_json(text: str) -> Case:
    raw = json.loads(text)
    return Case(raw["runtime"], raw["model_path"], build(RuntimeOptions, raw["options"], "$"))


if __name__ == "__main__":
    {law.__name__: law for law in LAWS}[sys.argv[1]](from_json(sys.argv[2]))
