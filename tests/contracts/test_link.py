"""What every link must do, checked on real subprocesses and over a real sshd."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeprof.errors import LinkError, TransferError
from edgeprof.fleet import Device
from edgeprof.links import Link, Process
from edgeprof.links.adb import AdbLink
from edgeprof.links.local import LocalLink
from tests.android.adb_server import AdbServer
from tests.android.phone import make_phone
from tests.integration import sshd as server
from tests.integration.sshd import Sshd

PYTHON = sys.executable
SOON_S = 20.0  # generous: a bound against hanging, not a measurement
LINE_BYTES = 1 << 20
AWKWARD = [
    "two words",
    "'single' \"double\"",
    "a\nnew line",
    "$(echo no) `echo no` $HOME",
    ";&|<>*?~#!",
    "back\\slash",
    "",
    "ü",
    "-n",
]


@contextmanager
def running(link: Link, *argv: str) -> Iterator[Process]:
    process = link.start([PYTHON, "-S", "-E", "-c", *argv])
    try:
        yield process
    finally:
        process.close()


def rest(process: Process) -> bytes:
    lines = []
    while (line := process.read_line(SOON_S, LINE_BYTES)) is not None:
        lines.append(line)
    return b"".join(lines)


def eventually(condition: object) -> bool:
    assert callable(condition)
    end = time.monotonic() + SOON_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def is_running(pid: int) -> bool:
    """By state and not by `kill -0`: an init that does not reap leaves zombies behind."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


class LinkContract:
    @pytest.fixture
    def link(self, tmp_path: Path) -> Iterator[Link]:
        raise NotImplementedError

    def test_a_file_put_is_read_back_unchanged(self, link: Link, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(bytes(range(256)) * 5000 + b"end")
        target = tmp_path / "a folder" / "target"
        target.parent.mkdir()

        link.put(source, str(target), SOON_S)

        assert target.read_bytes() == source.read_bytes()
        assert list(target.parent.iterdir()) == [target]

    def test_bytes_can_be_put_and_replace_what_was_there(self, link: Link, tmp_path: Path) -> None:
        target = tmp_path / "target"
        target.write_bytes(b"old and longer")

        link.put(b"new", str(target), SOON_S)

        assert target.read_bytes() == b"new"

    def test_an_empty_file_can_be_put(self, link: Link, tmp_path: Path) -> None:
        link.put(b"", str(tmp_path / "empty"), SOON_S)

        assert (tmp_path / "empty").read_bytes() == b""

    def test_a_failed_put_says_why_and_leaves_nothing(self, link: Link, tmp_path: Path) -> None:
        missing = tmp_path / "missing"

        with pytest.raises(TransferError, match="missing/target") as caught:
            link.put(b"data", str(missing / "target"), SOON_S)

        assert caught.value.advice
        assert not missing.exists()

    def test_a_put_that_takes_too_long_leaves_nothing(self, link: Link, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()

        with pytest.raises(TransferError, match="longer than 0 s"):
            link.put(bytes(5_000_000), str(folder / "target"), 0.0)

        assert list(folder.iterdir()) == []

    def test_a_missing_source_is_told(self, link: Link, tmp_path: Path) -> None:
        with pytest.raises(TransferError, match="nowhere"):
            link.put(tmp_path / "nowhere", str(tmp_path / "target"), SOON_S)

        assert not (tmp_path / "target").exists()

    def test_arguments_arrive_unchanged(self, link: Link) -> None:
        with running(link, "import sys; print(ascii(sys.argv[1:]))", *AWKWARD) as process:
            line = process.read_line(SOON_S, LINE_BYTES)

        assert line == f"{AWKWARD!a}\n".encode()

    def test_bytes_go_there_and_back_unchanged(self, link: Link) -> None:
        data = bytes(range(256)) * 2000

        with running(link, "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())") as process:
            process.write(data, SOON_S)
            process.close_input()
            back = rest(process)

        assert back == data

    def test_lines_come_one_by_one_as_they_are_written(self, link: Link) -> None:
        with running(link, "import sys\nfor line in sys.stdin: print(line.strip() * 2, flush=True)") as process:
            process.write(b"ab\n", SOON_S)
            first = process.read_line(SOON_S, LINE_BYTES)
            process.write(b"cd\nef\n", SOON_S)
            others = [process.read_line(SOON_S, LINE_BYTES) for _ in range(2)]

        assert [first, *others] == [b"abab\n", b"cdcd\n", b"efef\n"]

    def test_a_line_longer_than_allowed_is_refused(self, link: Link) -> None:
        with running(link, "print('x' * 5000)") as process, pytest.raises(LinkError, match="more than 1000 bytes"):
            process.read_line(SOON_S, 1000)

    def test_a_line_of_just_the_allowed_length_is_taken(self, link: Link) -> None:
        with running(link, "print('x' * 999)") as process:
            line = process.read_line(SOON_S, 1000)

        assert line == b"x" * 999 + b"\n"

    def test_a_timeout_keeps_what_came_for_the_next_call(self, link: Link) -> None:
        program = "import sys; print('first', end='', flush=True); sys.stdin.read(1); print(' second')"

        with running(link, program) as process:
            with pytest.raises(TimeoutError):
                process.read_line(0.3, LINE_BYTES)
            process.write(b"x", SOON_S)
            line = process.read_line(SOON_S, LINE_BYTES)

        assert line == b"first second\n"

    def test_the_last_line_may_lack_its_newline(self, link: Link) -> None:
        with running(link, "print('one\\ntwo', end='')") as process:
            lines = [process.read_line(SOON_S, LINE_BYTES) for _ in range(4)]

        assert lines == [b"one\n", b"two", None, None]

    @pytest.mark.parametrize("code", [0, 1, 42])
    def test_the_exit_code_is_told(self, link: Link, code: int) -> None:
        with running(link, f"raise SystemExit({code})") as process:
            assert process.wait(SOON_S) == code
            assert process.wait(SOON_S) == code

    def test_a_program_ended_by_a_signal_has_no_exit_code(self, link: Link) -> None:
        with running(link, "import os; os.kill(os.getpid(), 9)") as process:
            assert process.wait(SOON_S) is None

    def test_waiting_has_an_end(self, link: Link) -> None:
        with running(link, "import sys; sys.stdin.read()") as process, pytest.raises(TimeoutError):
            process.wait(0.1)

    def test_a_missing_program_ends_with_127_and_says_so(self, link: Link) -> None:
        process = link.start(["no-such-program-anywhere", "argument"])

        code = process.wait(SOON_S)
        said = process.stderr_tail()
        process.close()

        assert code == 127
        assert "not found" in said

    def test_only_the_tail_of_standard_error_is_kept(self, link: Link) -> None:
        with running(link, "import sys; sys.stderr.write('y' * 100000 + 'the end')") as process:
            process.wait(SOON_S)

            assert eventually(lambda: process.stderr_tail().endswith("the end"))
            assert len(process.stderr_tail()) < 20_000

    def test_standard_error_never_blocks_the_program(self, link: Link) -> None:
        with running(link, "import sys; sys.stderr.write('y' * 10_000_000); print('done')") as process:
            line = process.read_line(SOON_S, LINE_BYTES)

        assert line == b"done\n"

    def test_writing_to_a_program_that_does_not_read_has_an_end(self, link: Link) -> None:
        with running(link, "import time; time.sleep(60)") as process, pytest.raises(LinkError, match="read nothing"):
            process.write(bytes(20_000_000), 0.3)

    def test_writing_to_a_program_that_ended_is_told_with_its_last_words(self, link: Link) -> None:
        with running(link, "import sys; sys.exit('no such model')") as process:
            process.wait(SOON_S)

            with pytest.raises(LinkError, match="does not read any more") as caught:
                process.write(bytes(20_000_000), SOON_S)

        assert "no such model" in caught.value.advice

    def test_closing_ends_a_program_that_reads_its_input(self, link: Link) -> None:
        with running(link, "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()") as process:
            pid = int(process.read_line(SOON_S, LINE_BYTES) or b"")

        assert eventually(lambda: not is_running(pid))

    def test_closing_twice_is_harmless(self, link: Link) -> None:
        process = link.start([PYTHON, "-c", "pass"])

        process.close()
        process.close()

    def test_what_was_said_can_be_read_after_closing(self, link: Link) -> None:
        with running(link, "import sys; sys.exit('sorry')") as process:
            process.wait(SOON_S)
            assert eventually(lambda: "sorry" in process.stderr_tail())

        assert "sorry" in process.stderr_tail()


class TestLocalLink(LinkContract):
    @pytest.fixture
    def link(self, tmp_path: Path) -> Iterator[Link]:
        with LocalLink() as link:
            yield link

    def test_closing_ends_children_that_ignore_being_asked(self, link: Link) -> None:
        stubborn = (
            "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
        )
        program = (
            "import subprocess, sys, time\n"
            f"child = subprocess.Popen([sys.executable, '-c', {stubborn!r}], stdout=subprocess.PIPE)\n"
            "child.stdout.readline(); print(child.pid, flush=True); time.sleep(60)"
        )

        with running(link, program) as process:
            pid = int(process.read_line(SOON_S, LINE_BYTES) or b"")

        assert eventually(lambda: not is_running(pid))

    def test_closing_ends_children_whose_parent_is_gone(self, link: Link) -> None:
        program = (
            "import subprocess, sys\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            "print(child.pid, flush=True)"
        )

        with running(link, program) as process:
            pid = int(process.read_line(SOON_S, LINE_BYTES) or b"")
            process.wait(SOON_S)

        assert eventually(lambda: not is_running(pid))


@pytest.mark.ssh
class TestSshLink(LinkContract):
    @pytest.fixture
    def link(self, tmp_path: Path) -> Iterator[Link]:
        reason = server.why_not()
        if reason:
            pytest.skip(reason)
        with Sshd(tmp_path / "sshd") as sshd, sshd.link() as link:
            yield link


class TestAdbLink(LinkContract):
    """Programs run here, with the phone's serial number; the phone is the stand-in of tests/android."""

    @pytest.fixture
    def link(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
        if shutil.which("adb") is None:
            pytest.skip("adb's client is not installed (package adb)")
        with AdbServer(make_phone(tmp_path / "phone")) as stand_in:
            for name, value in stand_in.environment.items():
                monkeypatch.setenv(name, value)
            with AdbLink(Device(name="phone", address="adb:")) as link:
                yield link
