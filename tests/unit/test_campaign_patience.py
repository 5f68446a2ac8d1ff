"""How long a lost device is tried again, and what a failed attempt means: no clock but the test's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgeprof.campaign.failures import DEVICE, LASTING, PASSING, kind_of, severity
from edgeprof.errors import (
    AgentLost,
    AuthenticationFailed,
    ChangedHostKey,
    DeviceGivenUp,
    EdgeprofError,
    JobRefused,
    LinkError,
    ModelError,
    NoPython,
    NoSpace,
    ProtocolError,
    Stopped,
    TransferError,
)
from edgeprof.fleet import Device
from edgeprof.profiling import OpenDevice
from edgeprof.spooled import Patience, when_free
from tests.waiting import Clock


@pytest.fixture
def opened() -> OpenDevice:
    return OpenDevice(Device(name="board"))


def failing(n_times: int, error: Exception) -> Callable[[], str]:
    left = [error] * n_times

    def action() -> str:
        if left:
            raise left.pop()
        return "done"

    return action


def test_a_device_that_comes_back_in_time_is_not_given_up(opened: OpenDevice) -> None:
    clock, told = Clock(), list[str]()
    patience = Patience(60.0, clock.wait, clock.now, told.append)

    assert patience.persist(opened, failing(4, LinkError("no answer"))) == "done"
    assert clock.waits_s == [0.5, 1.0, 2.0, 4.0], "each wait is twice the one before"
    assert told == ["no answer (trying again for up to 60 s)"], "the same reason is told once"


def test_a_device_that_stays_away_is_given_up_with_the_last_reason(opened: OpenDevice) -> None:
    clock = Clock()
    patience = Patience(10.0, clock.wait, clock.now)

    with pytest.raises(DeviceGivenUp, match="no answer") as caught:
        patience.persist(opened, failing(100, LinkError("no answer", "is it on?")))

    assert clock.now_s == pytest.approx(10.0)
    assert caught.value.advice == "is it on?"


def test_being_heard_of_begins_the_count_anew(opened: OpenDevice) -> None:
    clock = Clock()
    patience = Patience(10.0, clock.wait, clock.now)
    left = 12

    def action() -> str:
        nonlocal left
        left -= 1
        if left % 3 == 0:
            patience.heard()
        if left:
            raise AgentLost("it ended")
        return "done"

    assert patience.persist(opened, action) == "done"


def test_a_device_that_did_what_was_asked_is_no_longer_lost(opened: OpenDevice) -> None:
    clock = Clock()
    patience = Patience(60.0, clock.wait, clock.now)

    for _ in range(5):
        assert patience.persist(opened, failing(5, LinkError("no answer"))) == "done"
        clock.now_s += 3600.0
    assert clock.waits_s == 5 * [0.5, 1.0, 2.0, 4.0, 8.0]


def test_a_device_that_is_lost_again_and_again_does_not_take_for_ever(opened: OpenDevice) -> None:
    clock = Clock()
    patience = Patience(10.0, clock.wait, clock.now)

    def action() -> str:
        patience.heard()
        raise AgentLost("it ended")

    with pytest.raises(DeviceGivenUp):
        patience.persist(opened, action, within_s=100.0)
    assert 100.0 < clock.now_s < 120.0


def test_whoever_waits_can_be_stopped(opened: OpenDevice) -> None:
    clock = Clock(stops_after_s=3.0)

    with pytest.raises(Stopped):
        Patience(60.0, clock.wait, clock.now).persist(opened, failing(100, LinkError("no answer")))


@pytest.mark.parametrize("error", [ChangedHostKey("x"), AuthenticationFailed("x"), ProtocolError("x"), ModelError("x")])
def test_what_waiting_does_not_mend_is_not_waited_for(opened: OpenDevice, error: EdgeprofError) -> None:
    clock = Clock()

    with pytest.raises(type(error)):
        Patience(60.0, clock.wait, clock.now).persist(opened, failing(1, error))
    assert not clock.waits_s


@pytest.mark.parametrize(
    ("error", "meaning", "kind"),
    [
        (ChangedHostKey("x"), DEVICE, "ChangedHostKey"),
        (NoPython("x"), DEVICE, "NoPython"),
        (JobRefused("x", "", "interrupted"), PASSING, "interrupted"),
        (JobRefused("x", "", "killed"), PASSING, "killed"),
        (JobRefused("x", "", "unsupported-model"), LASTING, "unsupported-model"),
        (JobRefused("x", "", "deadline"), LASTING, "deadline"),
        (NoSpace("x"), PASSING, "NoSpace"),
        (JobRefused("x", "", "no-space"), PASSING, "no-space"),
        (ProtocolError("x"), PASSING, "ProtocolError"),
        (TransferError("x"), PASSING, "TransferError"),
        (ModelError("x"), LASTING, "ModelError"),
    ],
)
def test_a_failure_is_judged_by_its_reason(error: EdgeprofError, meaning: str, kind: str) -> None:
    assert (severity(error), kind_of(error)) == (meaning, kind)


def test_a_device_that_somebody_has_is_waited_for_and_who_has_it_is_told_once() -> None:
    clock, told = Clock(), list[str]()
    action = failing(3, JobRefused("pi5: anna has the device", "", "leased"))

    def sleep(seconds: float) -> None:
        clock.wait(seconds)

    assert when_free(action, 60.0, told.append, sleep, clock.now) == "done"
    assert clock.waits_s == [2.0, 2.0, 2.0]
    assert told == ["waiting: pi5: anna has the device"]


@pytest.mark.parametrize(("kind", "waited_s"), [("leased", 10.0), ("unsupported-model", 0.0)])
def test_what_somebody_does_not_let_go_of_or_waiting_does_not_mend_is_an_error(kind: str, waited_s: float) -> None:
    clock = Clock()

    def sleep(seconds: float) -> None:
        clock.wait(seconds)

    with pytest.raises(JobRefused):
        when_free(failing(100, JobRefused("no", "", kind)), 10.0, lambda _: None, sleep, clock.now)
    assert clock.now_s == waited_s
