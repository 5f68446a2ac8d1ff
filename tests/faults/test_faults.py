"""Every fault of the catalogue, in a campaign over a real sshd, some at a time: they are mostly waiting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.faults import table
from tests.faults.audit import Audit
from tests.faults.catalogue import FAULTS
from tests.faults.fault import AT_ONCE
from tests.integration import sshd
from tests.lab.faults import LAB_FAULTS

BY_NAME = {fault.name: fault for fault in FAULTS}
Playing = Mapping[str, Future[Audit]]


@pytest.fixture(scope="module")
def playing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playing]:
    """The faults that were asked for, each on its way."""
    reason = sshd.why_not()
    if reason:
        pytest.skip(reason)
    asked = [
        str(item.callspec.params["name"])
        for item in request.session.items
        # By the function itself: the lab's tests have one of the same name.
        if isinstance(item, pytest.Function) and item.function is test_a_campaign_survives
    ]
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        yield {
            name: pool.submit(BY_NAME[name].play, tmp_path_factory.mktemp("fault"))
            for name in asked
            if BY_NAME[name].why_not() is None
        }
    finally:
        pool.shutdown(cancel_futures=True)


@pytest.mark.ssh
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", BY_NAME)
def test_a_campaign_survives(name: str, playing: Playing) -> None:
    fault = BY_NAME[name]
    reason = fault.why_not()
    if reason:
        pytest.skip(reason)

    found = playing[name].result()

    assert not fault.judge(found), found.said


def test_the_page_about_reliability_has_a_row_for_every_fault() -> None:
    names = BY_NAME.keys() | {name for name, _ in LAB_FAULTS}
    assert set(table.names_in(table.PAGE.read_text(encoding="utf-8"))) == names, "run `make faults`"


def test_no_two_faults_have_one_name() -> None:
    assert len(BY_NAME) == len(FAULTS)
