"""What a search is to do, from a search.toml.

::

    objectives = ["error", "latency"]

    [search]
    evaluations = 60
    time_s = 600

    [limits]
    latency_s = 0.005
    accuracy = 0.9

    [space]
    name = "once-for-all"                 # or python = "my_space.py:MySpace", or layers = [...]
    resolutions = [8, 16]

    [data]
    source = "digits"

    [accuracy]
    by = "supernet"

    [[targets]]
    predictor = "pi5-onnxruntime"
    device = "pi5"
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from edgeprof.errors import UsageError

__all__ = ["Accuracy", "Carbon", "Data", "Limits", "Plan", "Search", "Target", "parse_plan", "read_plan"]

Count = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e12)]
Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Objective = Literal["error", "latency", "energy", "memory", "size", "carbon"]
MOST_BYTES = 1_000_000


class Search(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How it goes: it ends when any of the budgets is spent. `max_gco2e` are grams that the search itself causes.

    Candidates that limits rule out before anything dear is done are no evaluations. `threads` are for training; without
    it, all CPUs of this machine. Of a front with more than `most_verified` so many are verified, spread along it.
    """

    strategy: Literal[
        "guided",
        "random",
        "evolution",
        "tpe",
        "nsga2",
        "nsga3",
        "pymoo",
        "local",
        "nni-random",
        "nni-evolution",
        "nni-tpe",
    ] = "guided"
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    evaluations: Count = 100
    time_s: Positive | None = None
    max_gco2e: Positive | None = None
    threads: Count | None = None
    most_verified: Count = 12


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What must be kept. `accuracy` is the least, all others the most; each is of one inference."""

    accuracy: Share | None = None
    latency_s: Positive | None = None
    energy_j: Positive | None = None
    memory_bytes: Positive | None = None
    size_bytes: Positive | None = None
    carbon_g: Positive | None = None


class Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """See `edgeprof.search.learning.data.read_data`."""

    source: str
    kind: Literal["images", "sound"] = "images"
    side: Count | None = None
    seed: int = 0


class Accuracy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How good a candidate is.

    `by` "training" trains each for `epochs`, "supernet" trains one net for `epochs` of which candidates are parts,
    "function" calls `function` (`file.py:name` or `package.module:name`) with a `Candidate`, "table" reads `table`, a
    CSV with a column for each gene and one named accuracy. With `halving` above 1 a training goes on after a third and
    after two thirds only for the best one in so many. With a `proxy` candidates are ruled out that many others seem
    better than in everything; how far it agrees with accuracies is reported. `final_epochs` is how long a member of
    the front is trained at the end.
    """

    by: Literal["training", "supernet", "function", "table"] = "training"
    epochs: Count = 12
    batch: Annotated[int, msgspec.Meta(ge=2)] = 64
    learning_rate: Positive = 4e-3
    halving: Annotated[float, msgspec.Meta(ge=1)] = 1.0
    final_epochs: Count | None = None
    function: str | None = None
    table: str | None = None
    proxy: Literal["parameters", "macs", "naswot", "synflow"] | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a candidate shall run on: a predictor or a board's data sheet, a device, or a predictor and its device.

    `in_the_loop` says when the device measures: "never" but at the end, "when-it-matters" where the interval of what is
    predicted could change a decision, "always". `weight` is what a second counts where there are several targets.
    """

    predictor: str | None = None
    board: str | None = None
    device: str | None = None
    runtime: Literal["onnxruntime", "litert", "tflite", "simulated"] | None = None
    threads: Count = 1
    in_the_loop: Literal["never", "when-it-matters", "always"] = "never"
    weight: Positive = 1.0

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return self.device or self.predictor or self.board or "?"


class Carbon(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where the electricity comes from, for the search and for inferences; and when the search may work.

    Hours are of this machine's clock, as "22:00-06:00"; with `below_g_per_kwh` it waits until the provider says less.
    """

    zone: str | None = None
    intensity: str | None = None
    provider: str | None = None
    clean_hours: tuple[str, ...] = ()
    below_g_per_kwh: Positive | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A search as it was asked for. `across` is how several targets are one objective, or "each" has one of its own."""

    objectives: tuple[Objective, ...] = ("error", "latency")
    across: Literal["worst", "weighted", "each"] = "worst"
    search: Search = Search()
    limits: Limits = Limits()
    space: dict[str, Any] = {}
    data: Data | None = None
    accuracy: Accuracy = Accuracy()
    targets: tuple[Target, ...] = ()
    carbon: Carbon = Carbon()


def read_plan(path: Path) -> Plan:
    """Read a search.toml; paths in it are beside it.

    Raises:
        UsageError: it cannot be read, or makes no sense.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}", "name a search.toml") from error
    if len(data) > MOST_BYTES:
        raise UsageError(f"{path} is larger than {MOST_BYTES} bytes", "name a search.toml")
    return parse_plan(text, path.name)


def parse_plan(text: str, name: str) -> Plan:
    """The same of a text; `name` is for messages.

    Raises:
        UsageError: it makes no sense.
    """
    advice = "docs/reference/search.md has all that can be said there"
    try:
        plan = msgspec.convert(tomllib.loads(text), Plan, strict=True)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{name}: {error}", advice) from error
    wrong = _wrong(plan)
    if wrong is not None:
        raise UsageError(f"{name}: {wrong}", advice)
    return plan


def _wrong(plan: Plan) -> str | None:
    """What contradicts itself, in words."""
    if not plan.space:
        return "there is no [space]"
    if not plan.objectives or len(set(plan.objectives)) != len(plan.objectives):
        return f"objectives are {', '.join(plan.objectives) or 'none'}: name one at least, and each once"
    of_targets = {"latency", "energy", "memory", "carbon"} & set(plan.objectives)
    limited = [name for name in ("latency_s", "energy_j", "memory_bytes", "carbon_g") if getattr(plan.limits, name)]
    if (of_targets or limited) and not plan.targets:
        return f"{', '.join(sorted(of_targets) or limited)} of what? There is no [[targets]]"
    for target in plan.targets:
        if target.predictor is not None and target.board is not None:
            return f"target {target.name} has a predictor and a board: give one of them"
        if target.predictor is None and target.board is None and target.device is None:
            return "a target has neither predictor, board nor device"
        if target.device is None and target.in_the_loop != "never":
            return f"target {target.name} cannot measure {target.in_the_loop}: it has no device"
        is_unpredicted = target.predictor is None and target.board is None
        if is_unpredicted and target.in_the_loop != "always":
            return f'target {target.name} has no predictor: say in_the_loop = "always", or name one'
    by, given = plan.accuracy.by, {"function": plan.accuracy.function, "table": plan.accuracy.table}
    if by in given and given[by] is None:
        return f'accuracy by "{by}" needs {by} = "..."'
    if "error" in plan.objectives and by in ("training", "supernet") and plan.data is None:
        return f'accuracy by "{by}" needs [data]'
    return None
