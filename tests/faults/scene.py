"""A campaign to which something happens: one device behind a relay and a real sshd, and one that nothing happens to.

Afterwards the scene is audited: is every result that the device ever had in the store, once; is nothing there that
belongs to no job; did the other device do its part undisturbed; is nothing left on the device; was the cause said.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import onnx
import onnx.helper
import onnx.numpy_helper

from edgeprof.store import CampaignJob, Store
from tests.integration.command_line import CommandLine
from tests.integration.relay import Relay
from tests.integration.sshd import Sshd

# What a fault lasts that is over "in a moment", and one that is longer than any deadline of the scene.
MOMENT_S, LONG_S = 0.5, 6.0
# Deadlines of the device in fleet.toml, and how long the campaign tries to reach a lost one.
DEADLINES = {
    "connect_s": 2.0,
    "start_s": 10.0,
    "transfer_s": 20.0,
    "answer_s": 3.0,
    "heartbeat_s": 0.3,
    "silence_s": 2.0,
}
LOST_S = 12.0
# Nothing takes this long unless it hangs.
PATIENCE_S = 90.0
# A model large enough to be caught while it travels.
MODEL_BYTES = 4_000_000
N_JOBS = 3
# Files that are locked while somebody works; the kernel unlocks them.
STAYS = ("lock", "edgeprof.lease")
PLAN = f"""
models = ["model.onnx"]
all = true
repetitions = {N_JOBS}
lost_s = {LOST_S}
retries = 2
retry_delay_s = 0.2
wait_s = {LOST_S}
[defaults]
rounds = 2
min_runs = 1
min_s = 0.5
gate_timeout_s = 0.0
deadline_s = 20.0
check_outputs = false
"""


@dataclass
class Audit:
    """What came of a scene. `lost` are results that the device had and the store has not, by when they were begun."""

    exit_codes: list[int]
    took_s: float
    n_done: int
    n_steady_done: int
    lost: list[float]
    doubled: list[str]
    invented: list[str]
    left_over: list[str]
    said: str
    states: dict[str, int] = field(default_factory=dict)


class Scene:
    """A context manager. `begin` starts the campaign, `reach` waits for a stage of it, `finish` for its end."""

    def __init__(self, folder: Path, *, python: str = sys.executable, sshd_options: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self._python = python
        self._stack = ExitStack()
        self._sshd = Sshd(folder / "sshd", options=sshd_options)
        self.typed = CommandLine(folder)
        self.controller: subprocess.Popen[str] | None = None
        self._said: list[str] = []
        self._exit_codes: list[int] = []
        self._seen: dict[float, str] = {}
        self._excused: set[float] = set()
        self._over = threading.Event()
        self._began_s = 0.0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.sshd = stack.enter_context(self._sshd)
            self.relay = stack.enter_context(Relay(self.sshd.port))
            self.sshd.trust_port(self.relay.port)
            self.typed.environment |= self.sshd.client_environment()
            self._write_files()
            watcher = threading.Thread(target=self._watch, daemon=True)
            watcher.start()
            stack.callback(watcher.join)
            stack.callback(self._over.set)
            stack.callback(self._end)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def cache(self) -> Path:
        """Where edgeprof keeps its files on the device."""
        return self.sshd.home / ".cache" / "edgeprof"

    @property
    def spool(self) -> Path:
        return self.cache / "spool"

    # --- the campaign ---

    def begin(self) -> None:
        self._began_s = time.monotonic()
        self.controller = self.typed.start("campaign", "run", "plan.toml")

    def reach(self, stage: str) -> None:
        """Wait until the device is in that stage: upload, measuring, or spooled (measured, and not yet fetched)."""
        reached: dict[str, Callable[[], bool]] = {
            "upload": lambda: any(path.stat().st_size for path in self._files("uploads/*")),
            "measuring": lambda: bool(self.worker_pids()),
            "spooled": lambda: bool(self._seen),
        }
        wait_until(lambda: _there(reached[stage]), f"the campaign never came to: {stage}")

    def finish(self, *, resume: bool = False) -> Audit:
        """Wait for the end of the controller, resume the campaign if asked, and look at everything."""
        assert self.controller is not None
        self._collect(self.controller)
        if resume:
            self._collect(self.typed.start("campaign", "resume"))
        return self._audit(time.monotonic() - self._began_s)

    def kill_controller(self) -> None:
        assert self.controller is not None
        self.controller.send_signal(signal.SIGKILL)

    def _collect(self, controller: subprocess.Popen[str]) -> None:
        try:
            out, err = controller.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            controller.kill()
            out, err = controller.communicate()
            err += "\nTHE CONTROLLER HUNG"
        self._said += [out, err]
        self._exit_codes.append(controller.returncode)

    # --- the device, seen from its own side ---

    def agent_pids(self, *words: str) -> list[int]:
        """Processes of the agent on the device whose command line has these words."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                is_ours = any(part.startswith(str(self.cache / "agents")) for part in line)
                if is_ours and all(word in line for word in words) and b"Z" not in _state(folder):
                    found.append(int(folder.name))
        return found

    def worker_pids(self) -> list[int]:
        return self.agent_pids("worker")

    def keeper_pids(self) -> list[int]:
        return self.agent_pids("keep")

    def serving_pids(self) -> list[int]:
        others = {*self.worker_pids(), *self.keeper_pids()}
        return [pid for pid in self.agent_pids() if pid not in others]

    def signal(self, pids: list[int], number: signal.Signals) -> None:
        assert pids, "there is no such process"
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def excuse(self) -> None:
        """What the device has now may be lost: the fault is that it loses it."""
        self._excused |= set(self._seen)

    def outcomes(self) -> list[Path]:
        """Results that lie in the spool."""
        return self._files("spool/machine/tickets/*/done")

    def _files(self, pattern: str) -> list[Path]:
        return list(self.cache.glob(pattern)) if self.cache.exists() else []

    def _watch(self) -> None:
        """Note every result that the device ever has, by when its measuring began."""
        while not self._over.is_set():
            for path in self.outcomes():
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    self._seen[_started_at_s(path.read_bytes())] = str(path)
            time.sleep(0.02)

    def _end(self) -> None:
        """Whatever a test leaves running ends with it."""
        if self.controller is not None and self.controller.poll() is None:
            self.controller.kill()
            self.controller.communicate()
        for pid in self.agent_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # --- the audit ---

    def _audit(self, took_s: float) -> Audit:
        with Store(self.folder / "edgeprof" / "store.sqlite") as store:
            jobs = store.jobs(store.campaign("latest").id)
            rows = store.list()
            runs = [store.get(row.id) for row in rows]
        stored = {run.profile.started_at_s for run in runs if run.device == "board"}
        kept = [job.run_id for job in jobs if job.run_id is not None]
        return Audit(
            exit_codes=self._exit_codes,
            took_s=took_s,
            n_done=_count(jobs, "board", "done"),
            n_steady_done=_count(jobs, "steady", "done"),
            lost=[at_s for at_s in self._seen if at_s not in stored and at_s not in self._excused],
            doubled=[run_id for run_id in kept if kept.count(run_id) > 1],
            invented=[row.id for row in rows if row.id not in kept],
            left_over=self._left_over(),
            said="\n".join(self._said),
            states={state: _count(jobs, "board", state) for state in ("done", "failed", "running", "pending")},
        )

    def _left_over(self) -> list[str]:
        """Processes, and files beside the agent and whole models, once what was told to end has had time to."""
        deadline = time.monotonic() + 10.0
        while True:
            left = [f"process {pid}" for pid in self.agent_pids()]
            left += [str(path.relative_to(self.cache)) for path in self._files("**/*") if self._is_leftover(path)]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.1)

    def _is_leftover(self, path: Path) -> bool:
        kind = path.relative_to(self.cache).parts[0]
        if not path.is_file() or path.name in STAYS:
            return False
        return kind not in ("agents", "models") or "." in path.name.removesuffix(".pyz")

    def _write_files(self) -> None:
        home = self.folder / "edgeprof"
        home.mkdir()
        table = ", ".join(f"{key} = {value}" for key, value in DEADLINES.items())
        address = self.sshd.address.replace(f":{self.sshd.port}", f":{self.relay.port}")
        (home / "fleet.toml").write_text(
            f'[devices.board]\naddress = "{address}"\npython = "{self._python}"\ndeadlines = {{ {table} }}\n'
            '[devices.steady]\naddress = "sim:example"\n'
        )
        (self.folder / "plan.toml").write_text(PLAN.replace("all = true", 'devices = ["board", "steady"]'))
        write_model(self.folder / "model.onnx")


def write_model(path: Path) -> None:
    """A multiplication by a matrix of random bytes, which no compression makes small."""
    import numpy as np

    side = int((MODEL_BYTES / 4) ** 0.5)
    weights = np.random.default_rng(0).standard_normal((side, side)).astype(np.float32)
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], "multiply")
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, side])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, side])
    graph = onnx.helper.make_graph([node], "fault", [x], [y], [onnx.numpy_helper.from_array(weights, "w")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))


def wait_until(condition: Callable[[], Any], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(otherwise)
        time.sleep(0.01)


@contextlib.contextmanager
def scene(folder: Path, **options: Any) -> Iterator[Scene]:
    with Scene(folder, **options) as made:
        yield made


def _there(condition: Callable[[], bool]) -> bool:
    """Files come and go while one looks."""
    try:
        return condition()
    except OSError:
        return False


def _state(folder: Path) -> bytes:
    return (folder / "stat").read_bytes().rpartition(b")")[2].split()[0]


def _count(jobs: tuple[CampaignJob, ...], device: str, state: str) -> int:
    return sum(job.device == device and job.state == state for job in jobs)


def _started_at_s(outcome: bytes) -> float:
    """When the measuring of a result began, on the device's clock; a refusal is no result."""
    _, _, body = outcome.partition(b"\n")
    return float(json.loads(body)["started_at_s"])
