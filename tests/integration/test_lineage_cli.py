"""`edgeprof runs lineage`, and lineage that travels with exported runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeprof.lineage import Descent
from edgeprof.models import read_model
from edgeprof.reports.document import read_lineage, write_documents
from edgeprof.run import Run
from edgeprof.store import Store
from tests.integration.test_runs_cli import Typed, edgeprof
from tests.unit.onnx_maker import residual_block, save
from tests.unit.run_factory import CREATED_AT_S, DIGEST, make_profile, make_run

__all__ = ["edgeprof"]

INT8 = "8" * 64


def descent(child: str, parent: str, **changes: object) -> Descent:
    plain = Descent(
        child_digest=child,
        child_name="net-int8.onnx",
        parent_digest=parent,
        transform="static-int8",
        tool="onnxruntime",
        tool_version="1.31.1",
        options={"calibration": "entropy"},
        created_at_s=CREATED_AT_S,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def of_int8(run_id: str, **fields: object) -> Run:
    job = make_profile().job
    job = replace(job, model=replace(job.model, name="net-int8.onnx", digest=INT8))
    return make_run(run_id, job=job, **fields)  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store with a model, its int8 version, and runs of both."""
    place = tmp_path / "home" / "store.sqlite"
    with Store(place) as store:
        store.add_lineage(descent(INT8, DIGEST))
        store.add(make_run("float-one"))
        store.add(make_run("float-two", seed=1, created_at_s=CREATED_AT_S + 1.0))
        store.add(of_int8("int8-pi", device="pi5"))
        store.add(of_int8("int8-sim", device="sim-pi", origin="simulated"))
    return place


def test_the_tree_shows_every_model_with_the_newest_run_on_each_device(edgeprof: Typed, place: Path) -> None:
    done = edgeprof("lineage", "net.onnx")

    assert done.code == 0
    lines = [line.rstrip() for line in done.out.splitlines()]
    assert lines[0] == f"net.onnx  {DIGEST[:12]}"
    assert lines[1] == "   1.50 ms on pi5, onnxruntime (run float-two, the newest of 2)"
    assert lines[2] == (
        f"   net-int8.onnx  {INT8[:12]}  by static-int8 (onnxruntime 1.31.1; calibration=entropy), 2026-01-01"
    )
    assert lines[3] == "      1.50 ms on pi5, onnxruntime (run int8-pi)"
    assert lines[4] == "      1.50 ms on sim-pi, onnxruntime, SIMULATED (run int8-sim)"
    assert edgeprof("lineage", INT8[:8]).out == done.out


def test_programs_get_the_edges_and_the_figures(edgeprof: Typed, place: Path) -> None:
    found = edgeprof("lineage", INT8, "--json").json

    assert found["lineage"]["ancestors"][0]["transform"] == "static-int8"
    assert found["lineage"]["descendants"] == []
    assert [(one["name"], len(one["runs"])) for one in found["members"]] == [("net.onnx", 1), ("net-int8.onnx", 2)]
    ran = found["members"][0]["runs"][0]
    assert (ran["run"], ran["device"], ran["n_runs"], ran["missing"]) == ("float-two", "pi5", 2, None)
    assert ran["median_s"] == pytest.approx(1.5e-3, rel=0.01)


def test_a_file_is_known_by_its_content(edgeprof: Typed, place: Path, tmp_path: Path) -> None:
    path = save(residual_block(), tmp_path / "renamed.onnx")
    with Store(place) as store:
        store.add_lineage(descent(read_model(path).digest, DIGEST, child_name="block.onnx"))

    done = edgeprof("lineage", str(path))

    assert done.code == 0
    assert "block.onnx" in done.out
    assert done.out.startswith("net.onnx")


def test_a_model_alone_says_that_nothing_is_known(edgeprof: Typed, place: Path, tmp_path: Path) -> None:
    path = save(residual_block(), tmp_path / "block.onnx")

    done = edgeprof("lineage", str(path))

    assert done.code == 0
    assert "nothing is known of where it came from" in done.out


def test_an_unknown_model_is_told_with_what_looks_like_it(edgeprof: Typed, place: Path) -> None:
    done = edgeprof("lineage", "net.onx")

    assert done.code == 1
    assert "did you mean 'net.onnx'" in done.err


def test_lineage_travels_with_an_exported_run_and_is_imported_once(
    edgeprof: Typed, place: Path, tmp_path: Path
) -> None:
    assert edgeprof("export", "int8-pi", "--json", "run.json").code == 0
    with Store(tmp_path / "other.sqlite"):
        pass

    first = edgeprof("import", "run.json", "--store", "other.sqlite")
    second = edgeprof("import", "run.json", "--store", "other.sqlite")

    assert (first.code, second.code) == (0, 0)
    assert "imported int8-pi" in first.out
    assert "1 here already" in second.out
    with Store(tmp_path / "other.sqlite") as store:
        assert store.lineage(INT8).ancestors == (descent(INT8, DIGEST),)


def test_documents_of_before_there_was_lineage_are_read_as_ever(edgeprof: Typed, place: Path, tmp_path: Path) -> None:
    document = json.loads(write_documents([make_run("old")]))
    del document["lineage"]
    (tmp_path / "old.json").write_text(json.dumps(document))

    assert edgeprof("import", "old.json").code == 0
    assert read_lineage(json.dumps([document, document]), "here") == ()


def test_lineage_of_a_wrong_shape_is_refused_and_nothing_is_imported(
    edgeprof: Typed, place: Path, tmp_path: Path
) -> None:
    document = json.loads(write_documents([make_run("new")]))
    document["lineage"] = [{"child_digest": 7}]
    (tmp_path / "new.json").write_text(json.dumps(document))

    done = edgeprof("import", "new.json")

    assert done.code == 1
    assert "new.json: its lineage cannot be read" in done.err
    assert edgeprof("show", "new").code == 1
