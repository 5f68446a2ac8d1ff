"""What a store needs of the database that holds it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import sqlalchemy as sa

__all__ = ["Backend", "Explained", "Unavailable", "Waits"]

# What happened, and what to do about it.
Explained = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Waits:
    """How long a store waits, in seconds, before it is an error.

    `connect_s`: for a server to accept us. `lock_s`: for others who write; one write takes milliseconds, a slow SD card
    some seconds. `statement_s`: for a server to carry out one statement. `silence_s`: for any answer at all, which is
    what ends the wait for a server that is frozen.
    """

    connect_s: float = 10.0
    lock_s: float = 30.0
    statement_s: float = 60.0
    silence_s: float = 90.0


class Unavailable(Exception):
    """The database did not serve us in time; the store adds what that means for what was asked of it."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(what)
        self.advice = advice


class Backend(Protocol):
    """One kind of database; usable from several threads."""

    @property
    def place(self) -> str:
        """Where the store is, fit for a message: it never holds a password."""

    def make_engine(self) -> sa.Engine:
        """Connections to it, none of them open yet."""

    def reading(self, engine: sa.Engine) -> AbstractContextManager[sa.Connection]:
        """A transaction that only reads."""

    def writing(self, engine: sa.Engine) -> AbstractContextManager[sa.Connection]:
        """A transaction that writes, as a whole or not at all."""

    def has_store(self, connection: sa.Connection) -> bool:
        """Whether the store's tables are there.

        Raises:
            StoreError: the database is of no use for a store.
        """

    def lock_schema(self, connection: sa.Connection) -> None:
        """Wait until no other process migrates; held until the transaction ends."""

    def explain(self, error: BaseException) -> Explained:
        """What the driver's exception means to a person."""
