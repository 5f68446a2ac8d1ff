"""The guard of changed clocks: puts them back when the agent that had them changed is gone, however it went.

A process of its own, in a session of its own, that an agent starts before it changes anything: `guard PATH DESCRIPTOR
SECONDS`. Its standard input is a pipe whose other end only that agent has, so that the kernel tells of its death. It
inherits the lock of the record, and the lease: nobody else measures before the clocks are as they were.
"""

import contextlib
import json
import os
import select
import signal
import sys
import time
from typing import List, Optional

from device_agents.clock_record import HeldRecord
from device_agents.machine import Machine

READY = "ready"


def main(machine: Optional[Machine] = None) -> int:
    """Wait for the end of the agent, a request to end, or the end of patience; then put the clocks back."""
    record = HeldRecord(sys.argv[2], int(sys.argv[3]))
    patience_s = float(sys.argv[4])
    asked_to_end = _hear_signals()
    _say(READY)
    _wait(asked_to_end, time.monotonic() + patience_s)
    # From here on nothing but SIGKILL ends it before the clocks are as they were.
    _say(record.put_back(machine or Machine()))
    return 0


def _hear_signals() -> int:
    """What becomes readable once SIGTERM comes; a terminal or a link that hangs up is not heeded."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    return readable


def _wait(asked_to_end: int, until_s: float) -> None:
    while True:
        left_s = until_s - time.monotonic()
        ready: List[int] = select.select([0, asked_to_end], [], [], max(0.0, left_s))[0]
        if not ready or asked_to_end in ready or not os.read(0, 4096):
            return


def _say(what: object) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(1, json.dumps(what).encode() + b"\n")
