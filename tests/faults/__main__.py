"""Let every fault happen, print what came of each, and keep it: python -m tests.faults [WORDS OF NAMES]"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults import table
from tests.faults.catalogue import FAULTS
from tests.faults.fault import AT_ONCE, Fault
from tests.faults.table import Row
from tests.integration import sshd
from tests.lab import fleet
from tests.lab.faults import LAB_FAULTS


def main(words: list[str]) -> int:
    """The exit code: 1 if a fault was not survived."""
    plays = _on_loopback(words)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="edgeprof-faults-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        for row in pool.map(lambda k: plays[k](Path(folder) / str(k)), range(len(plays))):
            print(row.for_terminal(), flush=True)
            rows.append(row)
        # One after the other: an emulated device takes a core for itself.
        for number, (name, play) in enumerate(_on_emulated_devices(words)):
            began_s = time.monotonic()
            wrong = play(_made(Path(folder) / f"lab{number}"))
            rows.append(Row.of_emulated(name, wrong, time.monotonic() - began_s))
            print(rows[-1].for_terminal(), flush=True)
    table.write(rows)
    n_wrong = sum(bool(row.wrong) for row in rows)
    print(f"{len(rows) - n_wrong} of {len(rows)} faults were survived; the table is in {table.PAGE.name}")
    return int(n_wrong > 0)


def _on_loopback(words: list[str]) -> list[Callable[[Path], Row]]:
    reason = sshd.why_not()
    if reason:
        print(f"left out: every fault over sshd: {reason}")
        return []
    plays = []
    for one in FAULTS:
        if _is_meant(one.name, words):
            why_not = one.why_not()
            if why_not:
                print(f"left out: {one.name}: {why_not}")
            else:
                plays.append(_play(one))
    return plays


def _on_emulated_devices(words: list[str]) -> list[tuple[str, Callable[[Path], list[str]]]]:
    """The catalogue of the lab: names, and what plays each and returns what is wrong afterwards."""
    chosen = [one for one in LAB_FAULTS if _is_meant(one[0], words)]
    reason = fleet.why_not() if chosen else None
    if reason:
        print(f"left out: {len(chosen)} faults of emulated devices: {reason}")
        return []
    return chosen


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _play(one: Fault) -> Callable[[Path], Row]:
    def play(folder: Path) -> Row:
        began_s = time.monotonic()
        found = one.play(folder)
        return Row.of(one, found, time.monotonic() - began_s)

    return play


def _is_meant(name: str, words: list[str]) -> bool:
    return not words or any(word in name for word in words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
