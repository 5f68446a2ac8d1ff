"""A device that lies: stands in place of its Python, runs the real agent, and changes what it says, once.

    liar.py KIND MARK ARGUMENTS...      the real program is this Python with ARGUMENTS; MARK is a file made when it lied

KIND: garbage (bytes that are no JSON in place of the result), endless (a line that never ends), protocol (another
protocol number, until MARK is there), other-job (the result of another job), half (half of the result, then silence).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path

ENDLESS_BYTES = 80 * 1024 * 1024


def main() -> int:
    kind, mark, arguments = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    command = [sys.executable, *arguments]
    if not is_serving(arguments):
        return subprocess.run(command, check=False).returncode
    agent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert agent.stdin is not None
    assert agent.stdout is not None
    threading.Thread(target=carry_input, args=(agent,), daemon=True).start()
    for line in agent.stdout:
        is_lie = kind != "protocol" and b'"reply":"profile"' in line and not mark.exists()
        say(lie(kind, mark, line))
        if is_lie and kind == "half":
            break
    for _ in agent.stdout:  # it goes on, and nobody hears it
        pass
    return agent.wait()


def is_serving(arguments: list[str]) -> bool:
    """The probe is a program text, workers and keepers are started by the real Python."""
    return len(arguments) >= 1 and arguments[0].endswith(".pyz")


def carry_input(agent: subprocess.Popen[bytes]) -> None:
    assert agent.stdin is not None
    for line in sys.stdin.buffer:
        agent.stdin.write(line)
        agent.stdin.flush()
    agent.stdin.close()


def lie(kind: str, mark: Path, line: bytes) -> bytes:
    if kind == "protocol" and not mark.exists():
        return re.sub(rb'"protocol":\d+', b'"protocol":999', line)
    if kind == "protocol" or b'"reply":"profile"' not in line or mark.exists():
        return line
    mark.touch()
    if kind == "garbage":
        return bytes(range(1, 256)).replace(b"\n", b"") + b"\n"
    if kind == "endless":
        return b"x" * ENDLESS_BYTES
    if kind == "other-job":
        reply = json.loads(line)
        reply["body"]["job"]["seed"] += 1
        return json.dumps(reply, separators=(",", ":")).encode() + b"\n"
    return line[: len(line) // 2]


def say(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
