"""A tuning as it is shown: what is said of ties, permission, failures and simulation; and as JSON."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from edgeprof.reports.tuning import objective_words, render_tuning, to_document
from edgeprof.tuning.objective import Measured, Objective
from edgeprof.tuning.outcome import Seen
from edgeprof.tuning.session import Found
from edgeprof.values import Value
from tests.unit.recipes import make_recipe
from tests.unit.test_tuning_recipe_outcome import BIG, CAPPED, DEFAULT, ENERGY, LITTLE, judged, seen

RED = "\x1b[31m"


def found_of(*all_seen: Seen, objective: Objective = ENERGY) -> Found:
    return Found(
        outcome=judged(*all_seen, objective=objective), recipe=make_recipe(), notes=(f"a note{RED}",),
        n_configurations=640, n_measured=len(all_seen), n_jobs=9, n_before=4, ended_by="done", why="spent",
    )  # fmt: skip


def shown(found: Found) -> str:
    page = io.StringIO()
    code = (Path("run_model.py"),)
    Console(file=page, width=160, no_color=True).print(render_tuning(found, Path("r.toml"), code))
    return " ".join(page.getvalue().split())


def test_what_needs_root_what_does_not_and_what_failed_are_told() -> None:
    broken = Seen(configuration=LITTLE, levels=(1,), measured=(Measured(failure=f"crashed{RED}"),))
    text = shown(found_of(seen(DEFAULT, 0.010, 0.050), seen(BIG, 0.012, 0.030), seen(CAPPED, 0.0126, 0.020), broken))

    assert "best without root onnxruntime, 4 threads, big 4-7" in text
    assert "needs root (its caps of clocks); the best without it: onnxruntime, 4 threads, big 4-7" in text
    assert "4 of 640 configurations were measured, in 9 measurements, 4 of them in earlier sittings" in text
    assert "did not run: onnxruntime, 4 threads, little 0-3: crashed" in text
    assert "latency against energy" in text
    assert "SIMULATED" not in text
    assert "\x1b" not in text, "nothing that a terminal would obey"
    assert "not compiled here" in text


def test_what_does_not_surely_keep_the_budget_is_marked() -> None:
    text = shown(found_of(seen(DEFAULT, 0.010, 0.050), seen(LITTLE, 0.035, 0.010)))

    assert text.count("not surely") == 1, "the leanest of the front"
    assert "in budget" in text


def test_a_default_that_is_as_good_is_handed_over_and_the_smallest_shown_beside_it() -> None:
    text = shown(found_of(seen(DEFAULT, 0.010, 0.0301), seen(BIG, 0.012, 0.030)))

    assert "the default, handed over" in text
    assert "smallest, not surely onnxruntime, 4 threads, big 4-7" in text
    assert "the default is as good" in text


def test_simulated_numbers_are_called_so() -> None:
    simulated = Value(0.01, 0.0099, 0.0101, "simulated")
    one = Seen(configuration=DEFAULT, levels=(1,), measured=(Measured(latency=simulated),))

    assert "SIMULATED board: nothing of it was measured" in shown(found_of(one, objective=Objective()))


def test_the_document_is_plain_json_with_units_in_its_names() -> None:
    found = found_of(seen(DEFAULT, 0.010, 0.050), seen(BIG, 0.012, 0.030), seen(LITTLE, 0.035, 0.010))

    document = json.loads(json.dumps(to_document(found)))

    assert document["chosen"]["latency_s"]["value"] == pytest.approx(0.012)
    assert document["chosen"]["energy_j"]["high"] > document["chosen"]["energy_j"]["low"]
    assert document["default"]["configuration"]["threads"] == 8
    assert [one["latency_s"]["value"] for one in document["front"]] == pytest.approx([0.010, 0.012, 0.035])
    assert document["recipe"]["schema"] == 1
    assert not document["default_is_as_good"]


def test_energy_times_time_has_a_column_and_numbers_have_their_unit() -> None:
    edp = Objective(name="edp")
    text = shown(found_of(seen(DEFAULT, 0.010, 0.05), seen(LITTLE, 0.030, 0.02), objective=edp))

    assert "energy x time" in text
    assert "0.0005 J s" in text
    assert objective_words(Objective(), 0.0123) == "12.3 ms"
    assert objective_words(ENERGY, 0.0123) == "12.3 mJ"
    assert dataclasses.replace(edp, latency_budget_s=1.0).unit == "J s"
