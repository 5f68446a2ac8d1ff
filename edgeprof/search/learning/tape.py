"""What a space builds, layer by layer: so that the same words make a file and a module that can be trained."""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from edgeprof.search.space import Architecture, SearchSpace
from latency_models.building import GraphBuilder, Value, builder
from latency_models.graph import Graph

__all__ = ["Step", "Tape", "tape_of"]

# Words of a builder that add nothing to a net, or that are about its file.
OTHER_WORDS = frozenset(("graph", "operators", "part", "parts", "format", "name", "precision"))


@dataclass(frozen=True)
class Step:
    """One layer: the word of the builder, what goes in and comes out, and the names of its weights in the graph.

    `options` are all other arguments. `key` names its place in the net: equal places of a space's nets share weights.
    """

    layer: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    weights: tuple[str, ...]
    options: Mapping[str, Any]
    key: str


@dataclass(frozen=True)
class Tape:
    """A net as its layers, in the order in which they run, and as the graph that its file will have."""

    steps: tuple[Step, ...]
    graph: Graph
    output: Value


def tape_of(space: SearchSpace, architecture: Architecture, format: str = "onnx") -> Tape:
    """Build an architecture and keep what was said.

    Raises:
        BuildError: it is no net, or the format has no such operators.
    """
    recorder = _Recorder(builder(format, name=space.name))
    output = space.build(cast(GraphBuilder, recorder), space.canonical(architecture))
    return Tape(tuple(recorder.steps), recorder.inner.graph(output), output)


class _Recorder:
    """Stands for a builder: passes every word on to it, and keeps what it said."""

    def __init__(self, inner: GraphBuilder) -> None:
        self.inner = inner
        self.steps: list[Step] = []
        self._n_weights = 0
        self._places: Counter[tuple[str, ...]] = Counter()

    def __getattr__(self, word: str) -> Any:
        said = getattr(self.inner, word)
        if word in OTHER_WORDS or not hasattr(GraphBuilder, word):
            return said
        return functools.partial(self._say, word)

    def _say(self, word: str, *args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(getattr(GraphBuilder, word)).bind(self.inner, *args, **kwargs)
        bound.apply_defaults()
        options = {name: value for name, value in bound.arguments.items() if name != "self"}
        made = getattr(self.inner, word)(*args, **kwargs)
        inputs = [value for option in options.values() for value in _values(option)]
        weights = self._new_weights()
        parts = self.inner.parts
        place = self._places[parts]
        if weights:
            self._places[parts] += 1
        self.steps.append(
            Step(
                layer=word,
                inputs=tuple(inputs),
                outputs=(made,) if isinstance(made, Value) else tuple(made),
                weights=tuple(weights),
                options={name: value for name, value in options.items() if not _values(value)},
                key="/".join((*parts, f"{place}")),
            )
        )
        return made

    def _new_weights(self) -> list[str]:
        """The tensors that came to be since the last time and whose values are to be learned."""
        tensors = self.inner.tensors
        found = [tensor.name for tensor in tensors[self._n_weights :] if tensor.is_constant and tensor.values is None]
        self._n_weights = len(tensors)
        return found


def _values(option: object) -> Sequence[Value]:
    if isinstance(option, Value):
        return [option]
    if isinstance(option, list | tuple) and option and all(isinstance(one, Value) for one in option):
        return list(option)
    return []
