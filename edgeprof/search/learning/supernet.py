"""One large net whose parts are the nets of a space: trained once, they inherit its weights.

In every step the largest net learns from the labels, and the smallest and two others from what the largest says (Yu
and Huang, Universally slimmable networks, 2019: the sandwich rule and in-place distillation).
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, as everybody calls it

from edgeprof.errors import EvaluationFailed, UsageError
from edgeprof.files import write_whole
from edgeprof.search.learning.data import Dataset
from edgeprof.search.learning.fitting import Recipe, accuracy, as_input, batches, see
from edgeprof.search.learning.module import Net, Weights
from edgeprof.search.learning.tape import Tape, tape_of
from edgeprof.search.npz import read_npz
from edgeprof.search.space import Architecture, SearchSpace
from latency_models.building import BuildError

__all__ = ["Supernet"]

# The nets from which is taken how large every weight is, and which is the largest and which the smallest net.
POOL = 150
IN_BETWEEN = 2
MOST_TRIES = 200
# Weights that many nets share take a higher rate than those of one.
HIGHER_RATE = 2.5
# What AdamW keeps of each weight.
STATE = ("step", "exp_avg", "exp_avg_sq")
LARGEST_GRADIENT = 5.0


class Supernet:
    """The weights that the nets of a space share. `done` epochs of training are behind it."""

    def __init__(self, space: SearchSpace, seed: int = 0) -> None:
        """Of the largest weights that nets of a space have.

        Raises:
            BuildError: no net of the space can be trained here.
        """
        self.space, self.seed, self.done = space, seed, 0
        pool = _pool(space, np.random.default_rng(seed))
        self.largest, self.smallest = pool[0][0], pool[-1][0]
        self.weights = Weights((tape for _, tape in pool), seed)
        self._state: dict[str, torch.Tensor] = {}

    def net(self, architecture: Architecture) -> Net:
        """A net with the shared weights; the statistics of its batches are not known yet.

        Raises:
            EvaluationFailed: the supernet has no weights for it.
            BuildError: it is no net.
        """
        net = Net(tape_of(self.space, architecture), self.weights)
        missing = self.weights.lacks(net.shapes)
        if missing:
            raise EvaluationFailed(f"the supernet has no weights for {missing}")
        return net

    def own(self, architecture: Architecture, data: Dataset) -> Net:
        """A net with weights of its own, inherited; its statistics are known."""
        shared = self.net(architecture)
        net = Net(shared.tape, seed=self.seed)
        with torch.no_grad():
            for name, shape in net.shapes.items():
                net.weights.take(name, shape).copy_(self.weights.take(name, shape))
        see(net, data, self.seed)
        return net

    def accuracy(self, architecture: Architecture, data: Dataset) -> float:
        """On `valid`, with inherited weights and statistics of its own."""
        net = self.net(architecture)
        see(net, data, self.seed)
        return accuracy(net, data.valid)

    def train(self, data: Dataset, recipe: Recipe, on_epoch: Callable[[int], None] | None = None) -> None:
        """Go on with the training until all epochs are done; `on_epoch` hears after each how many are.

        Raises:
            EvaluationFailed: the loss is no number any more.
        """
        parameters = dict(self.weights.named_parameters())
        rate = HIGHER_RATE * recipe.learning_rate
        optimiser = torch.optim.AdamW(parameters.values(), lr=rate, weight_decay=recipe.weight_decay)
        for name, value in self._state.items():
            kind, _, weight = name.partition(" ")
            optimiser.state[parameters[weight]][kind] = value
        per_epoch = math.ceil(len(data.train) / recipe.batch)
        total = recipe.epochs * per_epoch
        while self.done < recipe.epochs:
            rng = np.random.default_rng([self.seed, self.done])  # so that it can go on where it was
            for number, chosen in enumerate(batches(len(data.train), recipe.batch, rng)):
                at = (self.done * per_epoch + number) / total
                for group in optimiser.param_groups:
                    group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * at))
                optimiser.zero_grad(set_to_none=True)  # what no net of this step has stays as it is
                self._learn(data, chosen, recipe, rng)
                torch.nn.utils.clip_grad_norm_(parameters.values(), LARGEST_GRADIENT)
                optimiser.step()
            self.done += 1
            self._state = {
                f"{kind} {name}": value
                for name, one in parameters.items()
                for kind, value in optimiser.state[one].items()
                if kind in STATE
            }
            if on_epoch is not None:
                on_epoch(self.done)

    def _learn(self, data: Dataset, chosen: Any, recipe: Recipe, rng: np.random.Generator) -> None:
        """Add the gradients of one batch."""
        x, y = data.train.x[chosen], torch.from_numpy(data.train.y[chosen])
        largest = self.net(self.largest).train()
        said = largest(as_input(x, largest))
        loss = F.cross_entropy(said, y, label_smoothing=recipe.smoothing)
        if not torch.isfinite(loss):
            raise EvaluationFailed(f"the loss of the supernet became {loss.item()} in epoch {self.done + 1}")
        loss.backward()
        soft = F.softmax(said.detach(), dim=1)
        for architecture in (self.smallest, *(self._any(rng) for _ in range(IN_BETWEEN))):
            net = self.net(architecture).train()
            F.cross_entropy(net(as_input(x, net)), soft).backward()

    def _any(self, rng: np.random.Generator) -> Architecture:
        for _ in range(MOST_TRIES):
            found = self.space.sample(rng)
            try:
                self.net(found)
            except (BuildError, EvaluationFailed):
                continue
            return found
        return self.smallest

    # --- keeping ---

    def save(self, path: Path) -> None:
        """Write the weights and what it needs to go on, whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        arrays = {f"weight {name}": one.detach().numpy() for name, one in self.weights.named_parameters()}
        arrays |= {name: one.numpy() for name, one in self._state.items()}
        file = io.BytesIO()
        np.savez(file, facts=np.array(json.dumps(self._facts())), **arrays)
        write_whole(path, file.getvalue())

    def _facts(self) -> dict[str, object]:
        return {"space": self.space.name, "genes": len(self.space.genes), "seed": self.seed, "done": self.done}

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            UsageError: it is of another space or seed, or damaged.
        """
        try:
            stored = read_npz(path)
            facts = json.loads(str(stored.pop("facts")))
        except (ValueError, KeyError) as error:
            raise UsageError(
                f"{path} is no supernet that can be read: {error}", "remove it: it is trained anew"
            ) from error
        arrays = {name: torch.from_numpy(one) for name, one in stored.items()}
        mine = {**self._facts(), "done": facts.get("done")}
        parameters = dict(self.weights.named_parameters())
        shapes = {f"weight {name}": tuple(one.shape) for name, one in parameters.items()}
        found = {name: tuple(one.shape) for name, one in arrays.items() if name.startswith("weight ")}
        if facts != mine or shapes != found:
            raise UsageError(f"{path} is a supernet of another space, seed or version", "remove it: it is trained anew")
        with torch.no_grad():
            for name, one in parameters.items():
                one.copy_(arrays[f"weight {name}"])
        self._state = {name: one for name, one in arrays.items() if name.partition(" ")[0] in STATE}
        self.done = int(facts["done"])


def _pool(space: SearchSpace, rng: np.random.Generator) -> list[tuple[Architecture, Tape]]:
    """Nets of a space, those with most multiply-accumulates first."""
    last = space.canonical(tuple(size - 1 for size in space.sizes))
    chosen = dict.fromkeys([last, space.canonical(tuple(0 for _ in space.sizes)), *space.neighbours(last)])
    for _ in range(POOL):
        chosen[space.sample(rng)] = None
    found, error = [], None
    for architecture in chosen:
        try:
            found.append((architecture, tape_of(space, architecture)))
        except BuildError as wrong:
            error = wrong
    if not found:
        raise error or BuildError(f"{space.name} has no nets")
    found.sort(key=lambda one: -sum(node.macs or 0 for node in one[1].graph.operators))
    return found
