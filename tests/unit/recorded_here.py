"""Times the operators of a model in this process: the runtime as the agent drives it, without agent and gate."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from device_agents.machine import Machine
from device_agents.measure import set_inputs
from device_agents.runtimes import open_session
from device_agents.wire import Job, OperatorPass, RuntimeOptions
from edgeprof.models import ModelFile, map_operators, read_model
from edgeprof.run import Run
from tests.unit.run_factory import make_profile, make_run

RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert"}
# The runtimes' clocks have steps of 1 us, which small operators are below: their mean still tells.
N_RUNS = 30


def recorded_here(model: ModelFile, options: RuntimeOptions | None = None) -> OperatorPass:
    """Some profiled runs after one of warm-up, inputs from seed 0."""
    shapes = dict(model.inputs.given)
    job = Job(model.ref(), RUNTIMES[model.format], options or RuntimeOptions(shapes=shapes))
    machine = Machine()
    session = open_session(job, str(model.path), machine, True)
    try:
        set_inputs(session, job, ())
        session.run()
        session.after_run()
        session.begin_recording()
        latencies_s = []
        for _ in range(N_RUNS):
            start_s = time.perf_counter()
            session.run()
            latencies_s.append(time.perf_counter() - start_s)
            session.after_run()
        recorded = session.end_recording()
        graph = session.executed_graph()
    finally:
        session.close()
    return OperatorPass(
        recorded.method, tuple(latencies_s), tuple(recorded.kernels), recorded.resolution_s, graph=graph
    )


def run_here(path: Path, shapes: Mapping[str, tuple[int, ...]] | None = None) -> tuple[ModelFile, Run]:
    """A model and the run of it in this process, with its operators mapped."""
    model = read_model(path, shapes)
    recorded = recorded_here(model)
    job = Job(model.ref(), RUNTIMES[model.format], RuntimeOptions(shapes=dict(model.inputs.given)), operators=True)
    profile = make_profile(job=job, operators=recorded)
    return model, replace(make_run(), profile=profile, operators=map_operators(model, recorded).operators)
