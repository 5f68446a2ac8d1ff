"""How good a candidate is: what every way of finding out has in common, and the ways that need no training of ours."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgeprof.errors import EvaluationFailed, UsageError
from edgeprof.search.space import Architecture, SearchSpace
from edgeprof.values import Value

if TYPE_CHECKING:
    import torch

    from edgeprof.search.learning.data import Dataset
    from edgeprof.search.learning.module import Net

__all__ = ["ByFunction", "ByTable", "Candidate", "Finished", "GoesOn", "Judge", "Judgement", "error_of"]

GoesOn = Callable[[int, float], bool]
# A normal distribution holds 90 % within so many standard deviations.
NORMAL_90 = 1.6449
MOST_TABLE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Judgement:
    """An accuracy and, where it was trained, what it was after each epoch. `n` samples decided it, if that is known."""

    accuracy: float
    how: str
    n: int | None = None
    curve: tuple[float, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """A member of the front, trained for good: accuracy on what the search chose by, and on what it never saw."""

    net: Net | None
    accuracy: float
    test_accuracy: float | None
    n_test: int | None
    how: str


class Judge(Protocol):
    """Says how good architectures are."""

    def prepare(self, tell: Callable[[str], None]) -> None:
        """Do what is done once for all candidates; `tell` hears how far it is."""

    def judge(self, architecture: Architecture, goes_on: GoesOn | None = None) -> Judgement:
        """How good one is.

        Raises:
            EvaluationFailed: it could not be found out.
        """

    def finish(self, architecture: Architecture) -> Finished:
        """Train one for good.

        Raises:
            EvaluationFailed: it could not be trained.
        """


def error_of(judgement: Judgement) -> Value:
    """1 - accuracy, with what the number of samples leaves open (Wilson, 1927)."""
    error = 1.0 - judgement.accuracy
    if not 0.0 <= error <= 1.0 or not math.isfinite(error):
        raise EvaluationFailed(f"an accuracy of {judgement.accuracy} is none: it is between 0 and 1")
    if not judgement.n:
        return Value(error, error, error, judgement.how)
    n, z = judgement.n, NORMAL_90
    middle = (error + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(error * (1 - error) / n + z * z / (4 * n * n))
    return Value(error, max(0.0, min(error, middle - half)), min(1.0, max(error, middle + half)), judgement.how)


@dataclass(frozen=True)
class Candidate:
    """What a user's own training function is called with; it returns the accuracy, between 0 and 1."""

    space: SearchSpace
    architecture: Architecture
    seed: int
    epochs: int
    data: Dataset | None = None

    @property
    def choices(self) -> Mapping[str, object]:
        """What was chosen, by the names of the genes."""
        return self.space.describe(self.architecture)

    def net(self) -> torch.nn.Module:
        """A torch module of it, not trained yet (extra `torch`).

        Raises:
            BuildError: it has layers that cannot be trained here.
        """
        return self.space.module(self.architecture, self.seed)


@dataclass(frozen=True)
class ByFunction:
    """A user's own function."""

    function: Callable[[Candidate], Any]
    space: SearchSpace
    seed: int
    epochs: int
    data: Dataset | None = None

    def prepare(self, tell: Callable[[str], None]) -> None:
        """There is nothing to do."""

    def judge(self, architecture: Architecture, goes_on: GoesOn | None = None) -> Judgement:
        return Judgement(self._called(architecture), "your own function")

    def finish(self, architecture: Architecture) -> Finished:
        return Finished(None, self._called(architecture), None, None, "your own function")

    def _called(self, architecture: Architecture) -> float:
        candidate = Candidate(self.space, architecture, self.seed, self.epochs, self.data)
        try:
            found = float(self.function(candidate))
        except (Exception, SystemExit) as error:  # whatever the user's code raises
            raise EvaluationFailed(f"your function raised {type(error).__name__}: {error}") from error
        if not math.isfinite(found):
            raise EvaluationFailed(f"your function gave {found}")
        return found


class ByTable:
    """Accuracies that are known: a CSV with a column for each gene, by what was chosen, and one named accuracy."""

    def __init__(self, path: Path, space: SearchSpace) -> None:
        """Read the table.

        Raises:
            UsageError: it cannot be read, or lacks a column.
        """
        self._path = path
        self._known: dict[Architecture, float] = {}
        genes = space.genes
        try:
            if path.stat().st_size > MOST_TABLE_BYTES:
                raise UsageError(f"{path} is larger than {MOST_TABLE_BYTES} bytes", "split it")
            with path.open(newline="") as file:
                rows = csv.DictReader(file)
                missing = {gene.name for gene in genes} | {"accuracy"}
                missing -= set(rows.fieldnames or ())
                if missing:
                    raise UsageError(f"{path} has no column {', '.join(sorted(missing))}", "name the columns as genes")
                for row in rows:
                    chosen = tuple([str(one) for one in gene.choices].index(row[gene.name]) for gene in genes)
                    self._known[space.canonical(chosen)] = float(row["accuracy"])
        except (OSError, ValueError, csv.Error) as error:
            raise UsageError(
                f"{path}: cannot be read: {error}", "a row has what each gene chose, and accuracy"
            ) from error

    def prepare(self, tell: Callable[[str], None]) -> None:
        """There is nothing to do."""

    def judge(self, architecture: Architecture, goes_on: GoesOn | None = None) -> Judgement:
        if architecture not in self._known:
            raise EvaluationFailed(f"{self._path.name} does not have this architecture")
        return Judgement(self._known[architecture], f"table {self._path.name}")

    def finish(self, architecture: Architecture) -> Finished:
        found = self.judge(architecture)
        return Finished(None, found.accuracy, None, None, found.how)
