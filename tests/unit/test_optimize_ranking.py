"""A predictor saves the device's time where it is sure, and not where it is not."""

from __future__ import annotations

from pathlib import Path

from edgeprof.optimize.candidate import LOSSY, Candidate
from edgeprof.optimize.gate import Decision
from edgeprof.optimize.making import Made
from edgeprof.optimize.ranking import predicted, without_hopeless
from edgeprof.values import Value
from latency_models import builder
from latency_models.datasheet import BoardPredictor
from latency_models.write_onnx import onnx_bytes


def _made(name: str, path: Path = Path("x.onnx")) -> Made:
    candidate = Candidate(name=name, kind=LOSSY, path=path, format="onnx")
    return Made(name=name, kind=LOSSY, decision=Decision(accepted=True), candidate=candidate)


def test_who_is_slower_than_enough_others_for_sure_is_not_measured() -> None:
    names = ("a", "b", "c", "d")
    latencies = {
        "a": Value(1.0, 0.9, 1.1, "predicted"),
        "b": Value(1.5, 1.2, 1.9, "predicted"),
        "c": Value(2.5, 1.8, 3.0, "predicted"),
        "d": Value(4.0, 3.5, 4.5, "predicted"),
    }

    found = without_hopeless([_made(name) for name in (*names, "unknown")], latencies, most=2)

    assert [one.name for one in found if one.is_accepted] == ["a", "b", "c", "unknown"]
    assert (
        found[3].decision.reason
        == "predicted 4e+03 ms (3.5e+03 to 4.5e+03): 2 others are faster, and it is not measured"
    )


def test_a_real_predictor_is_asked_for_each_file_and_what_it_cannot_read_races(tmp_path: Path) -> None:
    paths = []
    for channels in (8, 64):
        net = builder("onnx")
        x = net.conv(net.image(64, 64), channels, kernel=3)
        paths.append(tmp_path / f"{channels}.onnx")
        paths[-1].write_bytes(onnx_bytes(net.graph(x)))
    (tmp_path / "garbage.onnx").write_bytes(b"garbage")
    made = [_made(path.name, path) for path in (*paths, tmp_path / "garbage.onnx")]

    found = predicted(made, BoardPredictor.of("pi-4", threads=1))

    assert list(found) == ["8.onnx", "64.onnx"]
    assert found["8.onnx"].value < found["64.onnx"].value
    assert {one.name for one in without_hopeless(made, found, most=1) if one.is_accepted} >= {"8.onnx", "garbage.onnx"}
