"""Fixtures for tests over a real sshd; without one they are skipped, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration import sshd as server
from tests.integration.relay import Relay
from tests.integration.sshd import Sshd


@pytest.fixture
def make_sshd(tmp_path: Path) -> Iterator[Callable[..., Sshd]]:
    reason = server.why_not()
    if reason:
        pytest.skip(reason)
    with ExitStack() as stack:
        made: list[Sshd] = []

        def make(**options: object) -> Sshd:
            made.append(stack.enter_context(Sshd(tmp_path / f"sshd{len(made)}", **options)))  # type: ignore[arg-type]
            return made[-1]

        yield make


@pytest.fixture
def sshd(make_sshd: Callable[..., Sshd]) -> Sshd:
    return make_sshd()


@pytest.fixture
def relay(sshd: Sshd) -> Iterator[Relay]:
    with Relay(sshd.port) as relay:
        sshd.trust_port(relay.port)
        yield relay
