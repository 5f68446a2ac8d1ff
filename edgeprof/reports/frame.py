"""The operators of a run as a pandas data frame: a row per kernel, the columns of the CSV, shapes as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprof.errors import MeasurementError, UsageError
from edgeprof.operators import OperatorRow, operator_rows
from edgeprof.reports.joules import joules
from edgeprof.run import Run

if TYPE_CHECKING:
    import pandas

__all__ = ["operators_frame"]

# Names differ from those of `OperatorRow` where a column has to say its unit, or what it holds, by itself.
COLUMNS = {"origin": "mapping", "intensity": "intensity_macs_per_byte"}
ENERGIES = {"value": "energy_j", "low": "energy_low_j", "high": "energy_high_j"}
COUNTS = ("macs", "moved_bytes")


def operators_frame(run: Run) -> pandas.DataFrame:
    """One row per kernel in execution order, `index` being its position; what is unknown is missing, never 0.

    Raises:
        UsageError: pandas is not installed.
        MeasurementError: the run has no operator times.
    """
    try:
        import pandas
    except ImportError as error:
        raise UsageError("to_pandas() needs pandas, which is not installed", "pip install pandas") from error
    rows = operator_rows(run)
    if not rows:
        reason = run.profile.operators_missing or "no kernel was timed"
        raise MeasurementError(f"run {run.id}: no operators for a data frame: {reason}", "profile with operators=True")
    columns = {COLUMNS.get(name, name): [getattr(row, name) for row in rows] for name in OperatorRow.__annotations__}
    energies = joules(run)
    if energies.operators is not None:
        known = [energies.of_kernel(row.index) for row in rows]
        best = [None if one is None else one.in_model_j or one.isolated_j for one in known]
        for name in ("value", "low", "high"):
            columns[ENERGIES[name]] = [None if one is None else getattr(one, name) for one in best]
    # Whole numbers that may be missing: as floats they would lose their last digits.
    return pandas.DataFrame(columns).astype(dict.fromkeys(COUNTS, "Int64")).set_index("index")
