"""`edgeprof.profile` on this machine: files, onnx models and torch modules, kept where they were asked to be."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import edgeprof
from edgeprof.errors import ModelError, StoreError, UsageError
from edgeprof.models.example import write_example
from edgeprof.places import store_place
from edgeprof.store import Store

if TYPE_CHECKING:
    import torch

QUICK: dict[str, Any] = {"rounds": 1, "min_runs": 2, "min_s": 0.0, "gate_timeout_s": 0.0, "operator_runs": 3}


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Homes of the test, and a folder of its own for temporary files."""
    monkeypatch.setenv("EDGEPROF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("example") / "example.onnx"
    write_example(path)
    return path


def test_a_file_is_profiled_on_this_machine_and_kept(example: Path) -> None:
    stages: list[str] = []

    profile = edgeprof.profile(example, on_progress=lambda progress: stages.append(progress.stage), **QUICK)

    assert profile.median_s is not None
    assert profile.device == "local"
    assert "stem/conv + stem/bn + stem/relu" in [row.name for row in profile.operators]
    assert profile.output_check is not None
    assert profile.output_disagreements == ()
    assert {"load", "rounds", "operators", "outputs"} <= set(stages)
    with Store(store_place()) as store:
        assert store.get(profile.id) == profile.run


@pytest.mark.parametrize("store", [None, False])
def test_nothing_is_kept_where_nothing_shall_be(example: Path, store: bool | None) -> None:
    edgeprof.profile(str(example), store=store, operators=False, check_outputs=False, **QUICK)

    assert not Path(store_place()).exists()


def test_a_store_of_ones_own_is_used(example: Path, tmp_path: Path) -> None:
    profile = edgeprof.profile(example, store=tmp_path / "mine.sqlite", operators=False, **QUICK)

    with Store(tmp_path / "mine.sqlite") as store:
        assert store.get(profile.id) == profile.run


def test_a_store_that_cannot_be_opened_is_said_before_anything_is_measured(example: Path, tmp_path: Path) -> None:
    stages: list[str] = []

    with pytest.raises(StoreError):
        edgeprof.profile(example, store=tmp_path, on_progress=lambda p: stages.append(p.stage), **QUICK)

    assert stages == []


def test_a_run_that_cannot_be_stored_is_returned_with_a_warning(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = edgeprof.profile(example, operators=False, **QUICK)
    monkeypatch.setattr("edgeprof.profiling.new_run_id", lambda: first.id)

    with pytest.warns(UserWarning, match=first.id):
        second = edgeprof.profile(example, operators=False, **QUICK)

    assert second.median_s is not None


@pytest.mark.parametrize("device", ["local", "local:", edgeprof.Device(name="mine")])
def test_a_device_is_a_name_an_address_or_a_device(example: Path, device: str | edgeprof.Device) -> None:
    profile = edgeprof.profile(example, device, store=None, operators=False, check_outputs=False, **QUICK)

    assert profile.device == ("mine" if isinstance(device, edgeprof.Device) else "local")


def test_an_address_of_a_simulated_board_needs_no_fleet(example: Path) -> None:
    profile = edgeprof.profile(example, "sim:example", store=None)

    assert (profile.device, profile.origin) == ("example", "simulated")
    assert profile.output_check_missing == "a simulation computes times, not values"


def test_an_onnx_model_in_memory_is_profiled_and_its_copy_removed(example: Path, scratch: Path) -> None:
    import onnx

    model = onnx.load(example)
    model.graph.name = "../my net"

    profile = edgeprof.profile(model, store=None, **QUICK)

    assert profile.model == "my_net.onnx"
    assert len(profile.operators) > 10
    assert list(scratch.iterdir()) == []


def test_a_broken_model_in_memory_is_refused_and_its_copy_removed(scratch: Path) -> None:
    import onnx

    with pytest.raises(ModelError):
        edgeprof.profile(onnx.ModelProto(), store=None)

    assert list(scratch.iterdir()) == []


# --- torch ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    torch = pytest.importorskip("torch", reason="torch is not installed: run `make torch`")

    class TinyNet(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.features = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Dropout(0.5))
            self.head = torch.nn.Linear(8, 4)

        def forward(self, image: Any, scale: Any = None) -> Any:
            found = self.head(self.features(image).mean((2, 3)))
            return found if scale is None else found * scale

    return TinyNet()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("form", ["tensor", "tuple", "mapping", "array"])
def test_a_torch_module_is_exported_profiled_and_left_as_it_was(net: torch.nn.Module, form: str, scratch: Path) -> None:
    import torch

    image, scale = torch.rand(1, 3, 16, 16), torch.tensor([2.0])
    given = {
        "tensor": image,
        "tuple": (image, scale),
        "mapping": {"image": image, "scale": scale},
        "array": image.numpy(),
    }[form]
    net.train()
    net.head.eval()

    profile = edgeprof.profile(net, inputs=given, store=None, **QUICK)

    assert profile.model == "TinyNet.onnx"
    assert profile.run.profile.inputs[0].name == "image"
    assert "Conv" in " ".join(row.type for row in profile.operators)
    assert any("its outputs differ from the module's by at most: max error" in note for note in profile.notes)
    assert (net.training, net.features.training, net.head.training) == (True, True, False)
    assert [path.name for path in scratch.iterdir() if not path.name.startswith("torchinductor")] == []  # torch's cache


def test_a_torch_module_without_inputs_is_refused_with_an_example(net: torch.nn.Module) -> None:
    with pytest.raises(UsageError, match="example inputs") as caught:
        edgeprof.profile(net, store=None)

    assert "inputs=torch.randn" in caught.value.advice


def test_inputs_that_are_no_tensors_are_refused(net: torch.nn.Module) -> None:
    with pytest.raises(UsageError, match="an input is a str, not a tensor"):
        edgeprof.profile(net, inputs="cat.jpg", store=None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_module_that_cannot_be_exported_is_said_by_its_name(net: torch.nn.Module) -> None:
    import torch

    with pytest.raises(ModelError, match="TinyNet cannot be exported as ONNX") as caught:
        edgeprof.profile(net, inputs=torch.rand(1, 5, 16, 16), store=None)

    assert caught.value.advice
