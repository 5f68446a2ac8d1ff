"""The file beside a recipe to which every measurement of a tuning is written, so that none is made twice."""

from __future__ import annotations

import fcntl
import os
from collections import defaultdict
from pathlib import Path
from typing import IO

import msgspec

from edgeprof.errors import TuningError
from edgeprof.tuning.configuration import Configuration
from edgeprof.tuning.objective import Measured

__all__ = ["Entry", "Header", "Journal", "journal_of"]

# Version of its lines. History:
# 1  first version
SCHEMA = 1
SUFFIX = ".progress"


class Header(msgspec.Struct, frozen=True, kw_only=True, tag="tuning"):
    """The first line: of what all measurements in the file are. What differs here cannot be gone on with."""

    model: str
    device: str
    address: str
    energy: bool
    meter: str = ""
    shapes: dict[str, tuple[int, ...]] = {}
    batch: int | None = None
    schema: int = SCHEMA


class Entry(msgspec.Struct, frozen=True, kw_only=True, tag="measured"):
    """A measurement. `took_s` is the host's time; without a run (it failed) the last three are None."""

    configuration: Configuration
    level: int
    measured: Measured
    took_s: float
    run: str | None = None
    runtime_version: str | None = None
    origin: str | None = None


class Allowed(msgspec.Struct, frozen=True, kw_only=True, tag="allowed"):
    """How many measurements a budget of time was taken for."""

    time_s: float
    jobs: int


class End(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """The recipe was written."""

    why: str


Line = Header | Entry | Allowed | End
DECODER = msgspec.json.Decoder(Line)


def journal_of(recipe: Path) -> Path:
    """Where the measurements for a recipe are written."""
    return recipe.with_name(recipe.name + SUFFIX)


class Journal:
    """Open it as a context: it is locked meanwhile. `entries` are all there are, those of earlier sittings first.

    Half a line, of one that was killed while writing, is taken off.

    Raises (on entering):
        TuningError: another process writes it, it is of something else, or there is (not) one to go on with.
    """

    def __init__(self, path: Path, header: Header, *, resume: bool) -> None:
        self.path, self.header, self._resume = path, header, resume
        self.entries: list[Entry] = []
        self._allowed: Allowed | None = None
        self._places: dict[tuple[Configuration, int], list[Entry]] = defaultdict(list)
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Journal:
        is_there = self.path.exists()
        if self._resume and not is_there:
            raise TuningError(
                f"{self.path} is not there: nothing was begun that could be resumed", "leave out --resume"
            )
        try:
            self._file = self.path.open("r+b" if is_there else "x+b")
        except OSError as error:
            raise TuningError(
                f"{self.path}: cannot be written: {error.strerror or error}", "name a file in a folder that exists: -o"
            ) from error
        try:
            self._lock()
            self._read()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def find(self, configuration: Configuration, level: int, nth: int) -> Entry | None:
        """The measurement that was made of it as the `nth` at this level, counted from 0."""
        known = self._places[configuration, level]
        return known[nth] if nth < len(known) else None

    def add(self, entry: Entry) -> None:
        """Keep a measurement, on the disk when this returns.

        Raises:
            TuningError: the disk is full.
        """
        self._write(entry)
        self._take(entry)

    def allowed(self, time_s: float) -> int | None:
        """How many measurements this budget of time was taken for before."""
        return self._allowed.jobs if self._allowed is not None and self._allowed.time_s == time_s else None

    def allow(self, time_s: float, jobs: int) -> None:
        """Keep for how many measurements a budget of time is taken: who resumes goes on with the same."""
        self._allowed = Allowed(time_s=time_s, jobs=jobs)
        self._write(self._allowed)

    def end(self, why: str) -> None:
        """The recipe is written: the next tuning may begin anew."""
        self._write(End(why=why))

    def _lock(self) -> None:
        file = self._opened()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TuningError(
                f"{self.path} is being written by another edgeprof tune", "wait for it, or name another recipe: -o"
            ) from error

    def _read(self) -> None:
        file = self._opened()
        data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        lines = [self._line(line, number) for number, line in enumerate(whole.splitlines(), 1)]
        is_ended = bool(lines) and isinstance(lines[-1], End)
        is_begun = any(isinstance(line, Entry) for line in lines)
        if is_begun and not is_ended and not self._resume:
            raise TuningError(
                f"{self.path} has a tuning that was interrupted",
                "go on with it: --resume; or begin anew: remove that file",
            )
        if not self._resume or not lines:
            file.seek(0)
            file.truncate()
            self._write(self.header)
            return
        self._require_same(lines[0])
        file.truncate(len(whole))
        file.seek(len(whole))
        for line in lines:
            if isinstance(line, Entry):
                self._take(line)
            elif isinstance(line, Allowed):
                self._allowed = line

    def _line(self, line: bytes, number: int) -> Line:
        try:
            found: Line = DECODER.decode(line)
        except (msgspec.MsgspecError, ValueError) as error:
            raise TuningError(
                f"{self.path}: line {number} cannot be read: {error}", "remove the file, and tune anew"
            ) from error
        return found

    def _require_same(self, first: Line) -> None:
        if first == self.header:
            return
        then = msgspec.to_builtins(first) if isinstance(first, Header) else {}
        now = msgspec.to_builtins(self.header)
        what = ", ".join(sorted(key for key in {*now, *then} if now.get(key) != then.get(key)))
        raise TuningError(
            f"{self.path} has the measurements of something else: {what} differs",
            "go on with what it was begun with, or name another recipe: -o",
        )

    def _take(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._places[entry.configuration, entry.level].append(entry)

    def _write(self, line: Line) -> None:
        file = self._opened()
        try:
            file.write(msgspec.json.encode(line) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise TuningError(
                f"{self.path}: cannot be written: {error.strerror or error}", "make room there, then go on: --resume"
            ) from error

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            raise TuningError(f"{self.path} is not open", "use it as a context")
        return self._file
