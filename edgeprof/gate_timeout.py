"""How long a job waits for a quiet device where nobody says how long."""

from __future__ import annotations

import math
import os

from edgeprof.errors import UsageError

__all__ = ["USUAL_S", "VARIABLE", "usual_s"]

# For machines that are never quiet, as those of a CI: in the user's environment, for every command and for Python.
VARIABLE = "EDGEPROF_GATE_TIMEOUT"
USUAL_S = 60.0


def usual_s() -> float:
    """Seconds for all gates of a job: $EDGEPROF_GATE_TIMEOUT, or a minute.

    Raises:
        UsageError: the variable is no number of seconds.
    """
    given = os.environ.get(VARIABLE)
    if not given:
        return USUAL_S
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise UsageError(f"{VARIABLE} is {given!r}", "give seconds, as 10, or unset it")
    return value
