"""Where edgeprof keeps its own files on the host: the fleet, trusted host keys, its own SSH key, the store."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

__all__ = [
    "config_dir",
    "data_dir",
    "fleet_file",
    "identity_file",
    "known_hosts_file",
    "own_store",
    "store_place",
    "wheels_dir",
]

# One folder for everything, for tests, containers and people who want to see it all in one place.
HOME_VARIABLE = "EDGEPROF_HOME"
# A store elsewhere: the path of a SQLite file, or the URL of a database that a team shares.
STORE_VARIABLE = "EDGEPROF_STORE"


def config_dir() -> Path:
    """What a person edits or decides: the fleet, trusted keys."""
    home = os.environ.get(HOME_VARIABLE)
    return Path(home).expanduser() if home else platformdirs.user_config_path("edgeprof")


def data_dir() -> Path:
    """What edgeprof collects: the store of profiles."""
    home = os.environ.get(HOME_VARIABLE)
    return Path(home).expanduser() if home else platformdirs.user_data_path("edgeprof")


def fleet_file() -> Path:
    return config_dir() / "fleet.toml"


def known_hosts_file() -> Path:
    """Host keys trusted by `edgeprof devices trust`; the user's own known_hosts is only ever read."""
    return config_dir() / "known_hosts"


def identity_file() -> Path:
    """The key made by `devices add --install-key` for people who have none; ~/.ssh is left alone."""
    return config_dir() / "id_ed25519"


def wheels_dir() -> Path:
    """Wheels that were fetched for devices; fetched again where they are gone."""
    home = os.environ.get(HOME_VARIABLE)
    return (Path(home).expanduser() if home else platformdirs.user_cache_path("edgeprof")) / "wheels"


def own_store() -> Path:
    """The store of this user, where nobody names another."""
    return data_dir() / "store.sqlite"


def store_place(given: str | None = None) -> str:
    """The path or the URL of the store: what was given on a command line, else $EDGEPROF_STORE, else a file of ours."""
    place = given or os.environ.get(STORE_VARIABLE) or str(own_store())
    return place if "://" in place else str(Path(place).expanduser())
