"""The reference that a device's outputs are compared with: the same runtime on this machine, with plain kernels.

Why plain kernels, and why the same runtime: docs/decisions/0005-outputs-are-checked-against-plain-kernels.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from device_agents import wire
from edgeprof.agent import Agent
from edgeprof.errors import AgentError
from edgeprof.outputs import compare_outputs
from edgeprof.run import OutputCheck

__all__ = ["check_outputs", "reference_job"]

# One inference; a big model takes its time with plain kernels, but nobody waits longer than this for a comparison.
DEADLINE_S = 120.0


def reference_job(job: wire.Job) -> wire.Job:
    """The same inputs to the same model, computed by one thread and plain kernels, without anything of the device."""
    plain = wire.RuntimeOptions(
        threads=1,
        optimization="none" if job.runtime == "onnxruntime" else "all",
        xnnpack=job.runtime == "onnxruntime",
        batch=job.options.batch,
        shapes=job.options.shapes,
    )
    return dataclasses.replace(job, options=plain, operators=False, deadline_s=DEADLINE_S)


def check_outputs(
    agent: Agent, files: Sequence[tuple[wire.FileRef, Path | bytes]], profile: wire.Profile
) -> OutputCheck:
    """Compare what the device computed first with what `agent`, on this machine, computes from the same inputs.

    Raises:
        AgentError: there is no reference, or it is none for these inputs; the message says why.
    """
    runtime = profile.job.runtime
    info = next((r for r in agent.hello.runtimes if r.name == runtime), None)
    if info is None or info.reason is not None:
        raise AgentError(f"this machine cannot run {runtime}: {info.reason if info else 'unknown to the agent'}")
    job = reference_job(profile.job)
    agent.push(files)
    expected = agent.outputs(job)
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
