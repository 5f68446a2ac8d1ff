"""Read a model file: what format it has, which files belong to it, their content hashes, and its graph."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from device_agents.wire import FileRef, ModelRef
from edgeprof.errors import InputError, ModelError
from edgeprof.models.arrays import Array
from edgeprof.models.inputs import InputPlan, plan_inputs
from latency_models.graph import DeclaredInput, Graph, GraphError, ShapeError

__all__ = ["ModelFile", "read_model"]

TFLITE_IDENTIFIER = b"TFL3"
CHUNK_BYTES = 1 << 20
SUFFIXES = (".onnx", ".tflite")
HOW_TO_SHAPE = "correct --batch, or --shape as in --shape NAME=1,3,224,224"


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A model on this machine, and what its inputs will be.

    `files[0]` is the model itself, the others its external data, by relative name.
    """

    path: Path
    name: str
    format: str
    digest: str
    files: tuple[tuple[FileRef, Path], ...]
    graph: Graph
    inputs: InputPlan

    def to_send(self) -> list[tuple[FileRef, Path | bytes]]:
        """All that a device must have to run it: its files, and the values of its inputs."""
        return [*self.files, *((item.file, data) for item, data in self.inputs.files)]

    def ref(self) -> ModelRef:
        """The model as jobs and profiles refer to it."""
        return ModelRef(self.name, self.format, self.digest, tuple(ref for ref, _ in self.files))


PlanInputs = Callable[[Sequence[DeclaredInput]], InputPlan]


def read_model(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    batch: int | None = None,
    values: Mapping[str, Array] | None = None,
) -> ModelFile:
    """Read a model file and everything that belongs to it.

    Args:
        path: an ONNX or TFLite file; the content decides which, not the name.
        shapes: the shape of dynamic inputs by name.
        batch: the first dimension of every input whose first dimension is dynamic; `shapes` goes first.
        values: the user's own array for every input by name; they decide the shapes.

    Dimensions that none of them sets are taken as 1, as the agent does, and `inputs` says so.

    Raises:
        ModelError: it cannot be read, is damaged, not a model, lacks its external data, or cannot have these shapes.
        InputError: the values do not fit its inputs.
    """
    head = _head(path)
    others: tuple[tuple[str, Path], ...] = ()

    def plan(declared: Sequence[DeclaredInput]) -> InputPlan:
        return plan_inputs(declared, shapes, batch, values)

    try:
        if head[4:8] == TFLITE_IDENTIFIER:
            format, (graph, inputs) = "tflite", _read_tflite(path, plan)
        else:
            format, (graph, inputs, others) = "onnx", _read_onnx(path, plan)
    except ShapeError as error:
        raise ModelError(f"{path}: {error}", HOW_TO_SHAPE) from error
    except GraphError as error:
        raise _not_a_model(path, head, error) from error
    except InputError as error:
        raise InputError(f"{path}: {error}", error.advice) from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    files = tuple(_file(name, file) for name, file in ((path.name, path), *others))
    digest = _digest([ref for ref, _ in files])
    return ModelFile(path=path, name=path.name, format=format, digest=digest, files=files, graph=graph, inputs=inputs)


# --- what is wrong -------------------------------------------------------------------------------------------------


def _head(path: Path) -> bytes:
    _require_sendable_name(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            advice = "name a file in it" if any(path.glob("*.onnx")) or any(path.glob("*.tflite")) else ""
            raise ModelError(f"{path} is a directory, not a model file", advice or "name an .onnx or .tflite file")
        if not stat.S_ISREG(mode):  # opening a pipe that nobody writes to would never return
            raise ModelError(f"{path} is a pipe or a device, not a file", "write the model to a file first")
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError as error:
        if path.is_symlink():
            message = f"{path} is a link to {path.readlink()}, which is missing"
            raise ModelError(message, _neighbours(path)) from error
        raise ModelError(f"there is no file {path}", _neighbours(path)) from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}", "check its permissions") from error
    if not head:
        raise ModelError(f"{path} is empty", "was the download or the export interrupted? make the file again")
    return head


def _require_sendable_name(path: Path) -> None:
    """File names travel to the device and into the store as text."""
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        shown = str(path).encode("utf-8", "backslashreplace").decode()
        raise ModelError(f"{shown}: the file's name is not valid UTF-8", "rename the file") from error


def _neighbours(path: Path) -> str:
    try:
        found = sorted(file.name for file in path.parent.iterdir() if file.suffix in SUFFIXES and file.is_file())
    except OSError:
        return f"there is no directory {path.parent} either; check the path"
    return f"in {path.parent} there are: {', '.join(found[:5])}" if found else "check the path"


def _not_a_model(path: Path, head: bytes, error: GraphError) -> ModelError:
    """The graph reader's complaint in words that help: what the file is instead, as far as its first bytes tell."""
    if head[4:8] == TFLITE_IDENTIFIER:
        complaint = str(error).removeprefix(f"{path.name} ")
        return ModelError(f"{path} {complaint}", "compare its size with the original's, or copy it again")
    if head.startswith(b"version https://git-lfs"):
        return ModelError(f"{path} is a Git LFS pointer, not the model", "run `git lfs pull` in its repository")
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        return ModelError(f"{path} is an archive, not a model", "unpack it, or export the model as ONNX or TFLite")
    if _is_text(head):
        start = head.decode("utf-8", "replace").strip().split("\n")[0][:40]
        return ModelError(
            f"{path} is a text file, not a model; it begins with {start!r}",
            "was a web page or a pointer downloaded instead of the model?",
        )
    advice = "it may be cut off or of another format; export it as ONNX or TFLite, or copy it again"
    return ModelError(f"{path} is neither a TFLite nor a readable ONNX model: {error}", advice)


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # a character cut in two at the end of what was read is fine
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character in "\r\n\t\f" for character in text)


# --- the two formats -----------------------------------------------------------------------------------------------


def _read_tflite(path: Path, plan: PlanInputs) -> tuple[Graph, InputPlan]:
    from latency_models import tflite_graph  # the two readers take 0.1 s each to import, so only the one needed

    graph = tflite_graph.read(path)
    inputs = plan(graph.declared)
    return tflite_graph.with_input_shapes(graph, inputs.shapes), inputs


def _read_onnx(path: Path, plan: PlanInputs) -> tuple[Graph, InputPlan, tuple[tuple[str, Path], ...]]:
    from latency_models import onnx_graph

    model = onnx_graph.load(path)
    others = tuple(
        (PurePosixPath(location).as_posix(), _external_file(path, location, tensor))
        for location, tensor in sorted(onnx_graph.external_files(model).items())
    )
    inputs = plan(onnx_graph.declared_inputs(model))
    return onnx_graph.of_model(model, path.name, dict(inputs.shapes), default_dim=1), inputs, others


def _external_file(model: Path, location: str, tensor: str) -> Path:
    """Where the external data lies. It must lie in the model's folder: files travel under their relative names."""
    parts = PurePosixPath(location).parts
    escapes = PurePosixPath(location).is_absolute() or PureWindowsPath(location).is_absolute() or ".." in parts
    if not parts or escapes:
        raise ModelError(
            f"{model}: the data of tensor {tensor!r} is said to be in {location!r}, outside the model's folder",
            "save the model again with its data beside it (onnx.save_model(..., save_as_external_data=True))",
        )
    file = model.parent / location
    if not file.is_file():
        raise ModelError(
            f"{model}: its external data file {location!r} is missing; tensor {tensor!r} needs it",
            f"put it at {file}",
        )
    return file


# --- content -------------------------------------------------------------------------------------------------------


def _file(name: str, path: Path) -> tuple[FileRef, Path]:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}", "check its permissions") from error
    return FileRef(name, digest.hexdigest(), size), path


def _digest(files: list[FileRef]) -> str:
    """A single file's own hash; of several, the hash of what `sha256sum` would print for them, sorted."""
    if len(files) == 1:
        return files[0].sha256
    lines = sorted(f"{file.sha256}  {file.name}" for file in files)
    return hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()
