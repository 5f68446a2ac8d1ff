"""The tables of a store, and the steps that lead from an older store to this one."""

from __future__ import annotations

import sqlalchemy as sa

__all__ = [
    "CAMPAIGNS",
    "JOBS",
    "LINEAGE",
    "META",
    "MIGRATIONS",
    "OWN_COSTS",
    "RUNS",
    "SCHEMA_VERSION",
    "TABLES",
    "Text",
    "migrate",
]

NUL, PICTURE_OF_NUL = "\x00", "\u2400"


class Text(sa.TypeDecorator[str]):
    """Text of any length. PostgreSQL's cannot hold NUL: there it becomes its picture, U+2400, in searches too."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return value.replace(NUL, PICTURE_OF_NUL) if value and dialect.name == "postgresql" else value


TABLES = sa.MetaData()
# The prefix keeps clear of other programs in a database that a team shares.
META = sa.Table(
    "edgeprof_meta",
    TABLES,
    sa.Column("name", Text, primary_key=True),
    sa.Column("content", Text, nullable=False),
)
RUNS = sa.Table(
    "edgeprof_runs",
    TABLES,
    sa.Column("id", Text, primary_key=True),
    sa.Column("created_at_s", sa.Double, nullable=False),
    sa.Column("device", Text, nullable=False),
    sa.Column("model_name", Text, nullable=False),
    sa.Column("model_digest", Text, nullable=False),
    sa.Column("runtime", Text, nullable=False),
    sa.Column("runtime_version", Text, nullable=False),
    sa.Column("origin", Text, nullable=False),
    sa.Column("document", Text, nullable=False),
)
CAMPAIGNS = sa.Table(
    "edgeprof_campaigns",
    TABLES,
    sa.Column("id", Text, primary_key=True),
    sa.Column("name", Text, nullable=False),
    sa.Column("created_at_s", sa.Double, nullable=False),
    sa.Column("plan", Text, nullable=False),
    sa.Column("controller", Text),
    sa.Column("controller_place", Text),
    sa.Column("seen_at_s", sa.Double),
)
# `run_id` is no foreign key: a run may be pruned, and the job that made it was done all the same.
JOBS = sa.Table(
    "edgeprof_jobs",
    TABLES,
    sa.Column("campaign_id", Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("device", Text, nullable=False),
    sa.Column("label", Text, nullable=False),
    sa.Column("state", Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("ticket", Text),
    sa.Column("reasons", Text, nullable=False),
    sa.Column("started_at_s", sa.Double),
    sa.Column("took_s", sa.Double),
    sa.Column("run_id", Text),
)

OWN_COSTS = sa.Table(
    "edgeprof_own_costs",
    TABLES,
    sa.Column("subject", Text, primary_key=True),
    sa.Column("session", Text, primary_key=True),
    sa.Column("document", Text, nullable=False),
)

# A model is known by the digest that its runs have, whether or not there is one yet.
LINEAGE = sa.Table(
    "edgeprof_lineage",
    TABLES,
    sa.Column("child_digest", Text, primary_key=True),
    sa.Column("parent_digest", Text, primary_key=True),
    sa.Column("transform", Text, primary_key=True),
    sa.Column("tool", Text, nullable=False),
    sa.Column("tool_version", Text, nullable=False),
    sa.Column("options", Text, nullable=False),
    sa.Column("edgeprof_version", Text, nullable=False),
    sa.Column("created_at_s", sa.Double, nullable=False),
    sa.Column("child_name", Text, nullable=False),
)

# Step k leads from schema version k to k + 1, in SQL that SQLite and PostgreSQL both know. Steps are never edited.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE edgeprof_runs (id TEXT NOT NULL PRIMARY KEY, created_at_s DOUBLE PRECISION NOT NULL,"
        " device TEXT NOT NULL, model_name TEXT NOT NULL, model_digest TEXT NOT NULL, runtime TEXT NOT NULL,"
        " runtime_version TEXT NOT NULL, origin TEXT NOT NULL, document TEXT NOT NULL)",
        "CREATE INDEX edgeprof_runs_created ON edgeprof_runs (created_at_s)",
        "CREATE INDEX edgeprof_runs_device ON edgeprof_runs (device, created_at_s)",
        "CREATE INDEX edgeprof_runs_model ON edgeprof_runs (model_digest, created_at_s)",
    ),
    (
        "CREATE TABLE edgeprof_campaigns (id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL,"
        " created_at_s DOUBLE PRECISION NOT NULL, plan TEXT NOT NULL, controller TEXT, controller_place TEXT,"
        " seen_at_s DOUBLE PRECISION)",
        "CREATE TABLE edgeprof_jobs (campaign_id TEXT NOT NULL REFERENCES edgeprof_campaigns (id),"
        " number INTEGER NOT NULL, device TEXT NOT NULL, label TEXT NOT NULL, state TEXT NOT NULL,"
        " attempt INTEGER NOT NULL, ticket TEXT, reasons TEXT NOT NULL, started_at_s DOUBLE PRECISION,"
        " took_s DOUBLE PRECISION, run_id TEXT, PRIMARY KEY (campaign_id, number))",
        "CREATE INDEX edgeprof_jobs_device ON edgeprof_jobs (campaign_id, device)",
    ),
    (
        "CREATE TABLE edgeprof_own_costs (subject TEXT NOT NULL, session TEXT NOT NULL, document TEXT NOT NULL,"
        " PRIMARY KEY (subject, session))",
    ),
    (
        "CREATE TABLE edgeprof_lineage (child_digest TEXT NOT NULL, parent_digest TEXT NOT NULL,"
        " transform TEXT NOT NULL, tool TEXT NOT NULL, tool_version TEXT NOT NULL, options TEXT NOT NULL,"
        " edgeprof_version TEXT NOT NULL, created_at_s DOUBLE PRECISION NOT NULL, child_name TEXT NOT NULL,"
        " PRIMARY KEY (child_digest, parent_digest, transform))",
        "CREATE INDEX edgeprof_lineage_parent ON edgeprof_lineage (parent_digest)",
    ),
)
SCHEMA_VERSION = len(MIGRATIONS)


def migrate(connection: sa.Connection, version: int, migrations: tuple[tuple[str, ...], ...]) -> None:
    """Bring a store from schema `version` (0: nothing there) to the last one, inside the caller's transaction."""
    if version == len(migrations):
        return
    if version == 0:
        META.create(connection)
        connection.execute(META.insert(), {"name": "schema", "content": "0"})
    for step in migrations[version:]:
        for statement in step:
            connection.exec_driver_sql(statement)
    connection.execute(META.update().where(META.c.name == "schema").values(content=str(len(migrations))))
