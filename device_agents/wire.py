"""What host and device say to each other: frozen dataclasses, one JSON object per line.

The host sends requests, the device replies; both travel in an envelope::

    {"id": 7, "request": "profile", "body": {...Measure...}}
    {"id": 7, "reply": "progress", "body": {...Progress...}}
    {"id": 7, "reply": "profile", "body": {...Profile...}}

Only the standard library is used here, and only what Python 3.9 has: this file runs on the device. The host
validates the same classes with msgspec; the device with `decoding.build`, which knows the few shapes used below.
Raw samples travel; statistics live on the host. Missing is None, never 0. All units are SI and in the name. What is
measured and what comes of it stand in `job` and `profile`; every name is offered here.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple, Type, Union

from device_agents.decoding import WireError, build
from device_agents.device_state import ClockPolicy, Clocks, Conditions, Cpu, GateOutcome, MachineInfo, Topology
from device_agents.energy import (
    BATTERY,
    BOUNDARIES,
    BUSY,
    CORE,
    DC_INPUT,
    ENERGY,
    EXTERNAL,
    IDLE,
    MARK,
    MODULE,
    POWER,
    SOC_RAILS,
    UNSTATED,
    WALL,
    ClockReading,
    Energy,
    EnergyPass,
    EnergyWindow,
    MeterInfo,
    Meters,
    PowerTrace,
)
from device_agents.job import (
    Board,
    ClockCap,
    Cluster,
    EnergyPlan,
    FileRef,
    Gate,
    InputFile,
    Job,
    ModelRef,
    RuntimeOptions,
    Schedule,
    Sensor,
    Work,
)
from device_agents.profile import (
    Kernel,
    OperatorPass,
    Outputs,
    OutputValues,
    Profile,
    Round,
    TensorInfo,
    Told,
)

__all__ = [
    "BATTERY",
    "BOUNDARIES",
    "BUSY",
    "CORE",
    "DC_INPUT",
    "DONE",
    "EMULATED",
    "ENERGY",
    "ENERGY_PASS",
    "EXTERNAL",
    "IDLE",
    "INTERRUPTED",
    "LATENCY",
    "MARK",
    "MAX_REPLY_BYTES",
    "MAX_REQUEST_BYTES",
    "MEASURED",
    "MODULE",
    "OPERATORS",
    "OUTPUTS",
    "POWER",
    "PROTOCOL",
    "REPLIES",
    "REQUESTS",
    "RUNNING",
    "SIMULATED",
    "SOC_RAILS",
    "UNSTATED",
    "WAITING",
    "WALL",
    "Adopt",
    "Board",
    "Claim",
    "ClockCap",
    "ClockPolicy",
    "ClockReading",
    "Clocks",
    "Cluster",
    "Conditions",
    "Cpu",
    "Discard",
    "Energy",
    "EnergyPass",
    "EnergyPlan",
    "EnergyWindow",
    "FileRef",
    "FilesMissing",
    "FilesWanted",
    "Follow",
    "Gate",
    "GateOutcome",
    "Hello",
    "Holder",
    "InputFile",
    "Job",
    "Kernel",
    "Lease",
    "MachineInfo",
    "Measure",
    "MeterInfo",
    "Meters",
    "ModelRef",
    "Nothing",
    "OperatorPass",
    "OutputValues",
    "Outputs",
    "PowerTrace",
    "Profile",
    "Progress",
    "Refused",
    "Release",
    "Reply",
    "Request",
    "Round",
    "RuntimeInfo",
    "RuntimeOptions",
    "Schedule",
    "Sensor",
    "Submit",
    "TensorInfo",
    "Ticket",
    "Tickets",
    "Told",
    "Topology",
    "TopologyWanted",
    "WireError",
    "Work",
    "decode_request",
    "encode",
]

# Raised whenever an old peer could misread a new one; agents are pushed by content, so both ends agree in practice.
PROTOCOL = 3
# A request holds a job at most; a reply may hold 300,000 times of 100,000 kernels, their
# names and shapes, the executed graph and 100,000 latencies (about 35 MB).
MAX_REQUEST_BYTES = 8 * 1024 * 1024
MAX_REPLY_BYTES = 64 * 1024 * 1024

MEASURED, EMULATED, SIMULATED = "measured", "emulated", "simulated"
# The passes of a job, each in a worker of its own; "outputs" is one inference whose values are what is wanted.
LATENCY, OPERATORS, OUTPUTS, ENERGY_PASS = "latency", "operators", "outputs", "energy"
# The states of a ticket. An interrupted one has no result, and nothing on the device will ever make one.
WAITING, RUNNING, DONE, INTERRUPTED = "waiting", "running", "done", "interrupted"


@dataclass(frozen=True)
class RuntimeInfo:
    """A runtime as seen by the Python that runs the agent; `reason` says why it cannot be used."""

    name: str
    version: Optional[str]
    reason: Optional[str] = None


@dataclass(frozen=True)
class Hello:
    """The agent's first line."""

    protocol: int
    agent_digest: str
    python: str
    machine: MachineInfo
    runtimes: Tuple[RuntimeInfo, ...]
    cache_dir: str
    free_bytes: int
    user_id: Optional[int] = None
    boot_id: Optional[str] = None


@dataclass(frozen=True)
class Progress:
    """Where a job is: `stage` (gate, load, warm-up, rounds, operators, energy, outputs), `done` of `total` in it.

    The host itself says `upload` in this form, in bytes.
    """

    stage: str
    done: int = 0
    total: int = 0
    remaining_s: Optional[float] = None


@dataclass(frozen=True)
class Refused:
    """A request that could not be carried out. `kind` is stable: see docs/protocol.md."""

    kind: str
    message: str
    advice: str = ""
    detail: str = ""


@dataclass(frozen=True)
class FilesWanted:
    """Request `missing`: which of these does the device not have?"""

    files: Tuple[FileRef, ...]


@dataclass(frozen=True)
class FilesMissing:
    """Reply `missing`: these; put each into `upload_dir`, then ask to adopt it.

    Under its digest as its name, an upload that was interrupted goes on where it stopped: `partial_bytes` of them are
    there already.
    """

    missing: Tuple[str, ...]
    upload_dir: str
    free_bytes: int
    partial_bytes: int = 0


@dataclass(frozen=True)
class Adopt:
    """Request `adopt`: verify the uploaded file against its sha256 and keep it, or remove it and refuse."""

    upload: str
    file: FileRef


@dataclass(frozen=True)
class Claim:
    """Who wants the device, and for how long: nobody else measures on it before this session ends or its time is over.

    `owner` and `purpose` are for people; `session` tells the requests of one campaign from those of another.
    """

    owner: str
    purpose: str
    session: str
    valid_s: float


@dataclass(frozen=True)
class Measure:
    """Requests `profile` and `energy` (that pass alone): measure now, for as long as this link lasts."""

    job: Job
    claim: Claim


@dataclass(frozen=True)
class Submit:
    """Request `submit`: measure this, whatever becomes of the link, and keep the result under the ticket.

    The host chooses the ticket; one that is there already is left as it is. The keeper stays for `linger_s` when it has
    nothing to do and hears nothing, so that the next job of the session finds the device still its own.
    """

    ticket: str
    job: Job
    claim: Claim
    label: str = ""
    linger_s: float = 0.0


@dataclass(frozen=True)
class Follow:
    """Request `follow`: the progress of a ticket, then its result, which stays until it is discarded.

    A keeper that does not answer for `silence_s` is taken for frozen.
    """

    ticket: str
    silence_s: float = 30.0


@dataclass(frozen=True)
class Discard:
    """Request `discard`: end the ticket's job if it runs, and remove all of it."""

    ticket: str


@dataclass(frozen=True)
class Release:
    """Request `release`: the session is over; its keeper ends when its queue is empty. Other sessions stay."""

    session: str


@dataclass(frozen=True)
class Lease:
    """Who has the device, as the lease file has it: anybody may have written there.

    `since_s` is wall-clock time of the device; `expires_in_s` is None where the record cannot be read. `number` counts
    the holders.
    """

    owner: str
    purpose: str
    since_s: Optional[float]
    expires_in_s: Optional[float]
    number: int
    pid: int
    is_expired: bool


@dataclass(frozen=True)
class Holder:
    """Replies `lease` and `unlocked`: who has (or had) the device, None for nobody."""

    lease: Optional[Lease]


@dataclass(frozen=True)
class Ticket:
    """A job in the device's spool. What the spool cannot tell is None: its order may be damaged.

    `boot_id` is that of the boot in which it was submitted, `submitted_at_s` the device's wall-clock time.
    """

    ticket: str
    state: str
    label: str = ""
    owner: str = ""
    boot_id: Optional[str] = None
    submitted_at_s: Optional[float] = None
    model_name: Optional[str] = None
    model_digest: Optional[str] = None
    runtime: Optional[str] = None
    progress: Optional[Progress] = None


@dataclass(frozen=True)
class Tickets:
    """Reply `tickets`: everything in the spool, and who has the device."""

    tickets: Tuple[Ticket, ...]
    lease: Optional[Lease]
    boot_id: Optional[str]


@dataclass(frozen=True)
class TopologyWanted:
    """Request `topology`: of this device, or of the `board` that it simulates."""

    board: Optional[Board] = None


@dataclass(frozen=True)
class Nothing:
    """The body of requests and replies that need none (ping, adopted, discarded and others)."""


REQUESTS: Dict[str, Type[Any]] = {
    "ping": Nothing,
    "conditions": Nothing,
    "missing": FilesWanted,
    "adopt": Adopt,
    "profile": Measure,
    "energy": Measure,
    "meters": Nothing,
    "topology": TopologyWanted,
    "outputs": Job,
    "submit": Submit,
    "tickets": Nothing,
    "follow": Follow,
    "discard": Discard,
    "release": Release,
    "lease": Nothing,
    "unlock": Nothing,
}
REPLIES: Dict[str, Type[Any]] = {
    "hello": Hello,
    "pong": ClockReading,
    "conditions": Conditions,
    "missing": FilesMissing,
    "adopted": Nothing,
    "progress": Progress,
    "profile": Profile,
    "energy": Energy,
    "meters": Meters,
    "topology": Topology,
    "outputs": Outputs,
    "submitted": Ticket,
    "tickets": Tickets,
    "discarded": Nothing,
    "released": Nothing,
    "lease": Holder,
    "unlocked": Holder,
    "refused": Refused,
}


@dataclass(frozen=True)
class Request:
    id: int
    request: str
    body: Any


@dataclass(frozen=True)
class Reply:
    id: int
    reply: str
    body: Any


# --- lines ---------------------------------------------------------------------------------------------------------


def encode(message: Union[Request, Reply]) -> bytes:
    """One line, newline included. Raises ValueError on NaN or infinity: they are not JSON."""
    return json.dumps(dataclasses.asdict(message), allow_nan=False, separators=(",", ":")).encode() + b"\n"


def decode_request(line: bytes) -> Request:
    """Read one request line on the device.

    Raises:
        WireError: the line is not JSON, not a known request, or its body has a wrong shape.
    """
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("id"), int) or raw.get("request") not in REQUESTS:
        raise WireError("not a request: expected an object with a whole-number id and one of " + ", ".join(REQUESTS))
    return Request(raw["id"], raw["request"], build(REQUESTS[raw["request"]], raw.get("body"), "$"))
