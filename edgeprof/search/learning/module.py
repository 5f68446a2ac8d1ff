"""Nets of a space as torch modules, which share their weights or not.

Behind every convolution over more than one pixel is a batch normalisation, which files have in its weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812, as everybody calls it
from torch import Tensor, nn

from edgeprof.search.learning.layers import LAYERS, activated, convolved, require_known
from edgeprof.search.learning.tape import Step, Tape

__all__ = ["Net", "Weights"]

CONVOLUTIONS = ("conv", "depthwise")
NORM_EPSILON = 1e-5
NORM_MOMENTUM = 0.1
GAMMA, BETA = "gamma", "beta"


class Weights(nn.Module):
    """The weights of one net, or the largest that several nets need, each of which takes the first of them.

    Of a larger kernel the middle is taken (Cai et al., Once-for-all, 2020).
    """

    def __init__(self, tapes: Iterable[Tape], seed: int = 0) -> None:
        super().__init__()
        shapes: dict[str, tuple[int, ...]] = {}
        fans: dict[str, int] = {}
        for tape in tapes:
            for step in tape.steps:
                for name, shape in _shapes(tape, step).items():
                    before = shapes.get(name, shape)
                    shapes[name] = tuple(map(max, before, shape)) if len(before) == len(shape) else shape
                    fans[name] = max(fans.get(name, 1), _fan_in(step, name, shape))
        generator = torch.Generator().manual_seed(seed)
        self.stored = nn.ParameterDict(
            {
                _attribute(name): nn.Parameter(_stored(_initial(name, shape, fans[name], generator)))
                for name, shape in shapes.items()
            }
        )

    def lacks(self, shapes: Mapping[str, Sequence[int]]) -> str:
        """The first of these weights that is not here, or not as large; empty where all are."""
        for name, shape in shapes.items():
            key = _attribute(name)
            if key not in self.stored or any(a < b for a, b in zip(self.stored[key].shape, shape, strict=True)):
                return f"{name} of {list(shape)}"
        return ""

    def take(self, name: str, shape: Sequence[int]) -> Tensor:
        """The part of a weight that a net of this shape has."""
        whole: Tensor = self.stored[_attribute(name)]
        if whole.shape == torch.Size(shape):
            return whole
        for axis, size in enumerate(shape):
            is_window = len(shape) == 4 and axis >= 2
            start = (whole.shape[axis] - size) // 2 if is_window else 0
            whole = whole.narrow(axis, start, size)
        return whole


class Net(nn.Module):
    """One net; `weights` are its own, or those that it shares. Statistics of batches are always its own.

    Raises:
        BuildError: it has layers that cannot be trained here.
    """

    def __init__(self, tape: Tape, weights: Weights | None = None, seed: int = 0) -> None:
        super().__init__()
        require_known(tape.steps)
        self.tape = tape
        self.weights = weights if weights is not None else Weights([tape], seed)
        self._shapes = [_shapes(tape, step) for step in tape.steps]
        for place, step in enumerate(tape.steps):
            if _is_normed(step):
                channels = step.outputs[0].channels
                self.register_buffer(f"mean_{place}", torch.zeros(channels))
                self.register_buffer(f"variance_{place}", torch.ones(channels))
        self.momentum = NORM_MOMENTUM
        # Hears what every convolution gives, for scores.
        self.listener: Callable[[Tensor], None] | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The names and shapes of all of its weights."""
        return {name: shape for step in self._shapes for name, shape in step.items()}

    def forward(self, x: Tensor) -> Tensor:
        """Of a batch as the file takes it, but any number at once."""
        known: dict[str, Tensor] = {}
        for place, step in enumerate(self.tape.steps):
            if step.layer in ("image", "input"):
                known[step.outputs[0].name] = x
                continue
            own = [self.weights.take(name, shape) for name, shape in self._shapes[place].items()]
            inputs = [known[value.name] for value in step.inputs]
            made = self._convolved(place, step, inputs[0], own) if step.layer in CONVOLUTIONS else None
            made = LAYERS[step.layer](step, inputs, own) if made is None else made
            for value, tensor in zip(step.outputs, made if isinstance(made, tuple) else (made,), strict=True):
                known[value.name] = tensor
        return known[self.tape.output.name]

    def _convolved(self, place: int, step: Step, x: Tensor, own: Sequence[Tensor]) -> Tensor:
        if not _is_normed(step):
            n_bias = 1 if step.options["bias"] else 0
            made = convolved(step, x, own[0], own[1] if n_bias else None)
            return activated(made, step.options["activation"], own[1 + n_bias :])
        made = convolved(step, x, own[0], None)
        normed = F.batch_norm(
            made, self.mean_of(place), self.variance_of(place), own[1], own[2], self.training, self.momentum,
            NORM_EPSILON,
        )  # fmt: skip
        found = activated(normed, step.options["activation"], own[3:])
        if self.listener is not None:
            self.listener(found)
        return found

    def mean_of(self, place: int) -> Tensor:
        """The mean that the batch normalisation of a step has seen."""
        found: Tensor = self.get_buffer(f"mean_{place}")
        return found

    def variance_of(self, place: int) -> Tensor:
        """The variance that the batch normalisation of a step has seen."""
        found: Tensor = self.get_buffer(f"variance_{place}")
        return found

    @torch.no_grad()
    def see(self, batches: Iterable[Tensor]) -> None:
        """Take the statistics of these batches and no others: those of shared weights are of many nets."""
        was_training, momentum = self.training, self.momentum
        self.train()
        for number, batch in enumerate(batches, 1):
            self.momentum = 1.0 / number
            self(batch)
        self.momentum = momentum
        self.train(was_training)

    @torch.no_grad()
    def folded(self) -> list[tuple[Step, list[Tensor]]]:
        """Each step with its weights as the graph has them: batch normalisation is in those of convolutions."""
        found = []
        for place, step in enumerate(self.tape.steps):
            own = [self.weights.take(name, shape) for name, shape in self._shapes[place].items()]
            if _is_normed(step):
                factor = own[1] / torch.sqrt(self.variance_of(place) + NORM_EPSILON)
                own = [own[0] * factor[:, None, None, None], own[2] - self.mean_of(place) * factor, *own[3:]]
            found.append((step, own))
        return found


def _is_normed(step: Step) -> bool:
    if step.layer not in CONVOLUTIONS or not step.options["bias"]:
        return False
    _, height, width, _ = step.outputs[0].shape
    return height * width > 1


def _shapes(tape: Tape, step: Step) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the weights that a step learns, in order."""
    found: dict[str, tuple[int, ...]] = {}
    given = [tuple(dim or 0 for dim in tape.graph.tensors[name].shape or ()) for name in step.weights]
    for number, shape in enumerate(given):
        # A kernel of another kind in the same place, as of a depthwise convolution, is another weight.
        key = f"{step.key}/{step.layer}/{number}"
        if _is_normed(step) and number == 1:
            # Nets of other widths have other statistics, and scales of their own (Yu et al., Slimmable networks, 2019).
            found[f"{key}/{shape[0]}/{GAMMA}"] = found[f"{key}/{shape[0]}/{BETA}"] = shape
        else:
            found[key] = shape
    return found


def _fan_in(step: Step, name: str, shape: tuple[int, ...]) -> int:
    if len(shape) == 4:
        return math.prod(shape[1:])
    if len(shape) == 2:
        return step.inputs[0].channels
    return 1


def _initial(name: str, shape: tuple[int, ...], fan_in: int, generator: torch.Generator) -> Tensor:
    """He et al., Delving deep into rectifiers, 2015, for kernels."""
    if name.endswith(GAMMA) or ("/layer_norm/0" in name or "/scale/0" in name):
        return torch.ones(shape)
    if "/activate/" in name:
        return torch.full(shape, 0.25)
    if len(shape) < 2 or name.endswith(BETA) or "/scale/" in name:
        return torch.zeros(shape)
    gain = 2.0 if len(shape) == 4 else 1.0
    return torch.randn(shape, generator=generator) * math.sqrt(gain / fan_in)


def _stored(weight: Tensor) -> Tensor:
    """Kernels in the order of channels that images have (fitting.py)."""
    return weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight


def _attribute(name: str) -> str:
    """A name that a module may have."""
    return name.replace(".", ",")
