"""The agent's files on the device: models and inputs by content in one cache, uploads verified before they count.

Everything lies below one folder that only its owner may read; see `cache_dir`.
"""

import contextlib
import os
import shutil
import tempfile
import time
from typing import Iterator, List, Optional, Sequence, Tuple

from device_agents.wire import FileRef, InputFile, ModelRef

CHUNK_BYTES = 1024 * 1024
DAY_S = 24 * 3600.0
# Tells a worker where the cache is: for its runtime, XDG_CACHE_HOME is a folder that goes with it.
CACHE_VARIABLE = "EDGEPROF_CACHE"


class FileError(Exception):
    """A file cannot be kept or staged. `kind` is the stable code that travels in `Refused`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def cache_dir() -> str:
    """`$XDG_CACHE_HOME/edgeprof`, or `~/.cache/edgeprof`: below it lies all that edgeprof keeps on a device."""
    if CACHE_VARIABLE in os.environ:
        return os.environ[CACHE_VARIABLE]
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "edgeprof")


def folder(name: str) -> str:
    """The path of a folder below the cache, made if it is not there.

    Raises:
        FileError: the file system does not let us.
    """
    path = os.path.join(cache_dir(), name)
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise FileError("no-write", f"cannot make {path}: {error.strerror}") from error
    return path


def free_bytes() -> int:
    """Bytes an ordinary user may still write where the cache is, or will be."""
    path = cache_dir()
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free


def missing(files: Sequence[FileRef], wanted: "set[str]") -> List[str]:
    """The digests of those files that the cache does not hold; room is made for them where old models can go.

    Those of `wanted` stay: jobs that wait need them.
    """
    models = folder("models")
    absent = [f for f in files if not _is_whole(os.path.join(models, f.sha256), f)]
    wanted_bytes = sum(f.size_bytes - partial_bytes(f) for f in absent)
    _make_room(models, wanted_bytes, {f.sha256 for f in files} | wanted)
    return [f.sha256 for f in absent]


def partial_bytes(file: FileRef) -> int:
    """How much of it an interrupted upload has left here; more than all of it is worth nothing."""
    with contextlib.suppress(OSError):
        size_bytes = os.path.getsize(os.path.join(folder("uploads"), file.sha256))
        return size_bytes if size_bytes <= file.size_bytes else 0
    return 0


def _is_whole(path: str, file: FileRef) -> bool:
    # The name is the digest of the content that was verified when it was adopted; a size check catches a disk that
    # lost the tail of a file in a power cut without reading gigabytes before every job.
    try:
        return os.path.getsize(path) == file.size_bytes
    except OSError:
        return False


def _make_room(models: str, wanted_bytes: int, keep: "set[str]") -> None:
    """Remove the models unused for longest until the wanted ones fit."""
    if wanted_bytes <= free_bytes():
        return
    old = [os.path.join(models, name) for name in os.listdir(models) if name not in keep]
    for path in sorted(old, key=os.path.getmtime):
        with contextlib.suppress(OSError):
            os.remove(path)
        if wanted_bytes <= free_bytes():
            return


def adopt(upload: str, file: FileRef) -> None:
    """Verify an upload and keep it under its digest; on failure it is removed.

    Raises:
        FileError: `upload` is not in the upload folder, did not arrive whole, or cannot be kept.
    """
    if os.path.dirname(os.path.abspath(upload)) != folder("uploads") or not _is_digest(file.sha256):
        raise FileError("bad-request", f"{upload} is not an upload")
    try:
        found = sha256(upload)
        if found != file.sha256:
            raise FileError("corrupt-upload", f"{file.name}: arrived with SHA-256 {found}, expected {file.sha256}")
        os.replace(upload, os.path.join(folder("models"), file.sha256))
    except OSError as error:
        raise FileError("no-write", f"{file.name}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            os.remove(upload)


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def sha256(path: str) -> str:
    """Hex digest of a file, read in pieces."""
    import hashlib  # brings OpenSSL along, four megabytes that an agent without uploads can do without

    state = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            chunk = file.read(CHUNK_BYTES)
            if not chunk:
                return state.hexdigest()
            state.update(chunk)


@contextlib.contextmanager
def staged(model: ModelRef) -> Iterator[Tuple[str, ...]]:
    """Where the files of a model lie side by side under the names they use for each other; the first is the model.

    Raises:
        FileError: a file is not in the cache, or its name points outside the model's folder.
    """
    if not model.files:
        raise FileError("bad-request", f"the job names no file of {model.name}")
    with _side_by_side(model.files) as paths:
        yield paths


@contextlib.contextmanager
def staged_inputs(inputs: Sequence[InputFile]) -> Iterator[Tuple[str, ...]]:
    """Where the values of each input lie, out of reach of whoever makes room in the cache.

    Raises:
        FileError: a file is not in the cache, or its name points outside the folder.
    """
    with _side_by_side([item.file for item in inputs]) as paths:
        yield paths


@contextlib.contextmanager
def _side_by_side(files: Sequence[FileRef]) -> Iterator[Tuple[str, ...]]:
    """The paths of these files under their names in a folder that is removed afterwards."""
    models = folder("models")
    base = scratch_folder()
    targets = [os.path.normpath(os.path.join(base, file.name)) for file in files]
    try:
        for file, target in zip(files, targets):
            if not target.startswith(base + os.sep) or not _is_digest(file.sha256):
                raise FileError("bad-request", f"{file.name!r} points outside the model's folder")
            source = os.path.join(models, file.sha256)
            if not _is_whole(source, file):
                raise FileError("model-missing", f"{file.name} is not on the device")
            os.makedirs(os.path.dirname(target), exist_ok=True)
            _link(source, target)
            os.utime(source)
        yield tuple(targets)
    except OSError as error:
        raise FileError("no-write", f"{base}: {error.strerror}") from error
    finally:
        shutil.rmtree(base, ignore_errors=True)


def damaged(staged: Sequence[Tuple[str, str]]) -> Optional[str]:
    """The first of these (path, SHA-256) whose content is another one by now; the host must send it again.

    A card that loses bits keeps the size of a file, and a runtime computes with any bytes. Asked after a job and not
    before, so that reading and hashing neither warm the device nor count as memory of the runtime.
    """
    for path, digest in staged:
        if sha256(path) != digest:
            with contextlib.suppress(OSError):
                os.remove(os.path.join(folder("models"), digest))
            return os.path.basename(path)
    return None


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)  # a file system without hard links (FAT, some Android storage)


def scratch_folder() -> str:
    """A new folder that goes with the running process: its name tells later agents whose it was."""
    return tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=folder("jobs"))


def remove_leftovers() -> None:
    """Remove what agents that were killed left behind: their scratch folders, half uploads, agents long unused."""
    jobs = os.path.join(cache_dir(), "jobs")
    for name in os.listdir(jobs) if os.path.isdir(jobs) else []:
        owner = name.split("-")[0]
        if not (owner.isdigit() and _is_running(int(owner))):
            shutil.rmtree(os.path.join(jobs, name), ignore_errors=True)
    _remove_older("uploads", DAY_S, "")
    _remove_older("agents", DAY_S, ".part")
    _remove_older("agents", 30 * DAY_S, ".pyz")


def remove_own_scratch() -> None:
    """Remove the running process's scratch folders, at its end: a kernel without memory may have kept one before."""
    jobs = os.path.join(cache_dir(), "jobs")
    for name in os.listdir(jobs) if os.path.isdir(jobs) else []:
        if name.split("-")[0] == str(os.getpid()):
            shutil.rmtree(os.path.join(jobs, name), ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's, under a number that was given out again: leave it alone
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Dead, but not yet noticed by its parent: where process 1 is no real init, that is for ever."""
    try:
        with open(f"/proc/{pid}/task/{pid}/stat", "rb") as file:
            return file.read(4096).rpartition(b")")[2].split()[0] == b"Z"
    except (OSError, IndexError):
        return False


def _remove_older(name: str, age_s: float, suffix: str) -> None:
    base = os.path.join(cache_dir(), name)
    for item in os.listdir(base) if os.path.isdir(base) else []:
        path = os.path.join(base, item)
        with contextlib.suppress(OSError):
            if item.endswith(suffix) and time.time() - os.lstat(path).st_mtime > age_s:
                os.remove(path)
