"""What a simulated device needs in its job: the work of a model, and the board that shall do it."""

from __future__ import annotations

from typing import Any

from device_agents import wire
from edgeprof.errors import FleetError
from latency_models import boards
from latency_models.graph import Graph, Operator

__all__ = ["board_to_simulate", "on_the_wire", "work"]

# Figures that a board may do without, by what a job calls them: what they stand for then does not happen on it.
OF_CLUSTER = {
    "shared_active_w": "shared_active_w",
    "volts": "volts",
    "core_bandwidth_bytes_per_s": "core_bytes_per_s",
    "bandwidth_bytes_per_s": "bytes_per_s",
    "full_memory_from_hz": "full_memory_from_hz",
}
OF_BOARD = {
    "memory.contention": "contention",
    "memory.slow_share": "slow_memory_share",
    "power.stalled_share": "stalled_share",
    "power.asleep_share": "asleep_share",
    "software.barrier_s": "barrier_s",
    "software.crossing_s": "crossing_s",
    "software.wake_s": "wake_s",
    "software.balance": "balance",
    "software.migration": "migration",
    "software.collision": "collision",
}


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
        FleetError: there is no such board, or too little is known of it.
    """
    try:
        board = boards.load(name)
    except boards.UnknownBoard as error:
        raise FleetError(str(error), "name one of them: edgeprof devices add NAME sim:BOARD") from error
    return on_the_wire(board)


def on_the_wire(board: boards.Board) -> wire.Board:
    """A board with what a simulation needs of it.

    Raises:
        FleetError: too little is known of it.
    """
    if board.missing:
        raise FleetError(
            f"{board.name} cannot be simulated: its file lacks {', '.join(board.missing)}",
            "use another board (edgeprof sim list), or give these figures in the file, under [simulation] if assumed",
        )

    def value(path: str) -> Any:
        return board.figures[path].value

    def known(names: dict[str, str], prefix: str = "") -> dict[str, Any]:
        return {field: value(prefix + name) for name, field in names.items() if prefix + name in board.figures}

    return wire.Board(
        name=board.name,
        clusters=tuple(
            wire.Cluster(
                name=cluster,
                cores=value(f"clusters.{cluster}.cores"),
                clocks_hz=value(f"clusters.{cluster}.clocks_hz"),
                macs_per_cycle=value(f"clusters.{cluster}.fp32_macs_per_cycle"),
                core_active_w=value(f"clusters.{cluster}.core_active_w"),
                **known(OF_CLUSTER, f"clusters.{cluster}."),
            )
            for cluster in board.clusters
        ),
        memory_bytes=value("memory.bytes"),
        memory_bytes_per_s=value("memory.bandwidth_bytes_per_s"),
        operator_overhead_s=value("software.operator_overhead_s"),
        run_overhead_s=value("software.run_overhead_s"),
        noise=value("software.noise"),
        idle_w=value("power.idle_w"),
        ambient_c=value("thermal.ambient_c"),
        resistance_k_per_w=value("thermal.resistance_k_per_w"),
        capacitance_j_per_k=value("thermal.capacitance_j_per_k"),
        trip_c=value("thermal.trip_c"),
        hysteresis_k=value("thermal.hysteresis_k"),
        poll_s=value("thermal.poll_s"),
        sensor=_sensor(board),
        **known(OF_BOARD),
    )


def _sensor(board: boards.Board) -> wire.Sensor | None:
    """The board's power sensor; None where it has none.

    Raises:
        FleetError: it is described in part only, or its boundary is not one of those that a meter may have.
    """
    names = ("boundary", "rate_hz", "noise_w", "step_w")
    figures = {name: board.figures.get(f"sensor.{name}") for name in names}
    known: dict[str, Any] = {name: figure.value for name, figure in figures.items() if figure is not None}
    if not known:
        return None
    lacks = [f"sensor.{name}" for name in names if name not in known]
    if lacks:
        raise FleetError(f"the sensor of {board.name} lacks {', '.join(lacks)}", "give all of its figures, or none")
    if known["boundary"] not in wire.BOUNDARIES:
        raise FleetError(
            f"the sensor of {board.name} has the boundary {known['boundary']!r}", f"use {', '.join(wire.BOUNDARIES)}"
        )
    return wire.Sensor(**known)


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
