"""`make boards`: what edgeprof makes of a whole emulated machine with a power chip, a battery, clocks and heat."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from pathlib import Path

from device_agents import wire
from device_agents.wire import BUSY
from edgeprof.energy.evidence import against
from edgeprof.energy.traces import integral_j, shown
from edgeprof.errors import JobRefused
from edgeprof.profiling import OpenDevice, Settings
from edgeprof.verdict import judge
from tests.boards.measuring import PLAN, QUICK, agent_on, energy_of, small_model
from tests.boards.virtual_board import HOT_C, NoBoard, VirtualBoard, image, why_not


def main() -> int:
    reason = why_not()
    if reason:
        sys.exit(reason)
    try:
        made = image()
    except NoBoard as error:
        sys.exit(str(error))
    with tempfile.TemporaryDirectory(prefix="edgeprof-board-") as folder:
        begin = time.monotonic()
        with VirtualBoard(Path(folder) / "board", made) as board:
            say(f"booted in {time.monotonic() - begin:.1f} s; all that follows is emulated, and proves no speed")
            board.restore()
            meters(board)
            windows(board)
            charging(board)
            heat(board)
    return 0


def meters(board: VirtualBoard) -> None:
    with agent_on(board) as agent:
        say(f"board: {agent.hello.machine.model}")
        for meter in agent.meters():
            say(
                f"meter: {meter.name}, boundary {meter.boundary}, every {meter.period_s} s, "
                f"in steps of {meter.resolution or 'unknown size'} ({meter.unusable or 'can be read'})"
            )


def windows(board: VirtualBoard) -> None:
    """The energy of each window against the pattern that the registers followed."""
    board.play("--levels", "3", "5.5", "4", "7", "--hold", "0.9")
    with agent_on(board) as agent:
        energy = energy_of(agent, dataclasses.replace(PLAN, windows=2, window_s=3.0, idle_s=3.0))
    truth = board.played()
    if energy.trace is None:
        raise RuntimeError("the board's meter gave no trace")
    trace = shown(energy.trace)
    for window in energy.windows:
        found = integral_j(trace, window.start_s, window.end_s)
        true = truth.integral_j(window.start_s, window.end_s)
        say(f"{window.kind} window: {found:.3f} J, pattern {true:.3f} J, {found / true - 1:+.2%}")


def charging(board: VirtualBoard) -> None:
    """A charger: refused before a run by a meter that it disturbs, and seen when it comes in mid-run."""
    board.play("--load", "3", "2")

    def plug(window: int) -> None:
        if window == 3:
            board.set_battery(status="charging", charger=True)

    with agent_on(board) as agent:
        energy = energy_of(agent, PLAN, in_window=plug)
        for meter in agent.meters():
            if meter.on_charge:
                try:
                    energy_of(agent, dataclasses.replace(PLAN, meter=meter.name))
                except JobRefused as refusal:
                    say(f"on a charger, {meter.name}: refused ({refusal.kind}): {refusal}")
    busy = [window for window in energy.windows if window.kind == BUSY]
    for k, window in enumerate(busy):
        said = "; ".join(against(window, busy, on_charge=False))
        say(f"busy window {k + 1} of 3, charger plugged in the second: {said or 'counts'}")
    board.restore()


def heat(board: VirtualBoard) -> None:
    """The same profile twice: the second time the board gets hot."""

    def heated(progress: wire.Progress) -> None:
        if progress.stage == "rounds" and progress.done == 1:
            board.set_temperature(HOT_C)

    settings = Settings(runtime="litert", schedule=QUICK, gate=wire.Gate(timeout_s=0.0), check_outputs=False)
    with OpenDevice(board.device(), link=board.link()) as opened:
        cool = judge(opened.profile(small_model(), settings).profile)
        hot = judge(opened.profile(small_model(), settings, heated).profile)
    say(f"verdict at 45 C: {cool.level}")
    say(f"verdict at {HOT_C:.0f} C: {hot.level}" + "".join(f"; {reason.what}" for reason in hot.reasons[:2]))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
