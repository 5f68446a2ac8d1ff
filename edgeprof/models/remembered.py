"""A model that only the device still has: enough of it to run it there once more."""

from __future__ import annotations

from pathlib import Path

from device_agents.wire import Job
from edgeprof.models.inputs import InputPlan
from edgeprof.models.reading import ModelFile
from latency_models.graph import Graph

__all__ = ["remembered_model"]


def remembered_model(job: Job, inputs: InputPlan) -> ModelFile:
    """The model of a job whose files are on the device; `inputs` has the values of the job's own inputs, if any.

    It has no graph and cannot be sent: ask the device first whether it has the files.
    """
    ref = job.model
    graph = Graph(format=ref.format, name=ref.name, inputs=(), outputs=(), tensors={}, operators=(), version=0)
    shapes = dict(job.options.shapes)
    return ModelFile(
        path=Path(ref.name),
        name=ref.name,
        format=ref.format,
        digest=ref.digest,
        files=tuple((file, Path(file.name)) for file in ref.files),
        graph=graph,
        inputs=InputPlan(shapes=shapes, given=shapes, files=inputs.files if job.inputs else ()),
    )
