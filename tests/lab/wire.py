"""A wire between the controller and one device: Ethernet frames carried between two TAP interfaces in user space.

It delays, jitters, loses, slows down and cuts, where a kernel may lack netem. `Wire` is the handle; run as a program
(in the controller's network namespace) this file makes the device's network namespace, lives in it, and carries.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

# linux/sched.h and linux/if_tun.h
CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
FRAME_BYTES = 65536
# Longer queues than this are dropped at the tail, as a switch would.
QUEUE_S = 0.3
ANSWER_S = 10.0


@dataclass(frozen=True)
class Conditions:
    """Both ways alike; `delay_s` is one way, and jitter adds up to `jitter_s` without changing the order of frames."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    rate_bytes_s: float | None = None
    is_cut: bool = False


class Wire:
    """`prefix` enters the controller's namespaces. The same seed loses the same frames, counted from the last `set`."""

    def __init__(self, prefix: list[str], number: int, *, seed: int) -> None:
        self._seed = seed
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-I", __file__, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def wait_until_up(self) -> None:
        """Wait for both interfaces.

        Raises:
            RuntimeError: it did not start; the message is what it said.
        """
        self.pid = int(self._line())

    def set(self, **conditions: Any) -> None:
        """From now on the wire is as the fields of `Conditions` say, and perfect in all that is not named."""
        request = {"seed": self._seed, **asdict(Conditions(**conditions))}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        self._line()

    def cut(self) -> None:
        self.set(is_cut=True)

    def heal(self) -> None:
        self.set()

    def close(self) -> None:
        _, _ = self._process.communicate(timeout=ANSWER_S)

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], ANSWER_S)[0]:
            raise RuntimeError(f"no answer from a wire within {ANSWER_S:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            _, said = self._process.communicate(timeout=ANSWER_S)
            raise RuntimeError(f"a wire ended: {said.decode().strip().rpartition(chr(10))[2]}")
        return line


class _Carrier:
    """Carries frames between two TAPs, `ends`, and takes conditions from standard input until that ends."""

    def __init__(self, ends: tuple[int, int]) -> None:
        self._ends = ends
        self._conditions = Conditions()
        self._random = random.Random(0)
        # (when, order, where to, frame)
        self._queue: list[tuple[float, int, int, bytes]] = []
        self._n_frames = 0
        self._free_at_s = dict.fromkeys(ends, 0.0)
        self._last_s = dict.fromkeys(ends, 0.0)

    def run(self) -> None:
        one, other = self._ends
        while True:
            wait_s = max(0.0, self._queue[0][0] - time.monotonic()) if self._queue else None
            readable, _, _ = select.select([*self._ends, sys.stdin], [], [], wait_s)
            if sys.stdin in readable and not self._obey(sys.stdin.readline()):
                return
            for end in self._ends:
                if end in readable:
                    self._take(end, other if end == one else one)
            self._deliver()

    def _obey(self, line: str) -> bool:
        if not line:
            return False
        request = json.loads(line)
        self._random = random.Random(request.pop("seed"))
        self._conditions = Conditions(**request)
        if self._conditions.is_cut:
            self._queue.clear()
        print("done", flush=True)  # noqa: T201
        return True

    def _take(self, source: int, sink: int) -> None:
        conditions = self._conditions
        # Not for ever: the other direction waits.
        for _ in range(64):
            try:
                frame = os.read(source, FRAME_BYTES)
            except OSError:  # nothing more for now, or the interface is down
                return
            if conditions.is_cut or self._random.random() < conditions.loss:
                continue
            now_s = time.monotonic()
            when_s = now_s + conditions.delay_s + self._random.random() * conditions.jitter_s
            if conditions.rate_bytes_s is not None:
                free_s = max(self._free_at_s[sink], now_s)
                if free_s - now_s > QUEUE_S:
                    continue
                self._free_at_s[sink] = free_s + len(frame) / conditions.rate_bytes_s
                when_s += self._free_at_s[sink] - now_s
            self._last_s[sink] = when_s = max(when_s, self._last_s[sink])
            self._n_frames += 1
            heapq.heappush(self._queue, (when_s, self._n_frames, sink, frame))

    def _deliver(self) -> None:
        now_s = time.monotonic()
        while self._queue and self._queue[0][0] <= now_s:
            _, _, sink, frame = heapq.heappop(self._queue)
            try:
                os.write(sink, frame)
            except OSError:  # the interface is down: nobody is there to receive it
                continue


def _tap(name: str, address: str) -> int:
    """A TAP interface of that name in this process's network; it lives as long as its descriptor."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    _ip("link", "set", name, "addrgenmode", "none")  # no IPv6 chatter
    _ip("address", "add", f"{address}/24", "dev", name)
    _ip("link", "set", name, "up")
    return tap


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, stdin=subprocess.DEVNULL)


def main() -> None:
    number = sys.argv[1]
    near = _tap(f"dev{number}", f"198.18.{number}.1")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network namespace")
    _ip("link", "set", "lo", "up")
    far = _tap("eth0", f"198.18.{number}.2")
    # In the host's numbers: /proc is the host's here.
    print(os.readlink("/proc/self"), flush=True)  # noqa: T201
    _Carrier((near, far)).run()


if __name__ == "__main__":
    main()
