"""What a simulated device needs in its job: the work of a model, and the board that shall do it."""

from __future__ import annotations

from dataclasses import fields

from device_agents import wire
from edgeprof.errors import FleetError
from latency_models import boards
from latency_models.graph import Graph, Operator

__all__ = ["board_to_simulate", "work"]


def work(graph: Graph) -> tuple[wire.Work, ...]:
    """The operators one inference runs, with their work; what is not known about it counts 0 in a simulation.

    Of the branches of an If only the one with most multiply-accumulates is taken, and a loop's body once.
    """
    skipped = _branches_not_taken(graph)
    return tuple(
        wire.Work(operator.name, operator.type, operator.macs or 0, operator.moved_bytes or 0)
        for operator in graph.operators
        if not operator.is_folded and not _is_inside(operator, skipped)
    )


def board_to_simulate(name: str) -> wire.Board:
    """The board of this name as a job carries it.

    Raises:
        FleetError: there is no such board.
    """
    try:
        figures = boards.load(name)
    except boards.UnknownBoard as error:
        raise FleetError(str(error), "name one of them: edgeprof devices add NAME sim:BOARD") from error
    return wire.Board(**{field.name: getattr(figures, field.name) for field in fields(wire.Board)})


def _is_inside(operator: Operator, bodies: set[str]) -> bool:
    return any(operator.body == body or operator.body.startswith(body + "/") for body in bodies)


def _branches_not_taken(graph: Graph) -> set[str]:
    """Bodies of every If but its heaviest."""
    left: set[str] = set()
    for conditional in graph.operators:
        if conditional.type not in ("If", "IF"):
            continue
        prefix = conditional.name + "/"
        cost: dict[str, tuple[int, int]] = {}
        for operator in graph.operators:
            if operator.body.startswith(prefix):
                branch = prefix + operator.body.removeprefix(prefix).split("/")[0]
                macs, moved = cost.get(branch, (0, 0))
                cost[branch] = (macs + (operator.macs or 0), moved + (operator.moved_bytes or 0))
        heaviest = max(cost, key=lambda branch: cost[branch], default="")
        left.update(branch for branch in cost if branch != heaviest)
    return left
