"""The faults that a campaign must survive on any machine with an sshd: how each is made, and what must come of it.

Those that need root and emulated devices are in tests/lab/test_faults.py.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.scene import LONG_S, MOMENT_S, N_JOBS, Audit, Scene
from tests.integration.relay import Trip

__all__ = ["FAULTS", "Fault", "judge", "play"]

# What a device says through its link, changed by a program in its place: see tests/faults/liar.py.
LIAR = Path(__file__).with_name("liar.py")


@dataclass(frozen=True)
class Fault:
    """`happen` begins the campaign, does the harm and mends what shall be mended. `says` must be in what is printed.

    `n_done` is how many of the device's jobs must be done in the end; `resume` does so with one more command.
    """

    name: str
    happen: Callable[[Scene], None]
    says: str
    n_done: int = N_JOBS
    resume: bool = False
    lies: str | None = None


FAULTS: list[Fault] = []


def fault(name: str, says: str, **more: object) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    def keep(happen: Callable[[Scene], None]) -> Callable[[Scene], None]:
        FAULTS.append(Fault(name, happen, says, **more))  # type: ignore[arg-type]
        return happen

    return keep


def play(one: Fault, folder: Path) -> Audit:
    """Let it happen, and look at what came of it."""
    python = sys.executable
    if one.lies is not None:
        python = str(folder / "python")
        folder.mkdir(parents=True, exist_ok=True)
        Path(python).write_text(f'#!/bin/sh\nexec {sys.executable} {LIAR} {one.lies} {folder / "lie"} "$@"\n')
        Path(python).chmod(0o755)
    with Scene(folder, python=python) as scene:
        one.happen(scene)
        return scene.finish(resume=one.resume)


def judge(one: Fault, audit: Audit) -> list[str]:
    """Everything that is not as it must be; empty where the fault was survived."""
    wrong = []
    if "THE CONTROLLER HUNG" in audit.said:
        wrong.append("it hung")
    if "Traceback" in audit.said or "a defect" in audit.said:
        wrong.append("it crashed")
    if audit.lost:
        wrong.append(f"{len(audit.lost)} results were lost")
    if audit.doubled:
        wrong.append(f"{len(audit.doubled)} results were counted twice")
    if audit.invented:
        wrong.append(f"{len(audit.invented)} runs belong to no job")
    if audit.n_done != one.n_done:
        wrong.append(f"{audit.n_done} jobs were done and not {one.n_done}: {audit.states}")
    if audit.n_steady_done != N_JOBS:
        wrong.append(f"the other device did {audit.n_steady_done} of {N_JOBS} jobs")
    if audit.left_over:
        wrong.append(f"left on the device: {', '.join(audit.left_over)}")
    if one.says not in " ".join(audit.said.split()):
        wrong.append(f"nothing was said of {one.says!r}")
    return wrong


# --- the link ---


def cut(stage: str, seconds: float | None) -> Callable[[Scene], None]:
    """The link is cut in that stage: nothing passes any more, for so long, or for ever."""

    def happen(scene: Scene) -> None:
        if stage == "upload":
            scene.relay.rate_bytes_s = 2e6
        scene.begin()
        scene.reach(stage)
        scene.relay.stalled = True
        if seconds is None:
            return
        time.sleep(seconds)
        scene.relay.stalled = False
        scene.relay.rate_bytes_s = None

    return happen


def cut_in_reply(seconds: float | None) -> Callable[[Scene], None]:
    """The link is cut when the first bytes of a result have passed."""

    def happen(scene: Scene) -> None:
        scene.begin()
        scene.reach("measuring")
        # What comes back while a job runs is a few hundred bytes; the result is more than that.
        scene.relay.trip = Trip(after_bytes=1_000, fault="stall", back=True)
        if seconds is None:
            return
        scene.reach("spooled")
        time.sleep(seconds)
        scene.relay.trip = None
        scene.relay.stalled = False

    return happen


for stage in ("upload", "measuring"):
    FAULTS += [
        Fault(f"link cut for a moment, {stage}", cut(stage, MOMENT_S), ""),
        Fault(f"link cut for longer than any deadline, {stage}", cut(stage, LONG_S), "lost"),
        Fault(f"link cut for ever, {stage}", cut(stage, None), "given up", n_done=0),
    ]
FAULTS += [
    Fault("link cut for a moment, reply", cut_in_reply(MOMENT_S), ""),
    Fault("link cut for longer than any deadline, reply", cut_in_reply(LONG_S), "lost"),
]


@fault("RST while measuring", "")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.relay.reset()


@fault("RST in upload", "")
def _(scene: Scene) -> None:
    scene.relay.trip = Trip(after_bytes=1_000_000, fault="reset")
    scene.begin()


@fault("upload closed half way", "")
def _(scene: Scene) -> None:
    scene.relay.trip = Trip(after_bytes=1_000_000, fault="close")
    scene.begin()


@fault("a byte changed on the wire", "")
def _(scene: Scene) -> None:
    scene.relay.trip = Trip(after_bytes=1_000_000, fault="corrupt")
    scene.begin()


@fault("sshd session killed while measuring", "")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.sshd.cut_connections()


@fault("sshd is away for a while, and comes back", "lost")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.sshd.stop()
    time.sleep(LONG_S / 2)
    scene.sshd.log.unlink()
    scene.sshd.start()


@fault("host key changed in mid-campaign", "given up: board", n_done=0)
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.sshd.new_host_key()


# --- the device's processes and files ---


@fault("serving agent killed (SIGKILL) while measuring", "")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.signal(scene.serving_pids(), signal.SIGKILL)


@fault("keeper killed (SIGKILL) while measuring", "interrupted")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.signal(scene.keeper_pids(), signal.SIGKILL)


@fault("worker killed (SIGKILL), as for want of memory", "killed")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.signal(scene.worker_pids(), signal.SIGKILL)


@fault("serving agent frozen for ever", "lost")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.signal(scene.serving_pids(), signal.SIGSTOP)


@fault("wrong bytes in the spooled result", "")
def _(scene: Scene) -> None:
    scene.relay.delay_s = 0.2
    scene.begin()
    scene.reach("spooled")
    scene.excuse()
    for path in scene.outcomes():
        path.write_bytes(b"garbage" * 100)
    scene.relay.delay_s = 0.0


@fault("wrong bytes in the model's file on the device", "")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    for path in (scene.cache / "models").iterdir():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)


# --- the controller ---


@fault("controller killed (SIGKILL) in upload, then resumed", "", resume=True)
def _(scene: Scene) -> None:
    scene.relay.rate_bytes_s = 2e6
    scene.begin()
    scene.reach("upload")
    scene.kill_controller()
    scene.relay.rate_bytes_s = None


@fault("controller killed (SIGKILL) while measuring, then resumed", "", resume=True)
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.kill_controller()


@fault("controller killed (SIGKILL) when a result was there, then resumed", "", resume=True)
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("spooled")
    scene.kill_controller()


# --- a device that lies ---


@fault("the device answers garbage, once", "garbage", lies="garbage")
def _(scene: Scene) -> None:
    scene.begin()


@fault("the device says a line without end, once", "a line of more than", lies="endless")
def _(scene: Scene) -> None:
    scene.begin()


@fault("the device says half a result and falls silent", "", lies="truncated")
def _(scene: Scene) -> None:
    scene.begin()


@fault("the device speaks another protocol", "speaks protocol 999", n_done=0, lies="protocol")
def _(scene: Scene) -> None:
    scene.begin()


@fault("the device sends the result of another job, once", "another job", lies="other-job")
def _(scene: Scene) -> None:
    scene.begin()
