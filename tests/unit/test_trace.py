"""The trace follows Google's "Trace Event Format" and says nothing that was not measured."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from edgeprof.errors import MeasurementError
from edgeprof.reports.trace import REMAINDER, trace_json, trace_of
from tests.chrome_trace import check_trace
from tests.unit.run_factory import make_profile, make_run


def slices_of(trace: dict[str, Any], category: str) -> list[dict[str, Any]]:
    return [event for event in trace["traceEvents"] if event["ph"] == "X" and event["cat"] == category]


@pytest.mark.parametrize("seed", range(5))
def test_a_trace_follows_the_format(seed: int) -> None:
    text = trace_json([make_run(seed=seed)])

    events = check_trace(json.loads(text))

    assert {event["ph"] for event in events} == {"X", "M"}


def test_the_inference_with_the_median_total_is_the_one_that_is_shown() -> None:
    run = make_run()
    recorded = run.profile.operators
    assert recorded is not None

    (inference,) = slices_of(trace_of([run]), "inference")

    ranked = sorted(recorded.latencies_s)
    assert inference["dur"] == pytest.approx(ranked[(len(ranked) - 1) // 2] * 1e6, abs=1e-3)
    assert recorded.latencies_s[inference["args"]["profiled_inference"]] * 1e6 == pytest.approx(
        inference["dur"], abs=1e-3
    )


def test_kernels_stand_end_to_end_in_execution_order_with_their_own_times() -> None:
    run = make_run()
    recorded = run.profile.operators
    assert recorded is not None

    trace = trace_of([run])

    (inference,) = slices_of(trace, "inference")
    kernels = slices_of(trace, "kernel")
    chosen = inference["args"]["profiled_inference"]
    assert [event["args"]["kernel"] for event in kernels] == [kernel.name for kernel in recorded.kernels]
    assert [event["dur"] for event in kernels] == pytest.approx(
        [kernel.times_s[chosen] * 1e6 for kernel in recorded.kernels], abs=2e-3
    )
    ends = [round((event["ts"] + event["dur"]) * 1000) for event in kernels]
    assert [round(event["ts"] * 1000) for event in kernels] == [0, *ends[:-1]]


def test_what_no_kernel_explains_is_a_slice_of_its_own_and_gaps_are_said_not_to_be_recorded() -> None:
    trace = trace_of([make_run()])

    (inference,) = slices_of(trace, "inference")
    (remainder,) = slices_of(trace, "remainder")

    covered = sum(event["dur"] for event in slices_of(trace, "kernel"))
    assert remainder["name"] == REMAINDER
    assert covered + remainder["dur"] == pytest.approx(inference["dur"], abs=1e-2)
    assert "not recorded" in trace["otherData"]["layout"]
    assert "not recorded" in inference["args"]["note"]


def test_slices_carry_nodes_shapes_and_shares_and_leave_out_what_is_unknown() -> None:
    first, *_, unmapped, _ = slices_of(trace_of([make_run()]), "kernel")

    assert first["args"]["nodes"] == ["stem", "stem/relu"]
    assert first["args"]["output_shapes"] == [[1, 16, 48, 48]]
    assert 0 < first["args"]["share_of_operators"] < 1
    assert unmapped["args"]["mapping"] == "unmapped"
    assert "macs" not in unmapped["args"]


def test_names_tell_model_device_runtime_and_origin() -> None:
    events = trace_of([make_run(origin="simulated")])["traceEvents"]

    names = {event["name"]: event["args"]["name"] for event in events if event["ph"] == "M"}

    assert names["process_name"] == "net.onnx on pi5 (simulated)"
    assert names["thread_name"].startswith("onnxruntime 1.31.1")


def test_several_runs_are_several_processes() -> None:
    trace = trace_of([make_run("a"), make_run("b", seed=1)])

    check_trace(trace)

    assert {event["pid"] for event in trace["traceEvents"]} == {1, 2}


def test_kernels_that_add_up_to_more_than_the_run_stay_inside_it() -> None:
    recorded = make_profile().operators
    assert recorded is not None
    run = make_run(operators=replace(recorded, latencies_s=tuple(s * 0.9 for s in recorded.latencies_s)))

    trace = trace_of([run])

    check_trace(trace)
    assert slices_of(trace, "remainder") == []


def test_a_kernel_that_did_not_run_in_the_chosen_inference_has_no_slice() -> None:
    recorded = make_profile().operators
    assert recorded is not None
    kernels = (*recorded.kernels[:-1], replace(recorded.kernels[-1], times_s=()))

    trace = trace_of([make_run(operators=replace(recorded, kernels=kernels))])

    check_trace(trace)
    assert len(slices_of(trace, "kernel")) == len(kernels) - 1


def test_a_run_without_operators_has_no_trace() -> None:
    with pytest.raises(MeasurementError, match="not asked for") as caught:
        trace_of([make_run(with_operators=False)])

    assert "--operators" in caught.value.advice
