"""Cap the clocks of a device for one job, so that they are as before however the job ends.

What is about to be changed is written down first (clock_record.py), then a guard is started that survives the agent
(clock_guard.py), and only then a limit is lowered. A limit is only ever lowered: one that is below the cap stays.
"""

import contextlib
import errno
import json
import math
import os
import pwd
import select
import subprocess
import time
from typing import List, Optional, Sequence, Tuple

from device_agents import files
from device_agents.clock_guard import READY
from device_agents.clock_record import (
    Change,
    HeldRecord,
    is_any_held,
    is_held_by_heat,
    keep,
    put_back_leftovers,
    read_limit_khz,
    settled_khz,
)
from device_agents.machine import Machine
from device_agents.topology import CPUFREQ, limit_file, read_policies
from device_agents.wire import ClockCap, ClockPolicy

# A guard is a Python: a slow board under load takes its time to start one, and to put things back with it.
START_S, END_S = 20.0, 15.0
# A guard that hears nothing puts the clocks back so long after the job's deadline.
MARGIN_S = 15.0
# Clocks are told in kHz, and typed with fewer digits.
ROUNDING = 1.001
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
POLL_S = 0.05


class ClockError(Exception):
    """The clocks cannot be capped. `kind` travels in `Refused`: bad-option, no-permission or clock-not-set."""

    def __init__(self, kind: str, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.advice = advice


class CappedClocks:
    """The caps of one job, from `apply` until `close`, which puts everything back.

    `program` is the Python and the archive that the guard runs. It inherits `lease_descriptor`, and waits no longer
    than `patience_s`. `in_force` says in words what the limits are; `notes` what is worth knowing of putting them back.
    """

    def __init__(
        self, machine: Machine, program: Sequence[str], lease_descriptor: Optional[int], patience_s: float
    ) -> None:
        self.in_force = ""
        self.notes: List[str] = []
        self._machine = machine
        self._program = list(program)
        self._lease_descriptor = lease_descriptor
        self._patience_s = patience_s
        self._limits: List[Tuple[str, int]] = []
        self._record: Optional[HeldRecord] = None
        self._guard: Optional[subprocess.Popen[bytes]] = None

    def apply(self, caps: Sequence[ClockCap]) -> None:
        """Lower the limits; what was done before an error is undone by `close`.

        Raises:
            ClockError: a cap makes no sense here, may not be set, or was not taken.
        """
        self._wait_for_others()
        planned = plan(self._machine, caps)
        changes = tuple(change for change in planned if change.limit_khz < change.before_khz)
        if changes:
            self._record = _kept(changes)
            self._start_guard(self._record)
            found = tuple(_set(self._machine, change) for change in changes)
            self._write_down(self._record, found)
            planned = tuple({change.policy: change for change in (*planned, *found)}.values())
        self._limits = [(change.policy, _limit_khz(change)) for change in planned]
        self.in_force = ", ".join(f"{policy}: {khz / 1000:.0f} MHz" for policy, khz in self._limits)

    def what_changed(self) -> Optional[str]:
        """What is no longer as `apply` left it; None if all is. That heat lowers a limit further is no change of it."""
        for policy, limit_khz in self._limits:
            try:
                now_khz = read_limit_khz(self._machine, policy)
            except (OSError, ValueError) as error:
                return f"the limit of {policy} can no longer be read: {error}"
            if now_khz > limit_khz or (now_khz < limit_khz and not is_held_by_heat(self._machine)):
                return f"the limit of {policy} was set from {_mhz(limit_khz)} to {_mhz(now_khz)} during the job"
        return None

    def close(self) -> None:
        """Put every limit back; safe to call twice."""
        guard, self._guard = self._guard, None
        if guard is not None:
            self.notes += _dismissed(guard)
        record, self._record = self._record, None
        if record is not None:
            self.notes += record.put_back(self._machine)  # what a guard did not live to do
            record.close()

    def _wait_for_others(self) -> None:
        """Clean up after those that were killed; a guard that is about to put a limit back takes a moment."""
        until_s = time.monotonic() + END_S
        notes = put_back_leftovers(self._machine)
        while is_any_held():
            if time.monotonic() >= until_s:
                told = "; ".join(notes) or "another job has capped the clocks of this device, and has not ended"
                raise ClockError("clock-not-set", told, f"see {os.path.join(files.cache_dir(), 'clocks')} there")
            self._machine.sleep(POLL_S)
            notes = put_back_leftovers(self._machine)

    def _start_guard(self, record: HeldRecord) -> None:
        python, *archive = self._program
        inherited = [record.descriptor] + ([] if self._lease_descriptor is None else [self._lease_descriptor])
        arguments = ["guard", record.path, str(record.descriptor), f"{self._patience_s:.3f}"]
        try:
            self._guard = subprocess.Popen(
                [python, "-S", *archive, *arguments],  # without site-packages, which it has no use for
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                pass_fds=inherited,
            )
            said = _line(self._guard, START_S)
        except (OSError, ValueError) as error:
            said, why = None, str(error)
        else:
            why = "it did not say that it was ready"
        if said != READY:
            message = f"the process that puts the clocks back could not be started: {why}"
            raise ClockError("clock-not-set", message, "nothing was changed; is the device very busy?")

    def _write_down(self, record: HeldRecord, changes: Tuple[Change, ...]) -> None:
        try:
            record.write(changes)
        except OSError as error:
            raise ClockError("clock-not-set", f"cannot write {record.path}: {error.strerror}") from error


def plan(machine: Machine, caps: Sequence[ClockCap]) -> Tuple[Change, ...]:
    """The limit that each cap comes to: the highest step of its policy that is not above it.

    Raises:
        ClockError: a cap makes no sense here, or cannot be set.
    """
    names = [cap.policy for cap in caps]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ClockError("bad-option", f"two caps are given for the clock of {twice}", "give one for each policy")
    policies = {policy.name: policy for policy in read_policies(machine)}
    for cap in caps:
        if cap.policy not in policies:
            known = "this device has " + ", ".join(policies)
            none = f"its kernel does not manage the clocks: there is no policy under {CPUFREQ}"
            message = f"there is no clock policy {cap.policy[:100]!r} on this device"
            raise ClockError("bad-option", message, known if policies else none)
    return tuple(_change(machine, policies[cap.policy], cap) for cap in caps)


def _change(machine: Machine, policy: ClockPolicy, cap: ClockCap) -> Change:
    limit_khz = step_khz(policy, cap)
    if policy.max_hz is None:
        raise ClockError("clock-not-set", f"{limit_file(policy.name)} cannot be read")
    before_khz = round(policy.max_hz / 1e3)
    if policy.hardware_max_hz and policy.max_hz < policy.hardware_max_hz and is_held_by_heat(machine):
        raise ClockError(
            "clock-not-set",
            f"heat holds the clock of {policy.name} down to {_mhz(before_khz)}: what its limit is without that cannot "
            "be told, and so not put back",
            "let the device cool, and measure again",
        )
    if before_khz <= limit_khz:
        return Change(policy.name, before_khz, before_khz)
    if policy.min_hz is not None and policy.min_hz > limit_khz * 1e3:
        raise ClockError(
            "clock-not-set",
            f"the clock of {policy.name} is held at {policy.min_hz / 1e6:.0f} MHz or more (scaling_min_freq), above "
            f"the {_mhz(limit_khz)} of the cap",
            f"lower {CPUFREQ}/{policy.name}/scaling_min_freq first",
        )
    if not policy.settable:
        raise _not_allowed(policy.name, policy.not_settable or "it may not be set")
    return Change(policy.name, before_khz, limit_khz)


def step_khz(policy: ClockPolicy, cap: ClockCap) -> int:
    """The highest clock of a policy that is not above the cap.

    Raises:
        ClockError: bad-option; the policy has none, or never goes as high as the cap.
    """
    steps_hz = policy.clocks_hz
    if not (math.isfinite(cap.max_hz) and cap.max_hz > 0):
        raise ClockError("bad-option", f"the clock of {policy.name} cannot be capped at {cap.max_hz:g} Hz")
    asked = f"the clock of {policy.name} cannot be capped at {cap.max_hz / 1e6:g} MHz"
    if policy.hardware_max_hz and cap.max_hz > policy.hardware_max_hz * ROUNDING:
        highest = f"it goes no higher than {policy.hardware_max_hz / 1e6:.0f} MHz"
        raise ClockError("bad-option", f"{asked}: {highest}", "name a lower clock, or none")
    if not steps_hz:
        return round(cap.max_hz / 1e3)
    below = [step for step in steps_hz if step <= cap.max_hz * ROUNDING]
    if not below:
        steps = ", ".join(f"{step / 1e6:.0f}" for step in steps_hz)
        raise ClockError("bad-option", f"{asked}: it goes no lower than {steps_hz[0] / 1e6:.0f} MHz", f"MHz: {steps}")
    return round(max(below) / 1e3)


def _kept(changes: Tuple[Change, ...]) -> HeldRecord:
    try:
        return keep(changes)
    except (OSError, files.FileError) as error:
        message = f"what the clocks were cannot be written down, so nothing was changed: {error}"
        raise ClockError("clock-not-set", message, f"make room in {files.cache_dir()}") from error


def _set(machine: Machine, change: Change) -> Change:
    """Lower one limit, and look what the kernel makes of it: a driver may round it, but never above the cap."""
    try:
        machine.write(limit_file(change.policy), str(change.limit_khz))
        found_khz = settled_khz(machine, change.policy, change.limit_khz * ROUNDING)
    except OSError as error:
        if error.errno in NOT_ALLOWED:
            raise _not_allowed(change.policy, f"{limit_file(change.policy)}: {error.strerror}") from error
        message = f"the clock of {change.policy} cannot be capped: {error.strerror}"
        raise ClockError("clock-not-set", message, "see `dmesg` on the device") from error
    except ValueError as error:
        raise ClockError("clock-not-set", f"{limit_file(change.policy)} cannot be read: {error}") from error
    if found_khz > change.limit_khz * ROUNDING:
        raise ClockError(
            "clock-not-set",
            f"the clock of {change.policy} was to be capped at {_mhz(change.limit_khz)}, but its limit is "
            f"{_mhz(found_khz)} after that",
            "another program on the device sets it, too: stop that, or measure without a cap",
        )
    return Change(change.policy, change.before_khz, change.limit_khz, found_khz)


def _not_allowed(policy: str, why: str) -> ClockError:
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return ClockError(
        "no-permission",
        f"the account {user} may not cap the clock of {policy}: {why}",
        f"let it, there: sudo chown {user} {limit_file(policy)} (until the next start; docs/how-to/clocks.md)",
    )


def _dismissed(guard: "subprocess.Popen[bytes]") -> List[str]:
    """Have the guard do its work and end; what it has to say. One that does not end is killed."""
    if guard.stdin is not None:
        with contextlib.suppress(OSError):
            guard.stdin.close()
    try:
        guard.wait(END_S)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()
    notes: List[str] = []
    if guard.stdout is not None:
        with contextlib.suppress(OSError, ValueError):
            lines = guard.stdout.read().splitlines()
            notes += json.loads(lines[-1]) if lines and lines[-1].startswith(b"[") else []
        guard.stdout.close()
    return notes


def _line(process: "subprocess.Popen[bytes]", patience_s: float) -> Optional[str]:
    """What it says first; None if that takes too long, or it says nothing.

    Raises:
        ValueError: it is no JSON.
    """
    if process.stdout is None or not select.select([process.stdout], [], [], patience_s)[0]:
        return None
    line = process.stdout.readline()
    said = json.loads(line) if line else None
    return said if isinstance(said, str) else None


def _limit_khz(change: Change) -> int:
    return change.limit_khz if change.found_khz is None else change.found_khz


def _mhz(khz: int) -> str:
    return f"{khz / 1000:.0f} MHz"
