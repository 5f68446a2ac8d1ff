"""Let every fault happen, print what came of each: python -m tests.faults [WORDS OF NAMES]"""

from __future__ import annotations

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.catalogue import FAULTS
from tests.faults.fault import Fault


def main(words: list[str]) -> int:
    chosen = [f for f in FAULTS if not words or any(word in f.name for word in words)]
    with tempfile.TemporaryDirectory(prefix="edgeprof-faults-") as folder, ThreadPoolExecutor(3) as pool:

        def one(number: int, fault: Fault):
            began = time.monotonic()
            audit = fault.play(Path(folder) / str(number))
            wrong = fault.judge(audit)
            said = f"{'BAD ' if wrong else 'ok  '} {time.monotonic() - began:5.1f} s  {fault.name}\n"
            if wrong or len(words):
                said += f"     {wrong} {audit.states} {audit.n_tried_again}\n"
                said += "\n".join("        | " + l for l in audit.said.splitlines())
            print(said, flush=True)

        fs = [pool.submit(one, k, f) for k, f in enumerate(chosen)]
        for f, c in zip(fs, chosen):
            try:
                f.result()
            except Exception as e:
                print("EXC", c.name, repr(e))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
