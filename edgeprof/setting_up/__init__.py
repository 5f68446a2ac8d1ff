"""Runtimes onto a device that may have no internet, and everything off it again.

The wheels are resolved and fetched on this machine, sent over the link under their SHA-256, unpacked there into an
environment for each runtime, and tried with a tiny model before fleet.toml names them.
"""

from edgeprof.setting_up.cleaning import clean
from edgeprof.setting_up.installing import Setting, Step
from edgeprof.setting_up.there import Cleaned, Facts

__all__ = ["Cleaned", "Facts", "Setting", "Step", "clean"]
