"""Have a device do a job on its own: hand it over, and fetch the result whatever becomes of the link meanwhile.

A job is handed over under a ticket. Handing it over again under the same ticket begins nothing anew, so whoever lost
the link, or was killed and started again, does the same once more and gets the one result.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from device_agents import wire
from edgeprof.errors import (
    AgentLost,
    AuthenticationFailed,
    ChangedHostKey,
    DeviceGivenUp,
    EdgeprofError,
    JobRefused,
    LinkError,
    ProtocolError,
    Stopped,
    UnknownHostKey,
)
from edgeprof.models import ModelFile
from edgeprof.profiling import OnProgress, OpenDevice, attached

__all__ = ["AWAY", "LEASED", "Patience", "Spooled", "considerate", "usual_patience", "when_free"]

T = TypeVar("T")

FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 15.0
# What says that a device is away, of whatever needs it.
AWAY = (AgentLost, LinkError, DeviceGivenUp)
# Trying again changes nothing about these.
PERMANENT = (UnknownHostKey, ChangedHostKey, AuthenticationFailed)
# A shorter silence is not worth a new login, which disturbs more than a message every few seconds.
SHORTEST_SILENCE_S = 10.0
LEASED, LEASE_RETRY_S = "leased", 2.0
# How long a device is tried again that does one job after the other for somebody who waits, or one on its own.
ALONE_LOST_S = 120.0


class Patience:
    """How long a device that is lost is tried again: `lost_s` since it was last heard of.

    `wait` sleeps and says whether to stop, `now` is a monotonic clock, `on_lost` is told why, each reason once.
    """

    def __init__(
        self,
        lost_s: float,
        wait: Callable[[float], bool],
        now: Callable[[], float] = time.monotonic,
        on_lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.wait = wait
        self.now = now
        self._lost_s = lost_s
        self._on_lost = on_lost
        self._told = ""
        self._lost_at_s: float | None = None

    def heard(self) -> None:
        """The device answered."""
        self._lost_at_s, self._told = None, ""

    def doubt(self, why: str) -> None:
        """The device answered, and it made no sense."""
        self._on_lost(why)

    def _tell(self, why: str, left_s: float) -> None:
        """Each reason once, until the device is heard of again."""
        if why != self._told:
            self._told = why
            self._on_lost(f"{why} (trying again for up to {left_s:.0f} s)")

    def persist(self, opened: OpenDevice, action: Callable[[], T], within_s: float | None = None) -> T:
        """Do it, and when the link or the agent is lost do it again on a new link.

        `within_s` ends this also if the device is heard of again and again, and lost every time.

        Raises:
            DeviceGivenUp: the device was away for too long.
            Stopped: the wait was ended.
            EdgeprofError: what else the action raises.
        """
        began_s, delay_s = self.now(), FIRST_DELAY_S
        while True:
            try:
                result = action()
            except PERMANENT:
                raise
            except (LinkError, AgentLost) as error:
                opened.disconnect()
                if self.wait(0.0):
                    raise Stopped(f"{opened.device.name}: stopped") from error
                now_s = self.now()
                if self._lost_at_s is None:
                    self._lost_at_s, delay_s = now_s, FIRST_DELAY_S
                left_s = self._lost_s - (now_s - self._lost_at_s)
                if left_s <= 0 or (within_s is not None and now_s - began_s > within_s):
                    raise DeviceGivenUp(f"{error} (tried for {now_s - self._lost_at_s:.0f} s)", error.advice) from error
                self._tell(str(error), left_s)
                if self.wait(min(delay_s, left_s)):
                    raise Stopped(f"{opened.device.name}: stopped") from error
                delay_s = min(2 * delay_s, LONGEST_DELAY_S)
            else:
                self.heard()
                return result


def usual_patience(on_lost: Callable[[str], None] = lambda _: None) -> Patience:
    """That of whoever measures one thing after another on a device, and sits in front of it."""
    return Patience(ALONE_LOST_S, threading.Event().wait, on_lost=on_lost)


def when_free(
    action: Callable[[], T],
    wait_s: float,
    tell: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> T:
    """Do it as soon as nobody else has the device, if that is within `wait_s`; who has it is told once.

    Raises:
        JobRefused: somebody has it still; or what else the action raises.
    """
    until_s, is_told = now() + wait_s, False
    while True:
        try:
            return action()
        except JobRefused as refusal:
            if refusal.kind != LEASED or now() >= until_s:
                raise
            if not is_told:
                tell(f"waiting: {refusal}")
            is_told = True
        sleep(LEASE_RETRY_S)


@dataclass
class Spooled:
    """A way of measuring for `OpenDevice`: on the device's own, under `ticket` and the runtime's name.

    `tickets` are those that were handed over. `quiet` closes the link while rounds are measured; None does so where
    the job leaves no CPU to the link.
    """

    ticket: str
    label: str
    linger_s: float
    patience: Patience
    quiet: bool | None = None
    tickets: list[str] = field(default_factory=list)

    def __call__(
        self, opened: OpenDevice, model: ModelFile, job: wire.Job, on_progress: OnProgress | None
    ) -> wire.Profile:
        def hand_over_and_fetch() -> wire.Profile:
            ticket = self.hand_over(opened, model, job, on_progress)
            agent = opened.ready_agent(job.runtime, job.options)
            is_quiet = _link_disturbs(opened, job) if self.quiet is None else self.quiet

            def listen(progress: wire.Progress) -> None:
                self.patience.heard()
                if on_progress is not None:
                    on_progress(progress)
                if is_quiet and progress.stage == "rounds" and (progress.remaining_s or 0.0) >= SHORTEST_SILENCE_S:
                    raise _BeSilent(progress.remaining_s or 0.0)

            return agent.follow(ticket, job, listen)

        within_s = job.deadline_s + self.linger_s
        was_garbled = False
        while True:
            try:
                return self.patience.persist(opened, hand_over_and_fetch, within_s)
            except ProtocolError as error:
                # The device has the result, whatever was said on the way here: it is asked once more, on a new link.
                if was_garbled:
                    raise
                was_garbled = True
                self.patience.doubt(f"{error}; it is asked again")
                opened.disconnect()
            except _BeSilent as silence:
                opened.disconnect()
                if self.patience.wait(silence.seconds):
                    raise Stopped(f"{opened.device.name}: stopped") from None

    def hand_over(
        self, opened: OpenDevice, model: ModelFile, job: wire.Job, on_progress: OnProgress | None = None
    ) -> str:
        """Have the device take the job, unless it has it already; the ticket."""
        ticket = f"{self.ticket}.{job.runtime}"
        agent = opened.ready_agent(job.runtime, job.options)
        if ticket not in self.tickets:
            self.tickets.append(ticket)
        agent.push(model.to_send() if job.runtime != "simulated" else (), on_progress)
        agent.submit(ticket, job, self.label, self.linger_s)
        self.patience.heard()
        return ticket


def considerate(opened: OpenDevice, model: ModelFile, job: wire.Job, on_progress: OnProgress | None) -> wire.Profile:
    """Measure with the link open, unless that would disturb: then the device does it alone, and the link is closed."""
    if not _link_disturbs(opened, job):
        return attached(opened, model, job, on_progress)
    patience = usual_patience()
    way = Spooled(f"alone-{secrets.token_hex(6)}", model.name, 0.0, patience, quiet=True)
    try:
        return way(opened, model, job, on_progress)
    finally:
        # Done, failed or interrupted from the keyboard: nothing of it shall stay there.
        with contextlib.suppress(EdgeprofError):
            for ticket in way.tickets:
                opened.any_agent().discard(ticket)


def _link_disturbs(opened: OpenDevice, job: wire.Job) -> bool:
    """Whether the job leaves no CPU: sshd and the agent need one, if only for a moment now and then."""
    if opened.device.scheme != "ssh" or job.runtime == "simulated":
        return False
    agent = opened.ready_agent(job.runtime, job.options)
    return job.options.threads * job.options.streams >= agent.hello.machine.n_cpus


class _BeSilent(Exception):
    """Rounds have begun, and for so many seconds nothing needs to be said."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds
