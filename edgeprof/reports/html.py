"""A run as a fragment of HTML for notebooks: complete in itself, in the colours of the page that shows it.

Everything that came from a model or a device passes through `_text`, which escapes it.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from device_agents.wire import MEASURED
from edgeprof.errors import MeasurementError
from edgeprof.operators import OperatorRow, OperatorTotals, operator_rows, operator_totals
from edgeprof.reports.agreement import ADVICE, agreement
from edgeprof.reports.joules import Joules, energy_cell, energy_lines, joules
from edgeprof.reports.quantities import count, duration, interval, percent, plain, shape, size
from edgeprof.reports.structure import structure_line
from edgeprof.run import Run
from edgeprof.statistics import Summary, summarise, usable_rounds
from edgeprof.verdict import TRUSTED, Verdict, judge, operator_notes

__all__ = ["html_fragment"]

# Levels whose samples are sound although something is missing or moved; the others are shown as alarms.
DOUBTFUL = ("steady-unverified", "noisy", "gate-timeout")
ROUND_WIDTH, CHART_HEIGHT, MARGIN = 34, 84, 8
# Tints are mixed from the page's own text colour, so light and dark themes need no detection.
STYLE = """
.edgeprof{--line:color-mix(in srgb,currentColor 18%,transparent);--faint:color-mix(in srgb,currentColor 7%,transparent);
--soft:color-mix(in srgb,currentColor 68%,transparent);--bar:#4c8dd6;--good:#2f9e5b;--warn:#a8700a;--bad:#d64545;
color:inherit;font-size:13px;line-height:1.45;max-width:1080px;font-variant-numeric:tabular-nums}
.edgeprof *{box-sizing:border-box}
.edgeprof p{margin:2px 0}
.edgeprof .soft{color:var(--soft)}
.edgeprof .head{display:flex;flex-wrap:wrap;gap:4px 10px;align-items:center;margin-bottom:2px}
.edgeprof .model{font-size:17px;font-weight:600;overflow-wrap:anywhere}
.edgeprof .chip{padding:1px 9px;border-radius:10px;font-size:11px;font-weight:600;letter-spacing:.03em;
text-transform:uppercase;color:#fff;background:var(--tone)}
.edgeprof .good{--tone:var(--good)}.edgeprof .warn{--tone:var(--warn)}.edgeprof .bad{--tone:var(--bad)}
.edgeprof .figures{display:flex;flex-wrap:wrap;gap:10px;margin:10px 0}
.edgeprof .figure{border:1px solid var(--line);border-radius:6px;padding:8px 12px;min-width:112px}
.edgeprof .figure b{display:block;font-size:16px;font-weight:600}
.edgeprof .figure.main b{font-size:26px;line-height:1.25}
.edgeprof .label{font-size:11px;color:var(--soft)}
.edgeprof svg{display:block;overflow:visible}
.edgeprof ul{margin:4px 0 8px;padding-left:18px}
.edgeprof li{margin:2px 0;overflow-wrap:anywhere}
.edgeprof .reasons{border-left:3px solid var(--tone);padding-left:10px;margin:8px 0}
.edgeprof details{margin:6px 0}.edgeprof summary{cursor:pointer;color:var(--soft)}
.edgeprof .scroll{overflow-x:auto}
.edgeprof table{border-collapse:collapse;width:100%;margin:6px 0;border:0;font-size:12px;table-layout:auto}
.edgeprof th,.edgeprof td{padding:3px 8px;text-align:left;border:0;border-bottom:1px solid var(--line);
background:none;vertical-align:top;white-space:nowrap}
.edgeprof th{font-weight:600;color:var(--soft)}
.edgeprof th.n,.edgeprof td.n{text-align:right}
.edgeprof td.name{white-space:normal;overflow-wrap:anywhere;min-width:240px}
.edgeprof td.type{white-space:normal;min-width:90px}
.edgeprof tbody tr:hover td{background:var(--faint)}
.edgeprof .bar{display:block;width:90px;height:9px;margin-top:5px;border-radius:2px;background:var(--faint)}
.edgeprof .bar i{display:block;height:100%;min-width:1px;border-radius:2px;background:var(--bar)}
.edgeprof tr.layout td,.edgeprof tr.unmapped td.mark{color:var(--soft)}
.edgeprof dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 14px;margin:6px 0}
.edgeprof dt{color:var(--soft)}.edgeprof dd{margin:0;overflow-wrap:anywhere}
"""


def html_fragment(run: Run, *, top: int = 20) -> str:
    """The run's page: head, latency with interval, verdict, and every operator, the slowest `top` of them unfolded."""
    try:
        summary = summarise(run.profile)
    except MeasurementError:
        summary = None
    verdict = judge(run.profile, summary)
    found = joules(run)
    parts = (
        f"<style>{STYLE}</style>",
        _head(run, verdict),
        _figures(run, summary),
        _reasons(run, verdict),
        _energy(run, found),
        *_operators(run, top, found),
        _details(run, verdict),
    )
    return f'<div class="edgeprof">{"".join(parts)}</div>'


def _text(text: str) -> str:
    return html.escape(plain(text))


def _breakable(name: str) -> str:
    """A node's name that breaks between its parts before it breaks inside them."""
    return _text(name).replace("/", "/<wbr>")


# --- head and figures ----------------------------------------------------------------------------------------------


def _head(run: Run, verdict: Verdict) -> str:
    profile, machine = run.profile, run.profile.machine
    what = ", ".join(part for part in (machine.model, machine.cpu, machine.architecture) if part)
    shapes = ", ".join(f"{t.name} {t.dtype} {shape(t.shape)}" for t in profile.inputs)
    return (
        f'<div class="head"><span class="model">{_text(profile.job.model.name)}</span>'
        f'<span class="chip {_tone(verdict.level, profile.origin)}">{_text(verdict.level)}</span>'
        f'<span class="chip {"good" if profile.origin == MEASURED else "warn"}">{_text(profile.origin)}</span></div>'
        f'<p class="soft">on <b>{_text(run.device)}</b> ({_text(what)}), {_text(profile.job.runtime)} '
        f"{_text(profile.runtime_version)}, inputs {_text(shapes)}</p>"
        f"{_origin_warning(profile.origin)}"
    )


def _origin_warning(origin: str) -> str:
    if origin == MEASURED:
        return ""
    return f'<p class="soft">The samples are {_text(origin)}: no measurement of real hardware of this kind.</p>'


def _tone(level: str, origin: str) -> str:
    if level == TRUSTED:
        return "good" if origin == MEASURED else "warn"
    return "warn" if level in DOUBTFUL else "bad"


def _figures(run: Run, summary: Summary | None) -> str:
    if summary is None:
        return "<p><b>No latency:</b> there is no usable sample.</p>"
    cards = [
        _card("Median latency", duration(summary.median_s), _interval(summary), kind="figure main"),
        _card("90th percentile", duration(summary.p90_s), summary.p90_missing or ""),
        _card("99th percentile", duration(summary.p99_s), _short_reason(summary.p99_missing), summary.p99_missing),
        _card("First inference", duration(summary.first_inference_s), f"initialise {duration(summary.initialise_s)}"),
        _card("Peak memory", size(run.profile.memory_peak_bytes), _memory_before(run)),
        _chart(run, summary),
    ]
    return f'<div class="figures">{"".join(cards)}</div>'


def _card(label: str, figure: str, below: str = "", hint: str | None = None, *, kind: str = "figure") -> str:
    title = f' title="{_text(hint)}"' if hint else ""
    return (
        f'<div class="{kind}"{title}><span class="label">{_text(label)}</span><b>{_text(figure)}</b>'
        f'<span class="label">{_text(below)}</span></div>'
    )


def _interval(summary: Summary) -> str:
    if summary.median_low_s is None or summary.median_high_s is None:
        return f"no interval: {summary.interval_missing}"
    if not summary.is_interval_useful:
        return "no useful interval: rounds differ too much"
    _, bounds = interval(summary.median_s, summary.median_low_s, summary.median_high_s)
    return f"{summary.confidence:.0%} interval {bounds} (±{percent(summary.relative_half_width)})"


def _short_reason(missing: str | None) -> str:
    return "too few runs" if missing and "needs at least" in missing else missing or ""


def _memory_before(run: Run) -> str:
    before = run.profile.memory_before_bytes
    return f"{size(before)} before loading" if before is not None else ""


def _chart(run: Run, summary: Summary) -> str:
    """Each round as a box: 10th to 90th percentile, middle half, median; behind them the interval of the median."""
    rounds = usable_rounds(run.profile)
    points = [np.percentile(samples, (10, 25, 50, 75, 90)) for samples in rounds]
    low, high = min(float(p[0]) for p in points), max(float(p[-1]) for p in points)
    span = (high - low) or high or 1.0

    def y(seconds: float) -> float:
        return round(MARGIN + (high - seconds) / span * (CHART_HEIGHT - 2 * MARGIN), 1)

    width = ROUND_WIDTH * len(points)
    shapes = [_band(summary, y, width)]
    for k, (p10, p25, p50, p75, p90) in enumerate(map(np.ndarray.tolist, points)):
        x, middle = k * ROUND_WIDTH + 9, k * ROUND_WIDTH + ROUND_WIDTH / 2
        shapes.append(
            f"<g><title>round {k + 1}: median {_text(duration(p50))}, 80 % of runs {_text(duration(p10))} to "
            f'{_text(duration(p90))}</title><path d="M{middle} {y(p90)}V{y(p10)}" stroke="currentColor" opacity=".45"/>'
            f'<rect x="{x}" y="{y(p75)}" width="{ROUND_WIDTH - 18}" height="{max(1.0, round(y(p25) - y(p75), 1))}" '
            f'fill="#4c8dd6" opacity=".75"/><path d="M{x - 2} {y(p50)}h{ROUND_WIDTH - 14}" stroke="currentColor" '
            'stroke-width="2"/></g>'
        )
    return (
        f'<div class="figure"><span class="label">{len(points)} rounds, {summary.n_runs} runs: '
        f"{_text(duration(low))} to {_text(duration(high))}</span>"
        f'<svg role="img" aria-label="latency of each round" width="{width}" height="{CHART_HEIGHT}" '
        f'viewBox="0 0 {width} {CHART_HEIGHT}">{"".join(shapes)}</svg></div>'
    )


def _band(summary: Summary, y: Callable[[float], float], width: int) -> str:
    if summary.median_low_s is None or summary.median_high_s is None:
        return ""
    top = max(0.0, y(summary.median_high_s))
    height = max(1.0, min(float(CHART_HEIGHT), y(summary.median_low_s)) - top)
    return f'<rect x="0" y="{top}" width="{width}" height="{height:.1f}" fill="#2f9e5b" opacity=".18"/>'


# --- verdict -------------------------------------------------------------------------------------------------------


def _reasons(run: Run, verdict: Verdict) -> str:
    items = [f'{_text(r.what)}<br><span class="soft">→ {_text(r.do)}</span>' for r in verdict.reasons]
    parts = []
    if items:
        parts.append(f'<div class="reasons {_tone(verdict.level, run.profile.origin)}">{_list(items)}</div>')
    found = agreement(run)
    if found.agrees is False:
        doubts = _list([*map(html.escape, found.doubts), f'<span class="soft">→ {_text(ADVICE)}</span>'])
        parts.append(f'<div class="reasons warn"><p>Outputs {html.escape(found.sentence)}</p>{doubts}</div>')
    else:
        parts.append(f'<p><span class="soft">Outputs</span> {html.escape(found.sentence)}</p>')
    return "".join(parts)


def _list(items: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def _details(run: Run, verdict: Verdict) -> str:
    """What one looks up rather than reads."""
    profile = run.profile
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(run.created_at_s))
    rows = [
        ("Run", f"{run.id}, {when}, edgeprof {run.edgeprof_version}"),
        ("Model", f"{profile.job.model.format}, {profile.job.model.digest}"),
        ("Machine", f"{profile.machine.kernel}, {profile.machine.libc}, {profile.machine.n_cpus} CPUs"),
        ("In force", ", ".join(f"{key}={value}" for key, value in sorted(profile.in_force.items()))),
        *(("Not readable", what) for what in verdict.unreadable),
        *(("Note", note) for note in (*verdict.notes, *profile.notes, *run.notes)),
    ]
    body = "".join(f"<dt>{_text(name)}</dt><dd>{_text(what)}</dd>" for name, what in rows)
    return f"<details><summary>Conditions and notes</summary><dl>{body}</dl></details>"


# --- energy --------------------------------------------------------------------------------------------------------


def _energy(run: Run, found: Joules) -> str:
    lines = list(energy_lines(run, found))
    if not lines:
        return ""
    if found.model is None:
        return f'<p><span class="soft">{_text(lines[0].label)}</span> {_text(lines[0].text)}</p>'
    body = "".join(f"<dt>{_text(line.label)}</dt><dd>{_text(line.text)}</dd>" for line in lines)
    return f"<dl>{body}</dl>"


# --- operators -----------------------------------------------------------------------------------------------------


def _operators(run: Run, top: int, found: Joules) -> Iterator[str]:
    rows, totals, recorded = operator_rows(run), operator_totals(run), run.profile.operators
    if recorded is None or totals is None or not rows:
        why = run.profile.operators_missing or "no kernel was timed"
        yield f'<p class="soft">No operators: {_text(why)}</p>'
        return
    rows = sorted(rows, key=lambda row: -(row.median_s or 0.0))
    largest = max(row.share or 0.0 for row in rows)
    yield _table(rows[:top], largest, recorded.resolution_s, found)
    if rows[top:]:
        share = percent(sum(row.share or 0.0 for row in rows[top:]))
        rest = _table(rows[top:], largest, recorded.resolution_s, found)
        yield f"<details><summary>{len(rows) - top} more kernels, {share} of the time</summary>{rest}</details>"
    yield _sums(run, totals)


def _table(rows: Sequence[OperatorRow], largest: float, step_s: float, found: Joules) -> str:
    energy = '<th class="n">Energy above rest</th>' if found.operators is not None else ""
    head = (
        '<th>Operator</th><th>Type</th><th>Maps to</th><th class="n">Time</th><th class="n">Share</th><th></th>'
        f'{energy}<th class="n">Spread</th><th class="n">MACs</th><th class="n">Moved</th><th>Output</th>'
    )
    body = "".join(_row(row, largest, step_s, found) for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _row(row: OperatorRow, largest: float, step_s: float, found: Joules) -> str:
    cell = _text(energy_cell(found.of_kernel(row.index)))
    energy = f'<td class="n">{cell}</td>' if found.operators is not None else ""
    took = ("~" if row.below_resolution else "") + duration(row.median_s, step_s=step_s)
    width = round(100 * (row.share or 0.0) / largest, 1) if largest else 0
    maps_to = f"{len(row.nodes)} nodes" if row.origin == "fused" else row.origin
    output = shape(row.output_shapes[0]) if row.output_shapes else "-"
    more = f" +{len(row.output_shapes) - 1}" if len(row.output_shapes) > 1 else ""
    kind = row.origin if row.origin in ("layout", "unmapped") else ""
    return (
        f'<tr class="{kind}"><td class="name" title="kernel: {_text(row.kernel)}">{_breakable(row.name)}</td>'
        f'<td class="type">{_text(row.type)}</td><td class="mark">{_text(maps_to)}</td><td class="n">{_text(took)}</td>'
        f'<td class="n">{percent(row.share)}</td><td><span class="bar"><i style="width:{width}%"></i></span></td>'
        f'{energy}<td class="n">{percent(row.spread)}</td><td class="n">{count(row.macs)}</td>'
        f'<td class="n">{size(row.moved_bytes)}</td><td>{_text(output + more)}</td></tr>'
    )


def _sums(run: Run, totals: OperatorTotals) -> str:
    parts = [f"{totals.n_kernels} kernels, sum {duration(totals.sum_s)}"]
    if totals.profiled_median_s is not None:
        overhead = "" if totals.overhead is None else f" ({round(totals.overhead, 3) + 0.0:+.1%} for profiling)"
        parts.append(f"profiled run {duration(totals.profiled_median_s)}{overhead}")
    if totals.remainder_s is not None:
        parts.append(f"unexplained {duration(totals.remainder_s)} ({percent(totals.remainder_share)})")
    parts.append(f"unmapped {totals.n_unmapped} kernels ({percent(totals.unmapped_share)})")
    if run.structure is not None:
        parts.append(structure_line(run.structure))
    line = f'<p class="soft">{_text("; ".join(parts))}</p>'
    notes = [note for note in (totals.note, *operator_notes(run.profile)) if note]
    return line + (_list(map(_text, notes)) if notes else "")
