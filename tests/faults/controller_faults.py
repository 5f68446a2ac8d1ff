"""What happens to the controller: it is killed, its disk is full, and it is not alone."""

from __future__ import annotations

from tests.faults.fault import Catalogue, Happen
from tests.faults.scene import N_JOBS, RUN, Scene

__all__ = ["CONTROLLER_FAULTS"]

CONTROLLER_FAULTS = Catalogue()
fault = CONTROLLER_FAULTS.fault


def kill(stage: str) -> Happen:
    def happen(scene: Scene) -> None:
        if stage == "upload":
            scene.begin_slowly()
        else:
            scene.begin()
        scene.reach(stage)
        scene.kill_controller()
        scene.relay.rate_bytes_s = None
        scene.resume()

    return happen


for stage, words in (("upload", "in upload"), ("measuring", "while measuring"), ("spooled", "when a result was there")):
    fault(f"controller killed (SIGKILL) {words}; then resumed")(kill(stage))


@fault(
    "the controller's disk is full; then it has room, and is resumed", "what was measured since is kept on the devices"
)
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.let_controller_write(0)
    scene.resume()


@fault("two campaigns at once on one device", "has the device for campaign", n_done=2 * N_JOBS)
def _(scene: Scene) -> None:
    scene.begin()
    scene.reach("measuring")
    scene.begin(*RUN, "--limit", "board")


@fault("two controllers of one campaign: the second is refused", "is being run by process")
def _(scene: Scene) -> None:
    scene.begin_with_long_jobs()
    scene.reach("measuring")
    scene.begin("campaign", "resume")


@fault("two controllers of one campaign: the second takes over", "what this one brings does not count")
def _(scene: Scene) -> None:
    scene.begin_with_long_jobs()
    scene.reach("measuring")
    scene.begin("campaign", "resume", "--take-over")
