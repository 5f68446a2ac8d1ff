"""What `edgeprof check` writes: Markdown, JUnit XML and JSON, also where names are hostile."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from device_agents.wire import SIMULATED
from edgeprof.checking import Check, Outcome, merge_blocks
from edgeprof.errors import AgentLost
from edgeprof.regression import FAILED, INCONCLUSIVE, PASSED
from edgeprof.reports.gate import check_document, junit_of_error, junit_xml, markdown
from edgeprof.run import Run
from edgeprof.verdict import judge
from tests.unit.run_factory import make_run

HOSTILE = 'a|b`<script>&"\x1b[31m\x00.onnx'


def named(run: Run, name: str) -> Run:
    model = replace(run.profile.job.model, name=name)
    return replace(run, profile=replace(run.profile, job=replace(run.profile.job, model=model)))


def outcome(*decisions: str, name: str = "net.onnx") -> Outcome:
    checks = tuple(
        Check(name="regression" if k == 0 else f"budget {k}", decision=decision, text=f"{name} & <{decision}>")
        for k, decision in enumerate(decisions)
    )
    return Outcome(
        baseline=named(make_run("base", seed=1), name),
        candidate=named(make_run("new", seed=2), name),
        checks=checks,
        max_regression=0.03,
        confidence=0.95,
        n_pairs=6,
        max_pairs=40,
        warnings=(f"beware of {name}",),
    )


@pytest.mark.parametrize(
    ("decisions", "whole"),
    [
        ((PASSED, PASSED), PASSED),
        ((PASSED, INCONCLUSIVE), INCONCLUSIVE),
        ((INCONCLUSIVE, FAILED), FAILED),
        ((FAILED, PASSED), FAILED),
    ],
)
def test_the_most_severe_check_decides(decisions: tuple[str, ...], whole: str) -> None:
    assert outcome(*decisions).decision == whole


@pytest.mark.parametrize(("strict", "n_failures"), [(True, 2), (False, 1)])
def test_junit_has_a_case_for_each_check_and_counts_what_fails(strict: bool, n_failures: int) -> None:
    document = junit_xml(outcome(PASSED, FAILED, INCONCLUSIVE, name=HOSTILE), inconclusive_fails=strict)

    root = ElementTree.fromstring(document)
    (suite,) = root
    cases = suite.findall("testcase")
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", str(n_failures), "0")
    assert [case.get("name") for case in cases] == ["regression", "budget 1", "budget 2"]
    assert all(case.get("classname") for case in cases)
    assert len(suite.findall("testcase/failure")) == n_failures
    assert "<script>" in (suite.findall("testcase/failure")[0].get("message") or "")


def test_junit_tells_of_an_error_what_to_do() -> None:
    (suite,) = ElementTree.fromstring(junit_of_error(HOSTILE, AgentLost("gone \x00", "switch it on")))

    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
    (problem,) = suite.findall("testcase/error")
    assert problem.get("type") == "AgentLost"
    assert "switch it on" in (problem.text or "")


def test_markdown_keeps_its_tables_whatever_a_model_is_called() -> None:
    text = markdown(outcome(FAILED, PASSED, name=HOSTILE))

    for line in text.splitlines():
        if line.startswith("|"):
            unescaped = line.replace("\\|", "")
            assert unescaped.count("|") in (6, 7)
    assert "<script>" not in text
    assert "\x1b" not in text
    for words in ("failed", "base", "new", "6 pairs"):
        assert words in text


def test_json_names_both_runs_and_every_check() -> None:
    document = json.loads(check_document(outcome(PASSED, INCONCLUSIVE)))

    assert document["decision"] == INCONCLUSIVE
    assert (document["baseline"]["run"], document["candidate"]["run"]) == ("base", "new")
    assert [check["decision"] for check in document["checks"]] == [PASSED, INCONCLUSIVE]


def one_round(k: int, origin: str) -> Run:
    run = make_run(f"block{k}", seed=k, with_operators=False)
    profile = replace(run.profile, rounds=run.profile.rounds[:1], memory_peak_bytes=1000 + k, origin=origin)
    return replace(run, profile=profile)


def test_blocks_make_one_run_that_can_be_judged() -> None:
    blocks = [one_round(k, SIMULATED) for k in range(4)]

    merged = merge_blocks(blocks, "4 blocks")

    assert [r.latencies_s for r in merged.profile.rounds] == [b.profile.rounds[0].latencies_s for b in blocks]
    assert merged.profile.job.schedule.rounds == 4
    assert merged.profile.memory_peak_bytes == 1003
    assert judge(merged.profile).level == "trusted"
    assert "4 blocks" in merged.notes[-1]


def test_a_real_clock_that_went_backwards_between_blocks_is_not_hidden() -> None:
    merged = merge_blocks([one_round(k, "measured") for k in range(4)], "4 blocks")

    assert judge(merged.profile).level == "invalid"


def test_a_block_without_the_device_telling_memory_is_left_out_of_the_peak() -> None:
    blocks = [one_round(k, SIMULATED) for k in range(2)]
    silent = replace(blocks[0], profile=replace(blocks[0].profile, memory_peak_bytes=None))

    assert merge_blocks([silent, blocks[1]], "").profile.memory_peak_bytes == 1001
    assert merge_blocks([silent, silent], "").profile.memory_peak_bytes is None
