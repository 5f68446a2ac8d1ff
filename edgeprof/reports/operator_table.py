"""The operators on a terminal: one form for every runtime, as wide as there is room."""

from __future__ import annotations

from typing import Literal

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from edgeprof.operators import OperatorRow
from edgeprof.reports.joules import Joules, energy_cell
from edgeprof.reports.quantities import count, duration, keep_end, percent, plain, shape, size

__all__ = ["OperatorTable"]

# From these widths on the operator table also shows work and output shapes, and input shapes too.
WIDE, WIDEST = 112, 150
BAR_WIDTH, TYPE_WIDTH, INPUT_WIDTH, OUTPUT_WIDTH = 8, 17, 18, 14
NARROWEST_NAME, WIDEST_NAME = 16, 60
Column = tuple[str, int, Literal["left", "right"]]
COLUMNS: tuple[Column, ...] = (
    ("Type", TYPE_WIDTH, "left"),
    ("Maps to", 8, "left"),
    ("Time", 8, "right"),
    ("Share", 5, "right"),
    ("", BAR_WIDTH, "left"),
    ("Spread", 6, "right"),
)
WORK_COLUMNS: tuple[Column, ...] = (
    ("MACs", 7, "right"),
    ("Moved", 7, "right"),
    ("MAC/B", 6, "right"),
)
ENERGY_COLUMN: Column = ("Above rest", 14, "right")
INPUT_COLUMN: Column = ("Input", INPUT_WIDTH, "left")
OUTPUT_COLUMN: Column = ("Output", OUTPUT_WIDTH, "left")
# What a narrow terminal does without, the least wanted first: bars, spread, type.
DROPPED = ("", "Spread", "Type")
MARKS = {"layout": "layout", "unmapped": "unmapped", "node": "node"}


class OperatorTable:
    """The operators in one form for every runtime; a wide terminal also gets work and shapes, others are told where."""

    def __init__(self, rows: list[OperatorRow], step_s: float, run_id: str, found: Joules) -> None:
        self._rows = rows
        self._found = found
        self._step_s = step_s
        self._run_id = run_id

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        is_wide, is_widest = options.max_width >= WIDE, options.max_width >= WIDEST
        extra = (*WORK_COLUMNS, *((INPUT_COLUMN,) if is_widest else ()), OUTPUT_COLUMN) if is_wide else ()
        with_energy = (ENERGY_COLUMN,) if self._found.operators is not None else ()
        room = options.max_width - sum(width + 1 for _, width, _ in with_energy)
        columns = (*_fitting(room), *with_energy, *extra)
        room = options.max_width - sum(width + 1 for _, width, _ in columns)
        name_width = min(WIDEST_NAME, max(NARROWEST_NAME, room))
        table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
        table.add_column("Operator", width=name_width, no_wrap=True)
        for title, width, justify in columns:
            table.add_column(title, width=width, justify=justify, no_wrap=True)
        largest = max((row.share or 0.0 for row in self._rows), default=0.0)
        for row in self._rows:
            name = Text(keep_end(plain(row.name), name_width), style="dim" if row.origin == "layout" else "")
            cells = _cells(row, largest, self._step_s) | (_work_cells(row) if is_wide else {})
            cells["Above rest"] = Text(energy_cell(self._found.of_kernel(row.index)))
            table.add_row(name, *(cells[title] for title, _, _ in columns))
        yield table
        if not is_wide:
            export = f"`edgeprof runs export {plain(self._run_id)} --csv -`"
            yield Text(f"MACs, bytes moved, intensity and shapes: a wider terminal, or {export}", style="dim")


def _fitting(room: int) -> tuple[Column, ...]:
    columns = list(COLUMNS)
    for dropped in DROPPED:
        if NARROWEST_NAME + sum(width + 1 for _, width, _ in columns) > room:
            columns = [column for column in columns if column[0] != dropped]
    return tuple(columns)


def _cells(row: OperatorRow, largest: float, step_s: float) -> dict[str, Text]:
    took = ("~" if row.below_resolution else "") + duration(row.median_s, step_s=step_s)
    length = round(BAR_WIDTH * (row.share or 0.0) / largest) if largest else 0
    return {
        "Type": Text(_keep_start(plain(row.type), TYPE_WIDTH)),
        "Maps to": Text(_maps_to(row), style="yellow" if row.origin == "unmapped" else ""),
        "Time": Text(took),
        "Share": Text(percent(row.share)),
        "": Text("█" * length, style="blue"),
        "Spread": Text(percent(row.spread), style="dim"),
    }


def _maps_to(row: OperatorRow) -> str:
    return f"{len(row.nodes)} nodes" if row.origin == "fused" else MARKS.get(row.origin, plain(row.origin))


def _work_cells(row: OperatorRow) -> dict[str, Text]:
    return {
        "MACs": Text(count(row.macs)),
        "Moved": Text(size(row.moved_bytes)),
        "MAC/B": Text("-" if row.intensity is None else f"{row.intensity:.3g}"),
        "Input": _first_shape(row.input_shapes, INPUT_WIDTH),
        "Output": _first_shape(row.output_shapes, OUTPUT_WIDTH),
    }


def _first_shape(shapes: tuple[tuple[int, ...], ...], width: int) -> Text:
    """The first shape, and how many more there are: "1x16x48x48 +2"."""
    if not shapes:
        return Text("-")
    more = f" +{len(shapes) - 1}" if len(shapes) > 1 else ""
    return Text(_keep_start(shape(shapes[0]), width - len(more)) + more)


def _keep_start(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
