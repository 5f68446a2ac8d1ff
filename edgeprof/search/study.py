"""A search that is kept: its folder, and in it Optuna's journal, to which several workers write (extra `search`).

A worker holds a lock on a file of its own as long as it lives. So what a worker was at when it was killed is known at
once to all others, on this machine and on any that shares the folder and its locks; nobody waits for a heartbeat.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from edgeprof.errors import SearchError
from edgeprof.files import write_whole
from edgeprof.search.evaluation import Evaluation, from_text, to_text
from edgeprof.search.space import Architecture, SearchSpace

if TYPE_CHECKING:
    import optuna

__all__ = ["ABANDONED", "DONE", "RULED_OUT", "RUNNING", "Study", "Trial"]

JOURNAL, PLAN, LOCK, WORKERS, FACTS = "journal.log", "plan.toml", "lock", "workers", "study.json"
NAME = "search"
SCHEMA = 1
# Attributes of trials.
WORKER, RESULT, ARCHITECTURE, N_ASKED, FORGOTTEN = "worker", "result", "architecture", "asked", "forgotten"
# States of trials; the last is also the attribute that says so.
RUNNING, DONE, ABANDONED, RULED_OUT = "running", "done", "abandoned", "ruled out"
ADVICE = "is its disk full, or was it unmounted? `edgeprof search resume` goes on when it is back"


@dataclass(frozen=True)
class Trial:
    """One candidate: `state` is "running", "done", "ruled out" (by limits, before anything dear), or "abandoned".

    `n_asked` is how many its worker's strategy had asked for by then, in all.
    """

    number: int
    architecture: Architecture
    state: str
    worker: str
    result: Evaluation | None
    n_asked: int = 0


class Study:
    """The folder of a search. Open it as a context: the worker's lock is held while it lasts."""

    def __init__(self, folder: Path, space: SearchSpace, n_objectives: int) -> None:
        self.folder, self.space = folder, space
        self._n_objectives = n_objectives
        self.worker = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._stack = ExitStack()
        self._ended: dict[int, Trial] = {}

    @staticmethod
    def create(folder: Path, plan: str, facts: Mapping[str, object]) -> None:
        """Make the folder of a new search.

        Raises:
            SearchError: there is one already, or it cannot be made.
        """
        if (folder / FACTS).exists():
            raise SearchError(
                f"{folder} has a search already",
                f"go on with it: edgeprof search resume {folder}; or name another --out",
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / WORKERS).mkdir(exist_ok=True)
            write_whole(folder / PLAN, plan.encode())
            write_whole(folder / FACTS, json.dumps({"schema": SCHEMA, **facts}, indent=1).encode())
        except OSError as error:
            raise SearchError(f"{folder} cannot be made: {error.strerror or error}", "name another --out") from error

    @staticmethod
    def facts(folder: Path) -> dict[str, Any]:
        """What was written when it was made.

        Raises:
            SearchError: there is no search, or a newer edgeprof made it.
        """
        try:
            found = json.loads((folder / FACTS).read_text())
        except (OSError, ValueError) as error:
            raise SearchError(
                f"{folder} has no search: {error}", "begin one: edgeprof search run search.toml"
            ) from error
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise SearchError(f"{folder} was made by another edgeprof", "read it with the edgeprof that made it")
        return found

    def __enter__(self) -> Study:
        try:
            with self._kept():
                mine = self._stack.enter_context((self.folder / WORKERS / self.worker).open("w"))
                fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._stack.callback(self._forget)
                self._open()
        except SearchError:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _forget(self) -> None:
        with suppress(OSError):
            (self.folder / WORKERS / self.worker).unlink()

    def _open(self) -> None:
        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ImportError as error:
            raise SearchError("a search needs Optuna, which is not there", "pip install 'edgeprof[search]'") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with self.alone():
            pass  # half a line is taken off
        self._storage = JournalStorage(JournalFileBackend(str(self.folder / JOURNAL)))
        try:
            self._number = self._storage.get_study_id_from_name(NAME)
        except KeyError:
            directions = ["minimize"] * self._n_objectives
            optuna.create_study(storage=self._storage, study_name=NAME, directions=directions, load_if_exists=True)
            self._number = self._storage.get_study_id_from_name(NAME)

    # --- one at a time ---

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other worker of this study is here meanwhile. The lock of one that is killed is free at once."""
        with ExitStack() as stack:
            with self._kept():
                file = stack.enter_context((self.folder / LOCK).open("a"))
                fcntl.flock(file, fcntl.LOCK_EX)
                _mend(self.folder / JOURNAL)
            yield

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """A storage that vanishes, is full, or holds garbage is told in words."""
        try:
            yield
        except OSError as error:
            raise SearchError(f"{self.folder}: {error.strerror or error}", ADVICE) from error
        except (KeyError, ValueError) as error:  # Optuna's, and ours of what stands in a trial
            raise SearchError(f"{self.folder}: its journal is damaged: {error}", "restore it from a copy") from error

    def trials(self) -> list[Trial]:
        """All candidates so far, in the order in which they were begun."""
        with self._kept():
            found = self._storage.get_all_trials(self._number, deepcopy=False)
            facts = self._storage.get_study_user_attrs(self._number)
            forgotten = {int(name.split(" ")[1]) for name in facts if name.startswith(f"{FORGOTTEN} ")}
            return [self._ended.get(one.number) or self._read(one, one.number in forgotten) for one in found]

    def _read(self, one: optuna.trial.FrozenTrial, is_forgotten: bool) -> Trial:
        state = one.state.name
        attributes = one.user_attrs
        architecture = tuple(int(value) for value in attributes.get(ARCHITECTURE, ()))
        result = from_text(attributes[RESULT]) if RESULT in attributes else None
        words = RUNNING
        if state in ("COMPLETE", "PRUNED", "FAIL"):
            words = DONE if result is not None else ABANDONED
            words = RULED_OUT if RULED_OUT in attributes else words
        words = ABANDONED if is_forgotten else words
        n_asked = int(attributes.get(N_ASKED, 0))
        found = Trial(one.number, architecture, words, str(attributes.get(WORKER, "")), result, n_asked)
        if words not in (RUNNING, ABANDONED) and not (result is not None and result.failure is not None):
            self._ended[one.number] = found
        return found

    def begin(self, architecture: Architecture, n_asked: int) -> int:
        """Note that this worker evaluates an architecture now; the number of the trial. Only while `alone`."""
        import optuna

        names = [f"{place}: {gene.name}" for place, gene in enumerate(self.space.genes)]
        running = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=dict(zip(names, architecture, strict=True)),
            distributions={
                name: optuna.distributions.CategoricalDistribution(tuple(range(size)))
                for name, size in zip(names, self.space.sizes, strict=True)
            },
            user_attrs={ARCHITECTURE: list(architecture), WORKER: self.worker, N_ASKED: n_asked},
        )
        with self._kept():
            # In one step: who is killed before it began nothing, and who is killed after it left an orphan.
            identity = self._storage.create_new_trial(self._number, template_trial=running)
            return int(self._storage.get_trial_number_from_id(identity))

    def end(self, number: int, result: Evaluation, values: Sequence[float] | None, *, ruled_out: bool = False) -> None:
        """Note what came of a trial; `values` are None where it failed."""
        import optuna

        states = optuna.trial.TrialState
        with self._kept():
            identity = self._identity(number)
            if ruled_out:
                self._storage.set_trial_user_attr(identity, RULED_OUT, True)
            self._storage.set_trial_user_attr(identity, RESULT, to_text(result))
            if ruled_out:
                self._storage.set_trial_state_values(identity, states.PRUNED)
            elif values is None:
                self._storage.set_trial_state_values(identity, states.FAIL)
            else:
                self._storage.set_trial_state_values(identity, states.COMPLETE, list(values))

    def give_up(self, number: int) -> None:
        """Nothing came of a trial: its worker is gone."""
        import optuna

        with self._kept():
            self._storage.set_trial_state_values(self._identity(number), optuna.trial.TrialState.FAIL)

    def forget_failures(self) -> int:
        """Let what failed be evaluated again; how many. Only while `alone`."""
        failed = [one for one in self.trials() if one.state == DONE and one.result is not None and one.result.failure]
        with self._kept():
            for one in failed:
                self._storage.set_study_user_attr(self._number, f"{FORGOTTEN} {one.number}", True)
        return len(failed)

    def _identity(self, number: int) -> int:
        return int(self._storage.get_trial_id_from_study_id_trial_number(self._number, number))

    def orphans(self) -> list[Trial]:
        """Trials whose worker is gone. Only while `alone`."""
        return [
            trial
            for trial in self.trials()
            if trial.state == RUNNING and trial.worker != self.worker and not self._lives(trial.worker)
        ]

    def _lives(self, worker: str) -> bool:
        """Whether somebody holds the lock of this worker."""
        path = self.folder / WORKERS / Path(worker).name
        try:
            with path.open() as file:
                return not _locks(file)
        except FileNotFoundError:
            return False

    @property
    def workers(self) -> list[str]:
        """Those at work now."""
        return sorted(path.name for path in (self.folder / WORKERS).glob("*") if self._lives(path.name))

    # --- what is not a trial ---

    def note(self, name: str, value: object) -> None:
        """Keep a fact about the study under a name, in place of what was there."""
        with self._kept():
            self._storage.set_study_user_attr(self._number, name, value)

    def notes(self) -> dict[str, Any]:
        """All such facts."""
        with self._kept():
            return dict(self._storage.get_study_user_attrs(self._number))


def _mend(journal: Path) -> None:
    """Take off half a line, as a kill or a full disk leaves it: what is written next would be lost with it."""
    if not journal.exists() or not journal.stat().st_size:
        return
    with journal.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


def _locks(file: IO[str]) -> bool:
    """Whether a lock can be had, which is given back."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True
