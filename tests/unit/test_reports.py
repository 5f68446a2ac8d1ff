"""Documents, CSV and pages of runs: nothing lost, nothing made up, nothing obeyed that came from a model."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from device_agents.wire import Conditions, GateOutcome, Kernel, OperatorPass
from edgeprof.errors import MeasurementError, StoreError
from edgeprof.reports.csv import operators_csv, samples_csv
from edgeprof.reports.document import from_document, json_schema, read_documents, to_document, write_documents
from edgeprof.reports.quantities import count, duration, interval, percent, size
from edgeprof.reports.text import render_run
from edgeprof.run import Operator, Run, decode_run, encode_run
from edgeprof.store import Store
from tests.unit.run_factory import make_profile, make_run

REFERENCE = Path(__file__).parents[2] / "docs/reference"
# One real run per schema, as it was exported at the time: these files are added to and never edited.
RECORDED = Path(__file__).parents[1] / "recorded/runs"

NO_KERNEL = OperatorPass("profiler", (1e-6, 2e-6), (), 1e-6)

finite = st.floats(allow_nan=False, allow_infinity=False)
times_s = st.floats(min_value=1e-9, max_value=1e3)
# Half a surrogate pair is no text: that case is tested by itself, as an error.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
shapes = st.lists(st.lists(st.integers(0, 2**40), max_size=4).map(tuple), max_size=2).map(tuple)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Runs with strange numbers and texts in every kind of field."""
    base = make_run(with_operators=draw(st.booleans()), seed=draw(st.integers(0, 3)))
    one = base.profile.rounds[0]
    conditions = replace(one.before, temperatures_c=draw(st.dictionaries(texts, finite, max_size=2)))
    measured = replace(
        one,
        latencies_s=tuple(draw(st.lists(times_s, max_size=6))),
        before=replace(
            conditions, load_1min=draw(st.none() | finite), throttled=draw(st.none() | st.integers(0, 2**32))
        ),
        gate=GateOutcome(draw(st.booleans()), draw(finite), tuple(draw(st.lists(texts, max_size=2)))),
    )
    profile = replace(
        base.profile,
        rounds=(measured,) * draw(st.integers(0, 3)),
        notes=tuple(draw(st.lists(texts, max_size=3))),
        in_force=draw(st.dictionaries(texts, texts, max_size=3)),
        load_s=draw(finite),
        memory_peak_bytes=draw(st.none() | st.integers(0, 2**63 - 1)),
    )
    operators = tuple(
        replace(operator, macs=draw(st.none() | st.integers(0, 2**63 - 1)), input_shapes=draw(shapes))
        for operator in base.operators
    )
    return replace(
        base,
        device=draw(texts),
        created_at_s=draw(st.floats(0, 4e9)),
        profile=profile,
        operators=operators,
        notes=tuple(draw(st.lists(texts, max_size=2))),
    )


def printed(renderable: RenderableType, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None, highlight=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# --- the document --------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(run=runs())
def test_a_document_holds_its_run_without_loss(run: Run) -> None:
    through_text = from_document(json.dumps(to_document(run)))
    through_file = read_documents(write_documents([run, run]), "file")

    assert through_text == run
    assert from_document(to_document(run)) == run
    assert through_file == (run, run)
    assert decode_run(encode_run(run), "here") == run


def test_operators_stand_at_the_top_of_a_document() -> None:
    document = to_document(make_run())

    assert [row["kernel"] for row in document["operators"]][:2] == ["stem_fused", "reorder_0"]
    assert document["operators"][0]["nodes"] == ["stem", "stem/relu"]
    assert sum(row["share"] for row in document["operators"]) == pytest.approx(1.0)
    assert document["operators_missing"] is None
    assert document["operator_totals"]["n_unmapped"] == 1
    assert document["operator_notes"] == []


def test_without_an_operator_pass_the_list_is_empty_and_the_reason_stands_beside_it() -> None:
    document = to_document(make_run(with_operators=False))

    assert document["operators"] == []
    assert document["operators_missing"] == "not asked for (--operators)"
    assert document["operator_totals"] is None


def test_a_document_carries_what_a_stranger_needs_to_judge_it() -> None:
    document = to_document(make_run())

    assert document["schema"] == 1
    assert document["created_at"] == "2026-01-01T00:00:00Z"
    assert document["origin"] == "measured"
    assert document["verdict"]["level"] == "trusted"
    assert document["model"] == {
        "name": "net.onnx",
        "format": "onnx",
        "digest": make_profile().job.model.digest,
        "size_bytes": 1_234_567,
    }
    assert document["latency"]["median_low_s"] < document["latency"]["median_s"] < document["latency"]["median_high_s"]


def test_a_run_without_samples_has_no_latency_and_says_why() -> None:
    document = to_document(make_run(rounds=()))

    assert document["latency"] is None
    assert "no usable latency sample" in document["latency_missing"]
    assert document["verdict"]["level"] == "invalid"


def test_one_run_is_written_as_an_object_and_several_as_a_list() -> None:
    one, two = write_documents([make_run("a")]), write_documents([make_run("a"), make_run("b")])

    assert json.loads(one)["id"] == "a"
    assert [document["id"] for document in json.loads(two)] == ["a", "b"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("raw", "profile", "rounds", 1, "latencies_s", 2),
            None,
            r"f\.json: .* `\$\.raw\.profile\.rounds\[1\]\.lat.*\[2\]`",
        ),
        (("raw", "profile", "job", "seed"), 1.5, r"f\.json: .*`int`.*`\$\.raw\.profile\.job\.seed`"),
        (("raw", "id"), "../../etc", r"f\.json: '\.\./\.\./etc' cannot be a run's id"),
        (("raw", "created_at_s"), 1e300, r"f\.json: created_at_s is 1e\+300, which is no date"),
        (("raw", "created_at_s"), -1, r"f\.json: created_at_s is -1"),
        (("raw", "schema"), 2, r"f\.json: the run has schema 2, this edgeprof reads 1 to 1"),
        (("schema",), 99, r"f\.json: the run has schema 99"),
        (("schema",), "one", r"f\.json: .*`int`.*`\$\.schema`"),
        (("raw",), None, r"f\.json: .*`\$\.raw`"),
        (("raw", "operators", 0, "kernel"), -1, r"f\.json: operators\[0\]\.kernel is -1"),
    ],
)
def test_a_wrong_field_of_a_document_is_named(path: tuple[str | int, ...], value: object, message: str) -> None:
    document: Any = to_document(make_run())
    parent = document
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = value

    with pytest.raises(StoreError, match=message) as caught:
        from_document(document, "f.json")

    assert caught.value.advice


@pytest.mark.parametrize("text", ["", "{", "[", "[1]", "{}", "nonsense", "\x00", "[" * 100_000, '{"a":' * 100_000])
def test_text_that_is_no_document_is_an_error(text: str) -> None:
    with pytest.raises(StoreError, match=r"f\.json"):
        read_documents(text, "f.json")


def test_a_document_cut_off_anywhere_is_an_error() -> None:
    text = write_documents([make_run()])

    for end in range(0, len(text) - 2, 997):
        with pytest.raises(StoreError, match=r"f\.json"):
            read_documents(text[:end], "f.json")


def test_computed_fields_of_an_imported_document_are_not_believed() -> None:
    document = to_document(make_run())
    document["verdict"]["level"] = "trusted beyond doubt"
    document["latency"] = {"median_s": 1e-9}
    document["mood"] = "unknown fields are ignored"

    run = from_document(document)

    assert run == make_run()


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_a_document_of_every_earlier_schema_can_be_read(path: Path, tmp_path: Path) -> None:
    (run,) = read_documents(path.read_bytes(), path.name)

    with Store(tmp_path / "store.sqlite") as store:
        store.add(run)
        assert store.get(run.id) == run
    assert run.profile.job.model.name in printed(render_run(run))
    assert from_document(to_document(run)) == run


def test_the_schema_in_the_documentation_is_current() -> None:
    written = (REFERENCE / "run.schema.json").read_bytes()

    assert written == json_schema(), (
        "write it again: .venv/bin/python -c 'from edgeprof.reports.document import json_schema as s; "
        'open("docs/reference/run.schema.json", "wb").write(s())\''
    )


def test_the_page_explains_every_field_where_its_object_is_explained() -> None:
    page = (REFERENCE / "run.md").read_text()
    sections = dict(re.findall(r"^#{2,3} (\w+)\n(.*?)(?=^#{2,3} |\Z)", page, re.MULTILINE | re.DOTALL))
    definitions = msgspec.json.decode(json_schema())["$defs"]

    missing = [
        f"{name}.{field}"
        for name, definition in definitions.items()
        for field in definition["properties"]
        if f"`{field}`" not in sections.get(name, "")
    ]

    assert missing == []


def test_the_page_explains_no_field_that_does_not_exist() -> None:
    page = (REFERENCE / "run.md").read_text()
    definitions = msgspec.json.decode(json_schema())["$defs"]

    explained = {
        (name, field)
        for name, section in re.findall(r"^#{2,3} (\w+)\n(.*?)(?=^#{2,3} |\Z)", page, re.MULTILINE | re.DOTALL)
        for line in section.splitlines()
        if line.startswith("| `")
        for field in re.findall(r"`(\w+)`", line.split("|")[1])
    }

    assert [pair for pair in sorted(explained) if pair[1] not in definitions[pair[0]]["properties"]] == []


def test_the_example_on_the_page_works(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(write_documents([make_run()]))
    (example,) = re.findall(r"```python\n(.*?)```", (REFERENCE / "run.md").read_text(), re.DOTALL)
    environment = {**os.environ, "PYTHONPATH": str(REFERENCE.parents[1])}

    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert done.stderr == ""
    assert "trusted" in done.stdout
    assert "block/conv" in done.stdout


# --- CSV -----------------------------------------------------------------------------------------------------------


def test_operators_become_one_row_each_and_unknown_is_an_empty_cell() -> None:
    rows = list(csv.DictReader(io.StringIO(operators_csv([make_run("a"), make_run("b")]))))

    assert len(rows) == 12
    assert [row["run"] for row in rows] == ["a"] * 6 + ["b"] * 6
    assert rows[0]["nodes"] == "stem|stem/relu"
    assert rows[0]["output_shapes"] == "1x16x48x48"
    assert float(rows[0]["median_s"]) == pytest.approx(4e-4, rel=0.1)
    assert rows[4]["mapping"] == "unmapped"
    assert rows[4]["macs"] == ""
    assert rows[3]["below_resolution"] == "true"


def test_operators_of_a_run_whose_model_ran_no_kernel_are_no_empty_table() -> None:
    with pytest.raises(MeasurementError, match="run a: no operators to write: no kernel was timed"):
        operators_csv([make_run(), make_run("a", operators=NO_KERNEL)])


def test_samples_become_one_row_each_without_loss() -> None:
    run = make_run()

    rows = list(csv.DictReader(io.StringIO(samples_csv([run]))))

    assert [float(row["latency_s"]) for row in rows] == [s for r in run.profile.rounds for s in r.latencies_s]
    assert (rows[-1]["round"], rows[-1]["sample"]) == ("4", "39")
    assert {row["origin"] for row in rows} == {"measured"}


def test_names_with_commas_quotes_and_line_breaks_stay_one_cell() -> None:
    run = make_run(device='a,"b"\nc')

    rows = list(csv.DictReader(io.StringIO(samples_csv([run]), newline="")))

    assert rows[0]["device"] == 'a,"b"\nc'


# --- pages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 112, 120, 160])
def test_a_page_fits_its_width_and_says_what_matters(width: int) -> None:
    text = printed(render_run(make_run()), width)

    assert max(len(line) for line in text.splitlines()) <= width
    text = " ".join(text.split())
    for wanted in ("net.onnx", "onnxruntime 1.31.1", "MEASURED", "TRUSTED", "1.501 ms", "95% interval", "block/conv"):
        assert wanted in text
    for wanted in ("Sum of kernels", "against the run without profiler", "Unexplained", "1 of 6 kernels", "~5 µs"):
        assert wanted in text
    assert "p99 needs at least" in text


def test_top_limits_the_table_and_says_what_is_left_out() -> None:
    text = printed(render_run(make_run(), top=2))

    assert "2 of 6 kernels shown" in text
    assert "block/conv" in text
    assert "Gemm" not in text


@pytest.mark.parametrize("origin", ["measured", "emulated", "simulated"])
def test_the_origin_is_always_shown(origin: str) -> None:
    text = printed(render_run(make_run(origin=origin)))

    assert origin.upper() in text
    assert ("not a measurement" in text) == (origin != "measured")
    assert (f"TRUSTED, of {origin} samples: says nothing of a real device" in text) == (origin != "measured")


@pytest.mark.parametrize(
    ("width", "columns"), [(80, ()), (120, ("MACs", "Output")), (160, ("MACs", "Input", "Output"))]
)
def test_the_table_shows_what_fits_and_tells_where_the_rest_is(width: int, columns: tuple[str, ...]) -> None:
    text = printed(render_run(make_run()), width)

    hint = "MACs, bytes moved, intensity and shapes: a wider terminal, or `edgeprof runs export 20260101-000000-0a0b"
    (header,) = (line for line in text.splitlines() if line.startswith("Operator "))
    assert [name for name in ("MACs", "Input", "Output") if name in header.split()] == list(columns)
    assert (hint in " ".join(text.split())) == (not columns)
    assert ("1x16x48x48" in text) == bool(columns)
    assert ("1x3x96x96" in text.partition("Operator ")[2]) == ("Input" in columns)


@pytest.mark.parametrize("width", [45, 60, 75])
def test_a_narrow_table_drops_columns_rather_than_digits(width: int) -> None:
    text = printed(render_run(make_run()), width)

    assert re.search(r"^\S*block/conv .* 895 µs +60%", text, re.MULTILINE)
    assert re.search(r"^\S*head .* 101 µs +6\.8%", text, re.MULTILINE)
    assert re.search(r"^odd .* unmapped", text, re.MULTILINE)


def test_an_interval_wider_than_the_median_is_not_shown_in_digits() -> None:
    rounds = tuple(
        replace(r, latencies_s=tuple(s * 40.0**k for s in r.latencies_s))
        for k, r in enumerate(make_profile(n_rounds=4).rounds)
    )

    text = " ".join(printed(render_run(make_run(rounds=rounds))).split())

    assert "median; no useful interval: rounds differ too much" in text
    assert "interval of the median is wider than the median itself" in text
    assert not re.search(r"\d{5,}(\.\d+)?%", text)


def test_a_model_that_ran_no_kernel_has_no_sums_of_kernels() -> None:
    text = printed(render_run(make_run(operators=NO_KERNEL)))

    assert "no kernel was timed" in text
    assert "Unexplained" not in text
    assert "Maps to" not in text


def test_kernels_that_add_up_to_the_whole_but_for_rounding_leave_nothing_unexplained() -> None:
    times_s = (0.1, 0.2, 0.7)
    kernels = tuple(Kernel(str(k), "Conv", "kernel", (time_s,) * 5) for k, time_s in enumerate(times_s))
    whole_s = sum(reversed(times_s))

    text = printed(render_run(make_run(operators=OperatorPass("profiler", (whole_s,) * 5, kernels, 0.0))))

    assert whole_s != sum(times_s)
    assert re.search(r"Unexplained +0 s, 0\.0% of the profiled run", text)


def test_an_operator_pass_on_a_busy_hot_or_throttled_device_is_told_in_page_and_document() -> None:
    base = make_profile()
    assert base.operators is not None
    before = base.rounds[0].before
    slowed = replace(before.clocks[0], max_hz=1.2e9)
    recorded = replace(
        base.operators,
        gate=GateOutcome(False, 20.0, ("other programs keep 80% of the CPUs busy (limit 20%)",)),
        before=before,
        after=replace(before, throttled=0xE0008, clocks=(slowed,)),
    )
    run = make_run(operators=recorded)

    notes = to_document(run)["operator_notes"]

    assert notes == [
        "the operator pass began although the device was not quiet and cool: other programs keep 80% of the CPUs busy "
        "(limit 20%)",
        "the firmware reported soft temperature limit and newly recorded clock capped, throttled, "
        "soft temperature limit during the operator pass (get_throttled 0xe0008)",
        "the allowed maximum clock of CPUs 0-3 fell from 1800 MHz to 1200 MHz during the operator pass",
    ]
    page = " ".join(printed(render_run(run)).split())
    assert all(note in page for note in notes)
    assert to_document(run)["verdict"]["level"] == "trusted"


def test_an_operator_pass_of_an_older_document_or_a_quiet_device_has_no_notes() -> None:
    recorded = make_profile().operators
    assert recorded is not None
    quiet = replace(recorded, gate=GateOutcome(True, 0.1), before=Conditions(at_s=1.0), after=Conditions(at_s=2.0))

    documents = [to_document(make_run(operators=operators)) for operators in (recorded, quiet)]

    assert [document["operator_notes"] for document in documents] == [[], []]


def test_doubts_are_listed_with_what_to_do() -> None:
    base = make_profile()
    late = tuple(replace(r, gate=GateOutcome(False, 60.0, ("load 0.9",))) for r in base.rounds)

    text = printed(render_run(make_run(rounds=late)))

    assert "GATE-TIMEOUT" in text
    assert "load 0.9" in text
    assert "-> stop other programs" in text


def test_conditions_that_could_not_be_read_are_listed() -> None:
    base = make_profile()
    blind = tuple(
        replace(
            r,
            before=replace(r.before, clocks=(), unreadable={"governor": "no cpufreq here"}),
            after=replace(r.after, clocks=(), unreadable={"governor": "no cpufreq here"}),
        )
        for r in base.rounds
    )

    text = printed(render_run(make_run(rounds=blind)))

    assert "no cpufreq here" in text


def test_a_run_without_operators_says_why() -> None:
    text = printed(render_run(make_run(with_operators=False)))

    assert "none: not asked for (--operators)" in text


def test_a_run_without_samples_still_has_a_page() -> None:
    text = printed(render_run(make_run(rounds=())))

    assert "INVALID" in text
    assert "no usable sample" in text


def test_text_from_models_and_devices_is_neither_markup_nor_terminal_commands() -> None:
    hostile = "[red]x[/red] [link=http://evil]\x1b[31m\x1b]0;title\x07\r\n"
    base = make_run(notes=(hostile,), in_force={hostile: hostile}, origin=hostile)
    operators = tuple(replace(operator, nodes=(hostile,), node_types=(hostile,)) for operator in base.operators)
    run = replace(base, device=hostile, operators=operators)

    text = printed(render_run(run), width=300)

    assert "[red]x[/red]" in text
    assert "[link=http://evil]" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)


def test_names_keep_their_end_where_they_are_too_long() -> None:
    operator = Operator(kernel=0, origin="node", nodes=("/features/" * 10 + "conv_last",), node_types=("Conv",))
    run = replace(make_run(), operators=(operator,))

    text = printed(render_run(run), width=80)

    assert "…" in text
    assert "conv_last " in text


@settings(deadline=None, max_examples=40)
@given(run=runs(), width=st.sampled_from([40, 80, 120, 200]))
def test_every_run_has_a_page(run: Run, width: int) -> None:
    text = printed(render_run(run), width)

    assert "Verdict" in text


# --- quantities ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0 s"),
        (1.5e-9, "1.50 ns"),
        (2.5e-6, "2.50 µs"),
        (12.34e-6, "12.3 µs"),
        (999.4e-6, "999 µs"),
        (999.6e-6, "1.00 ms"),
        (0.0123, "12.3 ms"),
        (1.0, "1.00 s"),
        (3600.0, "3600 s"),
    ],
)
def test_a_duration_has_three_digits_and_a_unit_that_fits(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(5e-6, "5 µs"), (895e-6, "895 µs"), (1.2345e-3, "1.23 ms"), (2.5, "2.50 s")]
)
def test_a_duration_has_no_digit_below_the_step_of_its_clock(seconds: float, text: str) -> None:
    assert duration(seconds, step_s=1e-6) == text


@pytest.mark.parametrize(
    ("middle_s", "low_s", "high_s", "texts"),
    [
        (1.50057e-3, 1.49943e-3, 1.5017e-3, ("1.501 ms", "1.499 to 1.502 ms")),
        (1.5e-3, 1.2e-3, 1.9e-3, ("1.5 ms", "1.2 to 1.9 ms")),
        (15e-3, 9e-3, 40e-3, ("15 ms", "9 to 40 ms")),
        (1e-3, 1e-3, 1e-3, ("1.0000 ms", "1.0000 to 1.0000 ms")),
        (2.0, 1.99999999, 2.00000001, ("2.0000 s", "2.0000 to 2.0000 s")),
    ],
)
def test_a_median_ends_at_its_first_uncertain_digit(
    middle_s: float, low_s: float, high_s: float, texts: tuple[str, str]
) -> None:
    assert interval(middle_s, low_s, high_s) == texts


def test_sizes_counts_and_shares_are_short() -> None:
    assert [size(n) for n in (None, 0, 999, 1234, 72_500_000, 8_000_000_000)] == [
        "-",
        "0 B",
        "999 B",
        "1.23 kB",
        "72.5 MB",
        "8.00 GB",
    ]
    assert [count(n) for n in (None, 0, 12, 46_080, 2_654_208)] == ["-", "0", "12", "46.1 k", "2.65 M"]
    assert [percent(s) for s in (None, 0.0, 0.0005, 0.017, 0.0996, 0.6)] == ["-", "0.0%", "0.05%", "1.7%", "10%", "60%"]
