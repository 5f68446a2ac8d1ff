"""What a search itself took: joules of this machine and of devices, and the grams of CO2e that stand for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeprof.carbon import Intensity, Spread
from edgeprof.carbon.inputs import TRIANGULAR, Input
from edgeprof.carbon.intensity import INTENSITY
from edgeprof.carbon.monte_carlo import Number, Numbers, draw, nominal, spread
from edgeprof.carbon.sci import operational_g
from edgeprof.own_cost import Joules, OwnCost, total

__all__ = ["COST", "costs_of", "elapsed_s", "grams_of", "joules_of"]

# What each worker recorded is a fact of the study under this word and its name.
COST = "cost"
ENERGY = "energy of the search"


def costs_of(notes: Mapping[str, Any], but: str = "") -> list[OwnCost]:
    """What workers recorded of themselves."""
    found = []
    for name, value in notes.items():
        if name.startswith(f"{COST} ") and name != f"{COST} {but}":
            devices = value["devices"]
            found.append(
                OwnCost(
                    **{
                        **value,
                        "host": Joules(**value["host"]),
                        "devices": Joules(**devices) if devices is not None else None,
                    }
                )
            )
    return found


def elapsed_s(costs: Sequence[OwnCost]) -> float:
    """The time of all sittings, one behind the other; of workers side by side it counts once."""
    spans: list[list[float]] = []
    for one in sorted(costs, key=lambda one: one.began_at_s):
        end = one.began_at_s + one.elapsed_s
        if spans and one.began_at_s <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], end)
        else:
            spans.append([one.began_at_s, end])
    return sum(end - start for start, end in spans)


def joules_of(costs: Sequence[OwnCost]) -> Joules | None:
    """All energy that was recorded; None where nothing was."""
    parts = [joules for cost in costs for joules in (cost.host, cost.devices) if joules is not None]
    return total(parts) if parts else None


def grams_of(costs: Sequence[OwnCost], grid: Intensity) -> Spread | None:
    """Grams of CO2e of the energy that was used; making the machines is not in it. None where nothing was recorded."""
    joules = joules_of(costs)
    if joules is None:
        return None
    energy = Input(
        name=ENERGY, value=joules.value_j, unit="J", kind=joules.kind, source=joules.words, low=joules.low_j,
        high=joules.high_j, shape=TRIANGULAR,
    )  # fmt: skip
    inputs = [energy, grid.input]

    def grams(numbers: Numbers) -> Number:
        return operational_g(numbers[ENERGY], numbers[INTENSITY])

    return spread(grams, nominal(inputs), draw(inputs, seed=0))
