"""A search space: architectures as lists of integers, and what can be done with them.

A space names its genes; an architecture is a choice for each. What makes no difference (the kernel of a block that is
not there) is 0 in the canonical form, so that equal nets are equal architectures.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeprof.errors import UsageError
from latency_models.building import GraphBuilder, Value, builder
from latency_models.graph import Graph

if TYPE_CHECKING:
    import torch

__all__ = ["Architecture", "Gene", "SearchSpace"]

Architecture = tuple[int, ...]
Array = NDArray[np.float64]
# Of a crossing or a mutation that gives what was there already, so many are tried.
MOST_TRIES = 50


@dataclass(frozen=True)
class Gene:
    """One choice: its name and what can be chosen. `is_ordered`: neighbours in the list are alike (3, 5, 7)."""

    name: str
    choices: tuple[object, ...]
    is_ordered: bool = False

    def __post_init__(self) -> None:
        if not self.choices:
            raise UsageError(f"gene {self.name!r} has no choices", "give it one at least")


class SearchSpace(ABC):
    """What a search walks through. A space of one's own has `genes` and `build`; the rest can stay as it is."""

    name: str = "space"

    @property
    @abstractmethod
    def genes(self) -> tuple[Gene, ...]:
        """The choices."""

    @abstractmethod
    def build(self, net: GraphBuilder, architecture: Architecture) -> Value:
        """Build the net, in the words of any builder: it becomes ONNX, TFLite, or a module that is trained.

        Raises:
            BuildError: the architecture is no net, or the builder has no such operators.
        """

    def canonical(self, architecture: Architecture) -> Architecture:
        """The same net with 0 wherever a choice makes no difference."""
        return architecture

    # --- what follows ---

    def graph(self, architecture: Architecture, format: str = "onnx") -> Graph:
        """The net without its weights, for predictors.

        Raises:
            BuildError: the architecture is no net, or the format has no such operators.
        """
        net = builder(format, name=self.name)
        return net.graph(self.build(net, self.canonical(architecture)))

    def model(self, architecture: Architecture, format: str = "onnx", seed: int = 0) -> bytes:
        """A file of the net, with weights drawn by the seed.

        Raises:
            BuildError: as `graph`.
        """
        from edgeprof.training.measuring import model_bytes

        return model_bytes(self.graph(architecture, format), seed)

    def module(self, architecture: Architecture, seed: int = 0) -> torch.nn.Module:
        """The net as a torch module that can be trained (extra `torch`).

        Raises:
            BuildError: it has layers that cannot be trained here.
        """
        from edgeprof.search.learning.module import Net
        from edgeprof.search.learning.tape import tape_of

        return Net(tape_of(self, architecture), seed=seed)

    @functools.cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many choices each gene has."""
        return tuple(len(gene.choices) for gene in self.genes)

    @property
    def n_architectures(self) -> int:
        """How many lists of choices there are; some of them may be the same net."""
        return math.prod(self.sizes)

    def require(self, architecture: Sequence[int]) -> Architecture:
        """The canonical form of what may come from outside.

        Raises:
            UsageError: it is no architecture of this space.
        """
        sizes = self.sizes
        if len(architecture) != len(sizes):
            raise UsageError(f"{list(architecture)} has {len(architecture)} genes, and {self.name} has {len(sizes)}")
        for value, gene in zip(architecture, self.genes, strict=True):
            if not 0 <= value < len(gene.choices):
                raise UsageError(f"{gene.name} is {value}, and {self.name} has 0 to {len(gene.choices) - 1} there")
        return self.canonical(tuple(int(value) for value in architecture))

    def describe(self, architecture: Architecture) -> Mapping[str, object]:
        """What was chosen, by the names of the genes."""
        return {gene.name: gene.choices[value] for gene, value in zip(self.genes, architecture, strict=True)}

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Any architecture, each list of choices as likely."""
        return self.canonical(tuple(int(rng.integers(size)) for size in self.sizes))

    def mutate(self, architecture: Architecture, rng: np.random.Generator, n_genes: int = 1) -> Architecture:
        """Another architecture with so many choices changed; the same where nothing can be changed."""
        sizes = self.sizes
        movable = [place for place, size in enumerate(sizes) if size > 1]
        for _ in range(MOST_TRIES if movable else 0):
            changed = list(architecture)
            for place in rng.permutation(movable)[:n_genes]:
                changed[place] = int((changed[place] + rng.integers(1, sizes[place])) % sizes[place])
            found = self.canonical(tuple(changed))
            if found != architecture:
                return found
        return architecture

    def cross(self, one: Architecture, other: Architecture, rng: np.random.Generator) -> Architecture:
        """Each choice from one of two architectures."""
        taken = rng.random(len(one)) < 0.5
        return self.canonical(tuple(a if first else b for a, b, first in zip(one, other, taken, strict=True)))

    def neighbours(self, architecture: Architecture) -> list[Architecture]:
        """All that differ in one choice."""
        found = dict[Architecture, None]()
        for place, size in enumerate(self.sizes):
            for value in range(size):
                other = self.canonical((*architecture[:place], value, *architecture[place + 1 :]))
                if other != architecture:
                    found[other] = None
        return list(found)

    def encode(self, architectures: Sequence[Architecture]) -> tuple[Array, NDArray[np.int64]]:
        """As numbers, for surrogates.

        Returns:
            The numbers (n, d), and of each column the number of its group (d,): a gene, or what the space adds. Of an
            ordered gene one column from 0 to 1, of another one for each choice.
        """
        given = np.array(architectures, dtype=np.int64).reshape(len(architectures), len(self.genes))
        columns, groups = [], []
        for place, gene in enumerate(self.genes):
            if gene.is_ordered:
                columns.append(given[:, place : place + 1] / max(1, len(gene.choices) - 1))
                groups.append(place)
            else:
                columns.append((given[:, place : place + 1] == np.arange(len(gene.choices))) / math.sqrt(2.0))
                groups += [place] * len(gene.choices)
        found = np.concatenate(columns, axis=1) if columns else np.zeros((len(given), 0))
        return found.astype(np.float64), np.array(groups, dtype=np.int64)
