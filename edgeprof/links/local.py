"""Reach this machine: programs are subprocesses in a process group of their own."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self

from edgeprof.errors import LinkError, TransferError
from edgeprof.links import OnSent
from edgeprof.links.streams import Deadline, LineBuffer, Tail

__all__ = ["LocalLink", "LocalProcess"]

CHUNK_BYTES = 64 * 1024
COPY_BYTES = 1024 * 1024
POLL_S = 0.02
GRACE_S = 2.0  # between asking a program to end and ending it


class LocalProcess:
    """A subprocess that leads its own process group, so that `close` reaches every child it started."""

    def __init__(self, argv: list[str], environment: Mapping[str, str] | None = None) -> None:
        # `exec "$@"` replaces the shell by the program and interprets none of its arguments. It is there to fail as a
        # login shell over SSH does: code 127 and a line on standard error if there is no such program.
        self._program = subprocess.Popen(
            ["/bin/sh", "-c", 'exec "$@"', "edgeprof", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            env={**os.environ, **environment} if environment else None,
        )
        self._name = argv[0]
        self._stdin = _pipe(self._program.stdin)
        self._stdout = _pipe(self._program.stdout)
        self._stderr = _pipe(self._program.stderr)
        self._lines = LineBuffer()
        self._tail = Tail()
        self._ended_output = False
        self._closed = False

    def write(self, data: bytes, timeout_s: float) -> None:
        deadline = Deadline(timeout_s)
        left = memoryview(data)
        while left:
            if self._stdin.closed:
                raise LinkError(f"local: {self._name}: its input is closed", "start it anew")
            ready = self._wait(deadline, writing=True)
            if self._stdin not in ready:
                if deadline.left_s() <= 0:
                    raise LinkError(f"local: {self._name} read nothing for {timeout_s:g} s", "it hangs; start it anew")
                continue
            try:
                left = left[os.write(self._stdin.fileno(), left[:CHUNK_BYTES]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError as error:
                raise LinkError(f"local: {self._name} does not read any more", self._last_words()) from error

    def read_line(self, timeout_s: float, max_bytes: int) -> bytes | None:
        deadline = Deadline(timeout_s)
        while (line := self._lines.line(max_bytes)) is None:
            if self._ended_output:
                return self._lines.rest()
            if self._stdout in self._wait(deadline, reading=True):
                self._read_output()
            else:
                deadline.check(f"local: waiting for a line from {self._name}")
        return line

    @property
    def held_bytes(self) -> int:
        return self._lines.held_bytes

    def stderr_tail(self) -> str:
        if not self._closed:
            self._drain_stderr()
        return self._tail.text()

    def close_input(self) -> None:
        self._stdin.close()

    def wait(self, timeout_s: float) -> int | None:
        deadline = Deadline(timeout_s)
        while (code := self._exit_code()) is None:
            deadline.check(f"local: waiting for {self._name}")
            self._wait(Deadline(min(POLL_S, deadline.left_s())))
        self._drain_stderr()
        return code if code >= 0 else None

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._drain_stderr()
        for pipe in (self._stdin, self._stdout, self._stderr):
            pipe.close()
        # The leader is reaped last: as long as it exists, even as a zombie, its group's number cannot be given away.
        self._signal(signal.SIGTERM)
        deadline = Deadline(GRACE_S)
        while self._exit_code() is None and deadline.left_s() > 0:
            time.sleep(POLL_S)
        self._signal(signal.SIGKILL)
        # A program stuck in the kernel, as on a dead network disk, is not reaped before that lets go of it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._program.wait(GRACE_S)

    def _wait(self, deadline: Deadline, *, reading: bool = False, writing: bool = False) -> set[IO[bytes]]:
        """The pipes that became ready; standard error is always drained, so that it never blocks the program."""
        with selectors.DefaultSelector() as selector:
            if not self._stderr.closed:
                selector.register(self._stderr, selectors.EVENT_READ)
            if reading:
                selector.register(self._stdout, selectors.EVENT_READ)
            if writing:
                selector.register(self._stdin, selectors.EVENT_WRITE)
            if not selector.get_map():
                time.sleep(deadline.left_s())
                return set()
            ready = {key.fileobj for key, _ in selector.select(deadline.left_s())}
        if self._stderr in ready:
            self._drain_stderr()
        return {pipe for pipe in (self._stdout, self._stdin) if pipe in ready}

    def _read_output(self) -> None:
        data = _read(self._stdout)
        if data:
            self._lines.feed(data)
        elif data is not None:
            self._ended_output = True

    def _drain_stderr(self) -> None:
        while not self._stderr.closed:
            data = _read(self._stderr)
            if data is None:
                return
            if not data:
                self._stderr.close()
            self._tail.feed(data)

    def _exit_code(self) -> int | None:
        """As subprocess has it, negative for a signal; None while it runs. Leaves the zombie for `close` to reap."""
        if self._program.returncode is not None:
            return self._program.returncode
        ended = os.waitid(os.P_PID, self._program.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._program.pid, number)

    def _last_words(self) -> str:
        self._drain_stderr()
        lines = self._tail.text().strip().splitlines()
        return f"its last words: {lines[-1]}" if lines else "it left no message on its standard error"


class LocalLink:
    """The machine edgeprof itself runs on; there is nothing to connect. `environment` is added to what programs get."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = environment

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def put(
        self,
        source: Path | bytes,
        target: str,
        timeout_s: float,
        *,
        resume: bool = False,
        on_progress: OnSent | None = None,
    ) -> int:
        """As every link's; a copy is fast enough to begin anew each time, whatever `resume` says."""
        deadline, sent_bytes = Deadline(timeout_s), 0
        part = Path(f"{target}.{secrets.token_hex(4)}.part")
        try:
            with contextlib.closing(_open(source)) as reader, part.open("xb") as writer:
                size_bytes = reader.seek(0, io.SEEK_END)
                reader.seek(0)
                while chunk := reader.read(COPY_BYTES):
                    writer.write(chunk)
                    sent_bytes += len(chunk)
                    deadline.check("copying")
                    if on_progress is not None:
                        on_progress(sent_bytes, size_bytes)
            part.replace(target)
        except OSError as error:
            advice = "free some space" if error.errno == errno.ENOSPC else "mend the path, or its permissions"
            raise TransferError(f"local: {target} could not be written: {error}", advice) from error
        finally:
            part.unlink(missing_ok=True)
        return sent_bytes

    def start(self, argv: list[str]) -> LocalProcess:
        try:
            return LocalProcess(argv, self._environment)
        except (OSError, ValueError) as error:
            raise LinkError(f"local: cannot start {argv[0]!r}: {error}", "is this machine out of processes?") from error


def _open(source: Path | bytes) -> IO[bytes]:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise LinkError("local: a pipe to the program is missing", "report this as a defect")
    os.set_blocking(pipe.fileno(), False)
    return pipe


def _read(pipe: IO[bytes]) -> bytes | None:
    """What is there now; None if nothing is, empty at the end."""
    try:
        return os.read(pipe.fileno(), CHUNK_BYTES)
    except BlockingIOError:
        return None
