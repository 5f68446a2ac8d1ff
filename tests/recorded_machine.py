"""A machine whose files and programs answer from a folder of tests/recorded, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from device_agents.machine import FileReadAnew, Machine, OpenFile

MACHINES = Path(__file__).parent / "recorded" / "machines"


class RecordedFile(FileReadAnew):
    """A file of a recorded machine; an ioctl answers what is recorded of the words asked."""

    def __init__(self, machine: RecordedMachine, path: str) -> None:
        super().__init__(machine, path)
        self._commands = machine.root / "commands"

    def ioctl(self, request: int, data: bytearray) -> None:
        words = data[24:].split(b"\0", 1)[0].decode()
        answer = (self._commands / words).read_bytes()
        data[24 : 24 + len(answer) + 1] = answer + b"\0"


class RecordedMachine(Machine):
    """`commands/NAME` holds what a program prints; a file that is not there is not there."""

    def __init__(self, name: str) -> None:
        self.root = MACHINES / name
        self.clock_s = 0.0
        self.overrides: dict[str, str] = {}
        self.runs_as: str | None = None

    def now(self) -> float:
        return self.clock_s

    def sleep(self, seconds: float) -> None:
        self.clock_s += seconds

    def read(self, path: str) -> str:
        if path in self.overrides:
            return self.overrides[path]
        return (self.root / path.lstrip("/")).read_text()

    def open(self, path: str, writable: bool = False) -> OpenFile:
        return RecordedFile(self, path)

    def list(self, path: str) -> list[str]:
        folder = self.root / path.lstrip("/")
        return sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []

    def run(self, argv: Sequence[str], timeout_s: float = 5.0) -> tuple[int, str]:
        return 0, (self.root / "commands" / argv[0]).read_text()

    def program(self) -> str | None:
        return self.runs_as
