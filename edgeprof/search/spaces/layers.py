"""A space in TOML: layers one behind the other, in which every list is a choice.

::

    [space]
    input = [16, 16, 1]                     # height, width and channels; or length and channels
    layers = [
      { conv = [8, 16, 24], kernel = [3, 5], stride = 2, activation = "relu" },
      { depthwise = [3, 5], repeat = [1, 2, 3], activation = ["relu", "hard_swish"], residual = true },
      { global_average = true },
      { dense = 10 },
    ]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeprof.errors import UsageError
from edgeprof.search.space import Architecture, Gene, SearchSpace
from latency_models.building import BuildError, GraphBuilder, Value

__all__ = ["Layers"]

# The words of a builder that a layer may have, and the name of the argument that stands behind each.
WORDS: Mapping[str, str | None] = {
    "conv": "channels", "depthwise": "kernel", "dense": "units", "pool": "kind", "activate": "activation",
    "global_average": None, "flatten": None, "to_tokens": None, "layer_norm": None, "mean": None, "softmax": None,
}  # fmt: skip
OPTIONS: Mapping[str, frozenset[str]] = {
    "conv": frozenset(("kernel", "stride", "dilation", "groups", "padding", "activation")),
    "depthwise": frozenset(("stride", "multiplier", "dilation", "padding", "activation")),
    "dense": frozenset(("activation",)),
    "pool": frozenset(("kernel", "stride", "padding")),
}
OF_US = ("repeat", "residual")


@dataclass(frozen=True)
class _Layer:
    word: str
    number: int
    choices: Mapping[str, tuple[object, ...]]

    def gene(self, option: str) -> str:
        return f"{self.word} {self.number} {option}"


class Layers(SearchSpace):
    """See the module. What repeats has its stride once; `residual` adds what went in where the shapes agree."""

    def __init__(self, input: Sequence[int], layers: Sequence[Mapping[str, Any]], name: str = "layers") -> None:
        """Of what stands in the file.

        Raises:
            UsageError: a layer or an option is not known.
        """
        self.name = name
        self._input = tuple(input)
        if len(self._input) not in (2, 3) or any(not isinstance(size, int) or size < 1 for size in self._input):
            raise UsageError(
                f"input = {list(input)}", "give height, width and channels of images, or length and channels of tokens"
            )
        self._layers = [_parsed(number, layer) for number, layer in enumerate(layers, 1)]
        if not self._layers:
            raise UsageError("the space has no layers", "give it one at least: layers = [{ conv = [8, 16] }]")
        self._genes = tuple(
            Gene(layer.gene(option), choices, _is_ordered(choices))
            for layer in self._layers
            for option, choices in layer.choices.items()
            if len(choices) > 1
        )
        self._place = {gene.name: place for place, gene in enumerate(self._genes)}

    @property
    def genes(self) -> tuple[Gene, ...]:
        return self._genes

    def build(self, net: GraphBuilder, architecture: Architecture) -> Value:
        x = net.image(*self._input) if len(self._input) == 3 else net.input((1, *self._input))
        for layer in self._layers:
            chosen = {option: self._chosen(layer, option, architecture) for option in layer.choices}
            repeats, is_residual = chosen.pop("repeat", 1), bool(chosen.pop("residual", False))
            for number in range(int(str(repeats))):
                with net.part(f"{layer.word} {layer.number}.{number}"):
                    made = _built(net, x, layer.word, chosen if not number else {**chosen, **_once(chosen)})
                    x = net.add(x, made) if is_residual and made.shape == x.shape else made
        return x

    def _chosen(self, layer: _Layer, option: str, architecture: Architecture) -> object:
        choices = layer.choices[option]
        place = self._place.get(layer.gene(option))
        return choices[architecture[place] if place is not None else 0]


def _once(chosen: Mapping[str, object]) -> dict[str, object]:
    return {"stride": 1} if "stride" in chosen else {}


def _parsed(number: int, layer: Mapping[str, Any]) -> _Layer:
    words = [word for word in WORDS if word in layer]
    if len(words) != 1:
        raise UsageError(
            f"layer {number} is {', '.join(layer) or 'empty'}, which names no layer, or several",
            f"each has one of {', '.join(WORDS)}",
        )
    word = words[0]
    unknown = sorted(set(layer) - {word} - OPTIONS.get(word, frozenset()) - set(OF_US))
    if unknown:
        known = ", ".join(sorted((*OPTIONS.get(word, ()), *OF_US)))
        raise UsageError(f"layer {number}, {word}, has no {', '.join(unknown)}", f"it may have {known}")
    choices = {}
    for option, value in layer.items():
        name = WORDS[word] if option == word else option
        if name is not None:
            choices[name] = tuple(value) if isinstance(value, list) else (value,)
            if not choices[name]:
                raise UsageError(f"layer {number}, {word}: {option} has no choices", "give it one at least")
    return _Layer(word, number, choices)


def _is_ordered(choices: Sequence[object]) -> bool:
    return all(isinstance(one, int | float) and not isinstance(one, bool) for one in choices)


def _built(net: GraphBuilder, x: Value, word: str, chosen: Mapping[str, object]) -> Value:
    if word == "global_average":
        return net.global_average(x, keep=False)
    try:
        made = getattr(net, word)(x, **chosen)
    except TypeError as error:
        raise BuildError(f"{word}: {error}") from error
    if not isinstance(made, Value):
        raise BuildError(f"{word} gives no tensor")
    return made
