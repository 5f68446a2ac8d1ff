"""Every real model that tests and benchmarks use, with the shapes its dynamic inputs need.

They come from three places: packages that carry models (tests/models.txt, unpacked into .cache/models by `make
setup`), the light models inside the installed onnx package, and tests/exports (README.md there).
"""

from __future__ import annotations

import lzma
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["RealModel", "export_path", "real_model", "real_models"]

TESTS = Path(__file__).parent
MODELS = TESTS.parent / ".cache" / "models"
EXPORTS = TESTS / "exports"

Shapes = Mapping[str, tuple[int, ...]]

SILERO: Shapes = {"input": (1, 576), "state": (2, 1, 128)}
# By file name, as the packages call them. An input that is not named has fixed dimensions, or 1 does.
PACKAGED: Mapping[str, Shapes] = {
    # Its own inputs hold a sampling rate of 0 or 1, which takes the branch for 8 kHz: 32 + 256 samples.
    "silero_vad.onnx": {"input": (1, 288), "state": (2, 1, 128)},
    "silero_vad_16k_op15.onnx": SILERO,
    "silero_vad_16k_sequence.onnx": {"input": (4, 576)},
    "silero_vad_half.onnx": SILERO,
    "silero_vad_op18_ifless.onnx": SILERO,
    "silero_vad_openvino_16k.onnx": {},
    "ch_PP-OCRv4_det_infer.onnx": {"x": (1, 3, 320, 320)},
    "ch_PP-OCRv4_rec_infer.onnx": {"x": (1, 3, 48, 320)},
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": {"x": (1, 3, 48, 192)},
    "nmp.onnx": {},
    "nmp.tflite": {},
    "model.onnx": {},  # magika
    "face_detection_back.tflite": {},
    "face_detection_front.tflite": {},
    "face_detection_full_range.tflite": {},
    "face_detection_full_range_sparse.tflite": {},
    "face_detection_short_range.tflite": {},
    "face_landmark.tflite": {},
    "iris_landmark.tflite": {},
    "alexa.tflite": {},
    "hey_jarvis.tflite": {},
    "hey_mycroft.tflite": {},
    "okay_nabu.tflite": {},
}
NAMES: Mapping[str, str] = {"model.onnx": "magika.onnx"}


@dataclass(frozen=True)
class RealModel:
    """A model file. `name` is what tests call it; `shapes` are those of the inputs that have dynamic dimensions."""

    name: str
    path: Path
    shapes: Shapes = field(default_factory=dict)

    @property
    def options(self) -> tuple[str, ...]:
        """The shapes as options of the command line."""
        given = (f"{name}={','.join(map(str, shape))}" for name, shape in self.shapes.items())
        return tuple(part for text in given for part in ("--shape", text))


def real_models() -> tuple[RealModel, ...]:
    """All of them, in a fixed order; those whose package is not unpacked are left out (`make setup` brings them)."""
    found = {path.name: path for path in sorted(MODELS.rglob("*")) if path.name in PACKAGED and path.is_file()}
    packaged = [RealModel(NAMES.get(name, name), found[name], PACKAGED[name]) for name in PACKAGED if name in found]
    exported = [RealModel(name, export_path(name)) for name in _exported()]
    return (*packaged, *(RealModel(path.name, path) for path in _light()), *exported)


def real_model(name: str) -> RealModel:
    """One of them by name.

    Raises:
        LookupError: there is none of this name here.
    """
    if name in _exported():
        return RealModel(name, export_path(name))
    for model in real_models():
        if model.name == name:
            return model
    raise LookupError(f"no real model {name!r}: run `make setup`, or see tests/real_models.py for the names")


def export_path(name: str) -> Path:
    """The unpacked file of one of tests/exports, made when it is not there or older than its archive."""
    packed, unpacked = EXPORTS / f"{name}.xz", MODELS / "exports" / name
    if unpacked.is_file() and unpacked.stat().st_mtime_ns >= packed.stat().st_mtime_ns:
        return unpacked
    unpacked.parent.mkdir(parents=True, exist_ok=True)
    # Several test processes may unpack at once: each writes a file of its own, and the name changes hands whole.
    handle, temporary = tempfile.mkstemp(dir=unpacked.parent, prefix=f".{name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(lzma.decompress(packed.read_bytes()))
        Path(temporary).replace(unpacked)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return unpacked


def _exported() -> tuple[str, ...]:
    return tuple(sorted(path.name.removesuffix(".xz") for path in EXPORTS.glob("*.xz")))


def _light() -> list[Path]:
    """The published nets whose weights onnx made by operators (ConstantOfShape), so that their files are small."""
    import onnx

    return sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("light_*.onnx"))
