"""Start a Python on a device and hear the line that it is to say: banners are skipped, and every wait has an end."""

from __future__ import annotations

import time
from collections.abc import Iterator

from device_agents import wire
from edgeprof.errors import AgentError, AgentLost, NoPython
from edgeprof.links import Link, Process

__all__ = ["hear", "lines", "no_start"]

# What a login shell may print before our program says its first line.
MAX_BANNER_LINES = 1000
ENDING_S = 60.0

# Where `devices setup` makes environments (setting_up/on_device.py).
SET_UP = "/edgeprof/runtimes/"


def hear(link: Link, argv: list[str], mark: bytes, *, name: str, within_s: float) -> bytes:
    """What the program `argv` on device `name` says after `mark`; the program is ended then.

    Raises:
        NoPython: there is no such program.
        AgentError: it ended without saying it.
        AgentLost: it said nothing within `within_s`.
        LinkError: the link broke.
    """
    process = link.start(argv)
    try:
        for line in lines(process, argv[0], name=name, within_s=within_s):
            _, found, said = line.partition(mark)  # a banner may end without a line end
            if found:
                return said
        raise no_start(process, argv[0], name=name)
    finally:
        process.close()


def lines(process: Process, python: str, *, name: str, within_s: float) -> Iterator[bytes]:
    """Lines as they come, until the output ends or the time is over.

    Raises:
        AgentLost: the time is over.
    """
    until = time.monotonic() + within_s
    for _ in range(MAX_BANNER_LINES):
        try:
            line = process.read_line(max(0.0, until - time.monotonic()), wire.MAX_REPLY_BYTES)
        except TimeoutError as error:
            raise AgentLost(
                f"{name}: {python} said nothing within {within_s:.0f} s",
                "does the login shell there wait for input, or is the device very busy?",
            ) from error
        if line is None:
            return
        yield line


def no_start(process: Process, python: str, *, name: str, within_s: float = ENDING_S) -> AgentError:
    """Why a program ended without the line that was expected."""
    try:
        code = process.wait(within_s)
    except TimeoutError:
        code = None
    tail = process.stderr_tail().strip()
    if code in (126, 127) or "not found" in tail or "No such file" in tail:
        advice = f"install python3 there, or name one: edgeprof devices add {name} ... --python /path/python3"
        if SET_UP in python:  # an environment of ours that is gone
            advice = f"make it anew: edgeprof devices setup {name} --runtime RUNTIME"
        return NoPython(f"{name}: there is no Python under the name {python}", advice)
    said = f": {tail.splitlines()[-1]}" if tail else " and said nothing"
    return AgentError(
        f"{name}: {python} ended with code {code}{said}",
        f"try it by hand: {python} -c 'print(1)'; a start-up file of the shell may end the session",
    )
