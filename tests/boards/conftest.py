"""One board of each kind for all tests here: it boots once, and each test finds it as it was after that.

Its emulator needs a CPU, and its clocks and meters are as late as it is: `make test` runs these tests by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boards.virtual_board import RASPI3B, NoBoard, VirtualBoard, image, why_not


@pytest.fixture(scope="session")
def board_image() -> Path:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    try:
        return image()
    except NoBoard as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def booted(board_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualBoard]:
    with VirtualBoard(tmp_path_factory.mktemp("virt") / "board", board_image) as board:
        yield board


@pytest.fixture
def board(booted: VirtualBoard) -> VirtualBoard:
    """On its battery, cool, at a fixed clock, and its power meter plugged."""
    booted.restore()
    return booted


@pytest.fixture
def raspi3b(board_image: Path, tmp_path: Path) -> Iterator[VirtualBoard]:
    with VirtualBoard(tmp_path / "board", board_image, machine=RASPI3B) as board:
        yield board
