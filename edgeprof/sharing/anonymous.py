"""A run without anything that tells who made it, and where.

Whole fields are replaced where they can only be private; every text that is left is searched for words that are known
to be (names of devices, hosts and users) and, where people or systems write freely, for what looks like an address or
a path. Names inside a model (nodes, tensors) look like paths and are meant to be shared: only known words go there.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from typing import Any

import msgspec

from device_agents.wire import FileRef, Job
from edgeprof.errors import StoreError
from edgeprof.run import Run

__all__ = ["anonymous", "plain"]

REMOVED = "[removed]"
# Words that tell nobody apart, and that are part of other words' meaning.
COMMON_WORDS = frozenset(
    ("admin", "arm64", "board", "debian", "default", "device", "jetson", "local", "localhost", "model", "nvidia",
     "odroid", "phone", "raspberrypi", "root", "server", "test", "ubuntu", "user")
)  # fmt: skip
SHORTEST_WORD = 3
# Meters of a host, whose address or serial number follows the colon (edgeprof/meters/address.py).
METERS_ELSEWHERE = ("shelly", "tasmota", "joulescope")
# Below these every system looks alike, and it is worth knowing what could not be read there.
SYSTEM_PATHS = "sys|proc"
PRIVATE = tuple(
    re.compile(pattern)
    for pattern in (
        r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s\"']+",
        r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*(?::\d+)?",
        r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])(?::\d+)?",
        r"\b(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\b",
        r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){3,7}:?[0-9A-Fa-f]{1,4}\b",
        r"\b[A-Za-z]:\\[^\s\"']+",
        rf"(?<![\w.)\]])(?:~|/(?!(?:{SYSTEM_PATHS})/))[\w.+-]*/[^\s\"',;:)]*",
    )
)
# Where the names inside a model stand, below a run.
MODEL_NAMES = (
    ("operators",),
    ("structure",),
    ("described",),
    ("output_check", "outputs"),
    ("profile", "inputs"),
    ("profile", "outputs"),
    ("profile", "operators", "kernels"),
    ("profile", "job", "work"),
    ("profile", "job", "inputs"),
)


def anonymous(run: Run, device: str, words: Collection[str]) -> dict[str, Any]:
    """The run as plain values for strangers, its device called `device`; `words` must not be in it.

    Raises:
        StoreError: a word is where it cannot be taken out.
    """
    profile = run.profile
    operators = profile.operators
    bare = dataclasses.replace(
        run,
        id="shared",
        device=device,
        profile=dataclasses.replace(
            profile,
            job=_without_files(profile.job),
            # The graph as it was executed is the model itself, but for its weights.
            operators=None if operators is None else dataclasses.replace(operators, graph=None),
            output_values=(),
        ),
    )
    values = plain(bare)
    known = _pattern({*words, run.device, *_meter_words(values)} - {device})
    scrubbed: dict[str, Any] = _scrubbed(values, known, ())
    _check(scrubbed, known, "run")
    return scrubbed


def plain(run: Run) -> dict[str, Any]:
    """A run as a reader of JSON gets it."""
    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(run))
    return values


def _without_files(job: Job) -> Job:
    """Files are known by content; where they lie is nobody's business."""

    def renamed(file: FileRef, name: str) -> FileRef:
        return dataclasses.replace(file, name=name)

    files = tuple(renamed(file, f"file{k}") for k, file in enumerate(job.model.files))
    inputs = tuple(dataclasses.replace(item, file=renamed(item.file, "values")) for item in job.inputs)
    options = job.options
    return dataclasses.replace(
        job,
        model=dataclasses.replace(job.model, name=re.split(r"[/\\]", job.model.name)[-1], files=files),
        inputs=inputs,
        options=dataclasses.replace(
            options,
            library=options.library and REMOVED,
            delegate=options.delegate and REMOVED,
            delegate_options=dict.fromkeys(options.delegate_options, REMOVED),
            provider_options=dict.fromkeys(options.provider_options, REMOVED),
        ),
    )


def _meter_words(value: Any) -> set[str]:
    """What follows the kind in the names of meters elsewhere: hosts, serial numbers."""
    if isinstance(value, list):
        return {word for item in value for word in _meter_words(item)}
    if not isinstance(value, dict):
        return set()
    words = {word for item in value.values() for word in _meter_words(item)}
    meter = value.get("meter")
    name = meter.get("name") if isinstance(meter, dict) else meter
    kind, _, place = str(name).partition(":")
    if kind in METERS_ELSEWHERE:
        words |= {place, place.partition("?")[0].partition("/")[0]}
    return words


def _pattern(words: Collection[str]) -> re.Pattern[str] | None:
    kept = {word for word in words if len(word) >= SHORTEST_WORD and word.lower() not in COMMON_WORDS}
    if not kept:
        return None
    alternatives = "|".join(re.escape(word) for word in sorted(kept, key=len, reverse=True))
    return re.compile(rf"(?<![A-Za-z0-9])(?:{alternatives})(?![A-Za-z0-9])", re.IGNORECASE)


def _scrubbed(value: Any, known: re.Pattern[str] | None, path: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _scrubbed(item, known, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_scrubbed(item, known, path) for item in value]
    if not isinstance(value, str):
        return value
    text = known.sub(REMOVED, value) if known is not None else value
    if _is_name(path):
        return text
    for private in PRIVATE:
        text = private.sub(REMOVED, text)
    return text


def _is_name(path: tuple[str, ...]) -> bool:
    """Of something in a model, or of a meter (hwmon:ina226@1-0040); reasons beside such names are texts."""
    if path[-1] == "meter" or path[-2:] == ("meter", "name"):
        return True
    is_in_model = any(path[: len(names)] == names for names in MODEL_NAMES)
    return is_in_model and (path[0] == "structure" or not path[-1].endswith("missing"))


def _check(value: Any, known: re.Pattern[str] | None, where: str) -> None:
    """Keys are names of things (inputs, sensors) and stay as they are, so no known word may be in one."""
    if isinstance(value, dict):
        for key, item in value.items():
            if known is not None and known.search(key):
                raise StoreError(
                    f"{where}: {key!r} has a name of yours in it, and cannot be shared without it",
                    "rename that input or sensor, or share another run",
                )
            _check(item, known, f"{where}.{key}")
    elif isinstance(value, list):
        for item in value:
            _check(item, known, where)
