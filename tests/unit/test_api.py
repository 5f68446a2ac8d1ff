"""The Python API without a device: what is offered, what is refused, and how a profile shows and keeps itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
from rich.console import Console

import edgeprof
from edgeprof.errors import EdgeprofError, FleetError, MeasurementError, ModelError, StoreError, UsageError
from tests.unit.run_factory import LAYERS, make_run


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEPROF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def profile() -> edgeprof.Profile:
    return edgeprof.Profile(make_run())


# --- what is offered -----------------------------------------------------------------------------------------------


def test_the_package_offers_what_all_lists_and_says_so_to_dir() -> None:
    assert set(edgeprof.__all__) == {"Device", "Profile", "__version__", "profile"}
    assert set(edgeprof.__all__) <= set(dir(edgeprof))
    assert all(getattr(edgeprof, name) is not None for name in edgeprof.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'edgeprof' has no attribute 'profil'"):
        edgeprof.profil  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = ("numpy", "onnx", "rich", "sqlalchemy", "edgeprof.api")
    code = f"import sys, edgeprof; print([m for m in {heavy} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_neither_pandas_nor_torch_is_imported_before_it_is_needed() -> None:
    code = "import sys; from edgeprof import profile; print([m for m in ('pandas', 'torch') if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"threads": 0}, "threads cannot be 0"),
        ({"threads": True}, "threads cannot be True"),
        ({"batch": 0}, "batch cannot be 0"),
        ({"rounds": 0}, "rounds cannot be 0"),
        ({"rounds": 2.5}, "rounds cannot be 2.5"),
        ({"min_runs": -1}, "min_runs cannot be -1"),
        ({"min_s": float("nan")}, "min_s cannot be nan"),
        ({"gate_timeout_s": float("inf")}, "gate_timeout_s cannot be inf"),
        ({"min_s": 5.0, "max_s": 1.0}, "max_s cannot be 1.0"),
        ({"min_s": "1"}, "min_s cannot be '1'"),
        ({"deadline_s": 0}, "deadline_s cannot be 0"),
        ({"shapes": "x=1,3"}, "shapes is 'x=1,3'"),
        ({"shapes": {"x": "1,3"}}, "the shape of 'x' is '1,3'"),
        ({"shapes": {"x": (1, 0)}}, "a dimension of 'x' cannot be 0"),
        ({"inputs": {"x": object()}}, "the values of input 'x' are no array of numbers"),
        ({"streams": 0}, "streams cannot be 0"),
        ({"clock_caps": {"policy0": 0.0}}, "the clock of policy0 cannot be capped at 0.0"),
        ({"clock_caps": {"policy0": "1GHz"}}, "the clock of policy0 cannot be capped at '1GHz'"),
        ({"clock_caps": ["policy0"]}, r"clock_caps is \['policy0'\]"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_before_anything_is_measured(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        edgeprof.profile("model.onnx", store=None, **options)

    assert caught.value.advice


@pytest.mark.parametrize("model", [None, 3, b"bytes", {"model": 1}])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(UsageError, match="is no model"):
        edgeprof.profile(model, store=None)


def test_a_model_that_is_not_there_is_said() -> None:
    with pytest.raises(ModelError, match=r"there is no file missing\.onnx"):
        edgeprof.profile("missing.onnx", store=None)


@pytest.mark.parametrize("device", ["pi5", "ssh://", "ftp://host", "sim:", "local:x"])
def test_an_unknown_name_or_a_broken_address_is_refused_with_advice(device: str) -> None:
    with pytest.raises(FleetError) as caught:
        edgeprof.profile("model.onnx", device, store=None)

    assert caught.value.advice


# --- what came of it -----------------------------------------------------------------------------------------------


def test_a_profile_tells_what_was_measured_and_how_far_to_trust_it(profile: edgeprof.Profile) -> None:
    assert profile.median_s == pytest.approx(1.5e-3, rel=0.01)
    assert profile.latency is not None
    assert profile.latency_missing is None
    assert profile.verdict.level == "trusted"
    assert (profile.origin, profile.device, profile.model) == ("measured", "pi5", "net.onnx")
    assert len(profile.operators) == len(LAYERS)
    assert profile.operator_totals is not None
    assert profile.notes


def test_a_profile_without_samples_says_why() -> None:
    profile = edgeprof.Profile(make_run(rounds=()))

    assert (profile.latency, profile.median_s) == (None, None)
    assert profile.latency_missing
    assert "no latency" in repr(profile)


def test_a_profile_prints_as_the_page_of_the_command_line(profile: edgeprof.Profile) -> None:
    console = Console(width=120, color_system=None)
    with console.capture() as captured:
        console.print(profile)

    assert str(profile) == captured.get()
    assert "block/conv" in str(profile)
    assert repr(profile).startswith("<edgeprof.Profile 20260101-000000-0a0b: net.onnx on pi5, 1.50 ms, trusted")
    assert profile._repr_html_().startswith('<div class="edgeprof">')


def test_a_profile_is_saved_whole_and_read_back_equal(profile: edgeprof.Profile, tmp_path: Path) -> None:
    path = tmp_path / "run.json"

    profile.save(path)

    assert edgeprof.Profile.load(path) == profile
    assert json.loads(path.read_text()) == profile.to_dict()
    assert list(tmp_path.iterdir()) == [path]


def test_saving_and_reading_where_it_cannot_be_says_so(profile: edgeprof.Profile, tmp_path: Path) -> None:
    with pytest.raises(EdgeprofError, match=r"cannot be written: No such file"):
        profile.save(tmp_path / "none" / "run.json")
    with pytest.raises(StoreError, match="cannot be read"):
        edgeprof.Profile.load(tmp_path / "missing.json")
    (tmp_path / "odd.json").write_text("[]")
    with pytest.raises(StoreError, match=r"odd\.json"):
        edgeprof.Profile.load(tmp_path / "odd.json")


def test_a_data_frame_has_a_row_per_kernel_and_units_in_its_columns(profile: edgeprof.Profile) -> None:
    frame = profile.to_pandas()

    assert list(frame["name"]) == [row.name for row in profile.operators]
    assert {"median_s", "moved_bytes", "macs_per_s", "intensity_macs_per_byte", "mapping"} <= set(frame.columns)
    assert frame["macs"].dtype == "Int64"
    assert pandas.isna(frame["macs"].iloc[4])
    assert frame["share"].sum() == pytest.approx(1.0)


def test_a_data_frame_of_no_operators_is_refused_with_the_reason() -> None:
    with pytest.raises(MeasurementError, match="not asked for"):
        edgeprof.Profile(make_run(with_operators=False)).to_pandas()


def test_without_pandas_the_error_says_what_to_install(
    profile: edgeprof.Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(UsageError) as caught:
        profile.to_pandas()

    assert caught.value.advice == "pip install pandas"
