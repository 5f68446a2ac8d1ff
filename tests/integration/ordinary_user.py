"""An sshd whose login is an ordinary user with a password and a home of the test, in a mount namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration import sshd as server
from tests.integration.sshd import Sshd

USER, USER_ID, PASSWORD = "edgeprof-test", 54321, "open sesame"
# By `openssl passwd -6 -salt edgeprof`.
PASSWORD_HASH = "$6$edgeprof$6wIuNcGwlmzq3ulIgl81rJ2vUMNBOTtmtXjZNhmeU7ZhwXxv05AgoygPY./9QlNOVWHiYvTXgegpbeYLlq5q60"
IN_NAMESPACE = 'mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/shadow && shift 2 && exec "$@"'


@contextmanager
def sshd_of_ordinary_user(options: tuple[str, ...] = (), hidden: tuple[str, ...] = ()) -> Iterator[Sshd]:
    """Users there are root, sshd and USER, who may not look into `hidden` folders; skips where that cannot be had."""
    reason = server.why_not()
    if reason or os.getuid() != 0:
        pytest.skip(reason or "needs root: a user with a password, in a mount namespace")
    # pytest's own temporary folder is closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="edgeprof-"))
    try:
        folder.chmod(0o755)
        passwd, shadow = folder / "passwd", folder / "shadow"
        home = folder / "sshd" / "home"
        passwd.write_text(f"{Path('/etc/passwd').read_text()}{USER}:x:{USER_ID}:{USER_ID}::{home}:/bin/sh\n")
        shadow.write_text(f"{USER}:{PASSWORD_HASH}:19000:0:99999:7:::\n")
        shadow.chmod(0o600)
        hide = "".join(f"mount -t tmpfs -o mode=0700 none {path} && " for path in hidden)
        prefix = ("unshare", "--mount", "--propagation", "private", "sh", "-c", hide + IN_NAMESPACE, "sh")
        can = subprocess.run([*prefix, str(passwd), str(shadow), "true"], capture_output=True, check=False)
        if can.returncode:
            pytest.skip(f"needs root that may mount: {can.stderr.decode().strip()}")
        with Sshd(folder / "sshd", options=options, prefix=(*prefix, str(passwd), str(shadow)), user=USER) as sshd:
            os.chown(sshd.home, USER_ID, USER_ID)
            sshd.home.chmod(0o700)
            yield sshd
    finally:
        shutil.rmtree(folder)
