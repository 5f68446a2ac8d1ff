"""The reference that a device's outputs are compared with: the same runtime on this machine, with plain kernels.

Why plain kernels, and why the same runtime: docs/decisions/0005-outputs-are-checked-against-plain-kernels.md.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from device_agents import wire
from edgeprof.agent import Agent
from edgeprof.errors import AgentError
from edgeprof.fleet import Device
from edgeprof.links.local import LocalLink
from edgeprof.outputs import compare_outputs
from edgeprof.provision import python_for
from edgeprof.run import OutputCheck

__all__ = ["Reference", "check_outputs", "reference_job"]

# One inference; a big model takes its time with plain kernels, but nobody waits longer than this for a comparison.
DEADLINE_S = 120.0
# Of a campaign many devices compute the same: what the reference said is kept, a few megabytes of it at most.
KEPT_ANSWERS = 32

Files = Sequence[tuple[wire.FileRef, Path | bytes]]


class Reference:
    """A reference on this machine for any number of devices, one inference at a time. A context manager.

    Its agents start when they are first needed, and what one device asked is not computed again for the next.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._agents: dict[str, Agent] = {}
        self._answers: OrderedDict[str, wire.Outputs] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def check(self, files: Files, profile: wire.Profile) -> OutputCheck:
        """As `check_outputs`, from any thread."""
        with self._lock:
            return check_outputs(self._agent(profile.job.runtime), files, profile, self._answers)

    def _agent(self, runtime: str) -> Agent:
        here = Device(name="this machine", python=sys.executable)
        python = python_for(here, runtime)
        running = self._agents.get(python)
        if running is not None and running.is_alive():
            return running
        if running is not None:
            running.close()
        self._agents[python] = self._stack.enter_context(Agent(LocalLink(), python, name=here.name))
        return self._agents[python]


def reference_job(job: wire.Job) -> wire.Job:
    """The same inputs to the same model, computed by one thread and plain kernels, without anything of the device."""
    plain = wire.RuntimeOptions(
        threads=1,
        optimization="none" if job.runtime == "onnxruntime" else "all",
        xnnpack=job.runtime == "onnxruntime",
        batch=job.options.batch,
        shapes=job.options.shapes,
    )
    usual = wire.Job(model=job.model, runtime=job.runtime)
    return dataclasses.replace(
        job, options=plain, operators=False, deadline_s=DEADLINE_S, schedule=usual.schedule, gate=usual.gate
    )


def check_outputs(
    agent: Agent, files: Files, profile: wire.Profile, answers: OrderedDict[str, wire.Outputs] | None = None
) -> OutputCheck:
    """Compare what the device computed first with what `agent`, on this machine, computes from the same inputs.

    `answers` has what it computed before, by job, and is added to.

    Raises:
        AgentError: there is no reference, or it is none for these inputs; the message says why.
    """
    runtime = profile.job.runtime
    info = next((r for r in agent.hello.runtimes if r.name == runtime), None)
    if info is None or info.reason is not None:
        raise AgentError(f"this machine cannot run {runtime}: {info.reason if info else 'unknown to the agent'}")
    job = reference_job(profile.job)
    expected = _expected(agent, files, job, OrderedDict() if answers is None else answers)
    if expected.input_digest != profile.input_digest:
        raise AgentError("the reference made other inputs of the job than the device did")
    try:
        differences = compare_outputs(profile.outputs, profile.output_values, expected.outputs, expected.values)
    except ValueError as error:
        raise AgentError(f"the outputs cannot be read: {error}") from error
    return OutputCheck(
        runtime=runtime,
        runtime_version=expected.runtime_version,
        python=expected.python,
        architecture=agent.hello.machine.architecture,
        options=job.options,
        in_force=expected.in_force,
        outputs=differences,
    )


def _expected(agent: Agent, files: Files, job: wire.Job, answers: OrderedDict[str, wire.Outputs]) -> wire.Outputs:
    key = repr(job)  # a job has mappings in it, and so no hash
    if key not in answers:
        agent.push(files)
        answers[key] = agent.outputs(job)
        while len(answers) > KEPT_ANSWERS:
            answers.popitem(last=False)
    return answers[key]
