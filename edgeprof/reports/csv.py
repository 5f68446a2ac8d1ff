"""Runs as comma-separated values, for spreadsheets and data frames: a row per operator, or a row per sample."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from edgeprof.errors import MeasurementError
from edgeprof.operators import OperatorRow, operator_rows
from edgeprof.reports.joules import joules
from edgeprof.run import Run

__all__ = ["operators_csv", "samples_csv"]

Cell = str | int | float | bool | None

RUN_COLUMNS = ("run", "device", "model", "model_digest", "runtime", "runtime_version", "origin")
OPERATOR_COLUMNS = (
    "operator",
    "name",
    "type",
    "kernel",
    "mapping",
    "nodes",
    "median_s",
    "share",
    "spread",
    "below_resolution",
    "input_shapes",
    "output_shapes",
    "macs",
    "moved_bytes",
    "intensity_macs_per_byte",
    "macs_per_s",
    "block",
    "layer",
    "energy_j",
    "energy_low_j",
    "energy_high_j",
    "energy_basis",
    "energy_boundary",
)
SAMPLE_COLUMNS = ("round", "sample", "latency_s")


def operators_csv(runs: Sequence[Run]) -> str:
    """One row per operator in execution order; what is unknown is an empty cell.

    Raises:
        MeasurementError: a run has no operator times.
    """
    for run in runs:
        if run.profile.operators is None or not run.profile.operators.kernels:
            reason = run.profile.operators_missing or "no kernel was timed"
            raise MeasurementError(
                f"run {run.id}: no operators to write: {reason}",
                "profile again with --operators, or write the latency samples: --csv FILE --samples",
            )
    rows = (row for run in runs for row in _operator_rows(run))
    return _csv((*RUN_COLUMNS, *OPERATOR_COLUMNS), rows)


def samples_csv(runs: Sequence[Run]) -> str:
    """One row per raw latency of the pass without operator profiling; rounds and samples count from 0."""
    return _csv((*RUN_COLUMNS, *SAMPLE_COLUMNS), (row for run in runs for row in _sample_rows(run)))


def _operator_rows(run: Run) -> Iterator[tuple[Cell, ...]]:
    cells, energies = _run_cells(run), joules(run)
    for row in operator_rows(run):
        found = energies.of_kernel(row.index)
        best = (found.in_model_j or found.isolated_j) if found is not None else None
        energy: tuple[Cell, ...] = (None,) * 5
        if found is not None and best is not None:
            basis = "above rest, alone" if found.in_model_j is None else "above rest, in the model"
            boundary = energies.model.meter.boundary if energies.model is not None else None
            energy = (best.value, best.low, best.high, basis, boundary)
        yield (*cells, *_operator_cells(row), *energy)


def _sample_rows(run: Run) -> Iterator[tuple[Cell, ...]]:
    cells = _run_cells(run)
    for number, measured in enumerate(run.profile.rounds):
        for k, latency_s in enumerate(measured.latencies_s):
            yield (*cells, number, k, latency_s)


def _run_cells(run: Run) -> tuple[Cell, ...]:
    job, profile = run.profile.job, run.profile
    return (run.id, run.device, job.model.name, job.model.digest, job.runtime, profile.runtime_version, profile.origin)


def _operator_cells(row: OperatorRow) -> tuple[Cell, ...]:
    return (
        row.index,
        row.name,
        row.type,
        row.kernel,
        row.origin,
        # TensorFlow's converter itself puts semicolons into names.
        "|".join(row.nodes),
        row.median_s,
        row.share,
        row.spread,
        str(row.below_resolution).lower(),
        _shapes(row.input_shapes),
        _shapes(row.output_shapes),
        row.macs,
        row.moved_bytes,
        row.intensity,
        row.macs_per_s,
        row.block,
        row.layer,
    )


def _shapes(shapes: tuple[tuple[int, ...], ...]) -> str:
    return ";".join("x".join(map(str, shape)) if shape else "scalar" for shape in shapes)


def _csv(header: tuple[str, ...], rows: Iterable[tuple[Cell, ...]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
