"""The power management chip of a Raspberry Pi 5 or CM5, asked through the firmware's mailbox.

One call brings current and voltage of twelve rails (`vcgencmd pmic_read_adc`; the mailbox as in raspberrypi/utils,
vcgencmd/vcgencmd.c). Their numbers differ: a rail's current and voltage belong together by its name. There is no
current of the input, and nothing of what hangs on the 5 V rail.
"""

import re
import struct
from typing import Dict, List, Optional, Tuple

from device_agents.machine import Machine, OpenFile
from device_agents.power.files_meter import text
from device_agents.wire import POWER, SOC_RAILS, MeterInfo

# New kernels have a device for such commands alone (2026).
DEVICES = ("/dev/vcio_gencmd", "/dev/vcio")
# _IOWR(100, 0, char *) of include/uapi/asm-generic/ioctl.h, for pointers of four and of eight bytes.
IOCTL_32, IOCTL_64 = 0xC0046400, 0xC0086400
GET_GENCMD_RESULT = 0x00030080
ANSWER_BYTES = 4096
HEADER = struct.Struct("<6I")
LINE = re.compile(r"^\s*([A-Z0-9_]+)_([AV])\s+(?:current|volt)\(\d+\)=([0-9.]+)[AV]\s*$", re.MULTILINE)
# Ten times a second is what others ask it (zeus issue 274); its own rate is not documented.
PERIOD_S = 0.1
NOT_COVERED = (
    "all on the 5 V rail: USB, HATs, NVMe, fan",
    "losses of the board's converters",
    "EXT5V and BATT, which have a voltage alone",
)


class PmicMeter:
    """A channel for each rail that has both a current and a voltage."""

    def __init__(self, machine: Machine, device: str, reason: Optional[str], rails: Tuple[str, ...]) -> None:
        self._machine = machine
        self._device = device
        self._file: Optional[OpenFile] = None
        self.info = MeterInfo(
            name="pi-pmic",
            source="pi-pmic",
            kind=POWER,
            boundary=SOC_RAILS,
            channels=rails,
            period_s=PERIOD_S,
            not_covered=NOT_COVERED,
            unusable=reason,
        )

    def open(self) -> None:
        """Open the mailbox and keep it."""
        self.close()
        self._file = self._machine.open(self._device, writable=True)

    def read(self) -> Tuple[float, ...]:
        """W of every rail, all from one answer."""
        if self._file is None:
            raise OSError("the mailbox is not open")
        watts = rails_of(command(self._file, "pmic_read_adc"))
        return tuple(watts[rail] for rail in self.info.channels)

    def close(self) -> None:
        """Close the mailbox."""
        if self._file is not None:
            self._file.close()
            self._file = None


def find(machine: Machine) -> List[PmicMeter]:
    """The chip, on the boards that have it."""
    model = text(machine, "/proc/device-tree/model") or ""
    if not any(name in model for name in ("Raspberry Pi 5", "Compute Module 5", "Raspberry Pi 500")):
        return []
    reasons = []
    for device in DEVICES:
        try:
            file = machine.open(device, writable=True)
        except PermissionError:
            reasons.append(f"{device} is for the group video: on the device, sudo usermod -aG video $USER, log in anew")
            continue
        except OSError as error:
            reasons.append(f"{device}: {error}")
            continue
        try:
            rails = tuple(rails_of(command(file, "pmic_read_adc")))
        except (OSError, ValueError) as error:
            reasons.append(f"{device}: {error}")
            continue
        finally:
            file.close()
        return [PmicMeter(machine, device, None, rails)]
    return [PmicMeter(machine, DEVICES[-1], "; ".join(reasons), ())]


def command(file: OpenFile, words: str) -> str:
    """What the firmware answers to a command.

    Raises:
        OSError: it does not answer, or knows no such command.
    """
    # Size, request code 0, tag, room for the answer, length 0, and an error code that the firmware sets.
    message = bytearray(HEADER.size + ANSWER_BYTES + 4)
    HEADER.pack_into(message, 0, len(message), 0, GET_GENCMD_RESULT, ANSWER_BYTES, 0, 0)
    message[HEADER.size : HEADER.size + len(words)] = words.encode()
    file.ioctl(IOCTL_64 if struct.calcsize("P") == 8 else IOCTL_32, message)
    if HEADER.unpack_from(message)[5]:
        raise OSError(f"the firmware knows no {words}")
    return message[HEADER.size :].split(b"\0", 1)[0].decode("ascii", "replace")


def rails_of(answer: str) -> Dict[str, float]:
    """W of every rail that has both, in the order of the answer.

    Raises:
        ValueError: there is none.
    """
    found: Dict[str, Dict[str, float]] = {}
    for rail, unit, value in LINE.findall(answer):
        found.setdefault(rail, {})[unit] = float(value)
    watts = {rail: units["A"] * units["V"] for rail, units in found.items() if len(units) == 2}
    if not watts:
        raise ValueError(f"no rail in the answer of the firmware: {answer[:80]!r}")
    return watts
