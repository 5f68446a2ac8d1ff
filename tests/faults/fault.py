"""A fault: what happens, and what must come of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.audit import Audit, judge
from tests.faults.scene import N_JOBS, Scene

__all__ = ["AT_ONCE", "Catalogue", "Fault"]

# How many may happen at a time, each to a campaign of its own: more than there are CPUs, and processes of a fault that
# wait for each other would be too late for deadlines of seconds.
AT_ONCE = max(1, min(4, os.cpu_count() or 1))
# Given the scene's folder, a program that stands in place of the device's Python.
StandIn = Callable[[Path], Path]
Happen = Callable[[Scene], None]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`happen` begins the campaign, does the harm and mends what shall be mended.

    `says` must be in what edgeprof prints, empty where there is nothing to say; `n_done` of the device's jobs must be
    done in the end, all campaigns taken together. `why_not` says why it cannot be done on this machine, or None.
    """

    name: str
    happen: Happen
    says: str = ""
    n_done: int = N_JOBS
    stand_in: StandIn | None = None
    why_not: Callable[[], str | None] = field(default=lambda: None)

    def play(self, folder: Path) -> Audit:
        """Let it happen, and look at what came of it."""
        folder.mkdir(parents=True, exist_ok=True)
        python = sys.executable if self.stand_in is None else str(self.stand_in(folder))
        with Scene(folder, python) as scene:
            self.happen(scene)
            found = scene.finish()
            assert scene.relay.trip is None, "what was to happen to the link never did"
            return found

    def judge(self, found: Audit) -> list[str]:
        """Everything that is not as it must be; empty where the fault was survived."""
        return judge(found, n_done=self.n_done, n_steady_done=N_JOBS, says=self.says)


class Catalogue(list[Fault]):
    """Faults of one kind, in the order in which a file tells them."""

    def fault(
        self,
        name: str,
        says: str = "",
        *,
        n_done: int = N_JOBS,
        stand_in: StandIn | None = None,
        why_not: Callable[[], str | None] = lambda: None,
    ) -> Callable[[Happen], Happen]:
        """Keep the function below as what happens."""

        def keep(happen: Happen) -> Happen:
            self.append(Fault(name=name, happen=happen, says=says, n_done=n_done, stand_in=stand_in, why_not=why_not))
            return happen

        return keep
