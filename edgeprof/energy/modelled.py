"""Power of a board that has no meter, from what is known of it; never to be shown without the word "modelled"."""

from __future__ import annotations

from device_agents.wire import MachineInfo
from edgeprof.energy.results import Interval
from latency_models import boards
from latency_models.boards import Board

__all__ = ["known_board", "modelled_power"]

IDLE, CORES, ACTIVE = "power.idle_w", "cores", "core_active_w"
# Boards of one kind differ in revision, clocks, what is plugged in and how warm they are. Assumed: a factor of two.
LOW, HIGH = 0.5, 2.0
RANGE_WORDS = "half to twice that, assumed: revision, clocks, temperature and what is plugged in differ"
# Of a machine of which only the number of CPUs is known, for each CPU at rest and each busy one: from a Pi Zero 2
# (0.6 W for four CPUs) and a phone's little core (0.22 W when busy) to a desktop (40 W at rest and 125 W of design
# power for eight CPUs). Assumed.
UNKNOWN_IDLE_W = (1.0, 0.15, 5.0)
UNKNOWN_ACTIVE_W = (2.0, 0.2, 16.0)
# How a device tree's model begins, and which board of the catalogue that is.
MODELS = {
    "Raspberry Pi 5": "pi-5",
    "Raspberry Pi 4": "pi-4",
    "Raspberry Pi 3": "pi-3",
    "Raspberry Pi Zero 2": "pi-zero-2",
    "NVIDIA Jetson Nano": "jetson-nano",
}


def known_board(machine: MachineInfo) -> Board | None:
    """The board of the catalogue that a device is by its own words; None if none is, or if it is emulated."""
    if machine.emulator is not None:
        return None
    name = next((name for start, name in MODELS.items() if (machine.model or "").startswith(start)), None)
    return None if name is None else boards.load(name)


def modelled_power(board: Board | None, threads: int, n_cpus: int) -> tuple[Interval, Interval, tuple[str, ...]]:
    """Watts of the whole board with `threads` busy CPUs, watts at rest, and the sources of both.

    Without a board, or with one of which these figures are not known, from the number of CPUs in a very wide range.
    """
    needed = () if board is None else (IDLE, *_paths(board, CORES), *_paths(board, ACTIVE))
    if board is None or any(path not in board.figures for path in needed):
        return _of_unknown(threads, n_cpus)
    idle_w = _number(board, IDLE)
    load_w = sum(sorted(_cores(board), reverse=True)[: max(1, threads)])
    sources = [f"board {board.name}, {path}: {board.figures[path].source}" for path in (IDLE, *_paths(board, ACTIVE))]
    return _about(idle_w + load_w), _about(idle_w), (*sources, RANGE_WORDS)


def _cores(board: Board) -> list[float]:
    """What each core adds when it is busy. The strongest are taken first, as the scheduler and runtimes do."""
    return [
        _number(board, active)
        for cores, active in zip(_paths(board, CORES), _paths(board, ACTIVE), strict=True)
        for _ in range(int(_number(board, cores)))
    ]


def _of_unknown(threads: int, n_cpus: int) -> tuple[Interval, Interval, tuple[str, ...]]:
    idle = [one * n_cpus for one in UNKNOWN_IDLE_W]
    active = [rest + one * min(threads, n_cpus) for rest, one in zip(idle, UNKNOWN_ACTIVE_W, strict=True)]
    words = (
        f"assumed from {n_cpus} CPUs: {_words(UNKNOWN_IDLE_W)} for each at rest,"
        f" {_words(UNKNOWN_ACTIVE_W)} more for each busy one; from a Pi Zero 2 to a desktop"
    )
    return (
        Interval(value=active[0], low=active[1], high=active[2]),
        Interval(value=idle[0], low=idle[1], high=idle[2]),
        (words,),
    )


def _words(power_w: tuple[float, float, float]) -> str:
    return "{:g} W ({:g} to {:g})".format(*power_w)


def _about(power_w: float) -> Interval:
    return Interval(value=power_w, low=LOW * power_w, high=HIGH * power_w)


def _paths(board: Board, figure: str) -> tuple[str, ...]:
    return tuple(f"clusters.{cluster}.{figure}" for cluster in board.clusters)


def _number(board: Board, path: str) -> float:
    value = board.figures[path].value
    assert isinstance(value, int | float)  # noqa: S101 - the catalogue was checked when it was read
    return float(value)
