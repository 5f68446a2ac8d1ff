"""What `make lab` shows, on two devices and with one model; and that nothing of it stays."""

from __future__ import annotations

import os

import pytest

from tests.lab import arm64, fleet
from tests.lab.demonstration import NAMES, demonstrate
from tests.lab.fleet import Fleet
from tests.lab.test_fleet import left_behind

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_campaign_on_two_failing_devices_is_resumed_until_every_result_is_there(
    capfd: pytest.CaptureFixture[str],
) -> None:
    reason = fleet.why_not()
    if reason:
        pytest.skip(reason)
    try:
        arm64.rootfs()
    except arm64.NoPackages as error:
        pytest.skip(str(error))
    before = left_behind(os.getpid())

    with Fleet(2) as made:
        exit_code = demonstrate(made, NAMES[:1])

    said, log = capfd.readouterr()
    assert exit_code == 0, said + log
    assert "4 of 4 jobs done" in said
    assert sum("emulated, run " in line for line in log.splitlines()) == 4, log
    assert left_behind(os.getpid()) == before
