"""In a network namespace of its own: how long an idle link lives after its packets are dropped, printed as JSON.

unshare --net python -m tests.integration.unplugged FOLDER SILENCE_S
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from edgeprof.deadlines import Deadlines
from edgeprof.fleet import Device
from tests.integration.sshd import Sshd

DROP = "add table inet cable; add chain inet cable out { type filter hook output priority 0; policy drop; }"
GIVE_UP_S = 60.0


def main() -> None:
    folder, silence_s = Path(sys.argv[1]), float(sys.argv[2])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with Sshd(folder) as sshd:
        deadlines = Deadlines(silence_s=silence_s)
        device = Device(name="board", address=f"ssh://127.0.0.1:{sshd.port}", deadlines=deadlines)
        with sshd.link(device) as link:
            was_alive = link.is_alive
            subprocess.run(["nft", DROP], check=True)
            begin = time.monotonic()
            while link.is_alive and time.monotonic() < begin + GIVE_UP_S:
                time.sleep(0.05)
            sys.stdout.write(json.dumps({"was_alive": was_alive, "is_alive": link.is_alive}))


if __name__ == "__main__":
    main()
