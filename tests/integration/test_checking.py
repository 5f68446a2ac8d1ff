"""Checks on a simulated board that misbehaves, through the real agent: the board's figures change between blocks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from device_agents import wire
from edgeprof.budgets import read_budget
from edgeprof.checking import Limits, Side, as_blocks, check_interleaved
from edgeprof.errors import MeasurementError
from edgeprof.fleet import Device
from edgeprof.models import ModelFile, read_model
from edgeprof.models.example import write_example
from edgeprof.profiling import OnProgress, OpenDevice, Settings, attached
from edgeprof.regression import FAILED, PASSED, Plan

LIMITS = Limits(max_regression=0.03)
CANDIDATE = "candidate.onnx"
# The board's speed in block k (counted over both sides) of the model of that name.
Speed = Callable[[int, str], float]


class Board:
    """A board whose figures are scaled before each block."""

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self.n_blocks = 0

    def __call__(
        self, opened: OpenDevice, model: ModelFile, job: wire.Job, on_progress: OnProgress | None
    ) -> wire.Profile:
        speed = self.speed(self.n_blocks, job.model.name)
        self.n_blocks += 1
        assert job.board is not None
        board = replace(
            job.board,
            clusters=tuple(replace(c, macs_per_cycle=c.macs_per_cycle * speed) for c in job.board.clusters),
            memory_bytes_per_s=job.board.memory_bytes_per_s * speed,
            operator_overhead_s=job.board.operator_overhead_s / speed,
        )
        return attached(opened, model, replace(job, board=board), on_progress)


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Side, Side]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_example(tmp_path / "baseline.onnx")
    model = read_model(tmp_path / "baseline.onnx")
    settings = as_blocks(Settings(check_outputs=False))
    return Side(model=model, settings=settings), Side(model=replace(model, name=CANDIDATE), settings=settings)


DEVICE = Device(name="board", address="sim:example", python=sys.executable)


def test_a_board_that_slows_down_all_the_while_does_not_make_the_candidate_slower(
    sides: tuple[Side, Side],
) -> None:
    baseline, candidate = sides
    board = Board(lambda k, _name: 0.995**k)

    with OpenDevice(DEVICE, measure=board) as opened:
        outcome = check_interleaved(opened, baseline, candidate, LIMITS, plan=Plan(looks=(6, 10, 16)))

    assert outcome.decision == PASSED
    assert board.n_blocks == 2 * outcome.n_pairs


def test_a_candidate_that_is_slower_by_more_than_allowed_fails_although_the_board_drifts(
    sides: tuple[Side, Side],
) -> None:
    baseline, candidate = sides
    board = Board(lambda k, name: 0.995**k / (1.08 if name == CANDIDATE else 1.0))

    with OpenDevice(DEVICE, measure=board) as opened:
        outcome = check_interleaved(opened, baseline, candidate, LIMITS, plan=Plan(looks=(6, 10, 16)))

    assert outcome.decision == FAILED
    assert outcome.regression.found == pytest.approx(1.08, rel=0.02)


def test_a_first_inference_that_no_clock_can_time_is_an_error_and_not_a_zero(
    sides: tuple[Side, Side],
) -> None:
    baseline, candidate = sides

    def coarse(opened: OpenDevice, model: ModelFile, job: wire.Job, told: OnProgress | None) -> wire.Profile:
        return replace(attached(opened, model, job, told), first_inference_s=0.0)

    limits = replace(LIMITS, budgets=(read_budget("first_inference=1s"),))
    with OpenDevice(DEVICE, measure=coarse) as opened, pytest.raises(MeasurementError, match="first inference"):
        check_interleaved(opened, baseline, candidate, limits, plan=Plan(looks=(6,)))
