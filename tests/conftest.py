"""What all tests share: the house rule about skipped tests, and where the real models are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

from tests import postgres
from tests.postgres import PostgresServer

MODELS = Path(__file__).parents[1] / ".cache" / "models"

# Folders whose devices are emulated: one process has them all, so that no two of them are late because of each other.
EMULATED = {"boards", "lab"}
# Folders and files whose tests take minutes.
LONGEST = {"faults", "test_check_cli", "test_docs", "test_training"}

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
    r"no environment of NNI: run `make nni`",
)


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder of real models that `make setup` fills."""
    if not MODELS.is_dir():
        pytest.skip("no real models: run `make setup`")
    return MODELS


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests and all that they start find, fixtures of whole modules as well."""
    with pytest.MonkeyPatch.context() as patch:
        # Whoever runs the tests may share a store with others: it is not for what tests make.
        patch.delenv("EDGEPROF_STORE", raising=False)
        # Two runs of the tests on one machine must not wait for each other.
        patch.setenv("EDGEPROF_LEASE", str(tmp_path_factory.getbasetemp()))
        # A machine that tests run on is rarely quiet: a minute before each profile would be most of the time.
        patch.setenv("EDGEPROF_GATE_TIMEOUT", "0.5")
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real server that all tests share; each makes a database of its own in it."""
    reason = postgres.why_not()
    if reason:
        pytest.skip(reason)
    with PostgresServer() as server:
        yield server


class OneLaneForEmulated(LoadFileScheduling):  # type: ignore[misc]  # of an untyped package
    """Hands out whole files, and all that is emulated as if it were one."""

    def _split_scope(self, nodeid: str) -> str:
        folder = nodeid.split("/")[1]
        return "emulated" if folder in EMULATED else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling | None:
    """For `--dist loadfile`."""
    return OneLaneForEmulated(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes minutes comes first, so that of three processes none is left with it alone at the end."""

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(config.rootpath)
        if {*path.parts} & EMULATED:
            return 0
        return 1 if {*path.parts, path.stem} & LONGEST else 2

    items.sort(key=place)


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
