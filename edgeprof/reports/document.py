"""The JSON document of a run: what was computed, for programs that read it, and the raw run, to import it again.

docs/reference/run.md explains every field; docs/reference/run.schema.json is `json_schema()`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from edgeprof.energy import ModelEnergy, OperatorEnergies
from edgeprof.errors import MeasurementError, StoreError
from edgeprof.lineage import Descent
from edgeprof.operators import OperatorRow, OperatorTotals, operator_rows, operator_totals
from edgeprof.outputs import disagreements
from edgeprof.reports.joules import joules
from edgeprof.run import REREAD, SCHEMA, OutputCheck, Run, Structure, check_run, check_schema
from edgeprof.statistics import Summary, summarise
from edgeprof.throughput import Throughput, throughput
from edgeprof.verdict import Verdict, judge, operator_notes

__all__ = [
    "Document",
    "from_document",
    "json_schema",
    "read_documents",
    "read_lineage",
    "to_document",
    "write_documents",
]


@dataclass(frozen=True, kw_only=True)
class Model:
    """The model by content; `size_bytes` counts its external data too."""

    name: str
    format: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What ran the model, and what it really did with the options it was given."""

    name: str
    version: str
    in_force: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Resident memory of the measuring process; None where the device does not tell."""

    before_bytes: int | None
    peak_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Document:
    """A run with everything that edgeprof computes from it. Only `raw` and `lineage` are read when it is imported.

    `lineage` is how its model came to be, the last transform first; None where nobody asked the store.
    """

    schema: int
    id: str
    created_at: str
    device: str
    edgeprof_version: str
    origin: str
    model: Model
    runtime: Runtime
    verdict: Verdict
    latency: Summary | None
    latency_missing: str | None
    throughput: Throughput | None
    memory: Memory
    operators: tuple[OperatorRow, ...]
    operators_missing: str | None
    operator_totals: OperatorTotals | None
    operator_notes: tuple[str, ...]
    structure: Structure | None
    energy: ModelEnergy | None
    energy_missing: str | None
    operator_energies: OperatorEnergies | None
    operator_energies_missing: str | None
    output_check: OutputCheck | None
    output_check_missing: str | None
    output_disagreements: tuple[str, ...]
    notes: tuple[str, ...]
    lineage: tuple[Descent, ...] | None
    raw: Run


class _Head(msgspec.Struct):
    schema: int


class _HeadAndRaw(msgspec.Struct):
    schema: int
    raw: _Head


class _Raw(msgspec.Struct):
    raw: Run


class _Lineage(msgspec.Struct):
    lineage: tuple[Descent, ...] | None = None


def to_document(run: Run) -> dict[str, Any]:
    """The document of a run as plain values, ready for any JSON writer."""
    # Through text and back: lists instead of tuples, exactly what a reader of the file gets.
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(_document(run)))
    return document


def write_documents(runs: Sequence[Run], lineage: Mapping[str, tuple[Descent, ...]] | None = None) -> bytes:
    """JSON text: the document of one run, or a list of the documents of several.

    `lineage` says for the digests of models how they came to be.
    """
    known = lineage or {}
    documents = [replace(_document(run), lineage=known.get(run.profile.job.model.digest)) for run in runs]
    text = msgspec.json.encode(documents[0] if len(documents) == 1 else documents)
    return msgspec.json.format(text, indent=1) + b"\n"


def from_document(document: str | bytes | dict[str, Any], where: str = "document") -> Run:
    """The run inside a document; `where` names its origin in messages.

    Raises:
        StoreError: not a document of a run, or of a newer schema; the message names the wrong field by its path.
    """
    try:
        text = msgspec.json.encode(document) if isinstance(document, dict) else document
        head = msgspec.json.decode(text, type=_Head)
        check_schema(head.schema, where)
        check_schema(msgspec.json.decode(text, type=_HeadAndRaw).raw.schema, where)
        run = msgspec.json.decode(text, type=_Raw).raw
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise StoreError(f"{where}: not the document of a run: {error}", REREAD) from error
    check_run(run, where)
    return run


def read_documents(text: str | bytes, where: str) -> tuple[Run, ...]:
    """The runs of what `write_documents` wrote: one document or a list of them.

    Raises:
        StoreError: see `from_document`.
    """
    stripped = text.lstrip()
    if stripped[:1] not in ("[", b"["):
        return (from_document(text, where),)
    try:
        parts = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise StoreError(f"{where}: not a list of documents of runs: {error}", REREAD) from error
    return tuple(from_document(bytes(part), f"{where}[{k}]") for k, part in enumerate(parts))


def read_lineage(text: str | bytes, where: str) -> tuple[Descent, ...]:
    """The lineage in what `write_documents` wrote; documents of before there was any have none.

    Raises:
        StoreError: it is there, and of a wrong shape.
    """
    kind: Any = list[_Lineage] if text.lstrip()[:1] in ("[", b"[") else _Lineage
    try:
        found = msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise StoreError(f"{where}: its lineage cannot be read: {error}", REREAD) from error
    return tuple(edge for one in (found if isinstance(found, list) else [found]) for edge in one.lineage or ())


def json_schema() -> bytes:
    """The JSON Schema of a document, as it stands in docs/reference/run.schema.json."""
    schema = msgspec.json.schema(Document)
    for definition in schema["$defs"].values():
        # Docstrings speak to those who read the code; run.md is for those who read the document.
        definition.pop("description", None)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"The JSON document of an edgeprof run, schema {SCHEMA}",
    }
    return msgspec.json.format(msgspec.json.encode({**head, **schema}, order="deterministic"), indent=2) + b"\n"


def _document(run: Run) -> Document:
    profile = run.profile
    summary, missing = _summary(run)
    ref = profile.job.model
    energy = joules(run)
    return Document(
        schema=SCHEMA,
        id=run.id,
        created_at=_iso(run.created_at_s),
        device=run.device,
        edgeprof_version=run.edgeprof_version,
        origin=profile.origin,
        model=Model(
            name=ref.name, format=ref.format, digest=ref.digest, size_bytes=sum(file.size_bytes for file in ref.files)
        ),
        runtime=Runtime(name=profile.job.runtime, version=profile.runtime_version, in_force=profile.in_force),
        verdict=judge(profile, summary),
        latency=summary,
        latency_missing=missing,
        throughput=throughput(profile),
        memory=Memory(before_bytes=profile.memory_before_bytes, peak_bytes=profile.memory_peak_bytes),
        operators=tuple(operator_rows(run)),
        operators_missing=profile.operators_missing,
        operator_totals=operator_totals(run),
        operator_notes=operator_notes(profile),
        structure=run.structure,
        energy=energy.model,
        energy_missing=energy.missing,
        operator_energies=energy.operators,
        operator_energies_missing=energy.operators_missing,
        output_check=run.output_check,
        output_check_missing=run.output_check_missing,
        output_disagreements=disagreements(run.output_check) if run.output_check is not None else (),
        notes=run.notes,
        lineage=None,
        raw=run,
    )


def _summary(run: Run) -> tuple[Summary | None, str | None]:
    try:
        return summarise(run.profile), None
    except MeasurementError as error:
        return None, str(error)


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
