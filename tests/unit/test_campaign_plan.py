"""Plans: what they may say, what they mean, and the order that comes of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from edgeprof.campaign import Outline, choose_devices, draw_up, plan_of, read_models, read_plan, unchanged
from edgeprof.errors import FleetError, ModelError, PlanError
from edgeprof.fleet import Device, Fleet
from edgeprof.models.example import write_example

DEVICES = (Device(name="pi4", address="ssh://pi4", groups=["kitchen"]), Device(name="pi5", address="ssh://pi5"))
FLEET = Fleet(Path("fleet.toml"), DEVICES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.onnx", "a.onnx"):
        write_example(tmp_path / name)
    return tmp_path


def plan_in(folder: Path, **raw: Any) -> Any:
    return plan_of({"models": ["*.onnx"], "devices": ["pi4", "pi5"], **raw}, "plan.toml", folder)


def test_a_plan_names_its_models_beside_itself_and_multiplies_its_matrix(folder: Path) -> None:
    (folder / "plan.toml").write_text(
        'models = ["*.onnx"]\nall = true\n[defaults]\noperators = true\n[matrix]\nthreads = [1, 4]\nrounds = [3, 5]\n'
    )

    plan = read_plan(folder / "plan.toml")

    assert [Path(model).name for model in plan.models] == ["a.onnx", "b.onnx"]
    assert [(c.threads, c.rounds) for c in plan.configurations] == [(1, 3), (1, 5), (4, 3), (4, 5)]
    assert all(c.operators for c in plan.configurations)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"modles": ["a"]}, "unknown key 'modles'"),
        ({"matrix": {"treads": [1]}}, "unknown key 'treads'"),
        ({"matrix": {"threads": 1}}, "matrix.threads is not a list"),
        ({"matrix": {"threads": [0]}}, "at `threads`"),
        ({"repetitions": 0}, "repetitions"),
        ({"rest": {"cool": 3}}, "cool"),
        ({"configurations": {}}, "not a list of tables"),
        ({"defaults": {"min_s": 9.0, "max_s": 1.0}}, "max_s = 1 is less than min_s = 9"),
        ({"matrix": {"threads": [2, 2]}}, "there twice"),
        ({"models": ["*.tflite"]}, "no file is like"),
        ({"devices": []}, "no device is named"),
        ({"matrix": {"rounds": list(range(1, 201)), "threads": list(range(1, 200))}}, "too many"),
    ],
)
def test_a_plan_that_makes_no_sense_says_where_and_what(folder: Path, raw: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan_in(folder, **raw)


def test_a_plan_that_is_no_toml_names_its_line(folder: Path) -> None:
    (folder / "plan.toml").write_text("models = [1,\nseed == 2\n")

    with pytest.raises(PlanError, match="line"):
        read_plan(folder / "plan.toml")


def test_devices_are_chosen_by_name_group_and_pattern(folder: Path) -> None:
    plan = plan_in(folder, groups=["kitchen"])

    assert [d.name for d in choose_devices(FLEET, plan)] == ["pi4", "pi5"]
    assert [d.name for d in choose_devices(FLEET, plan, limit=["pi*"], exclude=["kitchen"])] == ["pi5"]
    with pytest.raises(FleetError, match="no device of this campaign is like 'pi6'"):
        choose_devices(FLEET, plan, limit=["pi6"])
    with pytest.raises(FleetError, match="leave no device"):
        choose_devices(FLEET, plan, exclude=["pi*"])


def test_every_repetition_is_a_block_of_all_combinations_in_an_order_of_its_own(folder: Path) -> None:
    plan = plan_in(folder, repetitions=8, matrix={"threads": [1, 2, 4]})

    outline, left_out = draw_up(plan, DEVICES, read_models(plan))

    assert not left_out
    orders = []
    for device in range(2):
        own = [job for job in outline.jobs if job.device == device]
        blocks = [own[k : k + 6] for k in range(0, len(own), 6)]
        assert [{job.repetition for job in block} for block in blocks] == [{k} for k in range(8)]
        assert all(len({(job.model, job.configuration) for job in block}) == 6 for block in blocks)
        orders += [tuple((job.model, job.configuration) for job in block) for block in blocks]
    assert len(set(orders)) > 10, "blocks and devices have orders of their own"
    firsts = Counter(order[0] for order in orders)
    assert max(firsts.values()) < len(orders), "no combination is always first"


def test_the_same_seed_gives_the_same_order_and_another_seed_another(folder: Path) -> None:
    plan = plan_in(folder, repetitions=4, matrix={"threads": [1, 2, 4]})
    models = read_models(plan)

    first, _ = draw_up(plan, DEVICES, models)
    again, _ = draw_up(plan, DEVICES, models)
    other, _ = draw_up(plan_in(folder, repetitions=4, matrix={"threads": [1, 2, 4]}, seed=1), DEVICES, models)

    assert first.jobs == again.jobs
    assert sorted(first.jobs) == sorted(other.jobs)
    assert first.jobs != other.jobs


def test_what_no_runtime_can_do_is_left_out_with_the_reason(folder: Path) -> None:
    plan = plan_in(folder, matrix={"runtime": ["onnxruntime", "litert"]})

    outline, left_out = draw_up(plan, DEVICES, read_models(plan))

    assert len(outline.jobs) == 4
    assert {one.reason for one in left_out} == {"litert does not run .onnx files"}
    nothing = plan_in(folder, matrix={"runtime": ["litert"]})
    with pytest.raises(PlanError, match=r"nothing to measure: .*litert does not run"):
        draw_up(nothing, DEVICES, read_models(nothing))


def test_an_outline_reads_back_as_it_was_written_and_garbage_does_not(folder: Path) -> None:
    plan = plan_in(folder, rest={"cool_c": 50.0}, matrix={"threads": [1, 2]})
    outline, _ = draw_up(plan, DEVICES, read_models(plan))

    assert Outline.from_json(outline.to_json(), "campaign x") == outline
    with pytest.raises(PlanError, match="campaign x: its plan cannot be read"):
        Outline.from_json("{}", "campaign x")
    with pytest.raises(PlanError, match="schema 99"):
        Outline.from_json(outline.to_json().replace('"schema":1', '"schema":99'), "campaign x")


def test_a_model_that_changed_since_is_not_measured_under_its_old_name(folder: Path) -> None:
    plan = plan_in(folder)
    outline, _ = draw_up(plan, DEVICES, read_models(plan))
    assert unchanged(outline).keys() == {(0, 0), (1, 0)}

    (folder / "a.onnx").write_bytes((folder / "a.onnx").read_bytes() + b"\x72\x00")

    with pytest.raises(ModelError):
        unchanged(outline)
