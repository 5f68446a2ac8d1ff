"""What a failed attempt means: whether to try the job again, and whether the device can do any other."""

from __future__ import annotations

from edgeprof.errors import (
    AgentError,
    AgentLost,
    AuthenticationFailed,
    ChangedHostKey,
    EdgeprofError,
    JobRefused,
    LinkError,
    NoPython,
    ProtocolError,
    UnknownHostKey,
)

__all__ = ["DEVICE", "LASTING", "PASSING", "SILENT", "kind_of", "severity"]

# It may go well next time; it will not; this device can do nothing at all.
PASSING, LASTING, DEVICE = "passing", "lasting", "device"
SILENT = "keeper-silent"
# Kinds of refusals (docs/protocol.md) that say nothing about the job.
PASSING_KINDS = frozenset(
    {
        "busy",
        "corrupt-model",
        "corrupt-order",
        "corrupt-result",
        "corrupt-upload",
        "device-error",
        "interrupted",
        SILENT,
        "killed",
        "lease-expired",
        "lease-lost",
        "model-missing",
        "no-space",
        "no-such-ticket",
        "no-write",
        "unlocked",
    }
)
BY_DEVICE = (UnknownHostKey, ChangedHostKey, AuthenticationFailed, NoPython)


def severity(error: EdgeprofError) -> str:
    """PASSING, LASTING or DEVICE."""
    if isinstance(error, BY_DEVICE):
        return DEVICE
    if isinstance(error, JobRefused):
        return PASSING if error.kind in PASSING_KINDS else LASTING
    return PASSING if isinstance(error, LinkError | AgentLost | ProtocolError | AgentError) else LASTING


def kind_of(error: EdgeprofError) -> str:
    """A stable word for the store: the kind of a refusal, or the error's name."""
    return error.kind if isinstance(error, JobRefused) else type(error).__name__
