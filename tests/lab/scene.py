"""A campaign on two emulated devices: dev1, to which something happens, and dev2, to which nothing may.

Afterwards the scene is audited: is every result that dev1 ever had in the store, once; is nothing there that belongs to
no job; did dev2 do its part at the first attempt; is nothing left on either; was the cause said.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import msgspec

from edgeprof.deadlines import Deadlines
from edgeprof.fleet import Fleet as FleetFile
from edgeprof.store import DONE, CampaignJob, Store
from tests.lab.device import FleetDevice
from tests.lab.fleet import MIB, Fleet

MODELS = Path(__file__).parents[2] / ".cache" / "models"
MODEL = "hey_jarvis.tflite"
DISK_BYTES = 64 * MIB
# Shorter than a fault that is called long, longer than anything takes under emulation with every CPU busy.
DEADLINES = Deadlines(connect_s=6, start_s=60, transfer_s=20, answer_s=6, heartbeat_s=0.5, silence_s=4)
LONG_S = 10.0
LOST_S = 90.0
# For a device that does not come back.
SHORT_LOST_S = 15.0
# Nothing takes this long unless it hangs.
PATIENCE_S = 240.0
# An agent that was cut off leaves after four times the silence: see launch.py.
ENDING_S = 60.0
CACHE = "home/pi/.cache/edgeprof"
# Files that are locked while somebody works; the kernel unlocks them.
# "made-parent" tells `devices clean` that ~/.cache was not there before us.
STAYS = ("lock", "edgeprof.lease", "made-parent")


class Scene:
    """A context manager. `begin` starts the campaign, `reach` waits for a stage of it, `finish` for its end."""

    def __init__(
        self, folder: Path, *, n_jobs: int = 2, lost_s: float = LOST_S, min_s: float = 0.0, model: str = MODEL
    ) -> None:
        self.folder = folder
        self._model = model
        self.n_jobs = n_jobs
        self._lost_s = lost_s
        self._min_s = min_s
        self._stack = ExitStack()
        self._seen: dict[float, str] = {}
        self._excused: set[float] = set()
        self._over = threading.Event()
        # What the fault itself finds wrong.
        self.wrong: list[str] = []
        self.said = ""
        self.controller: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.fleet = stack.enter_context(Fleet(2, disk_bytes=DISK_BYTES, seed=11))
            self.board, self.steady = self.fleet
            self.typed = self.fleet.command_line(self.folder)
            self._write_files()
            watcher = threading.Thread(target=self._watch, daemon=True)
            watcher.start()
            stack.callback(watcher.join)
            stack.callback(self._over.set)
            stack.callback(self.kill_controller)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    # --- the campaign ---

    def begin(self) -> None:
        self.controller = self.typed.start("campaign", "run", "plan.toml")

    def reach(self, stage: str) -> None:
        """Wait until dev1 is in that stage: upload, measuring, or spooled (measured, and not yet fetched)."""
        reached: dict[str, Callable[[], bool]] = {
            "upload": lambda: any(path.stat().st_size for path in self.files("uploads/*")),
            "measuring": lambda: bool(self.pids("worker")),
            "spooled": lambda: bool(self._seen),
        }
        wait_until(lambda: _there(reached[stage]), f"the campaign never came to: {stage}")

    def end(self, exit_code: int, *says: str) -> None:
        """Wait for the end of the controller: it must be that code, and these words must be in what it printed."""
        assert self.controller is not None
        began_s = time.monotonic()
        try:
            out, err = self.controller.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.controller.kill()
            out, err = self.controller.communicate()
            self.wrong.append(f"the controller hung for {time.monotonic() - began_s:.0f} s")
        code, said = self.controller.returncode, f"{out}\n{err}"
        self.said += said
        if code != exit_code:
            self.wrong.append(f"exit code {code} and not {exit_code}")
        if "Traceback" in said or "a defect" in said:
            self.wrong.append("it crashed")
        flat = " ".join(said.split())
        self.wrong += [f"nothing was said of {words!r}, but: {flat[-2000:]}" for words in says if words not in flat]

    def resume(self, *options: str) -> None:
        """Go on with what is left."""
        self.controller = self.typed.start("campaign", "resume", *options)

    def is_running(self) -> bool:
        """Whether the controller has not ended."""
        return self.controller is not None and self.controller.poll() is None

    def kill_controller(self) -> None:
        if self.controller is not None and self.is_running():
            self.controller.kill()
            self.controller.communicate()

    # --- the device, seen from its own side ---

    @property
    def cache(self) -> Path:
        """Where edgeprof keeps its files on dev1."""
        return self.board.root / CACHE

    def files(self, pattern: str) -> list[Path]:
        return list(self.cache.glob(pattern))

    def pids(self, mode: str) -> list[int]:
        """dev1's processes of the agent: "serve", "keep" or "worker"."""
        return [pid for pid, line in self.board.processes().items() if _mode(line) == mode]

    @property
    def n_seen(self) -> int:
        """How many results dev1's spool ever had."""
        return len(self._seen)

    def excuse(self) -> None:
        """What dev1 has now may be lost: the fault is that it loses it."""
        self._excused |= set(self._seen)

    def fill_disk(self, leave_bytes: int = 0) -> None:
        """Leave no more than that, but for what is reserved already."""
        filler = self.board.root / "home/pi/filler"
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(64 * 1024))
        filler.chmod(0o666)
        if leave_bytes:
            with filler.open("r+b") as file:
                file.truncate(max(0, filler.stat().st_size - leave_bytes))

    def make_room(self) -> None:
        (self.board.root / "home/pi/filler").unlink()

    def _watch(self) -> None:
        """Note every result that dev1 ever has, by when its measuring began."""
        while not self._over.wait(0.02):
            with contextlib.suppress(OSError):
                for path in self.files("spool/machine/tickets/*/done"):
                    with contextlib.suppress(ValueError, KeyError, TypeError):
                        self._seen[_started_at_s(path.read_bytes())] = path.parent.name

    # --- the audit ---

    def audit(self) -> list[str]:
        """Everything that is not as it must be; empty where the fault was survived."""
        with Store(self.folder / "edgeprof" / "store.sqlite") as store:
            jobs = store.jobs(store.campaign("latest").id)
            runs = {row.id: store.get(row.id) for row in store.list()}
        wrong = list(self.wrong)
        stored = {run.profile.started_at_s for run in runs.values() if run.device == self.board.name}
        wrong += [
            f"the result of {name} was lost"
            for at_s, name in self._seen.items()
            if at_s not in stored and at_s not in self._excused
        ]
        kept = Counter(job.run_id for job in jobs if job.run_id is not None)
        wrong += [f"{run_id} counts {n} times" for run_id, n in kept.items() if n > 1]
        wrong += [f"run {run_id} belongs to no job" for run_id in runs if run_id not in kept]
        wrong += [f"{run.device} is not labelled emulated" for run in runs.values() if run.profile.origin != "emulated"]
        wrong += [f"{job.label} on {job.device} is {job.state}: {_reasons(job)}" for job in jobs if job.state != DONE]
        wrong += [
            f"{job.device} was disturbed: {_reasons(job)}"
            for job in jobs
            if job.device == self.steady.name and (job.attempt != 1 or job.reasons)
        ]
        return wrong + [left for device in self.fleet for left in left_on(device)]

    def _write_files(self) -> None:
        path = self.folder / "edgeprof" / "fleet.toml"
        path.unlink()
        fleet = FleetFile.read(path)
        for device in self.fleet:
            named = msgspec.structs.replace(device.device(), connect_timeout_s=None, deadlines=DEADLINES)
            fleet = fleet.add(named)
        model = next(MODELS.rglob(self._model))
        (self.folder / "plan.toml").write_text(
            f'models = ["{model}"]\ndevices = ["{self.board.name}", "{self.steady.name}"]\n'
            f"repetitions = {self.n_jobs}\nlost_s = {self._lost_s}\nretries = 1\nretry_delay_s = 0.2\n"
            f'[defaults]\nruntime = "litert"\nrounds = 1\nmin_runs = 1\nmin_s = {self._min_s}\n'
            "gate_timeout_s = 0.0\ndeadline_s = 90.0\ncheck_outputs = false\n"
        )


def left_on(device: FleetDevice) -> list[str]:
    """Processes, leases and files beside the agent and whole models, once what was told to end has had time to."""
    until_s = time.monotonic() + ENDING_S
    while True:
        left = [f"left on {device.name}: {what}" for what in _left_on(device)]
        if not left or time.monotonic() > until_s:
            return left
        time.sleep(0.1)


def _left_on(device: FleetDevice) -> Iterator[str]:
    yield from (f"process {line}" for line in device.processes().values())
    cache = device.root / CACHE
    for path in cache.rglob("*") if cache.exists() else ():
        kind = path.relative_to(cache).parts[0]
        if not path.is_file() and not path.is_socket():
            continue
        if path.name in STAYS:
            if _is_locked(path):
                yield f"the lock {path.relative_to(cache)}"
        elif kind not in ("agents", "models") or "." in path.name.removesuffix(".pyz"):
            yield str(path.relative_to(cache))


def _is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def wait_until(condition: Callable[[], Any], otherwise: str) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until_s:
            raise AssertionError(otherwise)
        time.sleep(0.02)


def _mode(line: str) -> str | None:
    """What an agent's process is there for, by its command line; None for any other process."""
    words = line.split()
    archive = next((k for k, word in enumerate(words) if word.endswith(".pyz")), None)
    return None if archive is None else " ".join(words[archive + 1 : archive + 2])


def _there(condition: Callable[[], bool]) -> bool:
    """Files come and go while one looks."""
    try:
        return condition()
    except OSError:
        return False


def _reasons(job: CampaignJob) -> str:
    return "; ".join(f"{reason.kind}: {reason.message}" for reason in job.reasons)


def _started_at_s(outcome: bytes) -> float:
    """When the measuring of a result began, on the device's clock; a refusal is no result."""
    _, _, body = outcome.partition(b"\n")
    return float(json.loads(body)["started_at_s"])
