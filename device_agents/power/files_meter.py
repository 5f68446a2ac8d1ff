"""A meter whose values stand in files of the kernel, one or several for each channel."""

from typing import List, Optional, Tuple

from device_agents.machine import Machine, OpenFile
from device_agents.wire import MeterInfo

# For each channel the files whose product is its value.
Channels = Tuple[Tuple[str, ...], ...]


class FilesMeter:
    """Every file is opened once and read again and again; `factor` makes W or J of a channel's product."""

    def __init__(self, machine: Machine, info: MeterInfo, channels: Channels, factor: float) -> None:
        self.info = info
        self._machine = machine
        self._channels = channels
        self._factor = factor
        self._files: List[List[OpenFile]] = []

    def open(self) -> None:
        """Open every file, or none."""
        self.close()
        try:
            for paths in self._channels:
                self._files.append([])
                for path in paths:
                    self._files[-1].append(self._machine.open(path))
        except OSError:
            self.close()
            raise

    def read(self) -> Tuple[float, ...]:
        """W or J of every channel."""
        if not self._files:
            raise OSError(f"{self.info.name} is not open")
        values = []
        for files in self._files:
            value = self._factor
            for file in files:
                value *= int(file.read())
            values.append(value)
        return tuple(values)

    def close(self) -> None:
        """Close every file."""
        for files in self._files:
            for file in files:
                file.close()
        self._files = []


def text(machine: Machine, path: str) -> Optional[str]:
    """The text of a small file without its line end; None where it cannot be read."""
    try:
        return machine.read(path).strip()
    except OSError:
        return None


def why_unreadable(machine: Machine, channels: Channels, denied: str = "not for this user") -> Optional[str]:
    """What keeps a file from being read as a number; `denied` is what to say to somebody who may not."""
    for paths in channels:
        for path in paths:
            try:
                int(machine.read(path))
            except PermissionError:
                return f"{path}: {denied}"
            except (OSError, ValueError) as error:
                return f"{path}: {error}"
    return None
