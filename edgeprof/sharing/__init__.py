"""Runs that strangers exchange: nothing in them says who measured where, and nothing of them is believed unchecked.

docs/reference/bundle.md describes the file.
"""

from edgeprof.sharing.bundle import HEAD_BYTES, MAX_BYTES, is_bundle, read_bundle, write_bundle
from edgeprof.sharing.own_names import own_names

__all__ = ["HEAD_BYTES", "MAX_BYTES", "is_bundle", "own_names", "read_bundle", "write_bundle"]
