"""The faults that need emulated devices and root: how each is made, and what must be said of it.

Those that any machine with an sshd can make are in tests/faults.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.lab import arm64
from tests.lab.fleet import MIB
from tests.lab.scene import LONG_S, SHORT_LOST_S, Scene, wait_until

__all__ = ["LAB_FAULTS"]

# Takes 128 MiB in a second or two, and gives them back.
HOG = "import time\nkept = []\nfor _ in range(64): kept.append(bytearray(2 << 20)); time.sleep(0.02)"

# What is wrong after the fault; empty where it was survived.
LAB_FAULTS: list[tuple[str, Callable[[Path], list[str]]]] = []


def fault(name: str, **options: Any) -> Callable[[Callable[[Scene], None]], None]:
    """Make a fault of a function to which a scene is given."""

    def keep(happen: Callable[[Scene], None]) -> None:
        def play(folder: Path) -> list[str]:
            with Scene(folder, **options) as scene:
                happen(scene)
                wrong = scene.audit()
                (folder / "said.txt").write_text(scene.said)
                return wrong

        LAB_FAULTS.append((name, play))

    return keep


# --- the network ---


@fault("10 % loss with 300 ms delay")
def _(scene: Scene) -> None:
    scene.board.wire.set(delay_s=0.15, loss=0.1)
    scene.begin()
    scene.end(0)


@fault("partition for ever while measuring, then resumed", lost_s=SHORT_LOST_S, min_s=1.0)
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.board.wire.cut()
    scene.end(3, "given up: dev1")
    scene.board.wire.heal()
    scene.resume()
    scene.end(0)


# --- power ---


@fault("device rebooted in mid-job, disk kept", min_s=1.0)
def _(scene: Scene) -> None:
    reboot(scene, keep_disk=True)
    scene.end(0, "it restarted")


@fault("device rebooted in mid-job with an empty disk", min_s=1.0)
def _(scene: Scene) -> None:
    reboot(scene, keep_disk=False)
    scene.end(0, "lost")


@fault("power cut for ever, then resumed", lost_s=SHORT_LOST_S, min_s=1.0)
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.board.power_cut()
    scene.end(3, "given up: dev1")
    scene.board.power_on(keep_disk=True)
    scene.resume()
    scene.end(0, "it restarted")


def reboot(scene: Scene, *, keep_disk: bool) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.excuse()
    scene.board.power_cut()
    scene.board.power_on(keep_disk=keep_disk)


# --- the disk ---


# Enough for seconds at a rate at which a confirmation never takes as long as the silence that ends an upload.
@fault("device out of disk in the upload, then resumed", model="face_detection_front.tflite")
def _(scene: Scene) -> None:
    scene.board.wire.set(delay_s=0.05)
    scene.begin()
    # The agent itself is there by then.
    wait_until(lambda: scene.pids("serve"), "no agent was started")
    scene.board.wire.set(delay_s=0.05, rate_bytes_s=40_000)
    scene.reach("upload")
    scene.fill_disk()
    scene.board.wire.heal()
    scene.end(3, "the disk is probably full", "are free in")
    go_on_with_room(scene)


@fault("device out of disk when a job is submitted, then resumed")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    # What a job gives back when it is done is taken at once.
    while scene.is_running():
        scene.fill_disk()
        time.sleep(0.02)
    scene.end(3, "No space left on device")
    go_on_with_room(scene)


@fault("device out of disk when a result is written: it comes from memory", n_jobs=1, min_s=1.0)
def _(scene: Scene) -> None:
    lose_reserve(scene)
    scene.end(0)
    scene.make_room()
    if scene.n_seen:
        scene.wrong.append("there was room for the result: nothing was tried")


@fault("device out of disk when a result is written, controller killed, room again, then resumed", min_s=1.0)
def _(scene: Scene) -> None:
    lose_reserve(scene)
    scene.kill_controller()
    wait_until(lambda: not scene.pids("worker"), "the job never ended")
    if scene.n_seen:
        scene.wrong.append("there was room for the result: nothing was tried")
    scene.make_room()
    scene.reach("spooled")
    scene.resume()
    scene.end(0)


def go_on_with_room(scene: Scene) -> None:
    scene.make_room()
    scene.resume("--retry-failed")
    scene.end(0)


def lose_reserve(scene: Scene) -> None:
    """As on a file system that keeps what it overwrites (btrfs, f2fs): the room that was reserved is no room."""
    scene.begin()
    scene.reach("measuring")
    for path in scene.files("spool/machine/tickets/*/running"):
        os.truncate(path, 0)
    scene.fill_disk()


# --- memory ---


@fault("worker killed for want of memory", min_s=2.0)
def _(scene: Scene) -> None:
    run_out_of_memory(scene, "worker")
    scene.end(0, "killed (SIGKILL)")


@fault("serving agent killed for want of memory", min_s=2.0)
def _(scene: Scene) -> None:
    run_out_of_memory(scene, "serve")
    scene.end(0)


@fault("keeper killed for want of memory", min_s=2.0)
def _(scene: Scene) -> None:
    run_out_of_memory(scene, "keep")
    scene.end(0, "its keeper was killed")


def run_out_of_memory(scene: Scene, victim: str) -> None:
    """Something else on the device takes the memory, bit by bit; the kernel is told whom to kill for it."""
    scene.begin()
    scene.reach("measuring")
    for pid in scene.pids(victim):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
    limits = scene.board.limits
    with scene.board.session(f"{arm64.PYTHON} -c '{HOG}'") as hog:
        limits.memory(limits.memory_used_bytes() + 8 * MIB)
        wait_until(lambda: limits.oom_kills() or hog.poll() is not None, "nothing was killed")
        limits.memory(None)
    if not limits.oom_kills():
        scene.wrong.append("nothing was killed: nothing was tried")


# --- the whole device stands still ---


@fault("device frozen for longer than any deadline, then thawed", min_s=1.0)
def _(scene: Scene) -> None:
    freeze(scene)
    time.sleep(LONG_S)
    scene.board.thaw()
    scene.end(0)


@fault("device frozen for ever, then thawed and resumed", lost_s=SHORT_LOST_S, min_s=1.0)
def _(scene: Scene) -> None:
    freeze(scene)
    scene.end(3, "given up: dev1")
    scene.board.thaw()
    scene.resume()
    scene.end(0)


def freeze(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.board.freeze()
