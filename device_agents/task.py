"""One job on its way: its staged files, the worker of each of its passes, and what came of them."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Callable, Dict, Optional, Sequence, Tuple

from device_agents import clock_record, files
from device_agents.decoding import WireError
from device_agents.machine import Machine, phone_serial
from device_agents.runtimes import RUNTIMES, machine_for
from device_agents.streams import LineBuffer
from device_agents.wire import (
    ENERGY_PASS,
    LATENCY,
    MAX_REPLY_BYTES,
    OPERATORS,
    OUTPUTS,
    Job,
    Refused,
)

if TYPE_CHECKING:
    from device_agents.clock_caps import CappedClocks

STDERR_TAIL_BYTES = 8192

# The name of the last reply and its body: profile, energy, outputs or refused.
Outcome = Tuple[str, Dict[str, Any]]
OnProgress = Callable[[Dict[str, Any]], None]


@dataclass(frozen=True)
class StagedFiles:
    """The files of a job under the names that the model uses; `digests` are (path, SHA-256) of all of them."""

    model: Tuple[str, ...]
    inputs: Tuple[str, ...]
    digests: Tuple[Tuple[str, str], ...]


class Task:
    """A job, driven by whoever waits for `descriptor` to become readable or for `deadline` (time.monotonic) to pass.

    `program` is the Python and the agent's archive that the workers run. They inherit `lease_descriptor`, so that the
    device stays taken for as long as anything measures.
    """

    def __init__(self, job: Job, first_pass: str, program: Sequence[str], lease_descriptor: Optional[int]) -> None:
        self.job = job
        self.deadline = time.monotonic() + job.deadline_s
        self._pass = self._first_pass = first_pass
        self._program = list(program)
        self._lease_descriptor = lease_descriptor
        self._result: Optional[Dict[str, Any]] = None
        # Why a pass that was asked for gave nothing; the latency is kept all the same.
        self._missing: Dict[str, str] = {}
        self._started_at_s = time.time()
        self._stack = contextlib.ExitStack()
        self._pass_stack = contextlib.ExitStack()
        self._staged: Optional[StagedFiles] = None
        self._bodies: Dict[str, Dict[str, Any]] = {}
        self._stages_s: Dict[str, float] = {}
        self._clocks: Optional[CappedClocks] = None
        self._python = ""
        self._worker: Optional[subprocess.Popen[bytes]] = None
        self._errors: IO[bytes]
        self._lines: LineBuffer

    @property
    def descriptor(self) -> int:
        """What the worker of the running pass says."""
        return self._lines.descriptor

    def begin(self) -> Optional[Outcome]:
        """Start the first pass; the outcome at once if that cannot be done, else None."""
        if self.job.runtime not in RUNTIMES:
            known = "known: " + ", ".join(RUNTIMES)
            return self._end(Refused("runtime-missing", f"unknown runtime {self.job.runtime!r}", known))
        refusal = self._behind_adb() or self._cap_clocks()
        return self._start_pass() if refusal is None else self._end(refusal)

    def advance(self, is_readable: bool, on_progress: OnProgress) -> Optional[Outcome]:
        """Read what the worker said, act when it ended or its time is over; the outcome, or None while it goes on."""
        try:
            lines = self._lines.read() if is_readable else []
        except WireError as error:
            return self._end(Refused("internal", f"the worker sent garbage: {error}"))
        for line in lines:
            message = _message(line)
            if message is not None and message["reply"] == "progress":
                on_progress(message["body"])
            elif message is not None:
                self._result = message
        if is_readable and self._lines.is_at_end:
            return self._end_pass()
        if time.monotonic() >= self.deadline:
            advice = "raise the deadline, or ask for fewer rounds"
            return self._end(Refused("deadline", f"the job took longer than {self.job.deadline_s:.0f} s", advice))
        return None

    def close(self) -> None:
        """End the worker and all it started, put clocks back, remove the staged files; safe to call twice."""
        if self._worker is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._worker.pid, signal.SIGKILL)
            self._worker.wait()
            self._worker = None
        if self._clocks is not None:
            self._clocks.close()
        self._pass_stack.close()
        self._stack.close()

    def _behind_adb(self) -> Optional[Refused]:
        """Why a phone that has no agent of its own cannot do this: what is asked would happen to the host instead."""
        if phone_serial() is None or self.job.runtime == "simulated":
            return None
        if self.job.runtime != "benchmark_model":
            what = f"{self.job.runtime} does not run on a phone behind adb"
            return Refused("runtime-missing", what, "use --runtime benchmark_model, or Termux: docs/android.md")
        if self.job.clock_caps:
            return Refused("bad-option", "clocks of a phone cannot be capped over adb", "leave the caps out")
        return None

    def _cap_clocks(self) -> Optional[Refused]:
        """Before anything is timed, put back what killed jobs left, and cap the clocks that this one wants capped."""
        if self._first_pass == OUTPUTS or self.job.runtime == "simulated":  # a simulated board caps its own
            return None
        machine = Machine()
        clock_record.put_back_leftovers(machine)
        if not self.job.clock_caps:
            return None
        from device_agents.clock_caps import MARGIN_S, CappedClocks, ClockError

        patience_s = self.deadline - time.monotonic() + MARGIN_S
        # By our own archive: the guard and we must be of one version.
        self._clocks = CappedClocks(machine, own_program(), self._lease_descriptor, patience_s)
        began = time.monotonic()
        try:
            self._clocks.apply(self.job.clock_caps)
        except ClockError as error:
            return Refused(error.kind, str(error), error.advice)
        self._stages_s["cap clocks"] = time.monotonic() - began
        return None

    def _start_pass(self) -> Optional[Outcome]:
        try:
            self._start_worker()
        except (OSError, files.FileError) as error:
            return self._end(Refused(getattr(error, "kind", "device-error"), str(error)))
        return None

    def _start_worker(self) -> None:
        """Start the worker of one pass, in a process group of its own."""
        self._result = None
        self._pass_began = time.monotonic()
        if self._staged is None:
            self._staged = self._stage()
        # Whatever the runtime writes to its temporary folder goes with it, however the worker ends.
        scratch = files.scratch_folder()
        self._pass_stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        self._errors = self._pass_stack.enter_context(open(os.path.join(scratch, "stderr"), "w+b"))  # noqa: SIM115
        self._worker = subprocess.Popen(
            [*self._program, "worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
            cwd=scratch,
            # Runtimes keep things, too: ONNX Runtime 1.32 a database of events and an id below the user's cache.
            env={**os.environ, "TMPDIR": scratch, "XDG_CACHE_HOME": scratch, files.CACHE_VARIABLE: files.cache_dir()},
            pass_fds=() if self._lease_descriptor is None else (self._lease_descriptor,),
        )
        orders, answers = self._worker.stdin, self._worker.stdout
        if orders is None or answers is None:
            raise OSError("the worker has no pipes")
        self._pass_stack.callback(answers.close)
        self._pass_stack.callback(_close_quietly, orders)
        self._lines = LineBuffer(answers.fileno(), MAX_REPLY_BYTES)
        order = {
            "job": dataclasses.asdict(self.job),
            "pass": self._pass,
            "model_path": self._staged.model[0],
            "input_paths": self._staged.inputs,
            "digests": self._staged.digests,
            "parent": os.getpid(),
            "lease_descriptor": self._lease_descriptor,
        }
        with contextlib.suppress(BrokenPipeError):  # it died at once: its closed output will tell, with its last words
            orders.write(json.dumps(order).encode() + b"\n")
            orders.flush()

    def _stage(self) -> "StagedFiles":
        """A simulated job has no files here: its work is in the job."""
        if self.job.runtime == "simulated":
            return StagedFiles(("",), (), ())
        model = self._stack.enter_context(files.staged(self.job.model))
        inputs = self._stack.enter_context(files.staged_inputs(self.job.inputs))
        wanted = [*self.job.model.files, *(item.file for item in self.job.inputs)]
        digests = tuple((path, file.sha256) for path, file in zip((*model, *inputs), wanted))
        return StagedFiles(model, inputs, digests)

    def _end_pass(self) -> Optional[Outcome]:
        refusal = self._collect()
        if refusal is not None and self._pass == self._first_pass:
            return self._end(refusal)
        if refusal is not None:
            self._missing[self._pass] = refusal.message
        following = self._next_pass()
        if following is None:
            return self._end(None)
        self._pass = following
        return self._start_pass()

    def _next_pass(self) -> Optional[str]:
        """What comes after this pass, if anything: a profile has up to three."""
        wanted = {LATENCY: True, OPERATORS: self.job.operators, ENERGY_PASS: self.job.energy is not None}
        order = list(wanted)
        if self._first_pass != LATENCY:
            return None
        return next((name for name in order[order.index(self._pass) + 1 :] if wanted[name]), None)

    def _collect(self) -> Optional[Refused]:
        """Wait for the worker that has closed its output; why there is no result, or None when there is one."""
        code = self._worker.wait() if self._worker is not None else 0
        tail = self._stderr_tail()
        self._worker = None
        self._pass_stack.close()
        self._stages_s[f"{self._pass} pass"] = time.monotonic() - self._pass_began
        if self._result is None:
            # What crashed before its worker could look may have crashed of that.
            name = files.damaged(self._staged.digests) if self._staged is not None else None
            return _crash(code, tail) if name is None else corrupt_model(name)
        if self._result["reply"] == "refused":
            body = self._result["body"]
            return Refused(body["kind"], body["message"], body["advice"], body["detail"] or tail)
        self._python = self._result["python"]
        self._bodies[self._pass] = self._result["body"]
        for stage, took_s in self._result["stages_s"].items():
            self._stages_s[f"{self._pass} {stage}"] = took_s
        return None

    def _stderr_tail(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - STDERR_TAIL_BYTES))
        return self._errors.read().decode("utf-8", "replace")

    def _end(self, refusal: Optional[Refused]) -> Outcome:
        what_changed = self._clocks.what_changed() if self._clocks is not None and refusal is None else None
        if what_changed is not None:
            advice = "find out what sets it (a governor's daemon, another program), stop that, and measure again"
            refusal = Refused("clock-not-set", what_changed, advice)
        self.close()
        if refusal is not None and self._clocks is not None and self._clocks.notes:
            refusal = dataclasses.replace(refusal, message="; ".join((refusal.message, *self._clocks.notes)))
        if refusal is not None:
            return "refused", dataclasses.asdict(refusal)
        if self._first_pass == OUTPUTS:
            return "outputs", {**self._bodies[OUTPUTS], "python": self._python}
        if self._first_pass == ENERGY_PASS:
            return "energy", {**self._measured_by(), "energy": self._bodies[ENERGY_PASS]}
        return "profile", self._profile()

    def _measured_by(self) -> Dict[str, Any]:
        machine = machine_for(self.job)
        info = machine.describe()
        return {
            "job": dataclasses.asdict(self.job),
            "origin": "emulated" if info.emulator and machine.origin == "measured" else machine.origin,
            "agent_digest": digest_of(self._program[-1]),
            "python": self._python,
        }

    def _profile(self) -> Dict[str, Any]:
        asked = {OPERATORS: self.job.operators, ENERGY_PASS: self.job.energy is not None}
        missing = {name: self._missing.get(name) if asked[name] else f"not asked for (--{name})" for name in asked}
        return {
            **self._bodies[LATENCY],
            **self._with_clocks(self._bodies[LATENCY]),
            **self._measured_by(),
            "machine": dataclasses.asdict(machine_for(self.job).describe()),
            "started_at_s": self._started_at_s,
            "operators": self._bodies.get(OPERATORS),
            "operators_missing": missing[OPERATORS],
            "energy": self._bodies.get(ENERGY_PASS),
            "energy_missing": missing[ENERGY_PASS],
            "stages_s": self._stages_s,
        }

    def _with_clocks(self, body: Dict[str, Any]) -> Dict[str, Any]:
        """What the caps came to, where there are any."""
        if self._clocks is None:
            return {}
        in_force = {**body["in_force"], "clock_caps": self._clocks.in_force}
        return {"in_force": in_force, "notes": [*body["notes"], *self._clocks.notes]}


def corrupt_model(name: str) -> Refused:
    """A file of the job is not what was sent: whatever came of it does not count."""
    message = f"{name} has changed on the device's disk since it arrived: the result does not count"
    return Refused(
        "corrupt-model", message, "it is sent anew with the next try; if that happens again, change the disk"
    )


def own_program() -> Tuple[str, str]:
    """The Python and the archive that this process runs."""
    return sys.executable, sys.argv[0]


def digest_of(archive: str) -> str:
    """SHA-256 of a packed agent: its file's name, which the host's probe has verified; empty for an unpacked one."""
    name, suffix = os.path.splitext(os.path.basename(archive))
    return name if suffix == ".pyz" else ""


def _close_quietly(stream: Any) -> None:
    with contextlib.suppress(OSError):
        stream.close()  # a worker that died early leaves unwritten bytes behind


def _message(line: bytes) -> Optional[Dict[str, Any]]:
    """What a worker says; None for what something else prints before the worker has claimed its output."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and "reply" in message else None


def _crash(code: int, tail: str) -> Refused:
    """What to say about a worker that ended without a word."""
    if code == -signal.SIGKILL:
        advice = "look at `dmesg` on the device: if the kernel did it, a smaller model or batch may fit"
        what = "the measuring process was killed (SIGKILL): by the kernel for want of memory, or by somebody"
        return Refused("killed", what, advice, tail)
    if code < 0:
        name = signal.Signals(-code).name
        advice = "the runtime crashed on this model: try another version of it, or another runtime"
        return Refused("crashed", f"the runtime crashed with {name}", advice, tail)
    return Refused("crashed", f"the measuring process ended with code {code} and no result", "", tail)
