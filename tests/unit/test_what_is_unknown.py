"""What predictors do not know: it is never free, never exact, and never taken for something else of the same name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper

from latency_models.building import builder
from latency_models.datasheet import BoardPredictor
from latency_models.features import form
from latency_models.graph import GraphError, ShapeError
from latency_models.kernels import KernelSpec, Operand
from latency_models.making_kernels import UNKNOWN_S, KernelMaker, Kernels, WrongFormat
from latency_models.observations import Target
from latency_models.patterns import Patterns
from latency_models.predictor import ALL_ALIKE, Predictor
from latency_models.reading import read
from latency_models.scores import LEAST_SPANS, Scores, normal_spans
from latency_models.whole_graph.predictor import WholeGraphPredictor
from tests.unit.kernel_makers import TARGET, conv_samples, net, nets

Node = tuple[str, tuple[str, ...], str, str]


def model(*nodes: Node, shape: tuple[int, ...] | None, domain: str = "com.acme") -> bytes:
    """Nodes as (type, inputs, output, domain) with weights w (8, 3, 3, 3); x is the input, y the output."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in (("x", shape), ("y", None)))
    w = helper.make_tensor("w", TensorProto.FLOAT, (8, 3, 3, 3), np.zeros(8 * 27, np.float32))
    made = [helper.make_node(kind, inputs, [output], output, domain=of) for kind, inputs, output, of in nodes]
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(domain, 1)]
    graph = helper.make_graph(made, "g", [x], [y], initializer=[w])
    found: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return found


def onnxruntime_target(**changes: str) -> Target:
    import platform

    import onnxruntime

    known = {"architecture": platform.machine(), "runtime_version": onnxruntime.__version__, **changes}
    return replace(TARGET, runtime="onnxruntime", **known)


# --- boards -----------------------------------------------------------------------------------------------------------


def test_an_operator_of_unknown_shape_makes_a_board_as_unsure_as_any_bound() -> None:
    unranked = model(("Conv", ("x", "w"), "y", ""), shape=None)

    found = BoardPredictor.of("pi-4").predict(unranked)

    assert [one.operator for one in found.uncovered] == ["y"]
    assert found.uncovered_share == 1.0
    assert found.high_s / found.low_s > 10


def test_more_ignorance_is_no_narrower_interval() -> None:
    shape = (1, 3, 224, 224)
    known = BoardPredictor.of("pi-4").predict(model(("Conv", ("x", "w"), "y", ""), shape=shape))
    half = BoardPredictor.of("pi-4").predict(
        model(("Conv", ("x", "w"), "a", ""), ("Magic", ("a",), "y", "com.acme"), shape=shape)
    )

    assert half.high_s / half.low_s > known.high_s / known.low_s
    (magic,) = half.uncovered
    assert magic.latency_s > 10 * UNKNOWN_S, "12 MB come in: that is no ten microseconds"


def test_a_board_of_invented_figures_and_a_model_without_operators_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing is published of example"):
        BoardPredictor.of("example")
    with pytest.raises(GraphError, match="nothing to predict"):
        BoardPredictor.of("pi-4").predict(model(shape=(1, 3, 8, 8)))


# --- kernels ----------------------------------------------------------------------------------------------------------


def test_a_custom_operator_has_nothing_in_common_with_the_one_of_its_name() -> None:
    theirs = model(("Conv", ("x", "w"), "y", "com.acme"), shape=(1, 3, 32, 32))

    found = Predictor.fit(TARGET, conv_samples(60)).predict(theirs)

    assert [one.reason for one in found.uncovered] == [
        "com.acme:Conv: a shape that it needs is not known before the model runs"
    ]
    assert read(theirs).operators[0].macs is None


def test_what_quantises_its_input_itself_is_a_kind_of_its_own() -> None:
    weights = Operand(dtype="int8", shape=(64, 64), is_constant=True)
    data = Operand(dtype="float32", shape=(8, 64))
    product = KernelSpec(
        format="onnx", type="MatMul", inputs=(data, replace(weights, dtype="float32")), outputs=(data,)
    )
    dynamic = replace(product, type="DynamicQuantizeMatMul", inputs=(data, weights))

    assert form(product).family == "dense float32"
    assert form(dynamic).family == "dense int8-dynamic"


def test_a_convolution_that_comes_out_smaller_than_nothing_has_no_negative_work() -> None:
    small = model(("Conv", ("x", "w"), "y", ""), shape=(1, 3, 1, 1))

    found = Predictor.fit(TARGET, conv_samples(60)).predict(small)

    assert read(small).operators[0].macs in (None, 0)
    assert all((one.macs or 0) >= 0 for one in found.operators)
    said = [*found.notes, *(one.reason for one in found.uncovered)]
    assert any("negative size" in one or "come out empty" in one for one in said)


def test_a_batch_that_changes_nothing_is_said_and_no_batch_at_all_refused() -> None:
    fixed = model(("Relu", ("x",), "y", ""), shape=(1, 3, 8, 8))

    assert any("a batch of 4 was asked for" in note for note in read(fixed, batch=4).notes)
    assert read(fixed, batch=1).notes == ()
    given = read(fixed, batch=4, shapes={"x": (1, 3, 8, 8)}).notes
    assert given == ("a batch of 4 was asked for, but shapes were given for all inputs: these count",)
    with pytest.raises(ShapeError, match="the batch is 0"):
        read(fixed, batch=0)


# --- runtimes ---------------------------------------------------------------------------------------------------------


def test_a_model_that_the_runtime_cannot_run_is_not_predicted_for_it() -> None:
    tflite = builder("tflite")
    of_tflite = tflite.graph(tflite.conv(tflite.image(16, 16), 8, 3))

    with pytest.raises(WrongFormat, match=r"is a model of TFLite, and onnxruntime.* runs those of ONNX"):
        KernelMaker(onnxruntime_target(), Patterns({})).of_graph(of_tflite)
    with pytest.raises(WrongFormat, match="runs those of TFLite"):
        KernelMaker(replace(TARGET, runtime="litert"), Patterns({})).of_model(
            model(("Relu", ("x",), "y", ""), shape=(1, 3, 8, 8))
        )


def test_another_version_on_such_a_processor_is_asked_and_said() -> None:
    relu = model(("Conv", ("x", "w"), "a", ""), ("Relu", ("a",), "y", ""), shape=(1, 3, 32, 32))

    same = KernelMaker(onnxruntime_target(), Patterns({})).of_model(relu)
    older = KernelMaker(onnxruntime_target(runtime_version="1.1.0"), Patterns({})).of_model(relu)
    elsewhere = KernelMaker(onnxruntime_target(architecture="toy64"), Patterns({})).of_model(relu)

    assert older.kernels == same.kernels
    assert not any("the target has" in note for note in same.notes)
    assert any("which is here: the target has 1.1.0" in note for note in older.notes)
    assert len(elsewhere.kernels) == 2, "patterns are what is left, and none was learned"


def test_a_custom_operator_does_not_keep_the_rest_from_being_predicted() -> None:
    plain = model(("Conv", ("x", "w"), "a", ""), ("Relu", ("a",), "y", ""), shape=(1, 3, 64, 64))
    custom = model(
        ("Conv", ("x", "w"), "a", ""),
        ("Relu", ("a",), "b", ""),
        ("Magic", ("b",), "c", "com.acme"),
        ("Relu", ("c",), "y", ""),
        shape=(1, 3, 64, 64),
    )
    broken = model(("Relu", ("nowhere",), "y", ""), shape=(1, 3, 64, 64))
    maker = KernelMaker(onnxruntime_target(), Patterns({}))

    made = maker.of_model(custom)

    assert made.kernels[: len(maker.of_model(plain).kernels)] == maker.of_model(plain).kernels
    assert [one.operator for one in made.unknown] == ["y", "c"]
    assert any("the rest is taken apart, without com.acme:Magic" in note for note in made.notes)
    with pytest.raises(GraphError, match="ONNX Runtime does not take"):
        maker.of_model(broken)


# --- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_a_few_nets_that_were_met_by_chance_do_not_make_it_surer_than_its_kernels_are(n: int) -> None:
    lucky = Scores((0.01,) * n)

    assert lucky.quantile(0.9) > normal_spans(0.9)
    assert Scores((0.01,) * 100).quantile(0.9) == LEAST_SPANS


def test_nets_that_all_took_the_same_leave_an_interval_and_a_warning() -> None:
    alike = [replace(one, latency_s=1e-3) for one in nets(12)]
    genes = np.array([[k % 3, k % 5] for k in range(40)])

    by_kernels = Predictor.fit(TARGET, conv_samples(60), alike).estimate(
        Kernels(tuple(net(7)), tuple(("node",) for _ in net(7)))
    )
    whole = WholeGraphPredictor.fit(np.full(40, 1e-3), genes=genes).predict(genes=(0, 0))

    for found in (by_kernels, whole):
        assert ALL_ALIKE in found.notes
        assert found.high_s / found.low_s > 1.002
    assert ALL_ALIKE not in Predictor.fit(TARGET, conv_samples(60), nets(12)).predict(model(shape=(1, 3, 8, 8))).notes


def test_what_is_not_above_nothing_is_no_latency_of_a_net() -> None:
    for wrong in (float("nan"), 0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="which is not above 0"):
            Predictor.fit(TARGET, conv_samples(60), [replace(nets(1)[0], latency_s=wrong)])


# --- bills ------------------------------------------------------------------------------------------------------------


def test_parts_add_up_though_no_run_takes_less_than_a_microsecond() -> None:
    predictor = Predictor.fit(TARGET, conv_samples(60), nets(12))
    for data in (model(("Relu", ("x",), "y", ""), shape=(1, 1, 1, 1)), model(shape=(1, 3, 8, 8))):
        parts = predictor.explain(data)
        assert sum(part.seconds for part in parts) == pytest.approx(predictor.predict(data).latency_s)


def test_what_is_not_covered_is_a_share_of_the_sum() -> None:
    custom = model(("Magic", ("x",), "a", "com.acme"), ("Relu", ("a",), "y", ""), shape=(1, 3, 64, 64))

    found = Predictor.fit(TARGET, [*conv_samples(60)], nets(12)).predict(custom)

    assert found.undescribed_s == pytest.approx(sum(one.latency_s for one in found.uncovered))
    assert 0 < found.uncovered_share <= 1.0
