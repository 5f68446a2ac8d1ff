"""A store in a real PostgreSQL server: who may do what, what the network and the server do to it, what is said."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgeprof.errors import StoreError
from edgeprof.run import Run
from edgeprof.store import SCHEMA_VERSION, Campaign, Store, Waits
from edgeprof.store.runs import insert_run, row_of
from edgeprof.store.schema import MIGRATIONS
from tests import postgres
from tests.postgres import PASSWORD, PostgresServer
from tests.unit.run_factory import make_run

ROOT = Path(__file__).parents[2]
SHORT = Waits(connect_s=2.0, lock_s=0.5, statement_s=1.0, silence_s=2.0)


@pytest.fixture
def database(postgres_server: PostgresServer) -> str:
    return postgres_server.new_database()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that a test may stop and freeze."""
    reason = postgres.why_not()
    if reason:
        pytest.skip(reason)
    with PostgresServer() as server:
        yield server


# --- addresses -----------------------------------------------------------------------------------------------------


def test_every_way_to_write_the_address_leads_to_the_same_store(postgres_server: PostgresServer, database: str) -> None:
    url = postgres_server.url(database)
    with Store(url) as store:
        store.add(make_run())

    for scheme in ("postgres", "postgresql+psycopg"):
        with Store(url.replace("postgresql", scheme, 1)) as store:
            assert store.get("latest") == make_run()


def test_the_password_may_come_from_the_environment_a_file_or_a_service(
    postgres_server: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without = postgres_server.unix_url(database)
    secret = PASSWORD.replace(":", r"\:")
    (tmp_path / "pgpass").write_text(f"*:*:{database}:admin:{secret}\n")
    (tmp_path / "pgpass").chmod(0o600)
    lines = (f"[{database}]", "host=127.0.0.1", f"port={postgres_server.port}", f"dbname={database}", "user=admin")
    (tmp_path / "services").write_text("\n".join(lines) + "\n")

    with monkeypatch.context() as here:
        here.setenv("PGPASSWORD", PASSWORD)
        with Store(without) as store:
            store.add(make_run())
    with monkeypatch.context() as here:
        here.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
        with Store(without) as store:
            assert len(store.list()) == 1
        here.setenv("PGSERVICEFILE", str(tmp_path / "services"))
        with Store(f"postgresql:///?service={database}") as store:
            assert len(store.list()) == 1
            assert database in store.place


def test_no_message_holds_the_password(postgres_server: PostgresServer, database: str) -> None:
    wrong = postgres_server.url(database).replace("open%20sesame", "secret")
    hidden = postgres_server.unix_url(database) + "&password=secret"

    for url in (wrong, hidden, postgres_server.url("nowhere")):
        with pytest.raises(StoreError) as caught, Store(url):
            pass
        said = f"{caught.value} {caught.value.advice} {Store(url).place}"
        assert "secret" not in said
        assert "sesame" not in said


def test_a_wrong_password_says_where_it_comes_from(postgres_server: PostgresServer, database: str) -> None:
    url = postgres_server.url(database).replace("sesame", "wrong")

    with pytest.raises(StoreError, match="password authentication failed") as caught, Store(url):
        pass

    assert "PGPASSWORD" in caught.value.advice
    assert ".pgpass" in caught.value.advice


def test_a_database_that_is_not_there_is_named(postgres_server: PostgresServer) -> None:
    with pytest.raises(StoreError, match='"nowhere" does not exist') as caught, Store(postgres_server.url("nowhere")):
        pass

    assert "shared-store.md" in caught.value.advice


def test_a_server_that_cannot_be_reached_says_what_to_check() -> None:
    with (
        pytest.raises(StoreError, match="Connection refused; cannot be read") as caught,
        Store("postgresql://me@127.0.0.1:1/edgeprof"),
    ):
        pass

    assert "that its server is up" in caught.value.advice


def test_a_database_that_cannot_hold_every_text_is_refused(postgres_server: PostgresServer) -> None:
    name = postgres_server.new_database(options="ENCODING 'SQL_ASCII' TEMPLATE template0")

    with pytest.raises(StoreError, match="cannot hold every text") as caught, Store(postgres_server.url(name)):
        pass

    assert "UTF8" in caught.value.advice


def test_without_the_driver_the_error_says_what_to_install() -> None:
    script = """
        import sys
        sys.modules["psycopg"] = None
        from edgeprof.errors import StoreError
        from edgeprof.store import Store
        try:
            Store("postgresql://me:secret@host/edgeprof")
        except StoreError as error:
            print(error, "|", error.advice)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "needs psycopg" in done.stdout
    assert "pip install 'edgeprof[postgres]'" in done.stdout


# --- rights --------------------------------------------------------------------------------------------------------


def new_role(server: PostgresServer, *grants: str, database: str) -> str:
    """Name of a role that may do what the grants say."""
    name = f"role_{database}"
    server.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    for grant in grants:
        server.sql(f"GRANT {grant} TO {name}", database)
    return name


def test_a_reader_may_list_and_read_and_is_told_that_it_may_not_write(
    postgres_server: PostgresServer, database: str
) -> None:
    with Store(postgres_server.url(database)) as store:
        store.add(make_run())
    reader = new_role(postgres_server, "SELECT ON ALL TABLES IN SCHEMA public", database=database)

    with Store(postgres_server.url(database, reader)) as store:
        assert store.get("latest") == make_run()
        with pytest.raises(StoreError, match="permission denied for table edgeprof_runs; run two was") as caught:
            store.add(make_run("two"))

    assert "shared-store.md" in caught.value.advice


def test_a_member_may_do_everything_but_make_the_tables(postgres_server: PostgresServer, database: str) -> None:
    member = new_role(postgres_server, database=database)
    with pytest.raises(StoreError, match="permission denied for schema public; cannot be brought up to date"):
        Store(postgres_server.url(database, member)).__enter__()
    with Store(postgres_server.url(database)):
        pass
    rights = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"
    postgres_server.sql(f"GRANT {rights} TO {member}", database)

    with Store(postgres_server.url(database, member)) as store:
        store.add(make_run())
        store.delete([make_run().id])


def test_a_server_that_only_reads_is_explained(postgres_server: PostgresServer, database: str) -> None:
    with Store(postgres_server.url(database)):
        pass
    postgres_server.sql(f"ALTER DATABASE {database} SET default_transaction_read_only = on")

    with Store(postgres_server.url(database)) as store, pytest.raises(StoreError, match="read-only") as caught:
        store.add(make_run())

    assert "EDGEPROF_STORE" in caught.value.advice


def test_the_roles_of_the_page_may_do_what_it_says(own_server: PostgresServer) -> None:
    page = (ROOT / "docs" / "how-to" / "shared-store.md").read_text()
    (script,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    own_server.sql(re.sub(r"'change-this[a-z-]*'", f"'{PASSWORD}'", script))
    own_server.sql(f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}' IN ROLE edgeprof_readers")
    own_server.sql(f"CREATE ROLE stranger LOGIN PASSWORD '{PASSWORD}'")

    with Store(own_server.url("edgeprof", "edgeprof_owner")) as store:
        store.add(make_run("owner"))
    with Store(own_server.url("edgeprof", "ada")) as store:
        store.add(make_run("ada"))
        store.delete(["owner"])
        store.new_campaign(Campaign(id="c", name="night", created_at_s=1.0, plan="{}"), ())
    with Store(own_server.url("edgeprof", "guest")) as store:
        assert [row.id for row in store.list()] == ["ada"]
        assert store.campaign("night").id == "c"
        with pytest.raises(StoreError, match="permission denied"):
            store.add(make_run("guest"))
    with (
        pytest.raises(StoreError, match="permission denied for database"),
        Store(own_server.url("edgeprof", "stranger")),
    ):
        pass


# --- schema --------------------------------------------------------------------------------------------------------


def test_programs_that_open_a_new_store_at_once_make_it_once(postgres_server: PostgresServer, database: str) -> None:
    def opened(k: int) -> None:
        with Store(postgres_server.url(database)) as store:
            store.add(make_run(f"run-{k}"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(opened, range(8)))

    with Store(postgres_server.url(database)) as store:
        assert len(store.list()) == 8


def test_a_store_of_version_1_keeps_its_runs(postgres_server: PostgresServer, database: str) -> None:
    url = postgres_server.url(database)
    with Store(url) as store:
        store.add(make_run())
    for table in ("edgeprof_jobs", "edgeprof_campaigns", "edgeprof_own_costs", "edgeprof_lineage"):
        postgres_server.sql(f"DROP TABLE {table}", database)
    postgres_server.sql("UPDATE edgeprof_meta SET content = '1'", database)

    with Store(url) as store:
        assert store.get("latest") == make_run()
        assert store.campaigns() == ()

    assert postgres_server.sql("SELECT content FROM edgeprof_meta", database) == str(SCHEMA_VERSION)
    assert len(MIGRATIONS) == SCHEMA_VERSION


def test_other_tables_of_a_shared_database_are_left_alone(postgres_server: PostgresServer, database: str) -> None:
    postgres_server.sql("CREATE TABLE recipes (name TEXT)", database)

    with Store(postgres_server.url(database)) as store:
        store.add(make_run())

    assert postgres_server.sql("SELECT count(*) FROM recipes", database) == "0"


# --- servers that fail ---------------------------------------------------------------------------------------------


def test_a_server_that_was_restarted_meanwhile_costs_nothing(own_server: PostgresServer) -> None:
    with Store(own_server.url("postgres")) as store:
        store.add(make_run("before"))
        own_server.stop()
        own_server.start()

        store.add(make_run("after"))

        assert {row.id for row in store.list()} == {"before", "after"}


def test_a_server_that_is_gone_is_an_error_and_the_store_works_when_it_is_back(own_server: PostgresServer) -> None:
    with Store(own_server.url("postgres"), waits=SHORT) as store:
        store.add(make_run("before"))
        own_server.stop()

        with pytest.raises(StoreError, match="run lost was not stored") as caught:
            store.add(make_run("lost"))

        assert caught.value.advice
        own_server.start()
        store.add(make_run("after"))
        assert {row.id for row in store.list()} == {"before", "after"}


def test_a_connection_that_is_cut_in_a_transaction_leaves_nothing_half(
    postgres_server: PostgresServer, database: str
) -> None:
    def runs_and_a_cut() -> Iterator[Run]:
        yield make_run("first")
        killed = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = "
        assert postgres_server.sql(f"{killed}'{database}' AND state = 'idle in transaction'") == "1"

    with Store(postgres_server.url(database)) as store:
        with pytest.raises(StoreError, match="x was not done") as caught:
            insert_and_cut(store, runs_and_a_cut())

        assert "server was stopped or restarted" in caught.value.advice
        assert store.list() == ()
        store.add(make_run())


def insert_and_cut(store: Store, runs: Iterator[Run]) -> None:
    """Write these runs in one transaction."""
    with store._writing("x was not done") as connection:
        for run in runs:
            assert insert_run(connection, row_of(run))


def test_a_server_that_freezes_in_a_transaction_does_not_hang_the_program(own_server: PostgresServer) -> None:
    def runs_and_a_freeze() -> Iterator[Run]:
        yield make_run("first")
        own_server.freeze()
        yield make_run("second")

    with Store(own_server.url("postgres"), waits=SHORT) as store:
        try:
            with pytest.raises(StoreError, match="did not answer for 2 s; x was not done"):
                insert_and_cut(store, runs_and_a_freeze())
        finally:
            own_server.thaw()

        assert store.list() == ()


def test_a_frozen_server_does_not_hang_the_program(own_server: PostgresServer) -> None:
    with Store(own_server.url("postgres"), waits=SHORT) as store:
        store.add(make_run("before"))
        own_server.freeze()
        try:
            with pytest.raises(StoreError, match="did not answer for 2 s; run after was not stored") as caught:
                store.add(make_run("after"))
        finally:
            own_server.thaw()

        assert "check the server" in caught.value.advice
        store.add(make_run("later"))


def test_a_frozen_server_does_not_hang_the_opening(own_server: PostgresServer) -> None:
    own_server.freeze()
    try:
        with pytest.raises(StoreError, match="connection timeout expired; cannot be read"):
            Store(own_server.url("postgres"), waits=SHORT).__enter__()
    finally:
        own_server.thaw()


def test_a_row_that_another_keeps_locked_is_waited_for_as_long_as_was_said(
    postgres_server: PostgresServer, database: str
) -> None:
    url = postgres_server.url(database)
    with Store(url) as holder, Store(url, waits=SHORT) as store, holder._writing("x") as connection:
        connection.exec_driver_sql("LOCK TABLE edgeprof_runs IN ACCESS EXCLUSIVE MODE")

        with pytest.raises(StoreError, match="lock timeout; run one was not stored") as caught:
            store.add(make_run("one"))

    assert "pg_stat_activity" in caught.value.advice


# --- the command line ----------------------------------------------------------------------------------------------


def typed(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from edgeprof.cli import main; main()", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_environment_names_the_store_and_the_option_beats_it(
    postgres_server: PostgresServer, database: str, tmp_path: Path
) -> None:
    with Store(postgres_server.url(database)) as store:
        store.add(make_run("shared"))
    with Store(tmp_path / "mine.sqlite") as store:
        store.add(make_run("mine"))
    shared = {"EDGEPROF_STORE": postgres_server.unix_url(database), "PGPASSWORD": PASSWORD}

    by_environment = typed("runs", "list", **shared)
    by_option = typed("runs", "list", "--store", str(tmp_path / "mine.sqlite"), **shared)

    assert "shared" in by_environment.stdout
    assert by_environment.stderr == ""
    assert "mine" in by_option.stdout
    assert "shared" not in by_option.stdout


def test_a_password_on_the_command_line_is_warned_about_once_and_not_repeated(
    postgres_server: PostgresServer, database: str
) -> None:
    done = typed("runs", "list", "--store", postgres_server.url(database))

    assert done.returncode == 0
    assert done.stderr.count("(ps)") == 1
    assert "sesame" not in done.stdout + done.stderr
