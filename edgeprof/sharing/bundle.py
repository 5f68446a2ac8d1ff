"""The file: runs as plain JSON, each with the digest of its content, so that anybody can check them with few lines."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from edgeprof import __version__
from edgeprof.errors import StoreError
from edgeprof.run import Run, decode_run
from edgeprof.sharing.anonymous import anonymous, plain
from edgeprof.sharing.odd import check_plausible, check_texts

__all__ = ["HEAD_BYTES", "MAX_BYTES", "is_bundle", "read_bundle", "write_bundle"]

FORMAT, VERSION = "edgeprof-bundle", 1
# Larger than any honest one: a run of a thousand operators with thirty samples each is about one megabyte.
MAX_BYTES, MAX_RUNS = 64 * 1024 * 1024, 1000
HEAD_BYTES = 200
SHARED, ID_DIGITS, DEVICE_DIGITS = "shared", 20, 8
ASK = "ask whoever made it for a whole one: edgeprof runs export RUN --share FILE"


class _Shared(msgspec.Struct, forbid_unknown_fields=True):
    digest: str
    run: msgspec.Raw


class _Bundle(msgspec.Struct, forbid_unknown_fields=True):
    format: str
    version: int
    edgeprof_version: str
    digest: str
    runs: list[_Shared]


class _Head(msgspec.Struct):
    format: str
    version: int


def write_bundle(runs: Sequence[Run], words: Collection[str]) -> bytes:
    """A bundle of these runs; `words` are names (devices, hosts, users) that must not be in it.

    Raises:
        StoreError: it would be too large, or a name cannot be taken out.
    """
    names = _device_names(runs)
    shared = []
    for run in runs:
        content = anonymous(run, names[run.device], words)
        shared.append({"digest": _digest(content), "run": content})
    bundle = {
        "format": FORMAT,
        "version": VERSION,
        "edgeprof_version": __version__,
        "digest": _digest([one["digest"] for one in shared]),
        "runs": shared,
    }
    data = json.dumps(bundle, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    if len(data) > MAX_BYTES or len(runs) > MAX_RUNS:
        raise StoreError(
            f"a bundle of {len(runs)} runs has {len(data) / 1e6:.0f} MB: more than {MAX_RUNS} runs or "
            f"{MAX_BYTES / 1e6:.0f} MB are not accepted",
            "share fewer runs at once",
        )
    return data


def is_bundle(data: bytes) -> bool:
    """Whether a file that begins so claims to be one; nothing is checked yet."""
    return f'"{FORMAT}"'.encode() in data[:HEAD_BYTES]


def read_bundle(data: bytes, where: str) -> tuple[Run, ...]:
    """The runs of a stranger's bundle, each under an id and a device's name that are made of its content.

    Raises:
        StoreError: anything of it is not as it must be; says what and where.
    """
    if len(data) > MAX_BYTES:
        raise StoreError(f"{where}: {len(data) / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f} MB are not accepted", ASK)
    try:
        _check_head(msgspec.json.decode(data, type=_Head), where)
        bundle = msgspec.json.decode(data, type=_Bundle)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise StoreError(f"{where}: not a bundle of runs: {error}", ASK) from error
    if not bundle.runs:
        raise StoreError(f"{where}: there are no runs in it", ASK)
    if len(bundle.runs) > MAX_RUNS:
        raise StoreError(f"{where}: {len(bundle.runs)} runs, more than {MAX_RUNS} are not accepted", ASK)
    if bundle.digest != _digest([one.digest for one in bundle.runs]):
        raise StoreError(f"{where}: digest: the list of runs is not the one that was shared", ASK)
    return tuple(_run(one, f"{where}: runs[{k}]") for k, one in enumerate(bundle.runs))


def _check_head(head: _Head, where: str) -> None:
    if head.format != FORMAT:
        raise StoreError(f"{where}: format {head.format!r} is not {FORMAT!r}", ASK)
    if head.version != VERSION:
        raise StoreError(
            f"{where}: a bundle of version {head.version}, this edgeprof reads {VERSION}",
            "install a newer edgeprof: pip install --upgrade edgeprof",
        )


def _run(shared: _Shared, where: str) -> Run:
    try:
        content = json.loads(bytes(shared.run))
        if shared.digest != _digest(content):
            raise StoreError(f"{where}: digest: the run is not what was shared", ASK)
        check_texts(content, where)
        run = decode_run(bytes(shared.run), where)
        _check_known(content, plain(run), where)
    except (ValueError, RecursionError) as error:  # numbers beyond all bounds, lists in lists without end
        raise StoreError(f"{where}: not the JSON of a run: {error}", ASK) from error
    check_plausible(run, where)
    # Names of one's own devices and runs can be neither taken nor imitated. The same run is the same in every bundle.
    machine = _digest(content["profile"]["machine"])[:DEVICE_DIGITS]
    return dataclasses.replace(
        run, id=f"{SHARED}-{shared.digest[:ID_DIGITS]}", device=f"{SHARED}-{machine}-{run.device}"
    )


def _check_known(content: Any, understood: Any, where: str) -> None:
    """Refuse fields that nobody would look at: they may hold anything."""
    if isinstance(content, dict) and isinstance(understood, dict):
        for key, item in content.items():
            if key not in understood:
                raise StoreError(
                    f"{where}: unknown field {key!r}", "a newer edgeprof may know it: update, or refuse it"
                )
            _check_known(item, understood[key], f"{where}.{key}")
    elif isinstance(content, list) and isinstance(understood, list):
        for k, (item, other) in enumerate(zip(content, understood, strict=False)):
            _check_known(item, other, f"{where}[{k}]")


def _digest(content: Any) -> str:
    """SHA-256 of the canonical text: keys in order, no spaces, everything beyond ASCII as it is, in UTF-8."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _device_names(runs: Sequence[Run]) -> dict[str, str]:
    """What each device is, in place of what it is called, with a number where that is not enough."""
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    for run in runs:
        if run.device in names:
            continue
        machine = run.profile.machine
        board = run.profile.job.board
        kind = (board.name if board is not None else None) or machine.model or machine.cpu or machine.architecture
        slug = re.sub(r"[^a-z0-9]+", "-", kind.lower()).strip("-")[:60] or "device"
        counts[slug] = counts.get(slug, 0) + 1
        names[run.device] = f"{slug}-{counts[slug]}"
    return names
