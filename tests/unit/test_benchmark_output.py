"""What benchmark_model prints, read. The texts are those of the stand-in in tests/android, or written here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from device_agents.runtimes.benchmark_output import (
    NEW,
    OLD,
    UnknownOutput,
    complaint,
    read_operators,
    read_timings,
    without_delegates,
)
from tests.odd_tflite import write_tflite_chain

STAND_IN = Path(__file__).parent.parent / "android" / "benchmark_model.py"
FORMS = ("old", "new")
TABLE = "\t[node type]\t[first]\t[avg ms]\t[%]\t[cdf%]\t[mem KB]\t[times called]\t[Name]"
HEAD = "Operator-wise Profiling Info for Regular Benchmark Runs:\n====== Run Order ======"


def printed(folder: Path, form: str, *flags: str) -> str:
    model = write_tflite_chain(folder / "model.tflite", 3)
    argv = [sys.executable, str(STAND_IN), form, f"--graph={model}", "--num_runs=20", "--min_secs=0", "--max_secs=1"]
    return subprocess.run([*argv, *flags], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("form", "named"), [("old", OLD), ("new", NEW)])
def test_timings_of_both_generations_are_read_in_seconds(tmp_path: Path, form: str, named: str) -> None:
    told = read_timings(printed(tmp_path, form))

    assert told.form == named
    assert told.initialise_s == pytest.approx(4.2e-3)
    assert told.first_inference_s == pytest.approx(3.1e-3)
    assert (told.warmup.n_runs, told.regular.n_runs) == (40, 20)
    assert told.warmup.mean_s == pytest.approx(2110.5e-6)
    assert told.regular.mean_s == pytest.approx(2000.25e-6)
    assert told.regular.min_s < told.regular.mean_s < told.regular.max_s
    assert told.regular.std_s == pytest.approx(40e-6)


@pytest.mark.parametrize("form", FORMS)
def test_operators_are_the_same_in_csv_and_in_the_table(tmp_path: Path, form: str) -> None:
    csv = tmp_path / "operators.csv"
    printed(tmp_path, form, "--enable_op_profiling=true", f"--profiling_output_csv_file={csv}")
    table = printed(tmp_path, form, "--enable_op_profiling=true")

    assert read_operators(csv.read_text()) == read_operators(table)


def test_a_node_is_known_by_its_index(tmp_path: Path) -> None:
    rows = read_operators(printed(tmp_path, "old", "--enable_op_profiling=true"))

    assert [(row.kernel.type, row.kernel.level, row.kernel.node) for row in rows] == [
        ("ABS", "node", 0),
        ("LOGISTIC", "node", 1),
        ("ABS", "node", 2),
    ]
    assert [row.time_s for row in rows] == pytest.approx([0.5e-3, 1e-3, 0.5e-3])


def test_a_delegate_is_not_counted_beside_its_operators(tmp_path: Path) -> None:
    rows = read_operators(printed(tmp_path, "new", "--enable_op_profiling=true"))

    kept, notes = without_delegates(rows)

    assert [(row.kernel.type, row.kernel.level) for row in kept] == [
        ("Abs (NC, F32)", "delegate"),
        ("Sigmoid (NC, F32)", "delegate"),
        ("Abs (NC, F32)", "delegate"),
    ]
    assert notes == ["1 rows of whole delegates are left out: their operators are listed"]


def test_all_calls_of_a_run_are_one_time() -> None:
    rows = read_operators(f"{HEAD}\n{TABLE}\n\tABS\t1\t0.5\t10%\t10%\t0\t3\t[a, b]:7\n\n")

    assert rows[0].time_s == pytest.approx(1.5e-3)


def test_operators_of_a_nested_graph_are_told_apart() -> None:
    text = (
        "Operator-wise Profiling Info for Regular Benchmark Runs:\nPrimary graph profile:\n"
        f"=== Run Order ===\n{TABLE}\n"
        "\tWHILE\t1\t2\t10%\t10%\t0\t1\t[out]:4\n\nSubgraph (index: 2, name: body) profile:\n=== Run Order ===\n"
        f"{TABLE}\n\tADD\t1\t2\t10%\t10%\t0\t5\t[x]:4\n"
    )

    assert [(row.kernel.subgraph, row.kernel.node) for row in read_operators(text)] == [(0, 4), (2, 4)]


def test_runs_that_all_took_the_same_are_read() -> None:
    told = read_timings(
        "count=1 curr=812\n\ncount=7 curr=800(all same)\n\n"
        "Inference timings in us: Init: 10, First inference: 812, Warmup (avg): 812, Inference (avg): 8e+02\n"
    )

    assert (told.regular.n_runs, told.regular.std_s) == (7, 0.0)
    assert told.regular.min_s == pytest.approx(800e-6)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("", "it printed nothing"),
        ("STARTING!\nsomething else\n", "its last line is 'something else'"),
        ("Inference timings in ms: 1 2 3\n", "cannot read the line 'Inference timings in ms: 1 2 3'"),
        (
            "Inference timings in us: Init: 1, First inference: 2, Warmup (avg): 3, Inference (avg): 4\n",
            "two lines 'count=...' were expected (warm-up, runs), there are 0",
        ),
    ],
)
def test_timings_in_another_format_are_refused_with_the_line(text: str, quoted: str) -> None:
    with pytest.raises(UnknownOutput) as caught:
        read_timings(text)

    assert quoted in str(caught.value)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("nothing of the kind\n", "there is no line 'Operator-wise Profiling Info"),
        (f"{HEAD}\nop;time;name\n", "cannot read the line 'op;time;name'"),
        (f"{HEAD}\n{TABLE}\n\tABS\tsoon\n", "cannot read the line '\\tABS\\tsoon'"),
        (f"{HEAD}\n{TABLE}\n\n", "has no operators"),
    ],
)
def test_a_table_in_another_format_is_refused_with_the_line(text: str, quoted: str) -> None:
    with pytest.raises(UnknownOutput) as caught:
        read_operators(text)

    assert quoted in str(caught.value)


def test_what_the_program_itself_complains_of_is_found() -> None:
    assert complaint("INFO: STARTING!\nERROR: Failed to load model x\n") == "Failed to load model x"
    assert complaint("INFO: fine\n") is None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "Explicitly applied XNNPACK delegate, and the model graph will be completely executed by it",
            "XNNPACK completely",
        ),
        ("Applied XNNPACK delegate, and the model graph will be partially executed by it", "XNNPACK partially"),
        ("Though XNNPACK delegate is explicitly applied, the model graph will not be executed by it", "XNNPACK not"),
        ("Loaded model x", None),
    ],
)
def test_what_a_delegate_took_is_told(line: str, told: str | None) -> None:
    timings = read_timings(
        f"{line}\ncount=1 curr=812\n\ncount=1 curr=800\n\n"
        "Inference timings in us: Init: 10, First inference: 812, Warmup (avg): 812, Inference (avg): 800\n"
    )

    assert timings.delegation == told
