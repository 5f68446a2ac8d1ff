"""A campaign to which something happens: on a device behind a relay and a real sshd, and on one that is left alone."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from tests.faults.audit import Audit, audit
from tests.faults.board import Board
from tests.integration.command_line import CommandLine

__all__ = ["LONG_S", "MOMENT_S", "N_JOBS", "Scene", "wait_until"]

# What a fault lasts that is over "in a moment", and one that is longer than any deadline of the scene.
MOMENT_S, LONG_S = 0.5, 5.0
# Deadlines of the device in fleet.toml, and how long the campaign tries to reach a lost one.
DEADLINES = {
    "connect_s": 1.5,
    "start_s": 10.0,
    "transfer_s": 20.0,
    "answer_s": 12.0,
    "heartbeat_s": 0.3,
    "silence_s": 2.0,
}
LOST_S = 8.0
# Nothing takes this long unless it hangs; what was told to end has ended after a while.
PATIENCE_S, END_S = 90.0, 10.0
# A model large enough to be caught while it travels, on a line that is slow enough.
MODEL_BYTES = 4_000_000
UPLOAD_BYTES_PER_S = 2e6
N_JOBS = 3
RUN = ("campaign", "run", "plan.toml")
PLAN = f"""
models = ["model.onnx"]
devices = ["board", "steady"]
repetitions = {N_JOBS}
lost_s = {LOST_S}
wait_s = 30.0
retries = 2
retry_delay_s = 0.2
[defaults]
rounds = 2
min_runs = 1
min_s = 0.6
gate_timeout_s = 0.0
deadline_s = 12.0
check_outputs = false
"""


class Scene:
    """A context manager. `begin` starts a campaign, `reach` waits for a stage of it, `finish` for all to end."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        self.typed = CommandLine(folder)
        self._python = python
        self._stack = ExitStack()
        self._controllers: list[subprocess.Popen[str]] = []
        self._said: list[str] = []
        self._hung = False

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.board = stack.enter_context(Board(self.folder / "sshd", self._python))
            self.sshd, self.relay = self.board.sshd, self.board.relay
            self.typed.environment |= {**self.sshd.client_environment(), "EDGEPROF_STORE": ""}
            self._write_files()
            stack.callback(self._end)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def store(self) -> Path:
        return self.folder / "edgeprof" / "store.sqlite"

    # --- the campaign ---

    def begin(self, *arguments: str) -> None:
        """Start a controller: of a new campaign on both devices, or what is given."""
        self._controllers.append(self.typed.start(*(arguments or RUN)))

    def begin_slowly(self) -> None:
        """On a line on which an upload takes seconds."""
        self.relay.rate_bytes_s = UPLOAD_BYTES_PER_S
        self.begin()

    def begin_with_long_jobs(self) -> None:
        """So that a second controller has the time to start, on a busy machine too, before all is done."""
        plan = self.folder / "plan.toml"
        text = plan.read_text().replace("min_s = 0.6", "min_s = 2.5").replace("deadline_s = 12.0", "deadline_s = 40.0")
        plan.write_text(text)
        self.begin()

    def reach(self, stage: str) -> None:
        """Wait until the device is in that stage: upload, measuring, or spooled (measured, and not yet fetched)."""
        reached: dict[str, Callable[[], Any]] = {
            "upload": self.board.uploads,
            "measuring": self.board.is_measuring,
            "spooled": lambda: self.board.measured,
        }
        wait_until(reached[stage], f"the campaign never came to: {stage}")

    def wait(self) -> None:
        """For the end of every controller."""
        while self._controllers:
            self._collect(self._controllers.pop(0))

    def resume(self, *more: str) -> None:
        """Go on with the campaign, as a person would once the cause is mended, and wait for its end."""
        self.wait()
        self.begin("campaign", "resume", *more)
        self.wait()

    def kill_controller(self) -> None:
        self._controllers[-1].send_signal(signal.SIGKILL)

    def let_controller_write(self, size_bytes: int | None) -> None:
        """Up to which size its files may grow; None for no bound."""
        _, hard = resource.prlimit(self._controllers[-1].pid, resource.RLIMIT_FSIZE)
        soft = resource.RLIM_INFINITY if size_bytes is None else size_bytes
        resource.prlimit(self._controllers[-1].pid, resource.RLIMIT_FSIZE, (soft, hard))

    @contextmanager
    def sshd_away(self) -> Iterator[None]:
        """All sessions end, and nobody can log in."""
        self.sshd.stop()
        yield
        self.sshd.log.unlink()
        self.sshd.start()

    def finish(self) -> Audit:
        """Wait for the end, give what was told to end the time to, and look at everything."""
        self.wait()
        until = time.monotonic() + END_S
        while (left := self.board.left_over()) and time.monotonic() < until:
            time.sleep(0.05)
        measured = self.board.measured - self.board.excused
        return audit(self.store, "board", measured, left, "\n".join(self._said), self._hung)

    def _collect(self, controller: subprocess.Popen[str]) -> None:
        try:
            out, err = controller.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            controller.kill()
            out, err = controller.communicate()
            self._hung = True
        self._said += [err, out]

    def _end(self) -> None:
        """Whatever a fault leaves running ends with it."""
        for controller in self._controllers:
            controller.kill()
            controller.communicate()

    def _write_files(self) -> None:
        home = self.folder / "edgeprof"
        home.mkdir()
        table = ", ".join(f"{key} = {value}" for key, value in DEADLINES.items())
        (home / "fleet.toml").write_text(
            f'[devices.board]\naddress = "{self.board.address}"\npython = "{self.board.python}"\n'
            f"deadlines = {{ {table} }}\n"
            '[devices.steady]\naddress = "sim:example"\n'
        )
        (self.folder / "plan.toml").write_text(PLAN)
        write_model(self.folder / "model.onnx")


def write_model(path: Path) -> None:
    """A multiplication by a matrix of random numbers, which no compression makes small."""
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
    until = time.monotonic() + PATIENCE_S
    while not _there(condition):
        if time.monotonic() > until:
            raise AssertionError(otherwise)
        time.sleep(0.01)


def _there(condition: Callable[[], Any]) -> bool:
    """Files come and go while one looks."""
    try:
        return bool(condition())
    except OSError:
        return False
