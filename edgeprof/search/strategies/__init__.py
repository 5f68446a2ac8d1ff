"""Strategies: each is asked for architectures and told what they turned out to be."""

from edgeprof.search.strategies.base import Strategy, Told

__all__ = ["Strategy", "Told"]
