"""What all tests share: the house rule about skipped tests, and where the real models are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.postgres import PostgresServer

MODELS = Path(__file__).parents[1] / ".cache" / "models"

# With CI set, a skipped test fails the run unless its reason matches one of these.
KNOWN_SKIPS = (
    r"tflite-runtime has no wheel for Python 3\.1[2-9]",
    r"no Python 3\.8 on this machine",
    r"no Python 3\.9 on this machine",
    r"needs root",
    r"no C compiler to make a delegate with",
    r"no virtual board: .* missing: run tools/boards.sh",
    r"no virtual board: Debian's packages cannot be had",
    r"no emulated arm64 device: it is made of Debian 12, and this is ",
    r"no emulated arm64 device: no namespaces of our own: ",
    r"no emulated arm64 device: Debian's packages cannot be had",
    r"no PostgreSQL on this machine",
    r"no libfaketime on this machine",
    r"no fleet of emulated devices: control groups (without|of) ",
    r"no fleet of emulated devices: no /dev/net/tun",
    r"no fleet of emulated devices: no namespaces: ",
    r"no control groups of version 2 here",
    r"torch is not installed: run `make torch`",
)


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder of real models that `make setup` fills."""
    if not MODELS.is_dir():
        pytest.skip("no real models: run `make setup`")
    return MODELS


@pytest.fixture(autouse=True)
def no_store_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may share a store with others: it is not for what tests make."""
    monkeypatch.delenv("EDGEPROF_STORE", raising=False)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real server that all tests share; each makes a database of its own in it."""
    reason = postgres.why_not()
    if reason:
        pytest.skip(reason)
    with PostgresServer() as server:
        yield server


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that tests run on is rarely quiet: a minute before each profile would be most of the time."""
    monkeypatch.setenv("EDGEPROF_GATE_TIMEOUT", "3")


@pytest.fixture(autouse=True)
def own_lease(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of the tests on one machine must not wait for each other."""
    monkeypatch.setenv("EDGEPROF_LEASE", str(tmp_path_factory.getbasetemp()))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The virtual board comes last: its emulator keeps a CPU busy as long as it is on, which others would measure."""
    items.sort(key=lambda item: item.nodeid.startswith("tests/boards/"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    unknown = _unknown_skips(terminalreporter)
    if unknown and os.environ.get("CI"):
        terminalreporter.section("skipped for reasons that tests/conftest.py does not list")
        for line in unknown:
            terminalreporter.write_line(line)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    is_green = session.exitstatus == pytest.ExitCode.OK
    if os.environ.get("CI") and is_green and isinstance(reporter, pytest.TerminalReporter) and _unknown_skips(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _unknown_skips(reporter: pytest.TerminalReporter) -> list[str]:
    reasons = [
        f"{r.nodeid}: {r.longrepr[2]}" for r in reporter.stats.get("skipped", []) if isinstance(r.longrepr, tuple)
    ]
    return [line for line in reasons if not any(re.search(known, line) for known in KNOWN_SKIPS)]
