"""What the recorded conditions say about clocks that were held down: firmware bits, cpufreq, time in state."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from device_agents.wire import Clocks, Conditions, Profile

__all__ = ["PI_BITS", "clock_notes", "held_down", "operator_throttling", "throttle_reasons"]

# Raspberry Pi documentation, vcgencmd get_throttled; bit n + 16 says the same of any time since boot.
PI_BITS = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}
SINCE_BOOT = 16
UNDER_VOLTAGE = 0b1

CLOCK_SHARE = 0.90
LOW_STATE_SHARE = 0.05
# cpufreq counts time in state in steps of 10 ms.
MIN_STATE_TIME_S = 0.2
# Readings of one and the same limit may differ by a rounding of kHz.
SAME_CLOCK = 0.999
# There the maximum is a turbo clock that no load on all cores has to reach (kernel: admin-guide/pm/intel_pstate).
TURBO_ARCHITECTURES = ("x86_64", "amd64", "i686", "i386")

COOL = "cool the device (heat sink, fan), set a lower clock on it that it can sustain, or heat it less: fewer --threads"
SUPPLY = "use the board's own power supply and a short, thick cable"
ROUNDS, OPERATOR_PASS = "the rounds", "the operator pass"


def throttle_reasons(profile: Profile) -> Iterator[tuple[str, str]]:
    """(what was seen, what to do) for everything that shows a clock held down during the rounds."""
    looks = [c for r in profile.rounds for c in (r.before, r.after)]
    yield from _firmware_bits(looks, ROUNDS)
    for policy in _used_policies(profile, looks):
        yield from _lowered_limit(policy, looks, ROUNDS)
        yield from _low_clock(policy, profile)
        yield from _low_states(policy, profile)


def operator_throttling(profile: Profile) -> Iterator[str]:
    """What shows a clock held down during the operator pass: firmware bits, and limits that fell."""
    recorded = profile.operators
    looks = [look for look in (recorded.before, recorded.after) if look is not None] if recorded else []
    yield from (what for what, _ in _firmware_bits(looks, OPERATOR_PASS))
    for policy in _used_policies(profile, looks):
        yield from (what for what, _ in _lowered_limit(policy, looks, OPERATOR_PASS))


def held_down(looks: Sequence[Conditions], when: str) -> Iterator[str]:
    """What shows a clock held down between two or more looks at the device: firmware bits, and limits that fell."""
    yield from (what for what, _ in _firmware_bits(list(looks), when))
    for policy in sorted({clock.cpus for look in looks for clock in look.clocks}):
        yield from (what for what, _ in _lowered_limit(policy, list(looks), when))


def clock_notes(profile: Profile) -> Iterator[str]:
    """What is worth knowing about the clocks, but was so before the run and stayed so."""
    if not profile.rounds:
        return
    first = profile.rounds[0].before
    old = _bit_names((first.throttled or 0) >> SINCE_BOOT)
    if old:
        yield f"since boot, before this run, the firmware saw: {old} (get_throttled {first.throttled:#x})"
    for clock in first.clocks:
        if clock.max_hz and clock.hardware_max_hz and clock.max_hz < SAME_CLOCK * clock.hardware_max_hz:
            limit = f"{_mhz(clock.max_hz)} of {_mhz(clock.hardware_max_hz)}"
            why = "as the job asked (--clock-cap)" if _is_capped(clock, profile) else "before the run began"
            yield f"CPUs {clock.cpus}: the clock was limited to {limit} {why}"


def _firmware_bits(looks: list[Conditions], when: str) -> Iterator[tuple[str, str]]:
    bits = [look.throttled for look in looks if look.throttled is not None]
    if not bits:
        return
    now = fresh = 0
    for value in bits:
        now |= value & 0xF
        fresh |= (value & ~bits[0]) >> SINCE_BOOT & 0xF
    if not (now or fresh):
        return
    text = []
    if now:
        text.append(f"reported {_bit_names(now)}")
    if fresh:
        text.append(f"newly recorded {_bit_names(fresh)}")
    seen = max(bits, key=lambda value: (value & 0xF).bit_count())
    what = f"the firmware {' and '.join(text)} during {when} (get_throttled {seen:#x})"
    yield what, SUPPLY if (now | fresh) & UNDER_VOLTAGE else COOL


def _bit_names(bits: int) -> str:
    return ", ".join(name for bit, name in PI_BITS.items() if bits >> bit & 1)


def _lowered_limit(policy: str, looks: list[Conditions], when: str) -> Iterator[tuple[str, str]]:
    """The kernel's thermal governor caps a clock by lowering scaling_max_freq (kernel: cpufreq cooling)."""
    clocks = [c for look in looks for c in look.clocks if c.cpus == policy]
    for name, limits in (
        ("allowed", [c.max_hz for c in clocks if c.max_hz]),
        ("hardware's", [c.hardware_max_hz for c in clocks if c.hardware_max_hz]),
    ):
        if limits and min(limits) < SAME_CLOCK * limits[0]:
            yield (
                f"the {name} maximum clock of CPUs {policy} fell from {_mhz(limits[0])} to {_mhz(min(limits))} "
                f"during {when}",
                COOL,
            )


def _low_clock(policy: str, profile: Profile) -> Iterator[tuple[str, str]]:
    if profile.machine.architecture in TURBO_ARCHITECTURES:
        return
    ends = [c for r in profile.rounds for c in r.after.clocks if c.cpus == policy and c.governor == "performance"]
    shares = [c.current_hz / c.max_hz for c in ends if c.current_hz and c.max_hz]
    low = [share for share in shares if share < CLOCK_SHARE]
    if low:
        yield (
            f"after {len(low)} of {len(shares)} rounds the clock of CPUs {policy} was down to {min(low):.0%} of its "
            f"maximum although the governor is performance (limit {CLOCK_SHARE:.0%})",
            COOL,
        )


def _low_states(policy: str, profile: Profile) -> Iterator[tuple[str, str]]:
    spent: dict[float, float] = {}
    for r in profile.rounds:
        before, after = _policy(r.before, policy), _policy(r.after, policy)
        if before is None or after is None or after.governor != "performance":
            continue
        for state, end_s in after.time_in_state_s.items():
            spent[float(state)] = spent.get(float(state), 0.0) + end_s - before.time_in_state_s.get(state, 0.0)
    used = {state: s for state, s in spent.items() if s > 0}
    total = sum(used.values())
    if total < MIN_STATE_TIME_S:
        return
    top = max(used)
    low = 1 - used[top] / total
    if low > LOW_STATE_SHARE:
        yield (
            f"CPUs {policy} spent {low:.0%} of the rounds below {_mhz(top)} although the governor is performance "
            f"(limit {LOW_STATE_SHARE:.0%})",
            COOL,
        )


def _policy(look: Conditions, policy: str) -> Clocks | None:
    return next((c for c in look.clocks if c.cpus == policy), None)


def _used_policies(profile: Profile, looks: list[Conditions]) -> list[str]:
    return sorted({c.cpus for look in looks for c in look.clocks if _is_used(c.cpus, profile)})


def _is_used(policy: str, profile: Profile) -> bool:
    """Whether the job may run on any CPU of the policy; one it is kept away from may do as it likes."""
    affinity = profile.job.options.affinity
    return not affinity or not (numbers := _cpu_numbers(policy)) or bool(numbers & set(affinity))


def _is_capped(clock: Clocks, profile: Profile) -> bool:
    """Whether the job has capped the clock of these CPUs: a policy is named after the first of them."""
    names = {f"policy{cpu}" for cpu in _cpu_numbers(clock.cpus)}
    return any(cap.policy in names for cap in profile.job.clock_caps)


def _cpu_numbers(text: str) -> set[int]:
    """CPU numbers of a kernel list: "0 1 2 3" (related_cpus) or "0-3,6"."""
    found: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _mhz(hz: float) -> str:
    return f"{hz / 1e6:.0f} MHz"
