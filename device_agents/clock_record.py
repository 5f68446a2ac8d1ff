"""What the limits of clocks were before a job changed them: written down before anything is changed, then put back.

A record is a file in the agent's cache. It is locked (flock) for as long as a process lives that will put the limits
back: the agent that runs the job, or its guard (clock_guard.py). Whoever starts next and finds one that nobody holds
puts back what it says. After a restart there is nothing to put back: the kernel has forgotten the limits, too.

The kernel keeps one limit for each who asks, and shows the lowest of them (kernel: power/pm_qos_interface). What is
written to scaling_max_freq is the user's; while heat holds a clock down its own is shown, and the user's is there all
the same. What is written is shown some moments later: a work queue does the rest (drivers/cpufreq/cpufreq.c,
cpufreq_notifier_max).
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
from dataclasses import dataclass
from typing import List, Optional, Tuple

from device_agents import files
from device_agents.decoding import WireError, build
from device_agents.lease import boot_id
from device_agents.machine import Machine
from device_agents.topology import limit_file

FOLDER = "clocks"
FRESH = ".new-"
# Room for a policy for each CPU of a large server; always written whole, so that nobody reads half a record.
RECORD_BYTES = 65_536
THERMAL = "/sys/class/thermal"
# Cooling devices that lower clocks, by their types' beginnings (drivers/thermal/cpufreq_cooling.c, ACPI's processor).
CLOCK_COOLERS = ("cpufreq", "thermal-cpufreq", "Processor")
# How long the kernel may take to show what was asked of it, even on a busy board.
TRIES, AGAIN_S = 60, 0.1


@dataclass(frozen=True)
class Change:
    """A policy's limit: what it was, what was written in its place, and what the kernel made of that, once known."""

    policy: str
    before_khz: int
    limit_khz: int
    found_khz: Optional[int] = None


@dataclass(frozen=True)
class Record:
    """The changes of one job, in one boot."""

    boot_id: Optional[str]
    changes: Tuple[Change, ...]


class HeldRecord:
    """A record that this process holds; `descriptor` has the lock, and shares it with whoever inherits it."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    def write(self, changes: Tuple[Change, ...]) -> None:
        """Have it say this.

        Raises:
            OSError: the disk does not take it.
        """
        text = json.dumps(dataclasses.asdict(Record(boot_id(), changes)))
        os.pwrite(self.descriptor, text.encode().ljust(RECORD_BYTES), 0)
        os.fsync(self.descriptor)

    def read(self) -> Optional[Record]:
        """What it says; None if that makes no sense."""
        try:
            return build(Record, json.loads(os.pread(self.descriptor, RECORD_BYTES, 0)), "$")
        except (OSError, ValueError, OverflowError, RecursionError, WireError):
            return None

    def is_there(self) -> bool:
        """Whether the file is still in its place: it is removed once all is as it was."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self.descriptor))
        except OSError:
            return False

    def put_back(self, machine: Machine) -> List[str]:
        """Have every limit be what it was, and remove the record; what could not be, or was left to others, and why."""
        if not self.is_there():
            return []
        record = self.read()
        notes: List[str] = []
        is_done = True
        for change in record.changes if record is not None and record.boot_id == boot_id() else ():
            try:
                notes += _put_back(machine, change)
            except FileNotFoundError:
                continue  # its driver has gone, and the limit with it
            except (OSError, ValueError) as error:
                is_done = False
                notes.append(
                    f"the limit of {change.policy} could not be set back to {_mhz(change.before_khz)}: {error}; "
                    "it is tried again when an agent starts there"
                )
        if is_done:
            with contextlib.suppress(OSError):
                os.remove(self.path)
        return notes

    def close(self) -> None:
        os.close(self.descriptor)


def keep(changes: Tuple[Change, ...]) -> HeldRecord:
    """Write down what is about to be changed: there as a whole or not at all, and locked before anybody can see it.

    Raises:
        OSError, FileError: it cannot be kept.
    """
    base = files.folder(FOLDER)
    name = secrets.token_hex(8)
    fresh = os.path.join(base, FRESH + name)
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    held = HeldRecord(os.path.join(base, name), descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.write(changes)
        os.rename(fresh, held.path)
        _sync_folder(base)
    except OSError:
        for path in (fresh, held.path):
            with contextlib.suppress(OSError):
                os.remove(path)
        held.close()
        raise
    return held


def put_back_leftovers(machine: Machine) -> List[str]:
    """Put back what agents and guards that were killed have left changed; what could not be, and why."""
    notes: List[str] = []
    for name in _names():
        held = _take(os.path.join(_folder(), name))
        if held is None:
            continue
        try:
            if name.startswith(FRESH):  # nothing was changed yet
                os.remove(held.path)
            else:
                notes += held.put_back(machine)
        except OSError as error:
            notes.append(f"{held.path}: {error.strerror}")
        finally:
            held.close()
    return notes


def is_any_held() -> bool:
    """Whether there are records: after `put_back_leftovers`, of limits that somebody else is about to put back."""
    return any(not name.startswith(FRESH) for name in _names())


def read_limit_khz(machine: Machine, policy: str) -> int:
    """The highest clock that a policy may have now.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    return int(machine.read(limit_file(policy)))


def settled_khz(machine: Machine, policy: str, most_khz: float) -> int:
    """The limit of a policy once it is at most this; what it is in the end if it does not come down.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    now_khz = read_limit_khz(machine, policy)
    for _ in range(TRIES):
        if now_khz <= most_khz:
            break
        machine.sleep(AGAIN_S)
        now_khz = read_limit_khz(machine, policy)
    return now_khz


def is_held_by_heat(machine: Machine) -> bool:
    """Whether the kernel holds clocks down because of heat: limits that are read are not the user's then."""
    for name in machine.list(THERMAL):
        if name.startswith("cooling_device"):
            with contextlib.suppress(OSError, ValueError):
                is_of_clocks = machine.read(f"{THERMAL}/{name}/type").startswith(CLOCK_COOLERS)
                if is_of_clocks and int(machine.read(f"{THERMAL}/{name}/cur_state")) > 0:
                    return True
    return False


def _put_back(machine: Machine, change: Change) -> List[str]:
    is_written, now_khz = False, 0
    for attempt in range(TRIES):
        if attempt > 1:
            machine.sleep(AGAIN_S)
        now_khz = read_limit_khz(machine, change.policy)
        is_hot = is_held_by_heat(machine)
        if now_khz == change.before_khz and (is_written or change.found_khz is not None):
            return []
        if is_written and now_khz < change.before_khz and is_hot:
            return []
        if not is_written and _is_ours(now_khz, change, is_hot=is_hot):
            machine.write(limit_file(change.policy), str(change.before_khz))
            is_written = True
    if is_written:
        raise ValueError(f"it reads {_mhz(now_khz)} all the same")
    return [
        f"somebody else set the limit of {change.policy} to {_mhz(now_khz)} meanwhile, from our "
        f"{_mhz(change.limit_khz)}: it was left so (before, it was {_mhz(change.before_khz)})"
    ]


def _is_ours(now_khz: int, change: Change, *, is_hot: bool) -> bool:
    if change.found_khz is None:  # killed between writing and looking: ours may still be on its way
        return now_khz <= change.before_khz
    return now_khz in (change.limit_khz, change.found_khz) or (is_hot and now_khz < change.limit_khz)


def _take(path: str) -> Optional[HeldRecord]:
    """The record, held by us; None if another holds it, or it has gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    held = HeldRecord(path, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.close()
        return None
    if held.is_there():
        return held
    held.close()
    return None


def _folder() -> str:
    return os.path.join(files.cache_dir(), FOLDER)


def _names() -> List[str]:
    try:
        return sorted(os.listdir(_folder()))
    except OSError:
        return []


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mhz(khz: int) -> str:
    return f"{khz / 1000:.0f} MHz"
