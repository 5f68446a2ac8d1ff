"""Judges that train (extra `torch`): each candidate by itself, or as a part of a supernet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from edgeprof.errors import EvaluationFailed, UsageError
from edgeprof.search.judging import Finished, GoesOn, Judgement
from edgeprof.search.learning.data import Dataset
from edgeprof.search.learning.fitting import Recipe, accuracy, as_input, fit
from edgeprof.search.learning.module import Net
from edgeprof.search.learning.supernet import Supernet
from edgeprof.search.learning.tape import tape_of
from edgeprof.search.space import Architecture, SearchSpace
from latency_models.building import BuildError

__all__ = ["BySupernet", "ByTraining"]

# A net that inherited its weights is tuned at a part of the rate.
TUNING_RATE = 0.25
# So many architectures are tried for one that is a net.
TRIED = 100


def require_fits(space: SearchSpace, data: Dataset, seed: int = 0) -> None:
    """Refuse a space whose nets do not take the data, or do not tell as many classes apart.

    Raises:
        UsageError: they do not fit, or no net of the space can be trained here.
    """
    rng, error = np.random.default_rng(seed), None
    for _ in range(TRIED):
        try:
            net = Net(tape_of(space, space.sample(rng)))
        except BuildError as wrong:
            error = wrong
            continue
        as_input(data.train.x[:1], net)
        n_classes = net.tape.output.channels
        if n_classes != data.n_classes:
            raise UsageError(
                f"nets of {space.name} tell {n_classes} classes apart, and {data.name} has {data.n_classes}",
                f"give the space {data.n_classes} classes",
            )
        return
    raise UsageError(f"nets of {space.name} cannot be trained here: {error}", "mend the space")


class ByTraining:
    """Each candidate is trained by itself."""

    def __init__(self, space: SearchSpace, data: Dataset, recipe: Recipe, final_epochs: int, seed: int) -> None:
        require_fits(space, data, seed)
        self._space, self.data, self._recipe, self._seed = space, data, recipe, seed
        self._final = replace(recipe, epochs=final_epochs)

    def prepare(self, tell: Callable[[str], None]) -> None:
        """There is nothing to do."""

    def judge(self, architecture: Architecture, goes_on: GoesOn | None = None) -> Judgement:
        curve = fit(self._net(architecture), self.data, self._recipe, self._seed, goes_on)
        epochs = f"trained for {len(curve)} epochs"
        early = ", ended early" if len(curve) < self._recipe.epochs else ""
        return Judgement(curve[-1], epochs + early, len(self.data.valid), curve)

    def finish(self, architecture: Architecture) -> Finished:
        net = self._net(architecture)
        curve = fit(net, self.data, self._final, self._seed)
        test = accuracy(net, self.data.test)
        return Finished(net, curve[-1], test, len(self.data.test), f"trained for {len(curve)} epochs")

    def _net(self, architecture: Architecture) -> Net:
        try:
            return Net(tape_of(self._space, architecture), seed=self._seed)
        except BuildError as error:
            raise EvaluationFailed(str(error)) from error


class BySupernet:
    """Candidates are parts of one net that is trained first, and kept in `place` as it goes."""

    def __init__(
        self, space: SearchSpace, data: Dataset, recipe: Recipe, final_epochs: int, seed: int, place: Path
    ) -> None:
        require_fits(space, data, seed)
        try:
            self._supernet = Supernet(space, seed)
        except BuildError as error:
            raise UsageError(f"{space.name} cannot be a supernet: {error}", 'say accuracy by = "training"') from error
        self.data, self._recipe, self._seed, self._place = data, recipe, seed, place
        rate = TUNING_RATE * recipe.learning_rate
        self._final = replace(recipe, epochs=final_epochs, learning_rate=rate)

    def prepare(self, tell: Callable[[str], None]) -> None:
        """Train it, or go on with what was kept."""
        if self._place.exists():
            self._supernet.load(self._place)

        def keep(done: int) -> None:
            tell(f"supernet: epoch {done} of {self._recipe.epochs}")
            self._supernet.save(self._place)

        self._supernet.train(self.data, self._recipe, keep)

    def judge(self, architecture: Architecture, goes_on: GoesOn | None = None) -> Judgement:
        try:
            found = self._supernet.accuracy(architecture, self.data)
        except BuildError as error:
            raise EvaluationFailed(str(error)) from error
        return Judgement(found, "weights inherited from the supernet", len(self.data.valid))

    def finish(self, architecture: Architecture) -> Finished:
        """Tune the inherited weights; where that does not help, keep them as they are."""
        net = self._supernet.own(architecture, self.data)
        inherited = accuracy(net, self.data.valid)
        before = {name: value.clone() for name, value in net.state_dict().items()}
        curve = fit(net, self.data, self._final, self._seed)
        how = f"weights inherited from the supernet, tuned for {len(curve)} epochs"
        if inherited > curve[-1]:
            with torch.no_grad():
                net.load_state_dict(before)
            how = "weights inherited from the supernet"
        return Finished(net, max(inherited, curve[-1]), accuracy(net, self.data.test), len(self.data.test), how)
