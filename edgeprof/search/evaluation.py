"""What is known of a candidate: a number for each objective, from where, and how far off it may be."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from edgeprof.search.space import Architecture
from edgeprof.search.strategies.base import Told
from edgeprof.values import Value

__all__ = ["Evaluation", "Goal", "from_text", "to_text"]

# Units by objective; a name may have a target behind it, as in "latency pi5".
UNITS = {"error": "", "latency": "s", "energy": "J", "memory": "bytes", "size": "bytes", "carbon": "g"}


@dataclass(frozen=True)
class Goal:
    """What shall be small: an objective (of a target), and the most that it may be, or None.

    `is_objective`: whether it is one, or has a limit alone.
    """

    name: str
    limit: float | None = None
    is_objective: bool = True

    @property
    def unit(self) -> str:
        return UNITS[self.name.split(" ")[0]]


@dataclass(frozen=True)
class Evaluation:
    """What came of one candidate. `values` has those goals that are known; `failure` says why others are not.

    `curve` is the accuracy after each epoch, `scores` what training-free proxies said, `notes` what else is to know.
    """

    architecture: Architecture
    values: Mapping[str, Value] = field(default_factory=dict)
    failure: str | None = None
    curve: tuple[float, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    took_s: float = 0.0

    def told(self, goals: Sequence[Goal]) -> Told:
        """For a strategy."""
        found = [self.values.get(goal.name) for goal in goals if goal.is_objective]
        values = tuple(one.value for one in found if one is not None)
        whole = self.failure is None and len(values) == len(found) and all(map(math.isfinite, values))
        return Told(self.architecture, values if whole else None, self.over(goals))

    def over(self, goals: Sequence[Goal]) -> tuple[float, ...]:
        """For each limit, by how much it is exceeded, as a share of it; 0 of what is not known."""
        found = []
        for goal in goals:
            if goal.limit is not None:
                value = self.values.get(goal.name)
                found.append(value.value / goal.limit - 1.0 if value is not None else 0.0)
        return tuple(found)

    def keeps(self, goals: Sequence[Goal]) -> bool:
        """Whether every limit is kept, as far as is known."""
        return all(one <= 0 for one in self.over(goals))


def to_text(one: Evaluation) -> str:
    """As JSON."""
    return json.dumps(asdict(one))


def from_text(text: str) -> Evaluation:
    """What `to_text` wrote.

    Raises:
        ValueError: it is something else.
    """
    try:
        found = json.loads(text)
        return Evaluation(
            architecture=tuple(int(one) for one in found["architecture"]),
            values={str(name): Value(**value) for name, value in found["values"].items()},
            failure=found["failure"],
            curve=tuple(found["curve"]),
            scores=found["scores"],
            notes=tuple(found["notes"]),
            took_s=float(found["took_s"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no evaluation: {error!r}") from error
