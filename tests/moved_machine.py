"""The real operating system, with the files of another machine."""

from __future__ import annotations

from pathlib import Path

from device_agents.machine import Machine, OpenFile


class MovedMachine(Machine):
    """Files are those below `root`; programs and clock are this machine's."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> str:
        return super().read(f"{self.root}{path}")

    def list(self, path: str) -> list[str]:
        return super().list(f"{self.root}{path}")

    def open(self, path: str, writable: bool = False) -> OpenFile:
        return super().open(f"{self.root}{path}", writable)

    def write(self, path: str, text: str) -> None:
        super().write(f"{self.root}{path}", text)

    def why_not_writable(self, path: str) -> OSError | None:
        return super().why_not_writable(f"{self.root}{path}")
