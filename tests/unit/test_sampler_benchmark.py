"""The plumbing of benchmarks/sampler.py: its figures are no test's business."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.sampler import Window, figures, measure
from tests.real_models import export_path


def test_pairs_are_measured_with_a_real_model_and_a_real_file(tmp_path: Path) -> None:
    rows = measure(export_path("mobilenet_v3_small.onnx"), tmp_path, pairs=2, seconds=0.1)

    assert len(rows) == 2
    for row in rows:
        assert set(row) == {"sampled", "bare", "null"}
        assert row["sampled"].n_reads >= 1
        assert row["bare"].n_reads == row["null"].n_reads == 0
        assert all(one.n_runs >= 1 and one.latency_s > 0 for one in row.values())


def test_figures_are_medians_of_pairs_with_their_intervals() -> None:
    def row(ratio: float) -> dict[str, Window]:
        return {
            "sampled": Window(ratio, 10, 0.01, 100),
            "bare": Window(1.0, 10, 0.0, 0),
            "null": Window(1.0, 10, 0.0, 0),
        }

    found = figures([row(ratio) for ratio in (1.2, 1.0, 1.01)])

    assert found["latency_ratio_100hz"] == pytest.approx(1.01)
    assert (found["latency_ratio_100hz_low"], found["latency_ratio_100hz_high"]) == (1.0, 1.2)
    assert found["cpu_share_100hz"] == 0.01
    assert found["latency_ratio_null"] == 1.0
