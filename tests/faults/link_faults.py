"""What happens to the link: it is cut, reset, closed and garbled; sshd goes and comes back; keys are other ones."""

from __future__ import annotations

import time
from typing import Literal

from tests.faults.fault import Catalogue, Happen
from tests.faults.scene import LONG_S, MOMENT_S, Scene, wait_until
from tests.integration.relay import Trip

__all__ = ["LINK_FAULTS"]

LINK_FAULTS = Catalogue()
fault = LINK_FAULTS.fault
# What comes back while a job runs is far less than this; the result, with some ten thousand latencies, is more.
SOME_OF_A_RESULT_BYTES = 50_000
HALF_AN_UPLOAD_BYTES = 1_000_000
NO_ANSWER, SILENT = "no answer from the agent for 2 s", "the link was silent for 2 s in the upload"
GIVEN_UP = "given up: board: no answer from 127.0.0.1"


def begun(scene: Scene, stage: str) -> None:
    """A campaign whose link is cut in that stage: nothing passes any more, and nobody says so."""
    if stage == "upload":
        scene.begin_slowly()
        scene.reach(stage)
        scene.relay.stalled = True
    elif stage == "measuring":
        scene.begin()
        scene.reach(stage)
        scene.relay.stalled = True
    else:
        scene.begin()
        scene.reach("measuring")
        scene.relay.trip = in_reply(scene, "stall")
        wait_until(lambda: scene.relay.stalled, "the result never came by")


def in_reply(scene: Scene, happens: Literal["stall", "reset"]) -> Trip:
    """What happens when some of the result has passed."""
    return Trip(scene.relay.carried_back_bytes + SOME_OF_A_RESULT_BYTES, happens, back=True)


def mend(scene: Scene) -> None:
    scene.relay.trip = None
    scene.relay.rate_bytes_s = None
    scene.relay.stalled = False


def cut(stage: str, seconds: float) -> Happen:
    def happen(scene: Scene) -> None:
        begun(scene, stage)
        time.sleep(seconds)
        mend(scene)

    return happen


def cut_for_ever(stage: str) -> Happen:
    """Until the campaign has given the device up; then somebody finds the cable."""

    def happen(scene: Scene) -> None:
        begun(scene, stage)
        scene.wait()
        mend(scene)
        scene.resume()

    return happen


for stage in ("in upload", "while measuring", "in reply"):
    word = stage.split()[-1]
    fault(f"link cut for a moment, {stage}")(cut(word, MOMENT_S))
    fault(f"link cut for longer than the deadlines, {stage}", SILENT if word == "upload" else NO_ANSWER)(
        cut(word, LONG_S)
    )
    fault(f"link cut until the device is given up, {stage}; then resumed", GIVEN_UP)(cut_for_ever(word))


@fault("RST in upload", "the connection was lost")
def _(scene: Scene) -> None:
    scene.relay.trip = Trip(after_bytes=HALF_AN_UPLOAD_BYTES, fault="reset")
    scene.begin()


@fault("RST while measuring", "the connection was lost")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.relay.reset()


@fault("RST in reply", "the connection was lost")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.relay.trip = in_reply(scene, "reset")


@fault("upload truncated: the connection closes half way", "the connection was lost")
def _(scene: Scene) -> None:
    scene.relay.trip = Trip(after_bytes=HALF_AN_UPLOAD_BYTES, fault="close")
    scene.begin()


@fault("a byte changed on the wire", "the connection was lost")
def _(scene: Scene) -> None:
    scene.relay.trip = Trip(after_bytes=HALF_AN_UPLOAD_BYTES, fault="corrupt")
    scene.begin()


@fault("sshd session killed while measuring", "the connection was lost")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.sshd.cut_connections()


@fault("sshd away for a while", "the connection was lost")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    with scene.sshd_away():
        time.sleep(LONG_S / 2)


@fault("host key changed while measuring; then trusted, and resumed", "key than the one you trust")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.sshd.new_host_key()
    scene.wait()
    scene.sshd.known_hosts.write_text("")
    scene.sshd.trust_port(scene.relay.port)
    scene.resume()


@fault("known_hosts changed while measuring; then put back, and resumed", "is not trusted yet")
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    known = scene.sshd.known_hosts.read_text()
    scene.sshd.known_hosts.write_text("")
    scene.relay.reset()
    scene.wait()
    scene.sshd.known_hosts.write_text(known)
    scene.resume()
