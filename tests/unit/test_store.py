"""The SQLite file under the store: what damages it, who else uses it, how it grows older."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from edgeprof.errors import Fenced, StoreError
from edgeprof.lineage import Descent
from edgeprof.run import SCHEMA, decode_run, encode_run
from edgeprof.store import DONE, RUNNING, SCHEMA_VERSION, Campaign, CampaignJob, Store
from edgeprof.store.schema import MIGRATIONS, TABLES, migrate
from tests.unit.run_factory import make_run

ROOT = Path(__file__).parents[2]


def tables(path: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def change(path: Path, statement: str, *values: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


# --- what is not a store -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"this is a shopping list\n" * 100, bytes(range(256)) * 40])
def test_a_file_of_something_else_is_refused_and_left_as_it_was(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(content)

    with pytest.raises(StoreError, match="not a SQLite database") as caught, Store(path):
        pass

    assert str(path) in str(caught.value)
    assert "move the file away, or set EDGEPROF_HOME" in caught.value.advice
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused_and_gets_no_tables(tmp_path: Path) -> None:
    path = tmp_path / "recipes.db"
    change(path, "CREATE TABLE recipes (name TEXT)")

    with pytest.raises(StoreError, match=r"a database of something else .*'recipes'"), Store(path):
        pass

    assert tables(path) == {"recipes"}


def test_a_damaged_store_is_an_error_that_says_how_to_save_it(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        for k in range(20):
            store.add(make_run(f"run-{k}"))
    content = bytearray(path.read_bytes())
    content[4096 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4096)
    path.write_bytes(content)

    with pytest.raises(StoreError, match="damaged") as caught, Store(path) as store:
        store.get("run-3")

    assert ".recover" in caught.value.advice


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.touch()

    with Store(path) as store:
        store.add(make_run())

        assert len(store.list()) == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match="folder cannot be made") as caught, Store(tmp_path / "file" / "store.sqlite"):
        pass

    assert "EDGEPROF_HOME" in caught.value.advice


def test_a_folder_in_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"), Store(tmp_path):
        pass


def test_an_address_that_is_no_url_is_refused_without_repeating_its_password() -> None:
    with pytest.raises(StoreError) as caught:
        Store("postgresql://user:secret@host:port/database")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["mysql+mysqldb", "postgresql+psycopg2", "nonsense"])
def test_a_kind_of_database_that_cannot_be_a_store_is_refused_without_the_password(kind: str) -> None:
    with pytest.raises(StoreError, match="keeps no store") as caught:
        Store(f"{kind}://user:secret@localhost/edgeprof")

    assert "postgresql://" in caught.value.advice
    assert "secret" not in str(caught.value)


# --- what the system refuses ---------------------------------------------------------------------------------------


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder with a store that this process may read and not write, even if root started the tests."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Store(folder / "store.sqlite") as store:
            store.add(make_run())
        folder.chmod(0o555)
        (folder / "store.sqlite").chmod(0o444)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if user == 0:
                os.seteuid(0)
            folder.chmod(0o755)


def test_a_store_that_may_not_be_written_is_an_error_and_keeps_its_runs(read_only_folder: Path) -> None:
    path = read_only_folder / "store.sqlite"
    before = path.read_bytes()

    with pytest.raises(StoreError) as caught, Store(path) as store:
        store.add(make_run("another"))

    assert str(path) in str(caught.value)
    assert "write" in caught.value.advice
    assert path.read_bytes() == before


def test_a_new_store_in_a_read_only_folder_is_an_error(read_only_folder: Path) -> None:
    with pytest.raises(StoreError) as caught, Store(read_only_folder / "new.sqlite"):
        pass

    assert "EDGEPROF_HOME" in caught.value.advice


def test_a_disk_that_refuses_to_write_loses_only_the_run_that_was_being_stored(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.add(make_run("first"))
        n_bytes = path.with_name("store.sqlite-wal").stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        # The process may not let any file grow past what this one has: what a quota or a full disk looks like.
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes + 8192, hard))
        try:
            with pytest.raises(StoreError, match=r"run second was not stored") as caught:
                store.add(make_run("second", seed=1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        assert "disk" in str(caught.value)
        assert "intact" in caught.value.advice
        assert [row.id for row in store.list()] == ["first"]
        store.add(make_run("second", seed=1))
    with Store(path) as store:
        assert store.get("second") == make_run("second", seed=1)


def test_a_disk_that_refuses_to_write_leaves_a_job_running_that_can_be_finished_later(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.new_campaign(
            Campaign(id="c", name="night", created_at_s=1.0, plan="{}"),
            [CampaignJob(number=0, device="d", label="net")],
        )
        store.take_campaign("c", "me", "here", now_s=2.0)
        store.begin_attempt("c", 0, "me", 1, "ticket", 3.0)

        def finish() -> None:
            store.finish_job("c", 0, "me", 1, run=make_run(), state=DONE, reason=None, took_s=1.0)

        n_bytes = path.with_name("store.sqlite-wal").stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes + 8192, hard))
        try:
            with pytest.raises(StoreError, match=r"disk.*job 0 of campaign c was not finished") as caught:
                finish()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        assert not isinstance(caught.value, Fenced)
        assert "free space" in caught.value.advice
        assert store.jobs("c")[0].state == RUNNING
        assert store.list() == ()
        finish()
        assert store.runs_of("c")[0].id == make_run().id


def test_a_full_disk_is_called_a_full_disk(tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        store.add(make_run("first"))
        with store._open_engine().connect() as connection:
            n_pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            # SQLite's own bound on a database's size gives the code that it gives when the disk is full.
            connection.exec_driver_sql(f"PRAGMA max_page_count={n_pages}")

        with pytest.raises(StoreError, match="the disk is full; run second was not stored"):
            store.add(make_run("second"))

        assert [row.id for row in store.list()] == ["first"]


def test_a_process_that_dies_while_it_writes_leaves_no_half_run(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.add(make_run("first"))
    script = f"""
        import os
        from edgeprof.store import Store
        from edgeprof.store.runs import row_of
        from edgeprof.store.schema import RUNS
        from tests.unit.run_factory import make_run
        with Store({str(path)!r}) as store, store._writing("x") as connection:
            connection.execute(RUNS.insert(), row_of(make_run("second")))
            os.kill(os.getpid(), 9)
    """

    died = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, check=False)

    assert died.returncode == -9
    with Store(path) as store:
        assert [row.id for row in store.list()] == ["first"]


def test_processes_that_open_and_write_one_new_store_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.sqlite"
    script = f"""
        import sys
        from edgeprof.store import Store
        from tests.unit.run_factory import make_run
        sys.stdin.readline()
        with Store({str(path)!r}) as store:
            for k in range(5):
                store.add(make_run(f"{{sys.argv[1]}}-{{k}}"))
    """
    writers = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), str(n)], cwd=ROOT, stdin=subprocess.PIPE)
        for n in range(3)
    ]

    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.close()
    codes = [writer.wait(timeout=120) for writer in writers]

    assert codes == [0, 0, 0]
    with Store(path) as store:
        assert {row.id for row in store.list()} == {f"{n}-{k}" for n in range(3) for k in range(5)}


# --- older and newer -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [str(SCHEMA_VERSION + 1), "seven", ""])
def test_a_store_with_a_schema_we_do_not_know_is_refused_untouched(tmp_path: Path, version: str) -> None:
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.add(make_run())
    change(path, "UPDATE edgeprof_meta SET content = ?", version)

    with pytest.raises(StoreError, match=f"has schema {version}.* reads up to {SCHEMA_VERSION}") as caught, Store(path):
        pass

    assert "newer edgeprof" in caught.value.advice


def test_a_run_of_a_newer_schema_is_refused_and_the_others_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.add(make_run("old"))
        store.add(make_run("new"))
    change(
        path,
        "UPDATE edgeprof_runs SET document = json_set(document, '$.schema', 99, '$.profile', 'changed') WHERE id = ?",
        "new",
    )

    with Store(path) as store:
        with pytest.raises(StoreError, match=r"run new: the run has schema 99, this edgeprof reads 1 to"):
            store.get("new")
        assert store.get("old") == make_run("old")


def test_the_migrations_make_exactly_the_tables_that_are_queried(tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        inspector = sa.inspect(store._open_engine())
        made = {table: {c["name"] for c in inspector.get_columns(table)} for table in inspector.get_table_names()}

    assert made == {table.name: {c.name for c in table.columns} for table in TABLES.sorted_tables}


def test_an_older_store_is_brought_up_to_date_with_its_runs(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.add(make_run())
        later = (*MIGRATIONS, ("ALTER TABLE edgeprof_runs ADD COLUMN campaign TEXT",))

        with store._writing("x") as connection:
            migrate(connection, SCHEMA_VERSION, later)

    with contextlib.closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT id, campaign FROM edgeprof_runs").fetchone()
        version = connection.execute("SELECT content FROM edgeprof_meta").fetchone()
    assert row == (make_run().id, None)
    assert version == (str(SCHEMA_VERSION + 1),)


def test_a_store_of_schema_1_keeps_its_runs_and_can_hold_campaigns(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    shutil.copy(ROOT / "tests" / "recorded" / "stores" / "version-1.sqlite", path)

    with Store(path) as store:
        store.new_campaign(Campaign(id="c", name="night", created_at_s=1.0, plan="{}"), ())

        assert store.get("20260101-one") == make_run("20260101-one", seed=1, n_runs=10, with_operators=False)
        assert [(row.id, row.device) for row in store.list()] == [("20260102-two", "küche"), ("20260101-one", "pi5")]
        assert store.get("latest").device == "küche"
        assert store.campaign("latest").id == "c"


def test_a_store_of_schema_3_keeps_its_runs_and_campaigns_and_can_hold_lineage(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    shutil.copy(ROOT / "tests" / "recorded" / "stores" / "version-3.sqlite", path)
    told = Descent(
        child_digest="c" * 64, child_name="c", parent_digest="d" * 64, transform="fp16", tool="x", tool_version="1"
    )

    with Store(path) as store:
        store.add_lineage(told)

        assert store.lineage("d" * 64).descendants == (told,)
        assert store.get("latest") == make_run("20260101-one", seed=1, n_runs=10, n_rounds=2, with_operators=False)
        assert store.jobs("20260101-night") == (CampaignJob(number=0, device="pi5", label="net on pi5"),)


def test_a_migration_that_fails_half_way_leaves_the_older_store(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.add(make_run())
        broken = (*MIGRATIONS, ("CREATE TABLE extra (a TEXT)", "CREATE TABLE extra (a TEXT)"))

        with pytest.raises(StoreError, match="already exists"), store._writing("x") as connection:
            migrate(connection, SCHEMA_VERSION, broken)

    assert "extra" not in tables(path)
    with Store(path) as store:
        assert store.get("latest") == make_run()


# --- the document of a run -----------------------------------------------------------------------------------------


def test_unknown_fields_of_a_document_are_ignored() -> None:
    raw = msgspec.json.decode(encode_run(make_run()))
    raw["mood"] = raw["profile"]["mood"] = "good"

    run = decode_run(msgspec.json.encode(raw), "here")

    assert run == make_run()


def test_a_wrong_field_is_named_by_its_path() -> None:
    raw = msgspec.json.decode(encode_run(make_run()))
    raw["profile"]["rounds"][2]["latencies_s"][3] = "fast"

    with pytest.raises(StoreError, match=r"here: .*`\$\.profile\.rounds\[2\]\.latencies_s\[3\]`"):
        decode_run(msgspec.json.encode(raw), "here")


@pytest.mark.parametrize(
    "document", [b"", b"{", b"[]", b"null", b"{}", b"[" * 200_000, b'{"schema": "1"}', b"\xff\xfe"]
)
def test_what_is_no_run_is_an_error(document: bytes) -> None:
    with pytest.raises(StoreError, match="here: not a run"):
        decode_run(document, "here")


def test_an_operator_that_points_at_no_kernel_is_refused() -> None:
    raw = msgspec.json.decode(encode_run(make_run()))
    raw["operators"][1]["kernel"] = 6

    with pytest.raises(StoreError, match=r"operators\[1\]\.kernel is 6, but the profile has 6 kernels"):
        decode_run(msgspec.json.encode(raw), "here")


@pytest.mark.parametrize("schema", [0, -1, SCHEMA + 1])
def test_a_document_of_an_unknown_schema_is_refused(schema: int) -> None:
    with pytest.raises(StoreError, match=f"schema {schema}") as caught:
        decode_run(b'{"schema": %d, "profile": "something new"}' % schema, "here")

    assert "upgrade" in caught.value.advice
