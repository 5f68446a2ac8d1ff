"""What is kept: every run that was ever made, with its raw samples, the campaigns that made them, and which model came
from which.

In SQLite (a path) or PostgreSQL (a URL). The only place that knows SQL. Nothing computed is stored.
"""

from __future__ import annotations

from edgeprof.store.backend import Waits
from edgeprof.store.campaigns import (
    DONE,
    FAILED,
    PENDING,
    RUNNING,
    Campaign,
    CampaignJob,
    CampaignsInStore,
    Reason,
)
from edgeprof.store.database import holds_password
from edgeprof.store.lineage import LineageInStore
from edgeprof.store.own_costs import OwnCostsInStore
from edgeprof.store.runs import LATEST, Imported, RunsInStore, StoredRun, stored
from edgeprof.store.schema import SCHEMA_VERSION

__all__ = [
    "DONE",
    "FAILED",
    "LATEST",
    "PENDING",
    "RUNNING",
    "SCHEMA_VERSION",
    "Campaign",
    "CampaignJob",
    "Imported",
    "Reason",
    "Store",
    "StoredRun",
    "Waits",
    "holds_password",
    "stored",
]


class Store(RunsInStore, CampaignsInStore, OwnCostsInStore, LineageInStore):
    """Runs, campaigns, what those took, and the lineage of models, at one place: a path (SQLite), or a database URL.

    See `Database` for how it is opened.
    """
