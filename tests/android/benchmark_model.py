"""A stand-in for TFLite's benchmark_model: prints what that prints, with numbers that nobody measured.

    benchmark_model.py old|new --graph=FILE ...

The two formats are those of TensorFlow's sources (core/util/stats_calculator.cc, lite/profiling/profile_summarizer.cc,
lite/tools/benchmark/benchmark_model.cc), "old" as of TensorFlow 2.3 and "new" as of 2.15 and LiteRT. In "new" the
model is one delegate's, whose operators are listed; in "old" its nodes ABS and LOGISTIC run one by one. STAND_IN makes
it fail: "hang" never ends, "garbage" prints another format, "no-csv" refuses the flag for CSV, "silent-csv" passes over
it, "broken" cannot load models.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

FLAGS = {
    "graph", "num_threads", "use_xnnpack", "num_runs", "min_secs", "max_secs", "warmup_runs", "enable_op_profiling",
    "max_profiling_buffer_entries", "profiling_output_csv_file",
}  # fmt: skip
WARMUP_RUNS, WARMUP_US, FIRST_US, RUN_US = 40, 2110.5, 3100, 2000.25
OLD_ROWS = [
    ("ABS", 0.0, 0.5, 0.5, 1, "[t1]:0"),
    ("LOGISTIC", 0.5, 1.2, 1.0, 1, "[t2]:1"),
    ("ABS", 1.5, 0.6, 0.5, 1, "[t3]:2"),
]
NEW_ROWS = [
    ("Abs (NC, F32)", 0.0, 0.5, 0.5, 1, "Delegate/Abs (NC, F32):0"),
    ("Sigmoid (NC, F32)", 0.5, 1.2, 1.0, 1, "Delegate/Sigmoid (NC, F32):1"),
    ("Abs (NC, F32)", 1.5, 0.6, 0.5, 1, "Delegate/Abs (NC, F32):2"),
    ("TfLiteXNNPackDelegate", 0.0, 2.3, 2.0, 1, "[t3]:3"),
]
INIT_ROWS = [("AllocateTensors", 0.0, 0.1, 0.05, 2, "AllocateTensors/0")]
REGULAR = "Operator-wise Profiling Info for Regular Benchmark Runs:"


def main() -> int:
    form, fault = sys.argv[1], os.environ.get("STAND_IN", "")
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[2:])
    known = FLAGS - ({"profiling_output_csv_file"} if fault == "no-csv" else set())
    prefix = "INFO: " if form == "new" else ""

    def say(line: str) -> None:
        print(f"{prefix}{line}")

    say("STARTING!")
    if fault == "silent-csv":
        flags.pop("profiling_output_csv_file", None)
    if set(flags) - known:
        print(f"ERROR: Unconsumed cmdline flags: {' '.join(sorted(set(flags) - known))}", file=sys.stderr)
        return 1
    if fault == "hang":
        sys.stdout.flush()
        time.sleep(600)
    if fault == "garbage":
        say("Inference timings in seconds: 0.1 0.2")
        return 0
    if fault == "broken" or not Path(flags["graph"]).is_file():
        print(f"ERROR: Failed to load model {flags['graph']}", file=sys.stderr)
        return 1
    runs = int(flags["num_runs"])
    say(f"Graph: [{flags['graph']}]")
    say(f"Loaded model {flags['graph']}")
    if form == "new":
        say("Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.")
    say("The input model file size (MB): 0.001")
    say("Initialized session in 4.2ms.")
    say("Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.")
    say(f"{counted(WARMUP_RUNS, WARMUP_US, form)}\n")
    say(
        f"Running benchmark for at least {runs} iterations and at least {flags['min_secs']} seconds but terminate if "
        f"exceeding {flags['max_secs']} seconds."
    )
    say(f"{counted(runs, RUN_US, form)}\n")
    say(
        f"Inference timings in us: Init: 4200, First inference: {FIRST_US}, Warmup (avg): {WARMUP_US}, "
        f"Inference (avg): {RUN_US}"
    )
    say("Memory footprint delta from the start of the tool (MB): init=1.5 overall=2.25")
    if flags.get("enable_op_profiling") == "true":
        profile(form, flags.get("profiling_output_csv_file"), prefix)
    return 0


def counted(runs: int, mean_us: float, form: str) -> str:
    if runs == 1:
        return f"count=1 curr={mean_us:.0f}"
    least, most = mean_us - 80, mean_us + 120
    tail = f" p5={least:.0f} median={mean_us:.0f} p95={most:.0f}" if form == "new" else ""
    return f"count={runs} first={most:.0f} curr={mean_us:.0f} min={least:.0f} max={most:.0f} avg={mean_us} std=40{tail}"


def profile(form: str, csv: str | None, prefix: str) -> None:
    rows = OLD_ROWS if form == "old" else NEW_ROWS
    report = [f"{prefix}Profiling Info for Benchmark Initialization:", *tables(form, csv is not None, INIT_ROWS)]
    report += [f"{prefix}{REGULAR}", *tables(form, csv is not None, rows)]
    if csv is None:
        print("\n".join(report))
    else:
        Path(csv).write_text("\n".join(line.removeprefix(prefix) for line in report) + "\n")


def tables(form: str, is_csv: bool, rows: list[tuple[str, float, float, float, int, str]]) -> list[str]:
    names = ["node type", "start", "first", "avg_ms" if is_csv else "avg ms", "%", "cdf%", "mem KB", "times called"]
    if form == "new":
        names.remove("start")
    header = ", ".join([*names, "name"]) if is_csv else "".join(f"\t{f'[{name}]':>24}" for name in names) + "\t[Name]"
    total, lines = sum(row[3] * row[4] for row in rows), []
    for kind, start, first, mean, calls, name in rows:
        share = 100 * mean * calls / total
        values = [f"{first:.6g}", f"{mean:.6g}", f"{share:.6g}%", "100%", "0", str(calls)]
        if not is_csv:
            values = [f"{first:.3f}", f"{mean:.3f}", f"{share:.3f}%", "100.000%", "0.000", str(calls)]
        if form == "old":
            values.insert(0, f"{start:.3f}")
        if is_csv:
            lines.append(", ".join([kind, *values, name.replace(",", "\t") if form == "new" else name]))
        else:
            lines.append("".join(f"\t{value:>24}" for value in [kind, *values]) + f"\t{name}")
    found = [f"{'=' * 30} Run Order {'=' * 30}", header, *lines, ""]
    found += [f"{'=' * 30} Top by Computation Time {'=' * 30}", header, *reversed(lines), ""]
    found += [f"Number of nodes executed: {len(rows)}", f"{'=' * 30} Summary by node type {'=' * 30}"]
    return [*found, "", "Timings (microseconds): count=50 first=2100 curr=2000 min=1950 max=2200 avg=2010 std=30", ""]


if __name__ == "__main__":
    sys.exit(main())
