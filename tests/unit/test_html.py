"""The page of a run in a notebook: whole, escaped, and without anything from elsewhere."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from device_agents.wire import EMULATED, SIMULATED
from edgeprof.operators import operator_rows
from edgeprof.reports.html import html_fragment
from edgeprof.run import OutputCheck, OutputDifference, Run
from tests.unit.run_factory import LAYERS, make_run

VOID = {"br", "wbr", "hr", "img", "path", "rect"}
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>\x1b[31m\u202e&amp;\'"'


class Page(HTMLParser):
    """Text and tags of a fragment; a tag that is not closed where it must be fails."""

    def __init__(self, fragment: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.cells: list[str] = []
        self._open: list[str] = []
        self.feed(fragment)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)
        if tag in ("td", "li", "p", "dd", "b", "span", "summary"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if self.cells and "style" not in self._open:
            self.cells[-1] += data

    @property
    def text(self) -> str:
        return "\n".join(self.cells)


def hostile_run() -> Run:
    run = make_run(device=HOSTILE, runtime_version=HOSTILE, notes=(HOSTILE,), in_force={HOSTILE: HOSTILE})
    operators = tuple(replace(o, nodes=tuple(HOSTILE for _ in o.nodes), node_types=(HOSTILE,)) for o in run.operators)
    job = replace(run.profile.job, model=replace(run.profile.job.model, name=HOSTILE), runtime=HOSTILE)
    return replace(run, operators=operators, profile=replace(run.profile, job=job), notes=(HOSTILE,))


def test_every_kernel_is_there_in_the_users_words() -> None:
    run = make_run()

    page = Page(html_fragment(run, top=2))

    assert page.tags.count("tr") - page.tags.count("thead") == len(LAYERS)
    for row in operator_rows(run):
        assert row.name in page.cells
    assert "4 more kernels" in page.text


def test_head_latency_interval_and_verdict_are_there() -> None:
    page = Page(html_fragment(make_run()))

    assert "net.onnx" in page.cells
    assert "1.50 ms" in page.cells
    assert "95% interval" in page.text
    assert "trusted" in page.cells
    assert "measured" in page.cells


def test_names_of_models_and_devices_are_text_and_nothing_else() -> None:
    plain, page = Page(html_fragment(make_run())), Page(html_fragment(hostile_run()))

    assert set(page.tags) <= set(plain.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    assert '<script>alert("x")</script>' in page.text
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text


def test_nothing_is_fetched_from_elsewhere() -> None:
    fragment = html_fragment(make_run())

    assert "http" not in fragment
    assert "url(" not in fragment
    assert "@import" not in fragment
    assert "<script" not in fragment


@pytest.mark.parametrize("origin", [SIMULATED, EMULATED])
def test_what_was_not_measured_is_never_shown_in_green(origin: str) -> None:
    fragment = html_fragment(make_run(origin=origin))

    assert 'class="chip good"' not in fragment
    assert f"The samples are {origin}: no measurement of real hardware" in fragment


def test_without_operators_the_page_says_why() -> None:
    page = Page(html_fragment(make_run(with_operators=False)))

    assert "No operators: not asked for (--operators)" in page.text
    assert "table" not in page.tags


def test_without_samples_the_page_says_so() -> None:
    page = Page(html_fragment(make_run(rounds=())))

    assert "there is no usable sample" in page.text
    assert "invalid" in page.cells


def test_outputs_that_disagree_are_told_with_what_to_do() -> None:
    run = make_run()
    wrong = OutputDifference(
        name="<y>", dtype="float32", shape=(2,), n_values=2, n_compared=2, n_unequal=2, n_not_finite=0,
        cosine=-1.0, max_error=2.0, max_error_of_peak=2.0, peak=1.0,
    )  # fmt: skip
    check = OutputCheck(
        runtime="onnxruntime",
        runtime_version="1.31.1",
        python="3.11.7",
        architecture="x86_64",
        options=run.profile.job.options,
        in_force={},
        outputs=(wrong,),
    )

    page = Page(html_fragment(replace(run, output_check=check)))

    assert "Outputs DISAGREE with onnxruntime 1.31.1" in page.text
    assert "output '<y>': cosine similarity -1.0000 (limit 0.99)" in page.text
