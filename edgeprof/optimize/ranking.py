"""Which candidates are worth the device's time, by a predictor: the others are told, and not measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from edgeprof.optimize.making import Made
from edgeprof.values import Value
from latency_models.estimate import Estimate
from latency_models.graph import GraphError

__all__ = ["MOST_RACING", "Predictor", "predicted", "without_hopeless"]

# With a predictor, so many race.
MOST_RACING = 6


class Predictor(Protocol):
    """Of `latency_models`, any kind of it."""

    def predict(self, model: Path, /) -> Estimate:
        """The latency of a model's file."""


def predicted(made: Sequence[Made], predictor: Predictor) -> dict[str, Value]:
    """Of what passed the gate, the predicted latency; what the predictor cannot read is left out, and races."""
    found = {}
    for one in made:
        if one.candidate is not None and one.is_accepted:
            try:
                estimate = predictor.predict(one.candidate.path)
            except (GraphError, ValueError):
                continue
            found[one.name] = Value(estimate.latency_s, estimate.low_s, estimate.high_s, "predicted")
    return found


def without_hopeless(made: Sequence[Made], latencies: dict[str, Value], most: int = MOST_RACING) -> list[Made]:
    """Those with the lowest lower ends race, `most` of them and all that cannot be told from the last of these.

    The interval decides: a predictor that knows little rules little out.
    """
    lows = sorted(value.low for value in latencies.values())
    highs = sorted(value.high for value in latencies.values())
    if len(lows) <= most:
        return list(made)
    limit_s = highs[most - 1]
    found = []
    for one in made:
        value = latencies.get(one.name)
        if value is not None and value.low > limit_s:
            reason = (
                f"predicted {value.value * 1e3:.3g} ms ({value.low * 1e3:.3g} to {value.high * 1e3:.3g}): "
                f"{most} others are faster, and it is not measured"
            )
            one = replace(one, decision=replace(one.decision, accepted=False, reason=reason))
        found.append(one)
    return found
