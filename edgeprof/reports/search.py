"""A search as text, as a card of one page for each member of its front, as JSON, and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edgeprof.models.groups import counted
from edgeprof.reports.quantities import duration, percent, plain
from edgeprof.search.assembling import Assembled
from edgeprof.search.evaluation import Evaluation, Goal
from edgeprof.search.judging import Judgement, error_of
from edgeprof.search.progress import Progress
from edgeprof.search.session import Found, Payback
from edgeprof.search.verifying import Member
from edgeprof.values import Value

__all__ = ["card", "draw_front", "progress_document", "render_found", "render_progress", "to_document", "value_words"]

SCHEMA = 1
KIBIBYTE = 1024


def value_words(goal: str, value: Value | float) -> str:
    """A number of a goal in its unit."""
    number = value.value if isinstance(value, Value) else value
    kind = goal.split(" ")[0]
    if kind == "latency":
        return duration(number)
    if kind == "error":
        return percent(1.0 - number)
    if kind == "energy":
        return f"{number * 1e3:.3g} mJ"
    if kind == "carbon":
        return grams_words(number)
    return f"{number / KIBIBYTE:.4g} KiB"


def _title(goal: Goal) -> str:
    """Accuracy is what people read, and error what is made small."""
    return goal.name.replace("error", "accuracy")


def _range(goal: str, value: Value) -> str:
    if value.low == value.high:
        return value_words(goal, value)
    low, high = value_words(goal, value.low), value_words(goal, value.high)
    low, high = (high, low) if goal.startswith("error") else (low, high)
    return f"{value_words(goal, value)} ({low} to {high})"


def render_progress(progress: Progress, goals: Sequence[Goal]) -> RenderableType:
    """How far it is, and the front as the search knows it."""
    failed = f", {progress.n_failed} of them failed" if progress.n_failed else ""
    ruled = f"; {progress.n_ruled_out} more were ruled out before" if progress.n_ruled_out else ""
    volume = f", hypervolume {progress.hypervolume:.3f}" if progress.hypervolume is not None else ""
    head = f"{progress.n_done} evaluated{failed}{ruled}; {len(progress.front)} on the front{volume}"
    if not progress.front:
        return head
    table = Table(box=box.SIMPLE, pad_edge=False)
    for goal in goals:
        table.add_column(_title(goal), justify="right")
    table.add_column("from", overflow="fold")
    for one in progress.front:
        origins = dict.fromkeys(one.values[goal.name].origin for goal in goals if goal.name in one.values)
        table.add_row(*(_cell(one, goal) for goal in goals), ", ".join(origins))
    return Group(head, table)


def _cell(one: Evaluation, goal: Goal) -> str:
    return _range(goal.name, one.values[goal.name]) if goal.name in one.values else "-"


def render_found(found: Found, search: Assembled, folder: Path) -> RenderableType:
    """The verified front, what the predictions were worth, and what it all took."""
    goals = search.goals
    table = Table(box=box.SIMPLE, pad_edge=False, title=f"the front of {search.space.name}, verified")
    table.add_column("net")
    for goal in goals:
        table.add_column(_title(goal), justify="right")
    table.add_column("never seen", justify="right")
    table.add_column("ties with")
    for one, stays in zip(found.members, found.on_front, strict=True):
        if one.failure is not None:
            table.add_row(one.name, f"[yellow]{escape(plain(one.failure))}[/]")
            continue
        mark = "" if stays else " (beaten)"
        cells = [_range(goal.name, one.verified[goal.name]) if goal.name in one.verified else "-" for goal in goals]
        table.add_row(
            one.name + mark, *cells, _tested(one), ", ".join(f"{number:02d}" for number in found.ties[one.number])
        )
    parts: list[RenderableType] = [table]
    origins = {
        (target, value.origin) for one in found.members for target, of in one.by_target.items() for value in of.values()
    }
    parts += [f"[yellow]{escape(plain(line))}[/]" for line in _doubtful(origins)]
    n_beaten = sum(one.failure is None and not stays for one, stays in zip(found.members, found.on_front, strict=True))
    if n_beaten:
        parts.append(f"{n_beaten} of {len(found.members)} are beaten by others, or exceed a limit, once verified")
    parts.append(
        "nets tie where the intervals of every objective overlap; the search chose by one part of the data, and "
        '"never seen" is the accuracy on another'
    )
    if any("drawn at random" in note for one in found.members for note in one.notes):
        parts.append("[yellow]the weights in these files are drawn at random: your function trained, not edgeprof[/]")
    parts += [f"[yellow]{escape(words)}[/]" for words in _weighed(search)]
    changed = _accuracies(found)
    if changed:
        parts.append(changed)
    for regret in found.regrets:
        rank = f", rank correlation {regret.spearman:.2f}" if regret.spearman is not None else ""
        off = f"predictions of {counted(regret.n, 'net')} were {percent(regret.mape)} off on average"
        parts.append(f"{escape(regret.target)}: {off}{rank}")
    if found.agreement is not None:
        parts.append(found.agreement.words)
    parts += _costs(found)
    parts.append(f"files, cards and the figure are in {folder}")
    return Group(*parts)


def _tested(one: Member) -> str:
    """The accuracy on what was never seen, with what so many samples leave open."""
    if one.test_accuracy is None:
        return "-"
    return _range("error", error_of(Judgement(one.test_accuracy, "", one.n_test)))


def _weighed(search: Assembled) -> list[str]:
    """What a goal of several targets is."""
    targets = search.evaluator.costs.targets
    if len(targets) < 2 or search.evaluator.across == "each":
        return []
    weights = ", ".join(f"{target.weight:g} x {target.name}" for target in targets)
    kind = "the worst" if search.evaluator.across == "worst" else "the sum"
    return [f"latency and the like are {kind} of {weights}; limits are of that; the cards have each target's own"]


def _accuracies(found: Found) -> str:
    """How far accuracies moved when members were trained for good."""
    from scipy.stats import spearmanr

    pairs = [
        (1.0 - one.predicted.values["error"].value, one.accuracy)
        for one in found.members
        if one.accuracy is not None and "error" in one.predicted.values
    ]
    if not pairs or all(before == after for before, after in pairs):
        return ""
    moved = sum(abs(after - before) for before, after in pairs) / len(pairs)
    several = len(pairs) > 2 and len({before for before, _ in pairs}) > 1 and len({after for _, after in pairs}) > 1
    rank = f", rank correlation {float(spearmanr(*zip(*pairs, strict=True)).statistic):.2f}" if several else ""
    return f"accuracies of {counted(len(pairs), 'net')} moved by {percent(moved)} on average in the last training{rank}"


def _doubtful(origins: set[tuple[str, str]]) -> list[str]:
    """What was not measured on hardware is said in capitals."""
    words = {
        "simulated": "{} is a SIMULATED board: nothing of it was measured on hardware",
        "emulated": "{} is an EMULATED device: its times tell nothing of real hardware",
        "predicted": "{} was PREDICTED and not measured",
    }
    found = []
    for target in sorted({target for target, _ in origins}):
        of_target = [origin for name, origin in origins if name == target]
        if "measured" not in of_target:
            kind = next((one for one in ("simulated", "emulated") if one in of_target), "predicted")
            found.append(words[kind].format(target))
    return found


def _costs(found: Found) -> list[str]:
    parts = []
    if found.joules is not None:
        joules = found.joules
        parts.append(
            f"the search took {duration(found.elapsed_s)} and {joules.value_j:.3g} J ({joules.low_j:.3g} to "
            f"{joules.high_j:.3g}, {joules.kind})"
        )
    if found.grams is not None:
        grams = found.grams
        parts.append(f"that is {grams.nominal:.3g} g CO2e ({grams.low:.3g} to {grams.high:.3g}) of electricity")
    parts += [payback_words(one) for one in found.paybacks]
    return parts


def payback_words(one: Payback) -> str:
    """After how many inferences the search is repaid."""
    if one.inferences is None:
        return f"net {one.member:02d} on {one.target} saves no grams against the most accurate one"
    low, high = (f"{bound:.1g}" if bound is not None else "never" for bound in (one.low, one.high))
    return (
        f"net {one.member:02d} on {one.target} saves {grams_words(one.saved_g)} an inference against the most accurate "
        f"one ({one.origin}): the search is repaid after some {one.inferences:.1g} inferences ({low} to {high})"
    )


def grams_words(grams: float) -> str:
    """Grams of an inference, in the unit that suits."""
    for factor, unit in ((1.0, "g"), (1e3, "mg"), (1e6, "µg"), (1e9, "ng")):
        if abs(grams) * factor >= 1.0:
            return f"{grams * factor:.3g} {unit}"
    return f"{grams * 1e12:.3g} pg"


# --- cards ---


def card(one: Member, found: Found, search: Assembled) -> str:
    """A page in Markdown: what the net is, what it does, and how each number was obtained."""
    lines = [f"# {search.space.name}, net {one.name}", ""]
    if one.failure is not None:
        return "\n".join([*lines, f"It could not be verified: {one.failure}", ""])
    lines += ["| | value | interval | how |", "|---|---|---|---|"]
    for goal in search.goals:
        if goal.name in one.verified:
            value = one.verified[goal.name]
            title = "accuracy, by which it was chosen" if goal.name == "error" else goal.name
            lines.append(_row(title, goal.name, value))
    if one.test_accuracy is not None:
        test = error_of(Judgement(one.test_accuracy, one.how, one.n_test))
        lines.append(_row(f"accuracy on {one.n_test} samples never seen", "error", test))
    for target, values in one.by_target.items():
        for name, value in values.items():
            lines.append(_row(f"{name} on {target}", name, value))
    for target, value in one.grams.items():
        low, high = value_words("carbon", value.low), value_words("carbon", value.high)
        lines.append(
            f"| CO2e of an inference on {target} | {value_words('carbon', value)} | {low} to {high} | "
            f"energy above rest, {value.origin}, x {search.intensity.name} |"
        )
    if found.grams is not None:
        lines.append(f"| CO2e of the search, all nets | {found.grams.nominal:.3g} g | {found.grams.low:.3g} to "
                     f"{found.grams.high:.3g} g | {found.joules.kind if found.joules else ''} |")  # fmt: skip
    lines += [
        "",
        "Intervals hold 90 %, of the median of latencies that were measured 95 %. Where there is none, nothing is",
    ]
    lines += ["known of it: a simulated board has no noise, and is no hardware."]
    lines += ["", "## Choices", ""]
    lines += [f"- {name}: {value}" for name, value in search.space.describe(one.predicted.architecture).items()]
    lines += _before(one, search)
    ties = found.ties[one.number]
    if ties:
        lines += ["", f"It cannot be told apart from net {', '.join(f'{number:02d}' for number in ties)}."]
    if one.notes:
        lines += ["", "## Notes", ""]
        lines += [f"- {plain(note)}" for note in one.notes]
    lines += ["", f"Files: {', '.join(one.files)}", ""]
    return "\n".join(lines)


def _row(title: str, goal: str, value: Value) -> str:
    low, high = value_words(goal, value.low), value_words(goal, value.high)
    low, high = (high, low) if goal.startswith("error") else (low, high)
    interval = f"{low} to {high}" if value.low < value.high else ""
    return f"| {title} | {value_words(goal, value)} | {interval} | {value.origin} |"


def _before(one: Member, search: Assembled) -> list[str]:
    """What to do to a sample, and what comes out."""
    data = search.data
    if data is None:
        return []
    graph = search.space.graph(one.predicted.architecture)
    shape = [dim or 0 for dim in graph.shape(graph.inputs[0]) or ()]
    steps = [*data.words]
    if len(shape) == 4 and len(data.shape) == 3 and tuple(shape[2:]) != data.shape[1:]:
        steps.append(
            f"resize {data.shape[1]} x {data.shape[2]} to {shape[2]} x {shape[3]}, bilinear with antialiasing "
            "(torch.nn.functional.interpolate)"
        )
    last = f", model.tflite {[shape[0], *shape[2:], shape[1]]} (channels last)" if len(shape) == 4 else ""
    return [
        "",
        "## Before the net, and behind it",
        "",
        *(f"{number}. {step[0].upper()}{step[1:]}." for number, step in enumerate(steps, 1)),
        "",
        f"model.onnx takes {shape}{last}, float32. A number for each class comes out, before any softmax:",
        ", ".join(f"{number} is {name}" for number, name in enumerate(data.classes)) + ".",
    ]


# --- documents ---


def progress_document(progress: Progress) -> dict[str, Any]:
    """What a search knows of its front, before anything was verified."""
    return {"schema": SCHEMA, **asdict(progress)}


def to_document(found: Found, search: Assembled) -> dict[str, Any]:
    """All of it as plain values: docs/reference/search.md."""
    return {
        "schema": SCHEMA,
        "space": search.space.name,
        "classes": list(search.data.classes) if search.data is not None else None,
        "seed": search.plan.search.seed,
        "strategy": search.plan.search.strategy,
        "objectives": [goal.name for goal in search.goals if goal.is_objective],
        "limits": {goal.name: goal.limit for goal in search.goals if goal.limit is not None},
        "n_evaluated": found.progress.n_done,
        "n_failed": found.progress.n_failed,
        "n_ruled_out": found.progress.n_ruled_out,
        "hypervolume": found.progress.hypervolume,
        "front": [
            {
                "number": one.number,
                "choices": {name: value for name, value in search.space.describe(one.predicted.architecture).items()},
                "architecture": list(one.predicted.architecture),
                "on_front": stays,
                "verified": {name: asdict(value) for name, value in one.verified.items()},
                "predicted": {name: asdict(value) for name, value in one.predicted.values.items()},
                "accuracy": one.accuracy,
                "test_accuracy": one.test_accuracy,
                "n_test": one.n_test,
                "how": one.how,
                "grams": {name: asdict(value) for name, value in one.grams.items()},
                "ties": found.ties[one.number],
                "runs": dict(one.runs),
                "files": list(one.files),
                "notes": list(one.notes),
                "failure": one.failure,
            }
            for one, stays in zip(found.members, found.on_front, strict=True)
        ],
        "regret": [asdict(one) for one in found.regrets],
        "proxy": asdict(found.agreement) if found.agreement is not None else None,
        "elapsed_s": found.elapsed_s,
        "joules": asdict(found.joules) if found.joules is not None else None,
        "grams": asdict(found.grams) if found.grams is not None else None,
        "payback": [asdict(one) for one in found.paybacks],
    }


# --- a figure ---


def draw_front(found: Found, search: Assembled, evaluated: Sequence[Evaluation]) -> bytes | None:
    """The first two objectives of everything that was evaluated, and the verified front, as PNG (extra `search`).

    None where there are not two objectives, or matplotlib is not there.
    """
    import io

    names = [goal.name for goal in search.goals if goal.is_objective][:2]
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    if len(names) < 2:
        return None
    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    (x_name, x_factor), (y_name, y_factor) = (_axis(name) for name in reversed(names))
    origins = sorted({one.verified[names[1]].origin for one in found.members if names[1] in one.verified})
    x_name = f"{x_name} ({', '.join(origins)})" if names[1] != "error" else x_name
    known = [one for one in evaluated if one.failure is None and all(name in one.values for name in names)]

    def along(values: Any, name: str, factor: float) -> float:
        number = values[name].value
        return float((1.0 - number) * 100 if name == "error" else number * factor)

    axes.scatter(
        [along(one.values, names[1], x_factor) for one in known],
        [along(one.values, names[0], y_factor) for one in known],
        s=14, color="0.75", label="evaluated, as the search saw it",
    )  # fmt: skip
    best = [one for one, stays in zip(found.members, found.on_front, strict=True) if stays]
    for one in best:
        x, y = along(one.verified, names[1], x_factor), along(one.verified, names[0], y_factor)
        value = one.verified[names[1]]
        if names[1] != "error":
            spread = [[x - value.low * x_factor], [value.high * x_factor - x]]
            axes.errorbar(x, y, xerr=spread, color="C0", marker="o", markersize=5, linewidth=1)
        else:
            axes.plot(x, y, "o", color="C0")
        axes.annotate(one.name, (x, y), textcoords="offset points", xytext=(5, 4), fontsize=8)
    axes.plot([], [], "o-", color="C0", label="the front, verified")
    axes.legend(fontsize=8)
    axes.set_xlabel(x_name)
    axes.set_ylabel(y_name)
    axes.set_title(f"{search.space.name}: verified front, with what was evaluated on the way", fontsize=9)
    file = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(file, format="png")
    return file.getvalue()


def _axis(name: str) -> tuple[str, float]:
    kind = name.split(" ")[0]
    if kind == "error":
        return "accuracy by which it was chosen, %", 1.0
    units = {"latency": ("ms", 1e3), "energy": ("mJ", 1e3), "carbon": ("ug CO2e", 1e6)}
    unit, factor = units.get(kind, ("KiB", 1 / KIBIBYTE))
    return f"{name}, {unit}", factor
