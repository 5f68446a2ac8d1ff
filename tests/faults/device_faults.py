"""What happens on the device: processes are killed and frozen, files damaged, the clock jumps, and it lies."""

from __future__ import annotations

import functools
import shlex
import signal
import sys
from pathlib import Path

from tests.faults.audit import stored_at_s
from tests.faults.fault import Catalogue, Happen, StandIn
from tests.faults.scene import Scene

__all__ = ["DEVICE_FAULTS"]

DEVICE_FAULTS = Catalogue()
fault = DEVICE_FAULTS.fault
LIAR = Path(__file__).with_name("liar.py")
# libfaketime, as Debian installs it; the lines of its timestamp file are offsets such as +1d.
FAKETIME = Path("/usr/lib")
CLOCK = "clock"
HALF_A_DAY_S = 12 * 3600.0


# --- processes ---


@fault("serving agent killed (SIGKILL) while measuring", "lost: board: the agent is gone")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.board.signal(scene.board.serving_pids(), signal.SIGKILL)


@fault("keeper killed (SIGKILL) while measuring", "its keeper was killed or thrown out")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.board.signal(scene.board.keeper_pids(), signal.SIGKILL)


@fault("worker killed (SIGKILL), as for want of memory", "the measuring process was killed")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.board.signal(scene.board.worker_pids(), signal.SIGKILL)


@fault("serving agent frozen", "no answer from the agent for 2 s")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    frozen = scene.board.serving_pids()
    scene.board.signal(frozen, signal.SIGSTOP)
    scene.wait()
    scene.board.signal(frozen, signal.SIGCONT)


@fault("keeper frozen while measuring", "the keeper on the device does not answer: it may be frozen")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.board.signal(scene.board.keeper_pids(), signal.SIGSTOP)


@fault("worker frozen for longer than its job may take; then tried again", "the job took longer than")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.board.signal(scene.board.worker_pids(), signal.SIGSTOP)
    scene.resume("--retry-failed")


# --- files ---


@fault("wrong bytes in a spooled result", "was damaged on the device's disk")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    # The device measures on without a host, so that the result lies there for a while.
    with scene.sshd_away():
        scene.reach("spooled")
        scene.board.excuse()
        for path in scene.board.outcomes():
            path.write_bytes(path.read_bytes()[:-100] + bytes(100))


@fault("wrong bytes in the model's file on the device", "has changed on the device's disk since it arrived")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    for path in scene.board.files("models/*"):
        with path.open("r+b") as file:
            file.seek(-1000, 2)
            file.write(bytes(100))


@fault("wrong bytes in half an upload", "the connection was lost")
def _(scene: Scene) -> None:
    scene.begin_slowly()
    scene.reach("upload")
    scene.relay.reset()
    for path in scene.board.uploads():
        path.write_bytes(bytes(path.stat().st_size))
    scene.relay.rate_bytes_s = None


# --- the clock ---


def faketime() -> Path | None:
    return next(FAKETIME.glob("*/faketime/libfaketimeMT.so.1"), None)


def no_faketime() -> str | None:
    return None if faketime() else "no libfaketime on this machine"


def with_a_clock(folder: Path) -> Path:
    """The device's Python, under a wall clock that jumps when the file is written; no other clock does."""
    clock = folder / CLOCK
    clock.write_text("+0d\n")
    program = folder / "python"
    program.write_text(
        f"#!/bin/sh\nexport LD_PRELOAD={faketime()} FAKETIME_TIMESTAMP_FILE={shlex.quote(str(clock))}\n"
        "export FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1\n"
        f'exec {shlex.quote(sys.executable)} "$@"\n'
    )
    program.chmod(0o755)
    return program


def jump(offset: str) -> Happen:
    def happen(scene: Scene) -> None:
        scene.begin()
        scene.reach("measuring")
        (scene.folder / CLOCK).write_text(f"{offset}\n")
        scene.wait()
        at_s = stored_at_s(scene.store, "board")
        assert max(at_s) - min(at_s) > HALF_A_DAY_S, "the clock did not jump"

    return happen


for offset, words in (("+1d", "a day ahead"), ("-1d", "a day back")):
    fault(f"the device's clock jumps {words} while measuring", stand_in=with_a_clock, why_not=no_faketime)(jump(offset))


# --- a device that lies: see liar.py ---


def lying(kind: str) -> StandIn:
    return functools.partial(_liar, kind)


def _liar(kind: str, folder: Path) -> Path:
    program = folder / "python"
    words = shlex.join([sys.executable, str(LIAR), kind, str(folder / "lied")])
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    program.chmod(0o755)
    return program


@fault("the device answers garbage, once", "the agent sent garbage", stand_in=lying("garbage"))
def _(scene: Scene) -> None:
    scene.begin()


@fault("the device says a line without end, once", "a line of more than", stand_in=lying("endless"))
def _(scene: Scene) -> None:
    scene.begin()


@fault("the device says half a result and falls silent", "no answer from the agent for 2 s", stand_in=lying("half"))
def _(scene: Scene) -> None:
    scene.begin()


@fault("the device sends the result of another job, once", "the result of another job", stand_in=lying("other-job"))
def _(scene: Scene) -> None:
    scene.begin()


@fault(
    "the device speaks another protocol; then the right one, and resumed",
    "the agent speaks protocol 999",
    stand_in=lying("protocol"),
)
def _(scene: Scene) -> None:
    scene.begin()
    scene.wait()
    (scene.folder / "lied").touch()
    scene.resume()
