"""What a reader of a run should know about the inputs that the model was given, and about the state that it keeps."""

from __future__ import annotations

from collections.abc import Iterator

from device_agents.runtimes.tensors import text
from edgeprof.models.reading import ModelFile

__all__ = ["input_notes"]

# Operators with which a TFLite model remembers something from one inference to the next.
STATEFUL = ("VAR_HANDLE", "ASSIGN_VARIABLE")


def input_notes(model: ModelFile, runtime: str) -> tuple[str, ...]:
    """Notes for a run of this model on this runtime; the agent itself tells which dimensions were assumed."""
    return (*model.inputs.notes, *_state(model), *(_simulated(model) if runtime == "simulated" else ()))


def _state(model: ModelFile) -> Iterator[str]:
    found = sorted({operator.type for operator in model.graph.operators} & set(STATEFUL))
    if model.format == "tflite" and found:
        yield (
            f"the model keeps state between runs ({', '.join(found)}): equal inputs may give other outputs, "
            "and every run goes on from where the last one ended"
        )


def _simulated(model: ModelFile) -> Iterator[str]:
    if model.inputs.given:
        shapes = ", ".join(f"{name} {text(shape)}" for name, shape in model.inputs.given.items())
        yield f"work was counted for the shapes {shapes}"
    yield from model.inputs.assumptions
    if model.inputs.files:
        yield "a simulation computes times from shapes: of the values only their shapes were used"
