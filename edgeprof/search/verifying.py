"""The front made real: each member trained for good, written as files, measured on every device, and compared anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeprof.carbon.of_run import usage_of
from edgeprof.errors import CarbonError, EvaluationFailed, SearchError
from edgeprof.files import write_whole
from edgeprof.run import Run
from edgeprof.search.assembling import Assembled
from edgeprof.search.costs import across, grams
from edgeprof.search.devices import found_in
from edgeprof.search.evaluation import Evaluation, Goal, from_text, to_text
from edgeprof.search.judging import Finished, Judgement, error_of
from edgeprof.values import Value

if TYPE_CHECKING:
    from edgeprof.search.learning.module import Net

__all__ = ["Member", "Regret", "read_members", "regret_of", "stands", "ties_of", "verify"]

FRONT = "front"
MEMBER = "member.json"
MODEL = "model"
# Of the outputs of a file against those of the trained net, as a share of the largest.
MOST_OFF = 1e-3
SAMPLES = 8


@dataclass(frozen=True)
class Member:
    """One of the front. `predicted` is what the search went by, `verified` what was found in the end.

    `accuracy` is on what the search chose by, `test_accuracy` on `n_test` samples that it never saw. `runs` are by
    target, `grams` of an inference too; `files` are names in `folder`.
    """

    number: int
    predicted: Evaluation
    verified: Mapping[str, Value]
    by_target: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    accuracy: float | None = None
    test_accuracy: float | None = None
    n_test: int | None = None
    how: str = ""
    runs: Mapping[str, str] = field(default_factory=dict)
    grams: Mapping[str, Value] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    failure: str | None = None

    @property
    def name(self) -> str:
        """What it is called in tables and of which folder it is."""
        return f"{self.number:02d}"


def verify(
    search: Assembled, front: Sequence[Evaluation], folder: Path, tell: Callable[[str], None] = lambda text: None
) -> list[Member]:
    """Train, write and measure every member; what was done in an earlier sitting is not done again.

    Raises:
        LinkError, AgentError: a device is lost.
        SearchError: the folder cannot be written to.
    """
    found = []
    for number, one in enumerate(front, 1):
        place = folder / FRONT / f"{number:02d}"
        known = _read(place / MEMBER)
        if known is not None and known.predicted.architecture == one.architecture and known.predicted == one:
            found.append(known)
            continue
        tell(f"member {number} of {len(front)}: training, writing, measuring")
        try:
            place.mkdir(parents=True, exist_ok=True)
            member = _verified(search, one, number, place)
            write_whole(place / MEMBER, _text(member).encode())
        except OSError as error:
            raise SearchError(f"{place}: {error.strerror or error}", "is its disk full?") from error
        found.append(member)
    return found


def _verified(search: Assembled, one: Evaluation, number: int, place: Path) -> Member:
    notes = list(one.notes)
    try:
        finished = search.judge.finish(one.architecture) if search.judge is not None else None
        files = _files(search, one, finished, place, notes)
        by_target, runs, of_carbon = _measured(search, one, files, notes)
    except EvaluationFailed as error:
        return Member(number, one, {}, failure=str(error), notes=tuple(notes))
    size, predicted, _ = search.evaluator.costs.of(one.architecture)
    whole = {name: {**values, **by_target.get(name, {})} for name, values in predicted.items()}
    values = across(whole, search.evaluator.costs.targets, search.evaluator.across, size)
    if finished is not None:
        values["error"] = error_of(Judgement(finished.accuracy, finished.how, _n_valid(search)))
    return Member(
        number=number,
        predicted=one,
        verified=values,
        by_target=whole,
        accuracy=finished.accuracy if finished is not None else None,
        test_accuracy=finished.test_accuracy if finished is not None else None,
        n_test=finished.n_test if finished is not None else None,
        how=finished.how if finished is not None else "",
        runs=runs,
        grams=of_carbon,
        files=tuple(files),
        notes=tuple(dict.fromkeys(notes)),
    )


def _n_valid(search: Assembled) -> int | None:
    data = getattr(search.judge, "data", None)
    return len(data.valid) if data is not None else None


def _files(
    search: Assembled, one: Evaluation, finished: Finished | None, place: Path, notes: list[str]
) -> dict[str, bytes]:
    """The files of a member, written: trained where it was trained here, else with weights drawn at random."""
    from latency_models.building import BuildError

    net = finished.net if finished is not None else None
    found: dict[str, bytes] = {}
    formats = {"onnx", *(bench.format for bench in search.benches.values())} | {"tflite"}
    for format in sorted(formats):
        try:
            if net is not None:
                found[f"{MODEL}.{format}"] = _trained_bytes(search, one, net, format)
            else:
                found[f"{MODEL}.{format}"] = search.space.model(one.architecture, format)
        except BuildError as error:
            notes.append(f"no {format} file: {error}")
    if net is None:
        notes.append("the weights of its files are drawn at random: it was not trained here")
    else:
        found["weights.npz"] = _npz(net)
        _compare(net, found, notes)
    for name, data in found.items():
        write_whole(place / name, data)
    return found


def _trained_bytes(search: Assembled, one: Evaluation, net: Net, format: str) -> bytes:
    from edgeprof.search.learning.exporting import as_onnx, as_tflite

    return as_onnx(net) if format == "onnx" else as_tflite(net, search.space, one.architecture)


def _npz(net: Net) -> bytes:
    import io

    from edgeprof.search.learning.exporting import as_weights

    file = io.BytesIO()
    np.savez(file, **as_weights(net))  # type: ignore[arg-type]
    return file.getvalue()


def _compare(net: Net, files: Mapping[str, bytes], notes: list[str]) -> None:
    """Hold what the files compute against what the trained net does.

    Raises:
        EvaluationFailed: one computes something else.
    """
    from edgeprof.search.learning.comparing import largest_difference

    for name, data in files.items():
        if not name.startswith(MODEL):
            continue
        off = largest_difference(net, data, name.rsplit(".", 1)[1], SAMPLES)
        if off is None:
            notes.append(f"{name} was not held against the trained net: its runtime is not here")
        elif off > MOST_OFF:
            raise EvaluationFailed(
                f"{name} computes something else than the trained net: {off:.1%} of the largest output"
            )
        else:
            notes.append(f"outputs of {name} differ from the trained net's by {off:.1e} of the largest")


def _measured(
    search: Assembled, one: Evaluation, files: Mapping[str, bytes], notes: list[str]
) -> tuple[dict[str, dict[str, Value]], dict[str, str], dict[str, Value]]:
    values, runs, of_carbon = {}, {}, {}
    grid = search.intensity.input
    for name, bench in search.benches.items():
        data = files.get(f"{MODEL}.{bench.format}")
        if data is None:
            raise EvaluationFailed(f"there is no {bench.format} file of it for {name}")
        run = bench.profile(data, f"{search.space.name}-{'-'.join(map(str, one.architecture))}")
        values[name], runs[name] = found_in(run), run.id
        energy = _energy(run, notes)
        if energy is not None:
            of_carbon[name] = grams(energy, (grid.value, grid.low, grid.high))
            if "energy" in values[name]:
                values[name]["carbon"] = of_carbon[name]
    return values, runs, of_carbon


def _energy(run: Run, notes: list[str]) -> Value | None:
    """Joules of an inference above rest: metered, else modelled from the board's figures."""
    try:
        usage = usage_of(run)
    except CarbonError as error:
        notes.append(f"{run.device}: no grams: {error}")
        return None
    origin = run.profile.origin if usage.is_measured else "modelled"
    return Value(usage.net.value, usage.net.low, usage.net.high, origin)


# --- keeping ---


def _text(member: Member) -> str:
    return json.dumps({**asdict(member), "predicted": to_text(member.predicted)}, indent=1)


def _read(path: Path) -> Member | None:
    try:
        found = json.loads(path.read_text())
        values = {name: {key: Value(**value) for key, value in found[name].items()} for name in ("verified", "grams")}
        by_target = {
            name: {key: Value(**value) for key, value in of.items()} for name, of in found["by_target"].items()
        }
        lists = {name: tuple(found[name]) for name in ("files", "notes")}
        return Member(
            **{**found, **values, **lists, "by_target": by_target, "predicted": from_text(found["predicted"])}
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # not there, or of another version: it is done again


def read_members(folder: Path) -> list[Member]:
    """The members that were verified, in order."""
    found = [_read(path / MEMBER) for path in sorted((folder / FRONT).glob("[0-9]*"))]
    return [one for one in found if one is not None]


# --- comparing ---


def stands(members: Sequence[Member], goals: Sequence[Goal]) -> list[bool]:
    """Which keep the limits and are beaten by none, by what was verified; who ties with another is not beaten by it."""
    names = [goal.name for goal in goals if goal.is_objective]
    limits = {goal.name: goal.limit for goal in goals if goal.limit is not None}
    ties = ties_of(members, goals)

    def lives(one: Member) -> bool:
        return (
            one.failure is None
            and all(name in one.verified for name in names)
            and all(name not in one.verified or one.verified[name].value <= limit for name, limit in limits.items())
        )

    def beats(one: Member, other: Member) -> bool:
        pairs = [(one.verified[name].value, other.verified[name].value) for name in names]
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs) and one.number not in ties[other.number]

    alive = [one for one in members if lives(one)]
    return [one in alive and not any(beats(other, one) for other in alive) for one in members]


def ties_of(members: Sequence[Member], goals: Sequence[Goal]) -> dict[int, list[int]]:
    """Of each member those that it cannot be told apart from: every objective's intervals overlap."""
    names = [goal.name for goal in goals if goal.is_objective]

    def overlap(a: Member, b: Member) -> bool:
        return all(
            name in a.verified
            and name in b.verified
            and a.verified[name].low <= b.verified[name].high
            and b.verified[name].low <= a.verified[name].high
            for name in names
        )

    return {
        one.number: [other.number for other in members if other is not one and overlap(one, other)] for one in members
    }


@dataclass(frozen=True)
class Regret:
    """What the search's predictions of a target were worth, over `n` members that were measured.

    `mape` is the mean error; `spearman` the rank correlation, None of fewer than three.
    """

    target: str
    n: int
    mape: float
    spearman: float | None


def regret_of(members: Sequence[Member], search: Assembled) -> list[Regret]:
    """For each target that predicted and measured."""
    from scipy.stats import spearmanr

    found = []
    for target in search.evaluator.costs.targets:
        if target.estimator is None or target.name not in search.benches:
            continue
        pairs = []
        for one in members:
            if one.failure is not None or target.name not in one.runs:
                continue
            _, predicted, _ = search.evaluator.costs.of(one.predicted.architecture)
            pairs.append((predicted[target.name]["latency"].value, one.by_target[target.name]["latency"].value))
        if not pairs:
            continue
        said, was = np.array(pairs).T
        rank = float(spearmanr(said, was).statistic) if len(pairs) > 2 else None
        found.append(Regret(target.name, len(pairs), float(np.abs(said / was - 1).mean()), rank))
    return found
