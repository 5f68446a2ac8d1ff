"""At random: what every other strategy must be better than."""

from __future__ import annotations

from edgeprof.search.space import Architecture
from edgeprof.search.strategies.base import Strategy

__all__ = ["RandomSearch"]


class RandomSearch(Strategy):
    """Each list of choices as likely, none twice while there are others."""

    def _next(self) -> Architecture:
        return self._fresh()
