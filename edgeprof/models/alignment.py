"""Align two sequences in order, with gaps on both sides, and tell which pairs every best alignment agrees on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pairs", "align"]

# Scores are sums of a few hundred small numbers: what differs by less than this is a tie.
TIE = 1e-9


@dataclass(frozen=True)
class Pairs:
    """Rows (of the first sequence) paired with columns (of the second).

    `aligned` is one of the best alignments, `certain` what all best alignments share.
    """

    aligned: dict[int, int]
    certain: dict[int, int]


def align(gains: NDArray[np.float64], skipped_columns: Sequence[float]) -> Pairs:
    """Needleman and Wunsch's global alignment with a gain for each pair and a cost for each column left out.

    Args:
        gains: gain of pairing row i with column j, minus infinity where they cannot be paired. A row left out costs
            nothing: it has no gain.
        skipped_columns: cost of leaving out column j, 0 or more.
    """
    n_rows, n_columns = len(gains), len(skipped_columns)
    if not n_rows or not n_columns:
        return Pairs({}, {})
    # A column's skip cost is the same in every row, so pairing it saves that cost: with it added to the gains, gaps
    # are free, and the running maximum along a row is the best over all numbers of skipped columns.
    gain = gains + np.asarray(skipped_columns, dtype=np.float64)
    best = np.zeros((n_rows + 1, n_columns + 1))
    for row in range(n_rows):
        paired = np.maximum(best[row, 1:], best[row, :-1] + gain[row])
        best[row + 1, 1:] = np.maximum.accumulate(paired)
    one, other = _trace(best, gain, rows_first=True), _trace(best, gain, rows_first=False)
    certain = {row: column for row, column in one.items() if other.get(row) == column}
    return Pairs(one, certain)


def _trace(best: NDArray[np.float64], gain: NDArray[np.float64], rows_first: bool) -> dict[int, int]:
    """Follow one best path back from the end along the rim of all best paths.

    Where several steps are as good, leaving out a row comes first and leaving out a column last, or the reverse. Best
    paths that cross can swap their tails, so all of them lie between these two, and share what these two share.
    """
    pairs: dict[int, int] = {}
    row, column = gain.shape
    while row and column:
        here = best[row, column] - TIE
        skips_row, skips_column = best[row - 1, column] > here, best[row, column - 1] > here
        paired = best[row - 1, column - 1] + gain[row - 1, column - 1] > here
        if skips_row and (rows_first or not (skips_column or paired)):
            row -= 1
        elif skips_column and (not rows_first or not paired):
            column -= 1
        else:
            pairs[row - 1] = column - 1
            row, column = row - 1, column - 1
    return pairs
