"""Where trainings and predictors are kept: one artefact, and beside it the store with every raw sample."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprof.errors import EdgeprofError, UsageError
from edgeprof.places import data_dir

if TYPE_CHECKING:
    from edgeprof.store import Store
    from latency_models.adapted import Adapted
    from latency_models.predictor import Predictor

__all__ = [
    "SUFFIX",
    "artefact",
    "load_predictor",
    "names",
    "predictors_dir",
    "require_folder",
    "require_name",
    "store_beside",
    "training_store",
]

SUFFIX = ".predictor"
STORE_SUFFIX = ".training.sqlite"
VARIABLE = "EDGEPROF_PREDICTORS"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


def predictors_dir() -> Path:
    """The folder of predictors: $EDGEPROF_PREDICTORS, else among what edgeprof collects."""
    given = os.environ.get(VARIABLE)
    return Path(given).expanduser() if given else data_dir() / "predictors"


def require_folder() -> Path:
    """The folder of predictors, made where there is none.

    Raises:
        EdgeprofError: it cannot be made or written to.
    """
    folder = predictors_dir()
    advice = f"set {VARIABLE}, or EDGEPROF_HOME, to a folder that you may write to"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgeprofError(f"predictors cannot be kept in {folder}: {error.strerror or error}", advice) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise EdgeprofError(f"predictors cannot be kept in {folder}: no permission", advice)
    return folder


def require_name(name: str) -> str:
    """A name that can be a file's.

    Raises:
        UsageError: it cannot.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a predictor's name", "use letters, digits and ._+- as in pi5-onnxruntime")
    return name


def artefact(name: str) -> Path:
    """The file of a predictor: of this name, or the file itself.

    Raises:
        EdgeprofError: there is none.
    """
    path = Path(name)
    if path.suffix == SUFFIX or path.exists():
        if path.is_file():
            return path
        what = "a folder, and no predictor" if path.is_dir() else "not there"
        raise EdgeprofError(f"{name} is {what}", "name a predictor of `edgeprof predictors list`, or its file")
    found = predictors_dir() / f"{require_name(name)}{SUFFIX}"
    if not found.is_file():
        known, alike = ", ".join(names()) or "none yet", difflib.get_close_matches(name, names(), n=3)
        if store_beside(name).is_file():
            raise EdgeprofError(
                f"{name} is not there yet: its training was interrupted before it ended",
                "type the same `edgeprof predictors train` again: it goes on where it was",
            )
        raise EdgeprofError(
            f"there is no predictor {name}; there are: {known}",
            f"did you mean {' or '.join(alike)}?" if alike else "train one: edgeprof predictors train -d DEVICE",
        )
    return found


def load_predictor(name: str) -> Predictor | Adapted:
    """The predictor of this name, or of this file.

    Raises:
        EdgeprofError: there is none, or it cannot be read.
    """
    from latency_models.archive import ArchiveError, OtherKind, OtherVersion, load

    path = artefact(name)
    try:
        return load(path)
    except OtherVersion as error:
        raise EdgeprofError(str(error), "read it with the edgeprof that wrote it, or a newer one") from error
    except OtherKind as error:
        raise EdgeprofError(str(error), "name one of `edgeprof predictors list`") from error
    except ArchiveError as error:
        raise EdgeprofError(str(error), "edgeprof predictors train -d DEVICE trains one") from error
    except OSError as error:
        raise EdgeprofError(f"{path}: cannot be read: {error.strerror or error}", "check the file") from error


def store_beside(name: str) -> Path:
    """The store of the training of this name."""
    return predictors_dir() / f"{require_name(name)}{STORE_SUFFIX}"


@contextlib.contextmanager
def training_store(name: str) -> Iterator[Store]:
    """The store of the training of this name, made where there is none.

    One that was made here is removed where measuring fails at once: it would promise something to go on with.
    """
    from edgeprof.store import Store

    path = store_beside(name)
    is_new, is_empty = not path.exists(), False
    try:
        with Store(str(path)) as store:
            try:
                yield store
            except BaseException:
                is_empty = not store.list(limit=1)
                raise
    finally:
        if is_new and is_empty:
            for one in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
                one.unlink(missing_ok=True)


def names() -> list[str]:
    """The predictors that are kept, sorted."""
    folder = predictors_dir()
    return sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
