"""The agent: says hello, answers requests line by line, has a worker measure, and leaves when the host is gone.

It never measures itself: it sleeps in select while a worker runs, so that a crash, a hang or a full memory of the
runtime is an answer and not the end.
"""

import contextlib
import dataclasses
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
import traceback
from typing import IO, Any, Dict, Optional, Tuple

from device_agents import conditions, files
from device_agents.decoding import WireError
from device_agents.machine import Machine
from device_agents.runtimes import RUNTIMES, machine_for
from device_agents.runtimes.available import installed
from device_agents.streams import LineBuffer, claim_stdout
from device_agents.wire import (
    LATENCY,
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    OPERATORS,
    OUTPUTS,
    PROTOCOL,
    Adopt,
    FilesMissing,
    FilesWanted,
    Hello,
    Job,
    Nothing,
    Refused,
    Reply,
    Request,
    decode_request,
    encode,
)

# A host that says nothing for this long is gone, though the network may not know yet: hosts send a ping every few
# seconds while they wait.
SILENCE_S = 120.0
STDERR_TAIL_BYTES = 8192
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def main() -> int:
    """Serve until standard input ends; returns the exit code."""
    agent = Agent(claim_stdout())
    for number in ENDING:
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        agent.serve()
    except BrokenPipeError:
        pass  # the host is gone; there is nobody to tell
    finally:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)  # a second request to end must not cut cleaning up short
        agent.stop_worker()
    return 0


class Agent:
    """The serving loop and the one worker it may have."""

    def __init__(self, replies: Any) -> None:
        self._replies = replies
        self._selector = selectors.DefaultSelector()
        self._host = LineBuffer(0, MAX_REQUEST_BYTES)
        self._task: Optional[Task] = None
        self._digest = own_digest()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            os.utime(sys.argv[0])  # in use: not to be removed as long unused
        files.remove_leftovers()
        self._send(0, "hello", dataclasses.asdict(self.hello()))
        self._selector.register(0, selectors.EVENT_READ)
        heard_at = time.monotonic()
        while not self._host.is_at_end and time.monotonic() - heard_at < SILENCE_S:
            ready = [key.fd for key, _ in self._selector.select(self._patience_s())]
            if 0 in ready:
                heard_at = time.monotonic()
                for line in self._host.read():
                    self._answer(line)
            if self._task is not None:
                self._follow(self._task, self._task.lines.descriptor in ready)

    def hello(self) -> Hello:
        return Hello(
            protocol=PROTOCOL,
            agent_digest=self._digest,
            python=python_version(),
            machine=Machine().describe(),
            runtimes=installed(),
            meters=(),
            cache_dir=files.cache_dir(),
            free_bytes=files.free_bytes(),
            user_id=os.getuid(),
        )

    def _patience_s(self) -> float:
        if self._task is None:
            return SILENCE_S
        return max(0.0, min(SILENCE_S, self._task.deadline - time.monotonic()))

    def _send(self, request_id: int, reply: str, body: Dict[str, Any]) -> None:
        line = json.dumps({"id": request_id, "reply": reply, "body": body}, allow_nan=False, separators=(",", ":"))
        self._replies.write(line.encode() + b"\n")
        self._replies.flush()

    def _refuse(self, request_id: int, refused: Refused) -> None:
        self._replies.write(encode(Reply(request_id, "refused", refused)))
        self._replies.flush()

    def _answer(self, line: bytes) -> None:
        """One request, one answer; a job's answer comes when its worker is done."""
        try:
            request = decode_request(line)
        except WireError as error:
            self._refuse(0, Refused("bad-request", str(error), "are host and agent of the same version?"))
            return
        try:
            self._dispatch(request)
        except files.FileError as error:
            self._refuse(request.id, Refused(error.kind, str(error)))
        except Exception as error:
            self.stop_worker()
            message = f"{type(error).__name__}: {error}"
            detail = traceback.format_exc()[-STDERR_TAIL_BYTES:]
            self._refuse(request.id, Refused("internal", message, "this is a defect: please report it", detail))

    def _dispatch(self, request: Request) -> None:
        body = request.body
        if isinstance(body, Job):
            self._begin(request.id, body, OUTPUTS if request.request == "outputs" else LATENCY)
        elif isinstance(body, FilesWanted):
            absent = files.missing(body.files)
            partial_bytes = sum(files.partial_bytes(file) for file in body.files if file.sha256 in absent)
            answer = FilesMissing(tuple(absent), files.folder("uploads"), files.free_bytes(), partial_bytes)
            self._send(request.id, "missing", dataclasses.asdict(answer))
        elif isinstance(body, Adopt):
            files.adopt(body.upload, body.file)
            self._send(request.id, "adopted", dataclasses.asdict(Nothing()))
        elif request.request == "conditions":
            self._send(request.id, "conditions", dataclasses.asdict(conditions.read(Machine())))
        else:
            self._send(request.id, "pong", dataclasses.asdict(Nothing()))

    def _begin(self, request_id: int, job: Job, first_pass: str) -> None:
        if self._task is not None:
            self._refuse(request_id, Refused("busy", "the agent is already measuring"))
            return
        if job.runtime not in RUNTIMES:
            known = "known: " + ", ".join(RUNTIMES)
            self._refuse(request_id, Refused("runtime-missing", f"unknown runtime {job.runtime!r}", known))
            return
        self._task = Task(request_id, job, self._digest)
        self._start_pass(self._task, first_pass)

    def _start_pass(self, task: "Task", name: str) -> None:
        try:
            task.start(name)
            self._selector.register(task.lines.descriptor, selectors.EVENT_READ)
        except (OSError, files.FileError) as error:
            self._finish(task, Refused(getattr(error, "kind", "device-error"), str(error)))

    def _follow(self, task: "Task", is_readable: bool) -> None:
        """Pass the worker's lines on, and act when it ends or its time is over."""
        try:
            lines = task.lines.read() if is_readable else []
        except WireError as error:
            self._finish(task, Refused("internal", f"the worker sent garbage: {error}"))
            return
        for line in lines:
            message = _message(line)
            if message is not None and message["reply"] == "progress":
                self._send(task.request_id, "progress", message["body"])
            elif message is not None:
                task.result = message
        if is_readable and task.lines.is_at_end:
            self._end_pass(task)
        elif time.monotonic() >= task.deadline:
            advice = "raise the deadline, or ask for fewer rounds"
            self._finish(task, Refused("deadline", f"the job took longer than {task.job.deadline_s:.0f} s", advice))

    def _end_pass(self, task: "Task") -> None:
        self._selector.unregister(task.lines.descriptor)
        refusal = task.end_pass()
        if task.pass_name == OUTPUTS or (refusal is not None and task.pass_name == LATENCY):
            self._finish(task, refusal)
        elif task.pass_name == LATENCY and task.job.operators:
            self._start_pass(task, OPERATORS)
        else:
            task.operators_missing = refusal.message if refusal is not None else None
            self._finish(task, None)

    def _finish(self, task: "Task", refusal: Optional[Refused]) -> None:
        with contextlib.suppress(KeyError, ValueError, AttributeError):
            self._selector.unregister(task.lines.descriptor)
        task.close()
        self._task = None
        if refusal is not None:
            self._refuse(task.request_id, refusal)
        elif task.pass_name == OUTPUTS:
            self._send(task.request_id, "outputs", task.outputs())
        else:
            self._send(task.request_id, "profile", task.profile())

    def stop_worker(self) -> None:
        """Kill the worker, if there is one, and remove its files."""
        if self._task is not None:
            self._task.close()
            self._task = None


class Task:
    """One job on its way: its staged files, its worker, and what came of its passes."""

    def __init__(self, request_id: int, job: Job, agent_digest: str) -> None:
        self.request_id = request_id
        self.job = job
        self.deadline = time.monotonic() + job.deadline_s
        self.result: Optional[Dict[str, Any]] = None
        self.operators_missing: Optional[str] = None
        self.pass_name = ""
        self._agent_digest = agent_digest
        self._started_at_s = time.time()
        self._stack = contextlib.ExitStack()
        self._pass_stack = contextlib.ExitStack()
        self._model_path: Optional[str] = None
        self._input_paths: Tuple[str, ...] = ()
        self._bodies: Dict[str, Dict[str, Any]] = {}
        self._stages_s: Dict[str, float] = {}
        self._worker: Optional[subprocess.Popen[bytes]] = None
        self._errors: IO[bytes]

    def start(self, name: str) -> None:
        """Start the worker for one pass, in a process group of its own."""
        self.pass_name, self.result = name, None
        self._pass_began = time.monotonic()
        if self._model_path is None:
            self._model_path = self._stage_model()
            self._input_paths = self._stack.enter_context(files.staged_inputs(self.job.inputs))
        # Whatever the runtime writes to its temporary folder goes with it, however the worker ends.
        scratch = files.scratch_folder()
        self._pass_stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        self._errors = self._pass_stack.enter_context(open(os.path.join(scratch, "stderr"), "w+b"))  # noqa: SIM115
        self._worker = subprocess.Popen(
            [sys.executable, sys.argv[0], "worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
            cwd=scratch,
            env={**os.environ, "TMPDIR": scratch},
        )
        orders, answers = self._worker.stdin, self._worker.stdout
        if orders is None or answers is None:
            raise OSError("the worker has no pipes")
        self._pass_stack.callback(answers.close)
        self._pass_stack.callback(_close_quietly, orders)
        self.lines = LineBuffer(answers.fileno(), MAX_REPLY_BYTES)
        order = {
            "job": dataclasses.asdict(self.job),
            "pass": name,
            "model_path": self._model_path,
            "input_paths": self._input_paths,
        }
        with contextlib.suppress(BrokenPipeError):  # it died at once: its closed output will tell, with its last words
            orders.write(json.dumps(order).encode() + b"\n")
            orders.flush()

    def _stage_model(self) -> str:
        """A simulated job has no files here: its work is in the job."""
        return "" if self.job.runtime == "simulated" else self._stack.enter_context(files.staged(self.job.model))

    def end_pass(self) -> Optional[Refused]:
        """Collect the worker that has closed its output; why there is no result, or None when there is one."""
        code = self._worker.wait() if self._worker is not None else 0
        tail = self._stderr_tail()
        self._worker = None
        self._pass_stack.close()
        self._stages_s[f"{self.pass_name} pass"] = time.monotonic() - self._pass_began
        if self.result is None:
            return _crash(code, tail)
        if self.result["reply"] == "refused":
            body = self.result["body"]
            return Refused(body["kind"], body["message"], body["advice"], body["detail"] or tail)
        self._bodies[self.pass_name] = self.result["body"]
        for stage, took_s in self.result["stages_s"].items():
            self._stages_s[f"{self.pass_name} {stage}"] = took_s
        return None

    def _stderr_tail(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - STDERR_TAIL_BYTES))
        return self._errors.read().decode("utf-8", "replace")

    def profile(self) -> Dict[str, Any]:
        """The body of the profile reply."""
        machine = machine_for(self.job)
        info = machine.describe()
        body = self._bodies[LATENCY]
        return {
            **body,
            "job": dataclasses.asdict(self.job),
            "origin": "emulated" if info.emulator and machine.origin == "measured" else machine.origin,
            "agent_digest": self._agent_digest,
            "python": python_version(),
            "machine": dataclasses.asdict(info),
            "started_at_s": self._started_at_s,
            "operators": self._bodies.get(OPERATORS),
            "operators_missing": self.operators_missing if self.job.operators else "not asked for (--operators)",
            "stages_s": self._stages_s,
        }

    def outputs(self) -> Dict[str, Any]:
        """The body of the outputs reply."""
        return {**self._bodies[OUTPUTS], "python": python_version()}

    def close(self) -> None:
        """End the worker and all it started, and remove the staged files; safe to call twice."""
        if self._worker is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._worker.pid, signal.SIGKILL)
            self._worker.wait()
            self._worker = None
        self._pass_stack.close()
        self._stack.close()


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


def own_digest() -> str:
    """SHA-256 of the packed agent that is running: its file's name, which the host's probe has just verified."""
    name, suffix = os.path.splitext(os.path.basename(sys.argv[0]))
    return name if suffix == ".pyz" else ""


def python_version() -> str:
    return ".".join(map(str, sys.version_info[:3]))
