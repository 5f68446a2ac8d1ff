"""Power of boards without a meter: from the catalogue with its sources, else from the number of CPUs, always wide."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeprof.energy.modelled import known_board, modelled_power
from latency_models import boards
from tests.unit.run_factory import make_run

MACHINE = make_run("r").profile.machine


@pytest.mark.parametrize("name", boards.names())
def test_every_board_of_the_catalogue_has_its_figures_with_their_sources(name: str) -> None:
    board = boards.load(name)

    active, idle, sources = modelled_power(board, 1, 4)

    assert idle.low < idle.value < idle.high
    assert active.value > idle.value
    assert board.figures["power.idle_w"].source in sources[0]
    assert "assumed" in sources[-1]


def test_each_busy_core_adds_its_own_and_no_more_cores_than_there_are() -> None:
    board = boards.load("pi-5")

    powers = [modelled_power(board, threads, 4)[0].value for threads in (1, 2, 4, 64)]

    assert powers[1] - powers[0] == pytest.approx(0.655)
    assert powers[2] == powers[3] == pytest.approx(2.76 + 4 * 0.655)


def test_the_strongest_cores_of_two_clusters_are_busy_first() -> None:
    board = boards.load("phone-sdm845")
    strongest = max(
        float(figure.value) for path, figure in board.figures.items()
        if path.endswith("core_active_w") and isinstance(figure.value, float | int)
    )  # fmt: skip

    active, idle, _ = modelled_power(board, 1, 8)

    assert active.value - idle.value == pytest.approx(strongest)


def test_of_an_unknown_machine_only_a_very_wide_range_is_said() -> None:
    active, idle, sources = modelled_power(None, 2, 4)

    assert idle.high / idle.low > 20
    assert active.low == pytest.approx(idle.low + 0.4)
    assert active.value == pytest.approx(8.0)
    assert "assumed from 4 CPUs" in sources[0]


def test_a_board_is_known_by_what_it_calls_itself_unless_it_is_emulated() -> None:
    five = replace(MACHINE, model="Raspberry Pi 5 Model B Rev 1.0")

    found = known_board(five)

    assert found is not None
    assert found.name == "pi-5"
    assert known_board(replace(five, emulator="qemu")) is None
    assert known_board(replace(five, model="Raspberry Pi Compute Module 3")) is None
    assert known_board(replace(five, model=None)) is None
