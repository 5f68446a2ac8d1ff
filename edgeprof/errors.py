"""Every exception that edgeprof raises on purpose.

EdgeprofError
├── UsageError                  the request itself makes no sense            exit code 2
├── FleetError                  fleet.toml, unknown device
├── PlanError                   a campaign's plan makes no sense
├── ModelError                  the model file cannot be read or used
├── InputError                  values for the model's inputs cannot be read, or do not fit
├── LinkError                   a device cannot be reached
│   ├── UnknownHostKey          its key was never seen: `edgeprof devices trust`
│   ├── ChangedHostKey          its key is not the one that was trusted
│   ├── AuthenticationFailed
│   └── TransferError           a file did not arrive whole
├── AgentError                  reached, but the agent cannot work there
│   ├── NoPython                no Python, or one that is too old
│   ├── NoSpace                 the device's disk is full
│   ├── NoWheel                 no wheel of a runtime fits its Python, C library or architecture
│   ├── ProtocolError           the peer does not speak the protocol
│   ├── AgentLost               the agent stopped answering
│   └── JobRefused              the device said no, and why
├── CampaignError               a campaign cannot begin or go on
│   ├── DeviceGivenUp           a device does nothing more in it
│   └── Stopped                 it was told to stop
├── CarbonError                 no grams can be computed, or not of this place or device
├── SearchError                 a search cannot begin or go on
│   └── EvaluationFailed        one candidate could not be judged, which is a result
├── TuningError                 a tuning cannot begin or go on, or its recipe cannot be read
├── MeasurementError            a profile from which nothing can be computed
├── MeterError                  a power meter beside the device, or its trace, is of no use
└── StoreError                  the store of profiles
    └── Fenced                  another controller took the campaign over

A message says what went wrong and where; `advice` says what to do now. Only the command line exits.
"""

from __future__ import annotations


class EdgeprofError(Exception):
    """Root of the tree; `advice` is one sentence about what to do now."""

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class UsageError(EdgeprofError):
    """The request itself makes no sense."""


class FleetError(EdgeprofError):
    """fleet.toml cannot be read, or does not have what was asked for."""


class PlanError(EdgeprofError):
    """A campaign's plan cannot be read or makes no sense."""


class ModelError(EdgeprofError):
    """The model file cannot be read or used."""


class InputError(EdgeprofError):
    """Values for a model's inputs cannot be read, or do not fit the model."""


class LinkError(EdgeprofError):
    """A device cannot be reached."""


class UnknownHostKey(LinkError):
    """A host showed a key that was never trusted."""

    def __init__(self, message: str, advice: str, fingerprint: str) -> None:
        super().__init__(message, advice)
        self.fingerprint = fingerprint


class ChangedHostKey(LinkError):
    """A host showed another key than the trusted one."""


class AuthenticationFailed(LinkError):
    """The host is the right one, but does not let us in."""


class TransferError(LinkError):
    """A file did not arrive whole."""


class AgentError(EdgeprofError):
    """The device was reached, but the agent cannot work there."""


class NoPython(AgentError):
    """The device has no Python, or one that is too old."""


class NoSpace(AgentError):
    """The device's disk is full."""


class NoWheel(AgentError):
    """No wheel of a runtime fits the device's Python, C library or architecture."""


class ProtocolError(AgentError):
    """The peer does not speak the protocol."""


class AgentLost(AgentError):
    """The agent stopped answering, or its link broke."""


class JobRefused(AgentError):
    """The device said no; `kind` is the stable code of the protocol."""

    def __init__(self, message: str, advice: str, kind: str, detail: str = "") -> None:
        super().__init__(message, advice)
        self.kind = kind
        self.detail = detail


class CampaignError(EdgeprofError):
    """A campaign cannot begin or go on."""


class DeviceGivenUp(CampaignError):
    """A device does nothing more in this campaign: it is away, held by somebody else, or fails at everything."""


class Stopped(CampaignError):
    """A campaign was told to stop."""


class CarbonError(EdgeprofError):
    """There are no grams: an unknown zone or device, a service that does not answer, a run without energy."""


class MeasurementError(EdgeprofError):
    """A profile holds nothing from which the asked statistic could be computed."""


class MeterError(EdgeprofError):
    """A power meter beside the device does not answer, or its trace cannot be read or aligned."""


class StoreError(EdgeprofError):
    """The store of profiles cannot be opened, or does not have what was asked for."""


class Fenced(StoreError):
    """Another controller took this campaign over: its results count, this one's do not."""


class SearchError(EdgeprofError):
    """A search cannot begin or go on: contradictory limits, a study that is not there, a space that cannot be built."""


class EvaluationFailed(SearchError):
    """One candidate could not be judged: a result like any other, and no reason to stop."""


class TuningError(EdgeprofError):
    """A tuning cannot begin or go on, or a recipe cannot be read, written or used."""
