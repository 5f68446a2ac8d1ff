"""A recipe: how a model runs best on a device, and the proof of it, as a TOML file that people can read and edit.

Reference: docs/reference/recipe.md.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import tomlkit
import tomlkit.items

from device_agents import wire
from edgeprof.errors import TuningError
from edgeprof.files import write_whole
from edgeprof.fleet import Device
from edgeprof.profiling import Settings
from edgeprof.run import Run

__all__ = [
    "Cap",
    "Chosen",
    "DeviceFacts",
    "Interval",
    "Measured",
    "ModelFacts",
    "Recipe",
    "RecipeSettings",
    "Tried",
    "differences",
    "dump_recipe",
    "parse_recipe",
    "read_recipe",
    "require_device",
    "require_model",
    "to_settings",
    "write_recipe",
]

# Version of the file (docs/reference/recipe.md). History:
# 1  first version
SCHEMA = 1
MOST_THREADS, LAST_CPU = 1024, 4095
MADE_BY = "Made by `edgeprof tune`. Measure a model with it: edgeprof profile MODEL --recipe THIS_FILE"
TUNE_AGAIN = "tune again: edgeprof tune MODEL -d DEVICE"

Threads = Annotated[int, msgspec.Meta(ge=1, le=MOST_THREADS)]
CpuNumber = Annotated[int, msgspec.Meta(ge=0, le=LAST_CPU)]
Policy = Annotated[str, msgspec.Meta(pattern=r"^policy[0-9]{1,4}$")]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A table of the file: a key that nobody knows is a mistake of who wrote it."""


class Interval(_Part, frozen=True, kw_only=True):
    """A number between `low` and `high`."""

    value: float
    low: float
    high: float


class Cap(_Part, frozen=True, kw_only=True):
    """`policy` goes no higher than `max_hz`; `before_hz` is the limit that it had, which has to be restored."""

    policy: Policy
    max_hz: Positive
    before_hz: Positive | None = None


class RecipeSettings(_Part, frozen=True, kw_only=True):
    """How to run the model. `affinity` is in order: of as many CPUs as threads the first is the calling thread's."""

    runtime: str
    threads: Threads
    runtime_version: str | None = None
    affinity: tuple[CpuNumber, ...] = ()
    spinning: bool | None = None
    xnnpack: bool = True
    provider: str | None = None
    delegate: str | None = None
    clock_caps: tuple[Cap, ...] = ()


class Measured(_Part, frozen=True, kw_only=True):
    """What was found of settings: per inference, energy above rest. `runs` are in the store, the decisive one last."""

    origin: str
    latency_s: Interval | None = None
    energy_j: Interval | None = None
    runs: tuple[str, ...] = ()


class Chosen(_Part, frozen=True, kw_only=True):
    """Settings with what was measured of them; `needs` says what of them an app cannot do, as "root"."""

    settings: RecipeSettings
    measured: Measured
    needs: tuple[str, ...] = ()


class ModelFacts(_Part, frozen=True, kw_only=True):
    name: str
    format: Literal["onnx", "tflite"]
    digest: Digest


class DeviceFacts(_Part, frozen=True, kw_only=True):
    """The device as it described itself; `board` is set where it was a simulated one."""

    name: str
    architecture: str
    kernel: str
    n_cpus: int
    model: str | None = None
    cpu: str | None = None
    memory_bytes: int | None = None
    emulator: str | None = None
    board: str | None = None


class Tried(_Part, frozen=True, kw_only=True):
    """How much was measured: `measured` of `configurations`, in so many `jobs`; `failed` of them did not run."""

    configurations: int
    measured: int
    jobs: int
    failed: int = 0


class Recipe(_Part, frozen=True, kw_only=True):
    """What a tuning hands over. `conclusion` is its sentence; `without_root` is the best that needs no permission."""

    schema: int
    edgeprof_version: str
    made_at: str
    objective: Literal["latency", "energy", "edp"]
    conclusion: str
    model: ModelFacts
    device: DeviceFacts
    best: Chosen
    default: Chosen | None = None
    without_root: Chosen | None = None
    tried: Tried
    latency_budget_s: Positive | None = None
    notes: tuple[str, ...] = ()


# --- a file ---------------------------------------------------------------------------------------------------------


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write the file, complete or not at all.

    Raises:
        TuningError: it cannot be written.
    """
    try:
        write_whole(path, dump_recipe(recipe).encode())
    except OSError as error:
        raise TuningError(
            f"{path}: cannot be written: {error.strerror or error}", "name a file in a folder that exists: --output"
        ) from error


def read_recipe(path: Path) -> Recipe:
    """Read and check a file.

    Raises:
        TuningError: it cannot be read, or says what makes no sense; the message names the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise TuningError(f"{path}: cannot be read: {error.strerror or error}", "check the path") from error
    except UnicodeDecodeError as error:
        raise TuningError(f"{path}: is no text: {error}", TUNE_AGAIN) from error
    return parse_recipe(text, str(path))


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as TOML; `parse_recipe` reads an equal one."""
    document = tomlkit.document()
    document.add(tomlkit.comment(MADE_BY))
    for key, value in msgspec.to_builtins(recipe).items():
        document.add(key, _item(value))
    return tomlkit.dumps(document)


def _item(value: Any) -> Any:
    """Intervals and caps on a line of their own, other tables as sections."""
    if isinstance(value, dict):
        is_short = "low" in value or "policy" in value
        table: Any = tomlkit.inline_table() if is_short else tomlkit.table()
        for key, inner in value.items():
            table.add(key, _item(inner))
        return table
    if isinstance(value, (list, tuple)):
        array = tomlkit.array()
        array.extend(_item(inner) for inner in value)
        return array.multiline(len(value) > 1 and isinstance(value[0], (str, dict)))
    return tomlkit.item(value)


def parse_recipe(text: str, where: str) -> Recipe:
    """Read a recipe; `where` names its place in messages.

    Raises:
        TuningError: no TOML, of a newer edgeprof, or with a key or value that makes no sense.
    """
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise TuningError(f"{where}: not valid TOML: {error}", "mend that line, or " + TUNE_AGAIN) from error
    schema = raw.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise TuningError(f"{where}: is no recipe: it has no `schema`", TUNE_AGAIN)
    if schema != SCHEMA:
        raise TuningError(
            f"{where}: the recipe has schema {schema}, this edgeprof reads {SCHEMA}",
            "install the edgeprof that made it, or " + TUNE_AGAIN,
        )
    try:
        recipe = msgspec.convert(raw, Recipe)
    except msgspec.ValidationError as error:
        raise TuningError(f"{where}: {error}", "see docs/reference/recipe.md, or " + TUNE_AGAIN) from error
    for what in _nonsense(recipe):
        raise TuningError(f"{where}: {what}", "see docs/reference/recipe.md, or " + TUNE_AGAIN)
    return recipe


def _nonsense(recipe: Recipe) -> Iterator[str]:
    """What types alone do not rule out."""
    for name, chosen in (("best", recipe.best), ("default", recipe.default), ("without_root", recipe.without_root)):
        if chosen is None:
            continue
        settings = chosen.settings
        if len(set(settings.affinity)) != len(settings.affinity):
            yield f"{name}.settings.affinity has a CPU twice"
        policies = [cap.policy for cap in settings.clock_caps]
        if len(set(policies)) != len(policies):
            yield f"{name}.settings.clock_caps has a policy twice"
        if any(not math.isfinite(cap.max_hz) for cap in settings.clock_caps):
            yield f"{name}.settings.clock_caps has a clock that is no number"
        for key, value in (("latency_s", chosen.measured.latency_s), ("energy_j", chosen.measured.energy_j)):
            if value is not None and not -math.inf < value.low <= value.value <= value.high < math.inf:
                yield f"{name}.measured.{key} is no interval: low <= value <= high"


# --- what it is good for --------------------------------------------------------------------------------------------


def to_settings(recipe: Recipe, base: Settings | None = None, *, without_root: bool = False) -> Settings:
    """How to profile as the recipe says; what it does not speak of is as in `base`.

    Raises:
        TuningError: one without root is asked for, and there is none.
    """
    chosen = recipe.best
    if without_root and chosen.needs:
        if recipe.without_root is None:
            raise TuningError(
                "the recipe has nothing that works without root", "tune again: edgeprof tune MODEL --without-root"
            )
        chosen = recipe.without_root
    base, settings = base or Settings(), chosen.settings
    options = dataclasses.replace(
        base.options,
        threads=settings.threads,
        affinity=settings.affinity,
        spinning=settings.spinning,
        xnnpack=settings.xnnpack,
        provider=settings.provider,
        delegate=settings.delegate,
    )
    caps = tuple(wire.ClockCap(cap.policy, cap.max_hz) for cap in settings.clock_caps)
    return dataclasses.replace(base, runtime=settings.runtime, options=options, clock_caps=caps)


def require_model(recipe: Recipe, digest: str, name: str) -> None:
    """Refuse a recipe of another model: what is best for one says nothing about another.

    Raises:
        TuningError: the content of the file is another.
    """
    if recipe.model.digest != digest:
        raise TuningError(
            f"the recipe is for {recipe.model.name} (sha256 {recipe.model.digest[:12]}...), and {name} is another "
            f"model ({digest[:12]}...)",
            f"tune for it: edgeprof tune {name} -d {recipe.device.name}",
        )


def require_device(recipe: Recipe, device: Device) -> None:
    """Refuse a recipe of a simulated board on a real device, and the other way round: they have no runtime in common.

    Raises:
        TuningError: one of them is simulated, and not the other.
    """
    is_simulated = recipe.best.settings.runtime == "simulated"
    if is_simulated != (device.board is not None):
        what = f"simulated board {recipe.device.board}" if is_simulated else f"device {recipe.device.name}"
        raise TuningError(
            f"the recipe was found on the {what}, and {device.name} is {'real' if is_simulated else 'simulated'}",
            f"tune there: edgeprof tune {recipe.model.name} -d {device.name}",
        )


def differences(recipe: Recipe, run: Run) -> tuple[str, ...]:
    """What of a run is not as it was for the recipe, in sentences: then its numbers need not hold."""
    found, settings, machine = [], recipe.best.settings, run.profile.machine
    if run.profile.job.runtime != settings.runtime:
        found.append(f"the recipe is for {settings.runtime}, this ran on {run.profile.job.runtime}")
    elif settings.runtime_version is not None and run.profile.runtime_version != settings.runtime_version:
        found.append(
            f"the recipe was found with {settings.runtime} {settings.runtime_version}, "
            f"this is {run.profile.runtime_version}: tune again to be sure"
        )
    then, now = recipe.device, (machine.model, machine.architecture, machine.n_cpus)
    if (then.model, then.architecture, then.n_cpus) != now:
        was = f"{then.model or then.architecture} with {then.n_cpus} CPUs"
        found.append(
            f"the recipe was found on {then.name} ({was}), "
            f"this is {run.device} ({machine.model or machine.architecture} with {machine.n_cpus})"
        )
    if run.profile.origin != recipe.best.measured.origin:
        found.append(f"the recipe's numbers are {recipe.best.measured.origin}, this run's are {run.profile.origin}")
    return tuple(found)
