"""What is peculiar to phones, and to apps on them: a sleeping screen, little cores, a battery that is all but empty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from device_agents.wire import Conditions, Profile
from edgeprof.battery import LOW_BATTERY, running_empty

__all__ = ["is_background", "look_notes", "phone_notes"]


def is_background(look: Conditions) -> bool:
    """Whether Android has put the process with what the user does not look at; there it has little cores alone."""
    return "background" in (look.cpuset or "")


def look_notes(looks: Sequence[Conditions]) -> Iterator[tuple[str, str]]:
    """What these looks at a device say against its numbers, each once: (what, what to do)."""
    behind = next((look for look in looks if is_background(look)), None)
    if behind is not None:
        cpus = f": CPUs {behind.allowed_cpus} alone" if behind.allowed_cpus else ""
        yield (
            f"the agent is in Android's cpuset {behind.cpuset}{cpus}, which are the little cores",
            "keep Termux in the foreground with the screen on, and take a wake lock: termux-wake-lock",
        )
    screens = [look.screen for look in looks if look.screen is not None]
    asleep = next((screen for screen in screens if screen.startswith("off") or screen.endswith(", locked")), None)
    if asleep is not None:
        yield (
            f"the phone's screen is {asleep}: it may sleep, and hold clocks and cores back",
            "unlock it and keep it on: Stay awake in the developer options, or adb shell svc power stayon usb",
        )
    empty = next((share for look in looks if (share := running_empty(look)) is not None), None)
    if empty is not None:
        what = f"the battery is discharging and at {empty:.0%}: below {LOW_BATTERY:.0%} phones save power"
        yield what, "charge it first"


def phone_notes(profile: Profile) -> Iterator[str]:
    """The same of all looks at a device while it was measured."""
    looks = [look for one in profile.rounds for look in (one.before, one.after)]
    for what, advice in look_notes(looks):
        yield f"{what}; {advice}"
