"""Every fault of the catalogue, in a campaign over a real sshd."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.catalogue import FAULTS, Fault, judge, play
from tests.integration import sshd

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_campaign_survives(fault: Fault, tmp_path: Path) -> None:
    reason = sshd.why_not()
    if reason:
        pytest.skip(reason)

    audit = play(fault, tmp_path)

    assert not judge(fault, audit), audit.said
