"""What the contract tests of stores run on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.postgres import PostgresServer


@pytest.fixture(params=["a path", "a URL of SQLite", "a URL of PostgreSQL"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store, in every kind of database."""
    if request.param == "a path":
        return str(tmp_path / "folder that is new" / "store.sqlite")
    if request.param == "a URL of SQLite":
        return f"sqlite:///{tmp_path}/store.sqlite"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.url(server.new_database())
