"""How fast a model gets to a device: our upload against OpenSSH's own sftp, 100 MB of random bytes over loopback.

Both sides go to the same sshd, without compression, one after the other and in changing order; target files are removed
in between. A throughput is that of the transfer alone: of an open link's `put`, and of the `sftp` command less what it
takes to bring an empty file (start, login). Figures are medians over pairs of the quotient ours / OpenSSH's:

- `ratio`: OpenSSH as it is, with its own first choice of a cipher.
- `ratio_same_cipher`: OpenSSH told to use the cipher that our link negotiated.
- `ratio_verified`: our whole `Agent.push` (asked for, sent, hashed on the device, adopted) against OpenSSH's transfer.
- `ratio_connected`: connecting and transfer on both sides.
- `second_push_bytes`: bytes sent when the same content is pushed again.

    python benchmarks/push.py [--out RAW.json] [--pairs 7] [--megabytes 100]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from device_agents.wire import FileRef
from edgeprof.agent import Agent
from edgeprof.links.ssh import SshLink
from tests.integration.sshd import Sshd, why_not

TIMEOUT_S = 600.0


class Contest:
    """One file, one sshd, and every way to bring the one to the other; each returns seconds."""

    def __init__(self, sshd: Sshd, link: SshLink, agent: Agent, data: bytes) -> None:
        self._sshd, self._link, self._agent = sshd, link, agent
        self._source = sshd.folder / "source"
        self._source.write_bytes(data)
        self._empty = sshd.folder / "empty"
        self._empty.write_bytes(b"")
        self._target = sshd.home / "target"
        self._ref = FileRef("model", hashlib.sha256(data).hexdigest(), len(data))

    def put(self) -> float:
        return self._timed(lambda: self._link.put(self._source, str(self._target), TIMEOUT_S), self._target)

    def connect_and_put(self) -> float:
        def both() -> None:
            with self._sshd.link() as link:
                link.put(self._source, str(self._target), TIMEOUT_S)

        return self._timed(both, self._target)

    def push(self) -> float:
        held = self._sshd.home / ".cache" / "edgeprof" / "models" / self._ref.sha256
        return self._timed(lambda: self._agent.push([(self._ref, self._source)]), held)

    def push_again_bytes(self) -> int:
        self._agent.push([(self._ref, self._source)])
        return self._agent.push([(self._ref, self._source)])

    def sftp(self, *options: str) -> float:
        return self._timed(lambda: self._sftp(self._source, *options), self._target)

    def sftp_of_nothing(self, *options: str) -> float:
        begin = time.perf_counter()
        self._sftp(self._empty, *options)
        return time.perf_counter() - begin

    def _timed(self, work: Callable[[], object], arrived: Path) -> float:
        arrived.unlink(missing_ok=True)
        begin = time.perf_counter()
        work()
        took_s = time.perf_counter() - begin
        if arrived.stat().st_size != self._ref.size_bytes:
            raise RuntimeError(f"{arrived} did not arrive whole")
        return took_s

    def _sftp(self, source: Path, *options: str) -> None:
        batch = self._sshd.folder / "batch"
        batch.write_text(f"put {source} {self._target}\n")
        command = ["sftp", "-q", "-F", str(self._sshd.ssh_config), "-P", str(self._sshd.port), "-o", "Compression=no"]
        subprocess.run([*command, *options, "-b", str(batch), "127.0.0.1"], check=True, stdout=subprocess.DEVNULL)


def measure(folder: Path, size_bytes: int, pairs: int) -> tuple[list[dict[str, float]], int, str]:
    """Seconds of each way in each pair, the bytes of a second push, and our cipher."""
    data = random.Random(0).randbytes(size_bytes)
    with (
        Sshd(folder / "sshd", options=("Compression no",)) as sshd,
        sshd.link() as link,
        Agent(link, sys.executable, name="board") as agent,
    ):
        contest = Contest(sshd, link, agent, data)
        same = ("-c", link.cipher)
        ways: dict[str, Callable[[], float]] = {
            "put": contest.put,
            "push": contest.push,
            "connect_and_put": contest.connect_and_put,
            "sftp": contest.sftp,
            "sftp_of_nothing": contest.sftp_of_nothing,
            "sftp_same_cipher": lambda: contest.sftp(*same),
            "sftp_same_cipher_of_nothing": lambda: contest.sftp_of_nothing(*same),
        }
        rows = []
        for pair in range(pairs + 1):
            order = random.Random(pair).sample(list(ways), len(ways))
            rows.append({name: ways[name]() for name in order})
        return rows[1:], contest.push_again_bytes(), link.cipher  # the first pair warms caches


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--megabytes", type=int, default=100)
    options = parser.parse_args()
    reason = why_not() or (None if shutil.which("sftp") else "OpenSSH's client is not installed (sftp missing)")
    if reason:
        print(json.dumps({"name": "push", "skipped": reason}))
        return
    size_bytes = options.megabytes * 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        rows, again_bytes, cipher = measure(Path(folder), size_bytes, options.pairs)
    for row in rows:
        row["sftp_transfer"] = row["sftp"] - row["sftp_of_nothing"]
        row["sftp_same_cipher_transfer"] = row["sftp_same_cipher"] - row["sftp_same_cipher_of_nothing"]
    print(f"our cipher: {cipher}; {os.cpu_count()} CPUs carry sender and receiver")
    for name in sorted(rows[0]):
        taken = [row[name] for row in rows]
        rate = f"{size_bytes / statistics.median(taken) / 1e6:6.0f} MB/s" if "nothing" not in name else ""
        print(f"{name:28s} {statistics.median(taken):6.3f} s ({min(taken):.3f} to {max(taken):.3f})  {rate}")
    if options.out:
        options.out.write_text(json.dumps({"size_bytes": size_bytes, "cipher": cipher, "pairs_s": rows}, indent=1))
    figures = {
        "ratio": _ratio(rows, "sftp_transfer", "put"),
        "ratio_same_cipher": _ratio(rows, "sftp_same_cipher_transfer", "put"),
        "ratio_verified": _ratio(rows, "sftp_transfer", "push"),
        "ratio_connected": _ratio(rows, "sftp", "connect_and_put"),
        "put_mb_per_s": round(size_bytes / statistics.median(row["put"] for row in rows) / 1e6, 1),
        "second_push_bytes": again_bytes,
    }
    print(json.dumps({"name": "push", "figures": figures}))


def _ratio(rows: list[dict[str, float]], theirs: str, ours: str) -> float:
    return round(statistics.median(row[theirs] / row[ours] for row in rows), 3)


if __name__ == "__main__":
    main()
