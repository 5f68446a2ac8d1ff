"""Become the first process of a fleet's device: make its file system and its view of the system, then run sshd.

A program of its own, run natively as root of new mount, PID, host name and IPC namespaces. The network is the wire's.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import socket
import subprocess
import uuid
from pathlib import Path

PI = 1000
# sys/mount.h
MNT_DETACH = 2
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rootfs", type=Path, required=True, help="shared with other devices, never written to")
    parser.add_argument(
        "--folder", type=Path, required=True, help="has disk/, ssh/ and sys/; our process number goes there"
    )
    parser.add_argument("--name", required=True)
    parser.add_argument("--cpu", required=True, help="the processor that qemu is to emulate")
    parser.add_argument("--join", type=Path, action="append", default=[], help="cgroup.procs of a control group")
    asked = parser.parse_args()

    for group in asked.join:
        group.write_text("0")
    # In the host's numbers: /proc is the host's still. Whoever reads it while we boot finds all of it, or what was.
    (asked.folder / "pid.part").write_text(os.readlink("/proc/self"))
    (asked.folder / "pid.part").replace(asked.folder / "pid")
    root = _disk(asked.folder / "disk", asked.rootfs)
    _system(root, asked.folder / "sys")
    _settings(root, asked.folder / "ssh", asked.name)
    socket.sethostname(asked.name)
    _enter(root)
    environment = {**ENVIRONMENT, "QEMU_CPU": asked.cpu}
    os.execve("/usr/sbin/sshd", ["/usr/sbin/sshd", "-D", "-e", "-f", "/run/ssh/sshd_config"], environment)


def _disk(disk: Path, rootfs: Path) -> Path:
    """The device's root: what it writes goes to `disk`, where it may find what it wrote before."""
    upper, work, root = disk / "upper", disk / "work", disk / "root"
    # systemd empties /tmp at boot (tmpfiles.d/tmp.conf of Debian 12).
    shutil.rmtree(upper / "tmp", ignore_errors=True)
    for folder in (upper, work, root):
        folder.mkdir(exist_ok=True)
    _mount("overlay", root, "overlay", f"lowerdir={rootfs},upperdir={upper},workdir={work},userxattr")
    return root


def _system(root: Path, sys: Path) -> None:
    for name in ("proc", "sys", "dev", "run", "tmp"):
        (root / name).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    _mount("proc", root / "proc", "proc")
    # The kernel is the host's and has not booted anew, but this device has.
    boot_id = root / "run" / "boot_id"
    _mount("tmpfs", root / "run", "tmpfs", "size=16m,mode=755")
    (root / "run" / "sshd").mkdir(mode=0o755)
    boot_id.write_text(f"{uuid.uuid4()}\n")
    _bind(boot_id, root / "proc" / "sys" / "kernel" / "random" / "boot_id")
    _mount("tmpfs", root / "sys", "tmpfs", "size=4m,mode=755")
    shutil.copytree(sys, root / "sys", dirs_exist_ok=True)
    _mount("tmpfs", root / "dev", "tmpfs", "size=1m,mode=755")
    for name in DEVICES:
        (root / "dev" / name).touch()
        _bind(Path("/dev") / name, root / "dev" / name)
    for name, kind, options in (
        ("pts", "devpts", "newinstance,ptmxmode=666,mode=620"),
        ("shm", "tmpfs", "size=64m,mode=1777"),
    ):
        (root / "dev" / name).mkdir()
        _mount(kind, root / "dev" / name, kind, options)
    (root / "dev" / "ptmx").symlink_to("pts/ptmx")


def _settings(root: Path, ssh: Path, name: str) -> None:
    """A kept disk may be full: what it has already is not written again, and the rest goes elsewhere."""
    shutil.copytree(ssh, root / "run" / "ssh")
    for file, text in (("hosts", f"127.0.0.1 localhost {name}\n"), ("hostname", f"{name}\n")):
        path = root / "etc" / file
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    os.chown(root / "home" / "pi", PI, PI)


def _enter(root: Path) -> None:
    """Let `root` be all there is: the host's files, and other devices' disks, are out of reach and unmounted."""
    old = root / "mnt"
    old.mkdir(exist_ok=True)
    subprocess.run(["pivot_root", str(root), str(old)], check=True)
    os.chdir("/")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(b"/mnt", MNT_DETACH):
        raise OSError(ctypes.get_errno(), "the host's files cannot be unmounted")


def _mount(source: str, target: Path, kind: str, options: str = "defaults") -> None:
    subprocess.run(["mount", "-t", kind, "-o", options, source, str(target)], check=True)


def _bind(source: Path, target: Path) -> None:
    subprocess.run(["mount", "--bind", str(source), str(target)], check=True)


if __name__ == "__main__":
    main()
