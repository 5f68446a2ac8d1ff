"""Align two sequences in order, with gaps on both sides, and tell which pairs every best alignment agrees on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NEVER", "Gains", "Pairs", "align"]

# A gain that no number of others makes up for: rows and columns that cannot be paired.
NEVER = -(10**9)

Gains = NDArray[np.int32]


@dataclass(frozen=True)
class Pairs:
    """Rows (of the first sequence) paired with columns (of the second).

    `aligned` is one of the best alignments, `certain` what all best alignments share.
    """

    aligned: dict[int, int]
    certain: dict[int, int]


def align(kinds: Gains, rows: Sequence[int], skipped_columns: Sequence[int]) -> Pairs:
    """Needleman and Wunsch's global alignment with a gain for each pair and a cost for each column left out.

    Whole numbers, so that what is equally good is found to be so. Takes 4 bytes for each row and column.

    Args:
        kinds: gain of pairing a row of each kind with each column, `NEVER` where they cannot be paired. A row left out
            costs nothing: it has no gain.
        rows: the kind of each row.
        skipped_columns: cost of leaving out each column, 0 or more.
    """
    n_rows, n_columns = len(rows), len(skipped_columns)
    if not n_rows or not n_columns:
        return Pairs({}, {})
    # A column's skip cost is the same in every row, so pairing it saves that cost: with it added to the gains, gaps
    # are free, and the running maximum along a row is the best over all numbers of skipped columns.
    gains = kinds + np.asarray(skipped_columns, dtype=np.int32)
    best = np.zeros((n_rows + 1, n_columns + 1), dtype=np.int32)
    for row, kind in enumerate(rows):
        paired = np.maximum(best[row, 1:], best[row, :-1] + gains[kind])
        best[row + 1, 1:] = np.maximum.accumulate(paired)
    one, other = (_trace(best, gains, rows, rows_first=rows_first) for rows_first in (True, False))
    certain = {row: column for row, column in one.items() if other.get(row) == column}
    return Pairs(one, certain)


def _trace(best: Gains, gains: Gains, rows: Sequence[int], rows_first: bool) -> dict[int, int]:
    """Follow one best path back from the end along the rim of all best paths.

    Where several steps are as good, leaving out a row comes first and leaving out a column last, or the reverse. Best
    paths that cross can swap their tails, so all of them lie between these two, and share what these two share.
    """
    pairs: dict[int, int] = {}
    row, column = best.shape[0] - 1, best.shape[1] - 1
    while row and column:
        here = best[row, column]
        skips_row, skips_column = best[row - 1, column] == here, best[row, column - 1] == here
        paired = best[row - 1, column - 1] + gains[rows[row - 1], column - 1] == here
        if skips_row and (rows_first or not (skips_column or paired)):
            row -= 1
        elif skips_column and (not rows_first or not paired):
            column -= 1
        else:
            pairs[row - 1] = column - 1
            row, column = row - 1, column - 1
    return pairs
