"""Who has the device: a lease on a file, held by flock, so that the kernel releases it when its holder dies.

The file tells people and takers who that is; the lock alone decides. Times are those of CLOCK_BOOTTIME, which no change
of the wall clock moves. A holder that outlives its lease ends itself. One that cannot (it is frozen) is killed by the
next taker, or loses the file to a new one: `HeldLease.is_mine` tells it before it writes a result.
"""

import contextlib
import dataclasses
import fcntl
import json
import math
import os
import secrets
import signal
import stat
import time
from dataclasses import dataclass
from typing import Optional

from device_agents import files
from device_agents.decoding import WireError, build
from device_agents.wire import Claim, Lease

# Folders in which every account of a device can find the same file.
SHARED_FOLDERS = ("/run/lock", "/tmp")  # noqa: S108 - opened with care for what others put there, see _open
NAME = "edgeprof.lease"
RECORD_BYTES = 2048
TEXT_CHARACTERS = 100
# Whoever just looks holds the lock for an instant; a killed holder's workers take a moment to die.
LOOKING_S, DYING_S, POLL_S = 0.3, 3.0, 0.01
OPEN_TRIES = 10


class LeaseError(Exception):
    """The device cannot be had. `kind` is the stable code that travels in `Refused`: leased, or device-error."""

    def __init__(self, kind: str, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.advice = advice


@dataclass(frozen=True)
class Record:
    """What the file says. `pid_started` is the start time of process `pid` in clock ticks, so that it is no other."""

    owner: str
    purpose: str
    session: str
    number: int
    since_s: float
    expires_boot_s: float
    boot_id: Optional[str]
    pid: int
    pid_started: int


class HeldLease:
    """The lease while this process holds it; `descriptor` may be inherited by what measures."""

    def __init__(self, path: str, descriptor: int, record: Record) -> None:
        self.descriptor = descriptor
        self.record = record
        self._path = path

    @property
    def expires_in_s(self) -> float:
        return self.record.expires_boot_s - boot_s()

    def is_mine(self) -> bool:
        """Whether the file is still the one that we hold: a result may be kept only then."""
        if not _is_at(self._path, self.descriptor):
            return False
        written = _read(self.descriptor)
        # Anybody may have written nonsense there, but nobody else can have the lock of this very file.
        return written is None or written.number == self.record.number

    def is_of(self, session: str) -> bool:
        return self.record.session == session[:TEXT_CHARACTERS]

    def extend(self, claim: Claim) -> None:
        """Let it last as long as a further claim of the same session asks for.

        Raises:
            LeaseError: leased; it is another session's.
        """
        if not self.is_of(claim.session):
            raise _leased(_described(self.record))
        until = max(self.record.expires_boot_s, boot_s() + claim.valid_s)
        self.record = dataclasses.replace(self.record, expires_boot_s=until)
        _write(self.descriptor, self.record)

    def release(self) -> None:
        """Give it up; workers that still have the descriptor hold on to it until they end."""
        os.close(self.descriptor)


def lease_path(slot: str) -> str:
    """The file for a slot: one for the whole device, whatever the account, or one of a simulated board's own.

    `EDGEPROF_LEASE` names another folder, for machines that share their folders for temporary files.
    """
    chosen = os.environ.get("EDGEPROF_LEASE")
    if slot:
        return os.path.join(files.folder(os.path.join("spool", "slots", slot)), "lease")
    if chosen:
        return os.path.join(chosen, NAME)
    shared = next((folder for folder in SHARED_FOLDERS if _is_for_everybody(folder)), None)
    return os.path.join(shared or files.folder("spool"), NAME)


def acquire(path: str, claim: Claim) -> HeldLease:
    """Take the lease; from a holder whose time is over, too.

    Raises:
        LeaseError: leased, to whom; or the file cannot be used.
    """
    descriptor = _open_locked(path, LOOKING_S)
    if descriptor is None:
        lease = holder(path)
        if lease is not None and not lease.is_expired:
            raise _leased(lease)
        _throw_out(path, may_replace=True)
        descriptor = _open_locked(path, LOOKING_S)
    if descriptor is None:
        raise _leased(holder(path))
    last = _read(descriptor)
    record = Record(
        owner=claim.owner[:TEXT_CHARACTERS],
        purpose=claim.purpose[:TEXT_CHARACTERS],
        session=claim.session[:TEXT_CHARACTERS],
        number=last.number + 1 if last is not None else 1,
        since_s=time.time(),
        expires_boot_s=boot_s() + claim.valid_s,
        boot_id=boot_id(),
        pid=os.getpid(),
        pid_started=_started(os.getpid()) or 0,
    )
    try:
        _write(descriptor, record)
    except OSError as error:
        os.close(descriptor)
        raise LeaseError("device-error", f"cannot write {path}: {error.strerror}", "make room there") from error
    return HeldLease(path, descriptor, record)


def holder(path: str) -> Optional[Lease]:
    """Who has it now; None for nobody.

    Raises:
        LeaseError: the file cannot be used.
    """
    if not os.path.lexists(path):
        return None
    descriptor = _open(path)
    try:
        if _lock(descriptor):
            return None
        return _described(_read(descriptor))
    finally:
        os.close(descriptor)


def unlock(path: str) -> Optional[Lease]:
    """Throw out whoever has it, by killing what measures; who that was.

    Raises:
        LeaseError: it is somebody whom we may not kill.
    """
    lease = holder(path)
    if lease is not None:
        _throw_out(path, may_replace=False)
    return lease


def boot_s() -> float:
    """Seconds since boot, those of suspension included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> Optional[str]:
    """What tells one boot of the device from another; None where the kernel does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read(64).strip() or None
    except (OSError, ValueError):
        return None


def _is_for_everybody(folder: str) -> bool:
    try:
        mode = os.stat(folder).st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) and bool(mode & stat.S_ISVTX) and bool(mode & stat.S_IWOTH)


def _open(path: str) -> int:
    """The file, made if it is not there. It lies where others may put links, pipes and files of their own."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    for _ in range(OPEN_TRIES):
        try:
            # Never O_CREAT on a file that exists: fs.protected_regular forbids it on another account's.
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                _make(path, flags)
            continue
        except OSError as error:
            raise LeaseError("device-error", f"cannot open {path}: {error.strerror}", f"remove {path}") from error
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            return descriptor
        os.close(descriptor)
        if status.st_nlink:  # none: it was replaced this instant
            break
    raise LeaseError("device-error", f"{path} is not a plain file of its own", f"remove {path}")


def _make(path: str, flags: int) -> None:
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            os.fchmod(descriptor, 0o666)  # whatever the umask says: every account must be able to take it
        finally:
            os.close(descriptor)
    except FileExistsError:
        raise
    except OSError as error:
        raise LeaseError("device-error", f"cannot make {path}: {error.strerror}", "mend its folder") from error


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open_locked(path: str, patience_s: float) -> Optional[int]:
    """The descriptor of the file at `path`, locked; None if another has it for longer than `patience_s`."""
    until = time.monotonic() + patience_s
    while True:
        descriptor = _open(path)
        if _lock(descriptor):
            if _is_at(path, descriptor):
                return descriptor
        elif time.monotonic() >= until:
            os.close(descriptor)
            return None
        os.close(descriptor)
        time.sleep(POLL_S)


def _is_at(path: str, descriptor: int) -> bool:
    try:
        there = os.lstat(path)
    except OSError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


def _read(descriptor: int) -> Optional[Record]:
    """What stands there, if it makes sense: anybody may have written it."""
    try:
        record = build(Record, json.loads(os.pread(descriptor, RECORD_BYTES, 0)), "$")
    except (OSError, ValueError, OverflowError, RecursionError, WireError):
        return None
    is_sound = record.pid > 1 and record.number > 0 and 0 <= record.since_s < 1e11 and record.expires_boot_s < 1e11
    return record if is_sound else None


def _write(descriptor: int, record: Record) -> None:
    # One write of one size: no reader sees half of it, and what was longer before leaves no rest.
    text = json.dumps(dataclasses.asdict(record))
    os.pwrite(descriptor, text.encode().ljust(RECORD_BYTES), 0)


def _described(record: Optional[Record]) -> Lease:
    if record is None:
        return Lease("somebody", "a reason that cannot be read", None, None, 0, 0, is_expired=False)
    is_of_this_boot = record.boot_id == boot_id()
    left_s = record.expires_boot_s - boot_s() if is_of_this_boot else None
    return Lease(
        owner=_printable(record.owner),
        purpose=_printable(record.purpose),
        since_s=record.since_s,
        expires_in_s=left_s,
        number=record.number,
        pid=record.pid,
        is_expired=left_s is not None and left_s <= 0,
    )


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:TEXT_CHARACTERS])


def _leased(lease: Optional[Lease]) -> LeaseError:
    if lease is None:
        return LeaseError("leased", "another session took the device this instant", "try again")
    since = time.strftime(" since %Y-%m-%d %H:%M:%S UTC", time.gmtime(lease.since_s)) if lease.since_s else ""
    left_s = lease.expires_in_s
    left = "" if left_s is None else f", for {math.ceil(max(0.0, left_s))} s more at most"
    return LeaseError("leased", f"{lease.owner} has the device for {lease.purpose}{since}{left}")


def _throw_out(path: str, *, may_replace: bool) -> None:
    """Kill the holder; the file is replaced where it does not die, or where `may_replace` and we may not kill it."""
    descriptor = _open(path)
    try:
        if _lock(descriptor):
            return
        record = _read(descriptor)
        number = record.number if record is not None else 0
        try:
            if record is not None and _is_holder(record, descriptor):
                _kill(record.pid)
        except PermissionError as error:
            if not may_replace:
                who = _described(record)
                raise LeaseError(
                    "no-permission",
                    f"{who.owner} has the device for {who.purpose} under another account (process {who.pid})",
                    "log in as that user, or as root",
                ) from error
        until = time.monotonic() + DYING_S
        while not _lock(descriptor):
            if time.monotonic() >= until:
                _replace(path, descriptor, number)
                return
            time.sleep(POLL_S)
    finally:
        os.close(descriptor)


def _is_holder(record: Record, descriptor: int) -> bool:
    """Whether the process named in the file really has the file open: a forged record must not kill another.

    Raises:
        PermissionError: it belongs to another account.
    """
    if record.pid == os.getpid() or _started(record.pid) != record.pid_started:
        return False
    ours = os.fstat(descriptor)
    folder = f"/proc/{record.pid}/fd"
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(f"{folder}/{name}"), ours):
                return True
    return False


def _kill(pid: int) -> None:
    """Kill a holder, with its group if it leads one; its workers go with it (see worker.py)."""
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)


def _started(pid: int) -> Optional[int]:
    """When a process started, in clock ticks since boot; None if there is none."""
    try:
        # By way of its task: qemu-user answers /proc/PID/stat itself where PID is our own, without a start time.
        with open(f"/proc/{pid}/task/{pid}/stat", "rb") as file:
            return int(file.read(4096).rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _replace(path: str, descriptor: int, number: int) -> None:
    """Put a new file in the place of one whose holder neither lives by the rules nor dies."""
    if not _is_at(path, descriptor):
        return
    fresh = f"{path}.{secrets.token_hex(4)}"
    try:
        _make(fresh, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fresh, "r+b") as file:
            _write(file.fileno(), Record("nobody", "", "", max(1, number), 0.0, 0.0, None, os.getpid(), 0))
        os.rename(fresh, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.remove(fresh)
        raise LeaseError("no-permission", f"{path} cannot be replaced: {error.strerror}", f"remove {path}") from error
