"""What XNNPACK asks of a device; without it TFLite leaves XNNPACK out: same results, other latency, no word."""

from typing import List

from device_agents.machine import Machine

# It finds the CPUs through these (cpuinfo).
CPU_LISTS = ("/sys/devices/system/cpu/possible", "/sys/devices/system/cpu/present")


def what_is_missing(machine: Machine) -> List[str]:
    """A note for each file that XNNPACK needs and cannot read; its only own word is a line on standard error."""
    notes = []
    for path in CPU_LISTS:
        try:
            machine.read(path)
        except OSError as error:
            notes.append(f"XNNPACK needs {path}, which cannot be read: {error}")
    return notes
