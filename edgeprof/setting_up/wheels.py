"""The wheels of a runtime for a device, resolved and fetched on this machine by its own pip."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from edgeprof.errors import AgentError, NoWheel
from edgeprof.provision import TFLITE_REQUIREMENTS
from edgeprof.setting_up.platforms import markers, tags, way_out
from edgeprof.setting_up.there import Facts

__all__ = ["REQUIREMENTS", "Wheel", "fetch"]

# The first one is the runtime itself.
REQUIREMENTS = {
    "onnxruntime": ("onnxruntime",),
    "litert": ("ai-edge-litert", "numpy"),
    "tflite": TFLITE_REQUIREMENTS,
}
INDEX = "wheels.json"
# Requirements of requirements that only hold on the device: one more level each time.
MAX_LEVELS = 6
PIP_S = 1800.0
METADATA_BYTES = 1024 * 1024
# What pip says when there is no such wheel, and what before that when it could not even ask.
NOTHING_FITS, NOT_ASKED = ("No matching distribution found", "ResolutionImpossible"), ("Retrying (", "Connection")


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel on this machine, and what it takes: sent, and unpacked."""

    path: Path
    sha256: str
    size_bytes: int
    unpacked_bytes: int

    @property
    def name(self) -> str:
        return self.path.name.split("-")[0]

    @property
    def version(self) -> str:
        return self.path.name.split("-")[1]


def fetch(facts: Facts, runtime: str, name: str, folder: Path, *, upgrade: bool = False) -> tuple[Wheel, ...]:
    """The wheels of a runtime for device `name`, that of the runtime first; kept in `folder` and not fetched again.

    Raises:
        NoWheel: there is none that fits; says the nearest way out.
        AgentError: pip is not there, or could not fetch them.
    """
    if facts.implementation != "cpython" or facts.system != "linux":
        raise NoWheel(
            f"{name}: no wheel of {runtime} for {facts.implementation} on {facts.system}", "use CPython on Linux"
        )
    target = folder / _key(facts, runtime)
    if not upgrade and (known := _known(target)):
        return known
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as fresh:
            place = Path(fresh) / "wheels"
            _download(facts, runtime, name, place)
            wheels = _described(place, canonicalize_name(Requirement(REQUIREMENTS[runtime][0]).name))
            _write_index(place, wheels)
            if target.exists():
                shutil.rmtree(target)
            place.rename(target)
    except OSError as error:
        raise AgentError(f"{folder}: wheels cannot be kept here: {error}", "make room, or mend permissions") from error
    return _known(target)


def _key(facts: Facts, runtime: str) -> str:
    libc = "-".join(map(str, facts.libc_version or ()))
    return f"{runtime}-cp{facts.version}{facts.flags}-{facts.architecture}-{facts.libc}-{libc}"


def _known(folder: Path) -> tuple[Wheel, ...]:
    """The wheels that were fetched before; none if anything of them is not as it was."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return tuple(_wheel(folder / name, digest) for name, digest in index.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return ()


def _wheel(path: Path, expected: str) -> Wheel:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != expected:
        raise ValueError(f"{path} is not what it was")
    return _measured(path, digest)


def _measured(path: Path, digest: str) -> Wheel:
    with zipfile.ZipFile(path) as file:
        unpacked = sum(entry.file_size for entry in file.infolist())
    return Wheel(path=path, sha256=digest, size_bytes=path.stat().st_size, unpacked_bytes=unpacked)


def _described(folder: Path, first: str) -> list[Wheel]:
    found = []
    for path in sorted(folder.glob("*.whl")):
        with path.open("rb") as file:
            found.append(_measured(path, hashlib.file_digest(file, "sha256").hexdigest()))
    return sorted(found, key=lambda wheel: canonicalize_name(wheel.name) != first)


def _write_index(folder: Path, wheels: list[Wheel]) -> None:
    index = {wheel.path.name: wheel.sha256 for wheel in wheels}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _download(facts: Facts, runtime: str, name: str, place: Path) -> None:
    """Have pip fetch the runtime and all it needs, until nothing is missing on the device."""
    wanted = list(REQUIREMENTS[runtime])
    for _ in range(MAX_LEVELS):
        if place.exists():
            shutil.rmtree(place)
        place.mkdir()
        _pip(facts, runtime, name, wanted, place)
        missing = _missing(facts, place)
        if not missing:
            return
        wanted += missing


def _pip(facts: Facts, runtime: str, name: str, wanted: list[str], place: Path) -> None:
    options = ("--quiet", "--disable-pip-version-check", "--no-input", "--retries", "2", "--only-binary=:all:")
    argv = [sys.executable, "-m", "pip", "download", *options, "--dest", str(place), *tags(facts), *wanted]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=PIP_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise AgentError(f"pip did not end within {PIP_S:.0f} s", "is the network here very slow?") from error
    if done.returncode == 0:
        return
    tail = _last_words(done.stderr)
    if "No module named pip" in done.stderr:
        raise AgentError(f"{sys.executable} has no pip to fetch wheels with", f"{sys.executable} -m ensurepip")
    if any(words in done.stderr for words in NOT_ASKED):
        raise AgentError(f"pip could not fetch wheels of {runtime}: {tail}", "does this computer have a network?")
    if not any(words in done.stderr for words in NOTHING_FITS):
        raise AgentError(f"pip could not fetch wheels of {runtime}: {tail}", "see pip's own words")
    what = re.search(r"No matching distribution found for (\S+)", done.stderr)
    raise NoWheel(
        f"{name}: no wheel of {what[1] if what else runtime} for {facts.described.rpartition(', ')[0]}",
        way_out(facts, runtime, name),
    )


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return " / ".join(lines[-2:])[-500:] or "it said nothing"


def _missing(facts: Facts, place: Path) -> list[str]:
    """What wheels require on the device that pip, which judged by this machine, left out."""
    environment = markers(facts)
    paths = sorted(place.glob("*.whl"))
    there = {canonicalize_name(path.name.split("-")[0]) for path in paths}
    missing = []
    for path in paths:
        for requirement in _requirements(path):
            is_meant = requirement.marker is None or requirement.marker.evaluate(environment)
            if is_meant and canonicalize_name(requirement.name) not in there:
                missing.append(f"{requirement.name}{requirement.specifier}")
    return list(dict.fromkeys(missing))


def _requirements(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as file:
        names = [name for name in file.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        if not names:
            return []
        with file.open(names[0]) as metadata:
            head = BytesHeaderParser().parsebytes(metadata.read(METADATA_BYTES))
    found = []
    for text in head.get_all("Requires-Dist") or []:
        try:
            found.append(Requirement(str(text)))
        except InvalidRequirement:
            continue  # pip has decided what to make of it
    return found
