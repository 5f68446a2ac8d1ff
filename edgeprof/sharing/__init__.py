"""Runs that strangers exchange: nothing in them says who measured where, and nothing of them is believed unchecked.

docs/reference/bundle.md describes the file.
"""

from edgeprof.sharing.bundle import HEAD_BYTES, MAX_BYTES, is_bundle, read_bundle, write_bundle

__all__ = ["HEAD_BYTES", "MAX_BYTES", "is_bundle", "read_bundle", "write_bundle"]
