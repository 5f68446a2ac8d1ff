"""Train one net on one set: what it reached after every epoch, and a clear word where it does not learn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, as everybody calls it
from numpy.typing import NDArray
from torch import Tensor

from edgeprof.errors import EvaluationFailed, UsageError
from edgeprof.search.learning.data import Dataset, Part
from edgeprof.search.learning.module import Net

__all__ = ["Recipe", "accuracy", "as_input", "batches", "fit", "see"]

GoesOn = Callable[[int, float], bool]
# So many samples tell the statistics of a net whose weights are shared.
SEEN = 512


@dataclass(frozen=True)
class Recipe:
    """How a net is trained: AdamW, a learning rate that falls as half a cosine, smoothed labels."""

    epochs: int = 12
    batch: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    smoothing: float = 0.05

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2 or not self.learning_rate > 0:
            raise UsageError(
                f"a recipe of {self.epochs} epochs in batches of {self.batch} at a rate of {self.learning_rate}",
                "epochs are 1 or more, a batch 2 or more, the rate above 0",
            )


def as_input(x: NDArray[np.float32], net: Net) -> Tensor:
    """Samples as a net takes them: images are resized (bilinear); those of height 1 become tokens where it wants these.

    Raises:
        UsageError: they have other channels or lengths.
    """
    wanted = tuple(dim or 0 for dim in net.tape.graph.shape(net.tape.graph.inputs[0]) or ())
    given = torch.from_numpy(x)
    if len(wanted) == 3 and given.ndim == 4 and given.shape[2] == 1:
        given = given[:, :, 0].transpose(1, 2)
    if given.ndim == 4 and len(wanted) == 4 and given.shape[1] == wanted[1]:
        if given.shape[2:] != wanted[2:]:
            given = F.interpolate(given, size=wanted[2:], mode="bilinear", align_corners=False, antialias=True)
        return given.contiguous(memory_format=torch.channels_last)  # twice as fast on CPUs where kernels are depthwise
    if given.shape[1:] != torch.Size(wanted[1:]):
        raise UsageError(
            f"samples have the shape {list(given.shape[1:])}, and the nets of this space take {list(wanted[1:])}",
            "give the space the channels and length of the data",
        )
    return given


def batches(n: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """All of n places in random order; a last batch of one is left out, as it has no deviation."""
    order = rng.permutation(n)
    for start in range(0, n, size):
        chosen = order[start : start + size]
        if len(chosen) > 1:
            yield chosen


def fit(net: Net, data: Dataset, recipe: Recipe, seed: int = 0, goes_on: GoesOn | None = None) -> tuple[float, ...]:
    """Train in place.

    Args:
        net: its weights are changed.
        data: it learns from `train` and is judged on `valid`.
        recipe: how.
        seed: of the order of samples.
        goes_on: asked after every epoch but the last, with how many are done and the accuracy; False ends it.

    Returns:
        The accuracy on `valid` after every epoch.

    Raises:
        EvaluationFailed: the loss is no number any more.
        UsageError: the samples do not fit the net.
    """
    rng = np.random.default_rng(seed)
    x, y = as_input(data.train.x, net), torch.from_numpy(data.train.y)
    valid = as_input(data.valid.x, net)
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps_per_epoch = max(1, math.ceil(len(y) / recipe.batch))
    total = recipe.epochs * steps_per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: 0.5 * (1 + math.cos(math.pi * min(1, k / total))))
    curve: list[float] = []
    for epoch in range(1, recipe.epochs + 1):
        net.train()
        for chosen in batches(len(y), recipe.batch, rng):
            places = torch.from_numpy(chosen)
            loss = F.cross_entropy(net(x[places]), y[places], label_smoothing=recipe.smoothing)
            if not torch.isfinite(loss):
                raise EvaluationFailed(f"the loss became {loss.item()} in epoch {epoch}")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
        curve.append(accuracy(net, Part(valid.numpy(), data.valid.y)))
        if epoch < recipe.epochs and goes_on is not None and not goes_on(epoch, curve[-1]):
            break
    return tuple(curve)


@torch.no_grad()
def accuracy(net: Net, part: Part, batch: int = 512) -> float:
    """The share of samples whose class is the one that the net gives most.

    Raises:
        EvaluationFailed: what it gives is no number.
    """
    net.eval()
    x, right = as_input(part.x, net), 0
    for start in range(0, len(part), batch):
        said = net(x[start : start + batch])
        if not torch.isfinite(said).all():
            raise EvaluationFailed("what the net says is no number")
        right += int((said.argmax(dim=1).numpy() == part.y[start : start + batch]).sum())
    return right / max(1, len(part))


def see(net: Net, data: Dataset, seed: int = 0, batch: int = 128) -> None:
    """Give a net with shared weights the statistics of batches that are its own."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(data.train))[:SEEN]
    x = as_input(data.train.x[chosen], net)
    net.see([x[start : start + batch] for start in range(0, len(x), batch) if len(x) - start > 1])
