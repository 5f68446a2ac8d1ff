"""The measuring process: does one pass of one job and ends.

A process of its own per pass keeps peak memory true, lets a runtime crash without taking the agent along, and can be
killed for sure. It writes envelopes without ids to the agent; `reply` is progress, pass or refused.
"""

import contextlib
import dataclasses
import json
import os
import signal
import sys
import threading
import traceback
from typing import Any, Callable, Dict, Optional, Sequence, Union

from device_agents import files, measure
from device_agents.decoding import build
from device_agents.energy_pass import energy_pass
from device_agents.machine import Machine, python_version
from device_agents.operator_pass import operator_pass
from device_agents.runtimes import RuntimeRefusal, machine_for
from device_agents.streams import claim_stdout
from device_agents.task import corrupt_model
from device_agents.wire import ENERGY_PASS, LATENCY, OPERATORS, OUTPUTS, Job, Progress, Refused

# linux/prctl.h
PR_SET_PDEATHSIG = 1
Pass = Callable[[Job, str, Sequence[str], Machine, measure.Report], measure.PassResult]
PASSES: Dict[str, Pass] = {
    LATENCY: measure.latency_pass,
    OPERATORS: operator_pass,
    ENERGY_PASS: energy_pass,
    OUTPUTS: measure.outputs_pass,
}


def main() -> int:
    """Read one order from standard input, write lines to what was standard output, and end the process."""
    replies = claim_stdout()
    order = json.loads(sys.stdin.buffer.readline())
    _leave_with_parent(order["parent"])
    if order["lease_descriptor"] is not None:
        os.set_inheritable(order["lease_descriptor"], False)  # it is for this process, not for what a runtime starts

    def send(reply: str, body: Dict[str, Any], stages_s: Optional[Dict[str, float]] = None) -> None:
        message = {"reply": reply, "body": body, "stages_s": stages_s, "python": python_version()}
        replies.write(json.dumps(message, allow_nan=False).encode() + b"\n")
        replies.flush()

    def report(progress: Progress) -> None:
        send("progress", dataclasses.asdict(progress))

    outcome = _outcome(order, report)
    damaged = files.damaged(order["digests"])
    if damaged is not None:
        outcome = corrupt_model(damaged)
    if isinstance(outcome, Refused):
        send("refused", dataclasses.asdict(outcome))
    else:
        send("pass", *outcome)
    # Everything is said and released; taking a runtime down library by library costs time, and some crash in it.
    sys.stderr.flush()
    os._exit(0)


def _outcome(order: Dict[str, Any], report: Callable[[Progress], None]) -> Union[Refused, measure.PassResult]:
    """Do the pass; what it found, or why it found nothing."""
    try:
        job = build(Job, order["job"], "$")
        arguments = job, order["model_path"], order["input_paths"], machine_for(job), report
        return _pass(job.runtime, order["pass"])(*arguments)
    except RuntimeRefusal as refusal:
        return Refused(refusal.kind, str(refusal), refusal.advice, refusal.detail)
    except MemoryError:
        return Refused("out-of-memory", "the device has too little memory for this model")
    except OSError as error:
        return Refused("device-error", f"{error}", "see `edgeprof devices doctor`")
    except Exception as error:
        detail = traceback.format_exc()[-4000:]
        return Refused("internal", f"{type(error).__name__}: {error}", "this is a defect: please report it", detail)


def _pass(runtime: str, name: str) -> Pass:
    """A program that times itself has its own way; what it cannot do is refused by the usual one."""
    if runtime == "benchmark_model" and name in (LATENCY, OPERATORS):
        from device_agents import benchmark_passes  # only where it is asked for: a worker shall start at once

        return benchmark_passes.latency_pass if name == LATENCY else benchmark_passes.operator_pass
    return PASSES[name]


def _leave_with_parent(parent: int) -> None:
    """End this process when the agent is gone, however it went.

    The kernel kills it then, even if it is frozen or busy in native code. Where there is no such order to give, its
    standard input is closed at least.
    """

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(3)  # it went before the order was given
