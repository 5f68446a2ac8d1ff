"""The table of faults: a line for a terminal, a row of docs/reliability.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.faults.audit import Audit
from tests.faults.fault import Fault

__all__ = ["PAGE", "Row", "names_in", "write"]

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- written by `make faults` -->\n", "<!-- end of what `make faults` writes -->\n"
HEAD = (
    "| fault | measured in the end | lost | doubled or invented | left on the device | what is said |\n"
    "|---|---|---|---|---|---|\n"
)
NAME = re.compile(r"^\| ([^|]+) \|", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of one fault; `happened` is what differs from one time to the next, and stays out of the page."""

    name: str
    measured: str
    lost: str
    invented: str
    left_over: str
    said: str
    wrong: tuple[str, ...]
    happened: str

    @classmethod
    def of(cls, fault: Fault, found: Audit, took_s: float) -> Self:
        return cls(
            name=fault.name,
            measured=f"{found.states['done']} of {sum(found.states.values())}",
            lost=str(len(found.lost)),
            invented=str(len(found.doubled) + len(found.invented)),
            left_over=", ".join(found.left_over) or "nothing",
            said=f"“{fault.says}”" if fault.says else "nothing: it is not noticed",
            wrong=tuple(fault.judge(found)),
            happened=f"{found.n_tried_again} further attempts, {took_s:.0f} s",
        )

    @classmethod
    def of_emulated(cls, name: str, wrong: list[str], took_s: float) -> Self:
        """A fault of an emulated device, of which is known only what was wrong after it."""
        measured, nothing, said = ("; ".join(wrong), "?", "?") if wrong else ("all", "0", "see tests/lab/faults.py")
        return cls(
            name=name,
            measured=measured,
            lost=nothing,
            invented=nothing,
            left_over="?" if wrong else "nothing",
            said=said,
            wrong=tuple(wrong),
            happened=f"{took_s:.0f} s",
        )

    def for_terminal(self) -> str:
        line = (
            f"{'NOT SURVIVED' if self.wrong else 'survived'}  {self.name}: {self.happened}; {self.measured} measured, "
            f"{self.lost} lost, {self.invented} doubled or invented, left on the device: {self.left_over}; "
            f"said: {self.said}"
        )
        return "\n    WRONG: ".join([line, *self.wrong])

    def for_page(self) -> str:
        cells = (self.name, self.measured, self.lost, self.invented, self.left_over, self.said)
        return f"| {' | '.join(cells)} |\n"


def names_in(page: str) -> list[str]:
    """The faults that a page has a row for."""
    return NAME.findall(_rows(page))


def write(rows: Iterable[Row]) -> None:
    """Put these rows into the page, in the place of older ones of the same faults."""
    page = PAGE.read_text(encoding="utf-8")
    lines = dict(zip(names_in(page), _rows(page).splitlines(keepends=True), strict=True))
    lines |= {row.name: row.for_page() for row in rows}
    before, _, _ = page.partition(BEGIN)
    _, _, after = page.partition(END)
    PAGE.write_text(before + BEGIN + HEAD + "".join(lines.values()) + END + after, encoding="utf-8")


def _rows(page: str) -> str:
    _, _, rest = page.partition(BEGIN + HEAD)
    return rest.partition(END)[0]
