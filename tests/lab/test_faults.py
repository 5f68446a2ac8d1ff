"""Faults of emulated devices that a campaign must survive; see faults.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import arm64, fleet
from tests.lab.faults import LAB_FAULTS

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def _lab() -> None:
    reason = fleet.why_not()
    if reason:
        pytest.skip(reason)
    try:
        arm64.rootfs()
    except arm64.NoPackages as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("name", "play"), LAB_FAULTS, ids=[name for name, _ in LAB_FAULTS])
def test_a_campaign_survives(name: str, play: Callable[[Path], list[str]], tmp_path: Path) -> None:
    assert play(tmp_path) == []
