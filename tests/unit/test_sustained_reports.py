"""Running without rest on a terminal: everything is said, also what is not known, and nothing is taken for markup."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import msgspec
from rich.console import Console, RenderableType

from edgeprof.reports.sustained import Endured, endured, render_standings, render_sustained, write_endured
from edgeprof.sustained import sustained
from tests.unit.sustained_runs import NOTHING_READABLE, of_numbers


def printed(page: RenderableType, width: int = 160) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(page)
    return out.getvalue()


def heats(k: int) -> dict[str, Any]:
    return {"temperatures_c": {"cpu": 50.0 + k}, "throttled": 0b100 if k >= 8 else 0}


def test_the_page_says_when_it_throttled_and_what_is_left() -> None:
    page = printed(render_sustained(sustained(of_numbers([0.010] * 9 + [0.015] * 21, heats))))

    assert "Without rest      net.onnx on pi5, onnxruntime, for 300 s (run 20260101-000000-0a0b)" in page
    assert "Throttled         after 80 to 90 s: the firmware reported throttled" in page
    assert "of 6 rounds from 0 to 60 s" in page
    assert re.search(r"Last by first     1\.(49|50)\d \(95% interval .*: slower in the end", page)
    assert "Temperature       49 C at first, after the gate waited 12 s; 79 C at most, 79 C in the end" in page
    assert "Heat course       ▁" in page
    assert "50 to 79 C" in page
    assert "Not trusted" not in page
    assert "Origin" not in page


def test_what_is_not_known_is_said_with_its_reason_and_devices_cannot_format_our_page() -> None:
    unreadable = {**NOTHING_READABLE, "unreadable": {"temperature": "[bold]no sensor[/bold]\x1b[31m"}}
    run = of_numbers([0.010] * 3, lambda _: unreadable, n_runs=1, name="[red]x[/red]")

    page = printed(render_sustained(sustained(run)))

    assert "[red]x[/red] on pi5" in page
    assert "Temperature       not known: [bold]no sensor[/bold]\N{REPLACEMENT CHARACTER}[31m" in page
    assert "Throttled         no: no clock can be read, and 3 rounds are too few" in page
    assert "an interval needs at least 4 runs" in page
    assert "without an interval: too few runs" in page
    assert "Steady            none: 3 rounds are too few" in page
    assert "Heat course" not in page


def test_a_simulated_run_and_a_doubtful_one_are_called_so() -> None:
    run = of_numbers([0.010] * 12, lambda k: {"power_source": "Mains online" if k < 3 else None})
    simulated = replace(run, profile=replace(run.profile, origin="simulated"))

    page = printed(render_sustained(sustained(simulated)))

    assert "SIMULATED: says nothing of a real device" in page
    assert "Not trusted       the power source changed after 40 s, from Mains online to unknown" in page


def test_a_steady_course_is_a_flat_line_and_a_long_one_fits_a_terminal() -> None:
    flat = printed(render_sustained(sustained(of_numbers([0.010] * 12, noise=0.0))))
    long = printed(render_sustained(sustained(of_numbers([0.010 + 1e-5 * k for k in range(200)]))), width=100)

    assert f"Latency course    {'▁' * 12}  10.0 ms to 10.0 ms" in flat
    (course,) = [line for line in long.splitlines() if line.startswith("Latency course")]
    assert course.split()[2].startswith("▁")
    assert course.split()[2].endswith("█")
    assert len(course.split()[2]) == 60


def test_standings_are_a_table_with_both_ranks_and_what_turned_round() -> None:
    found = endured(
        [
            sustained(of_numbers([0.010] * 6 + [0.015] * 12, name="big", id="a")),
            sustained(of_numbers([0.012] * 18, name="small", id="b", seed=1)),
            sustained(of_numbers([0.012] * 18, name="alone", id="c", device="other", seed=2)),
        ]
    )

    (standings,) = found.standings
    page = printed(render_standings(standings))

    assert "pi5: ranks in the first and in the last minute" in page
    rows = [line.split() for line in page.splitlines() if line.startswith(("small", "big"))]
    assert [(row[0], row[3], row[6]) for row in rows[:2]] == [("small", "2.", "1."), ("big", "1.", "2.")]
    assert "Kendall's tau between the two orders: -1.00" in page
    assert "big is faster than small in the first minute, and slower in the last" in page


def test_the_json_reads_back_as_what_was_written() -> None:
    found = endured([sustained(of_numbers([0.010] * 12, heats))])

    assert msgspec.json.decode(write_endured(found), type=Endured) == found
