"""Boards as data: complete, with a source for every figure."""

from __future__ import annotations

from dataclasses import fields
from importlib import resources

import pytest

from device_agents import wire
from edgeprof.errors import FleetError
from edgeprof.models import board_to_simulate
from latency_models import boards


def example() -> str:
    return resources.files(boards).joinpath("example.toml").read_text("utf-8")


@pytest.mark.parametrize("name", boards.names())
def test_every_board_that_comes_along_is_complete_and_has_its_sources(name: str) -> None:
    board = boards.load(name)

    assert board.name == name
    assert set(board.sources) == {field.name for field in fields(boards.BoardFigures)} - {
        "name",
        "description",
        "sources",
    }


def test_the_example_says_that_it_is_invented() -> None:
    board = boards.load("example")

    assert "Invented figures" in board.description
    assert all(source.startswith("invented") for source in board.sources.values())


def test_an_unknown_board_names_those_that_look_like_it() -> None:
    with pytest.raises(boards.UnknownBoard, match=r"no board 'exmaple'; did you mean example"):
        boards.load("exmaple")
    with pytest.raises(boards.UnknownBoard, match=r"known: .*example"):
        boards.load("zzz")


def test_a_figure_without_a_source_is_refused() -> None:
    text = example().replace('value = 4\nsource = "invented"', "value = 4", 1)

    with pytest.raises(boards.BoardError, match="cores has no source"):
        boards.parse("mine", text)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("[cores]", "[kores]", "unknown figure 'kores'"),
        ('[noise]\nvalue = 0.01\nsource = "invented"', "", r"\[noise\] with value and source is missing"),
        ("value = 0.01", 'value = "little"', "noise is 'little', not a number"),
        ("value = 0.01", "value = nan", "noise is nan, not a number"),
        ("value = 0.01", "value = -1", "noise is -1, which is too small"),
        ("value = 4\n", "value = 1.5\n", "cores is 1.5, not a whole number"),
        ("value = 0.3", "value = 1.0", "throttle_share"),
        ("description", "# description", "description is missing"),
        ("[cores]", "[cores", "board mine: "),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_by_name(old: str, new: str, complaint: str) -> None:
    assert old in example()

    with pytest.raises(boards.BoardError, match=complaint):
        boards.parse("mine", example().replace(old, new, 1))


def test_a_job_carries_the_same_figures_as_the_board_s_file() -> None:
    carried, figures = board_to_simulate("example"), boards.load("example")

    assert isinstance(carried, wire.Board)
    assert all(getattr(carried, f.name) == getattr(figures, f.name) for f in fields(wire.Board))
    with pytest.raises(FleetError, match="no board 'pi9'"):
        board_to_simulate("pi9")
