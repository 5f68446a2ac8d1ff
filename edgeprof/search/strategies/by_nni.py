"""NNI's strategies (extra `nni`), driven by its sequential engine in a thread of this process: no server is started.

NNI makes one number large. What it is given is minus the sum of the logarithms of all objectives, less what limits are
exceeded by: no objective's unit matters in that, but it is one number for a whole front.
"""

from __future__ import annotations

import math
import queue
import threading
from typing import TYPE_CHECKING

from edgeprof.errors import SearchError
from edgeprof.search.space import Architecture, SearchSpace
from edgeprof.search.strategies.base import Strategy, Told

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["STRATEGIES", "NniStrategy", "metric_of"]

STRATEGIES = ("nni-random", "nni-evolution", "nni-tpe")
MOST_MODELS = 1_000_000
WORST = -1e3
EXCEEDING = 10.0
# So many that it knows already are answered before something else is asked for.
MOST_REPEATED = 200
ANSWER_S = 300.0


def metric_of(told: Told) -> float:
    """What NNI is told of an architecture."""
    if told.values is None:
        return WORST
    return -sum(math.log(max(value, 1e-12)) for value in told.values) - EXCEEDING * told.excess


class NniStrategy(Strategy):
    """One of `STRATEGIES`. It has one architecture in hand at a time; whoever asks for more gets random ones.

    NNI draws on its own, so that a process that goes on goes another way.
    """

    def __init__(
        self,
        space: SearchSpace,
        n_objectives: int,
        seed: int = 0,
        *,
        strategy: str = "nni-evolution",
        population: int = 20,
    ) -> None:
        super().__init__(space, n_objectives, seed)
        self._kind, self._population = strategy, population
        self._questions: queue.Queue[Architecture | None] = queue.Queue()
        self._answers: queue.Queue[float] = queue.Queue()
        self._open: Architecture | None = None
        self._known: dict[Architecture, float] = {}
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def _next(self) -> Architecture:
        if self._open is not None:
            return self._fresh()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._kind, daemon=True)
            self._thread.start()
        for _ in range(MOST_REPEATED):
            try:
                asked = self._questions.get(timeout=ANSWER_S)
            except queue.Empty as error:
                raise SearchError(f"{self._kind} asks for nothing", "take another strategy") from error
            if asked is None:
                if self._failure is not None:
                    raise SearchError(
                        f"{self._kind} failed: {self._failure}", "take another strategy"
                    ) from self._failure
                return self._fresh()
            if asked not in self._known:
                self._open = asked
                return asked
            self._answers.put(self._known[asked])
        return self._fresh()

    def tell(self, told: Told | Sequence[Told]) -> None:
        super().tell(told)
        for one in [told] if isinstance(told, Told) else told:
            self._known[one.architecture] = metric_of(one)
            if one.architecture == self._open:
                self._open = None
                self._answers.put(self._known[one.architecture])

    # --- in the thread ---

    def _run(self) -> None:
        try:
            from edgeprof.search.nni_engine import run

            run(self._kind, self.space, self._ask_and_wait, self.seed, self._population, MOST_MODELS)
        except BaseException as error:
            self._failure = error
        self._questions.put(None)

    def _ask_and_wait(self, architecture: Architecture) -> float:
        self._questions.put(self.space.canonical(architecture))
        return self._answers.get()
