"""Predictors of kernels and of nets: what they learn, what they do not know, and how far off they say they are."""

from __future__ import annotations

import math
import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper

from latency_models.building import builder
from latency_models.correction import Correction, Net
from latency_models.features import NAMES, form
from latency_models.kernel_times import BOUND, KernelTimes
from latency_models.kernels import KernelSpec, Operand
from latency_models.making_kernels import UNKNOWN_S, Kernels
from latency_models.observations import KernelSample, NetSample
from latency_models.predictor import Predictor
from latency_models.scores import Scores
from tests.unit.kernel_makers import TARGET, conv, conv_samples, net, nets, relu, seconds, strange, timed


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.fit(TARGET, conv_samples(), nets())


def kernels(*specs: object) -> Kernels:
    return Kernels(tuple(specs), tuple((f"node {k}",) for k in range(len(specs))))  # type: ignore[arg-type]


def test_kernels_that_were_not_measured_are_predicted_within_a_few_per_cent(predictor: Predictor) -> None:
    new = [conv(side, inputs, outputs) for side in (9, 23, 50) for inputs in (12, 60) for outputs in (24, 100)]

    found = predictor.times.predict(new)

    errors = np.abs(found.time_s / np.array([seconds(kernel) for kernel in new]) - 1)
    assert np.median(errors) < 0.05
    assert errors.max() < 0.25


def test_a_net_that_was_not_measured_is_predicted_with_what_nets_cost_beside_their_kernels(
    predictor: Predictor,
) -> None:
    for seed in range(1000, 1010):
        one = net(seed)
        estimate = predictor.estimate(kernels(*one))
        true_s = 1.1 * sum(seconds(kernel) for kernel in one) + 2e-5

        assert estimate.latency_s == pytest.approx(true_s, rel=0.1)
        assert estimate.low_s < estimate.latency_s < estimate.high_s


def test_intervals_hold_about_as_often_as_they_say(predictor: Predictor) -> None:
    inside = []
    for sample in nets(60, seed=5000):
        estimate = predictor.estimate(kernels(*sample.kernels), level=0.9)
        inside.append(estimate.low_s <= sample.latency_s <= estimate.high_s)

    assert np.mean(inside) >= 0.8


def test_a_higher_level_has_a_wider_interval(predictor: Predictor) -> None:
    one = kernels(*net(7))

    widths = [predictor.estimate(one, level).high_s for level in (0.5, 0.8, 0.95)]

    assert widths == sorted(widths)


def test_an_unknown_operator_counts_for_a_bound_and_is_named(predictor: Predictor) -> None:
    one = net(3)
    without, with_it = predictor.estimate(kernels(*one)), predictor.estimate(kernels(*one, strange()))

    assert with_it.latency_s > without.latency_s
    (uncovered,) = with_it.uncovered
    assert uncovered.operator == f"node {len(one)}"
    assert "Whirl float32: no kernel of this kind was ever measured" in uncovered.reason
    assert uncovered.latency_s > 0
    assert not with_it.is_covered
    assert with_it.high_s / with_it.latency_s > without.high_s / without.latency_s


def test_a_bound_grows_with_the_work(predictor: Predictor) -> None:
    small, large = (predictor.times.predict([strange(n)]).time_s[0] for n in (1_000, 100_000_000))

    assert large > 50 * small


def test_what_lies_beyond_what_was_measured_is_extrapolated_and_less_certain(predictor: Predictor) -> None:
    inside, beyond = predictor.times.predict([conv(32, 64, 64), conv(500, 600, 700)]).sd, conv(500, 600, 700)
    found = predictor.estimate(kernels(beyond))

    assert inside[1] > 2 * inside[0]
    assert found.operators[0].basis == "extrapolated"
    assert found.distance > 1
    # The roofline goes on where trees end: a kernel 500 times as large as any that was seen.
    assert 1 / 3 < found.operators[0].latency_s / seconds(beyond) < 3


def test_what_only_some_kernels_have_is_nothing_new_where_it_is_missing() -> None:
    """Sums with a stored tensor, and with one that is not: both were measured, and neither is far away."""

    def add(side: int, is_constant: bool) -> KernelSpec:
        one = Operand(dtype="float32", shape=(1, 16, side, side))
        inputs = (one, replace(one, is_constant=is_constant))
        return KernelSpec(format="onnx", type="Add", inputs=inputs, outputs=(one,))

    kernels = [add(side, is_constant) for side in range(10, 50) for is_constant in (False, True)]
    samples = [
        KernelSample(kernel=one, time_s=seconds(one), n_runs=15, spread=0.02, source=f"model {k % 7}")
        for k, one in enumerate(kernels)
    ]
    place = NAMES.index("weight_bytes")
    assert [bool(np.isnan(form(one).values[place])) for one in kernels[:2]] == [True, False]

    times, _ = KernelTimes.fit(samples)

    assert list(times.predict(kernels[40:42]).distance) == [0.0, 0.0]


def test_a_kernel_that_was_measured_in_several_models_is_looked_up() -> None:
    samples = conv_samples(150)
    odd = conv(17, 31, 33)
    samples += [
        KernelSample(
            kernel=odd, time_s=5 * seconds(odd), n_runs=30, spread=0.01, source=f"m{k}", nodes=("Conv", "Relu")
        )
        for k in range(4)
    ]

    times, _ = KernelTimes.fit(samples)

    assert times.predict([odd]).time_s[0] == pytest.approx(5 * seconds(odd), rel=0.1)
    assert Predictor.fit(TARGET, samples).estimate(kernels(odd)).operators[0].basis == "look-up"


def test_an_operator_of_unknown_shape_counts_for_what_its_like_usually_take() -> None:
    """How many are not zero is known when the model runs; a runtime must still go through them."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [8]), ("y", None)))
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"], "where"),
        helper.make_node("Cast", ["where"], ["number"], "number", to=TensorProto.FLOAT),
        helper.make_node("Softsign", ["number"], ["y"], "softsign"),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 13)])
    took_s = [3e-6 * (1 + k / 10) for k in range(9)]
    samples = [
        KernelSample(
            kernel=replace(relu(4 + k, 8), type="Softsign"), time_s=time_s, n_runs=30, spread=0.0, source=f"m{k}"
        )
        for k, time_s in enumerate(took_s)
    ]

    estimate = Predictor.fit(TARGET, [*conv_samples(60), *samples]).predict(model.SerializeToString())

    by_name = {one.operator: one for one in estimate.uncovered}
    assert by_name["softsign"].latency_s == pytest.approx(np.median(took_s))
    assert by_name["number"].latency_s == UNKNOWN_S, "nothing of its kind was measured"
    assert "a shape that it needs is not known before the model runs" in by_name["softsign"].reason


def test_too_few_of_a_kind_are_bounded_and_said() -> None:
    samples = conv_samples(90)
    samples += [KernelSample(kernel=strange(n), time_s=1e-5, n_runs=30, spread=0.0, source="s") for n in (10, 20)]

    estimate = Predictor.fit(TARGET, samples).estimate(kernels(strange(30)))

    assert "only 2 of this kind were measured" in estimate.uncovered[0].reason


def test_what_nearly_all_comes_from_one_model_is_learned_too() -> None:
    """Without that model too little is left for trees."""
    samples = conv_samples(60, seed=3)
    one_model = [replace(one, source="a model", group="a model") for one in samples[:59]]

    predicted = KernelTimes.fit([*one_model, samples[59]])[0].predict([conv(16, 16, 16)])

    assert np.isfinite(predicted.time_s).all()


def test_a_constant_target_is_learned_as_what_it_is() -> None:
    samples = [
        KernelSample(kernel=relu(side, 8), time_s=3e-6, n_runs=30, spread=0.0, source=f"m{side}")
        for side in range(2, 62)
    ]

    found = KernelTimes.fit(samples)[0].predict([relu(100, 8), relu(33, 8)])

    assert found.time_s == pytest.approx([3e-6, 3e-6], rel=0.1)


def test_a_tensor_without_elements_is_no_reason_to_fail(predictor: Predictor) -> None:
    estimate = predictor.estimate(kernels(relu(0, 8), conv(8, 4, 8)))

    assert math.isfinite(estimate.latency_s)
    assert estimate.latency_s > 0


def test_samples_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="no kernel was measured"):
        Predictor.fit(TARGET, [])
    bad = KernelSample(kernel=relu(8, 8), time_s=0.0, n_runs=1, spread=0.0, source="m")
    with pytest.raises(ValueError, match="is not above 0"):
        Predictor.fit(TARGET, [bad])


def test_a_level_that_is_none_is_refused(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="level is 1"):
        predictor.estimate(kernels(relu(8, 8)), level=1.0)


def test_without_nets_the_sum_stands_and_says_that_its_interval_is_not_calibrated() -> None:
    estimate = Predictor.fit(TARGET, conv_samples(60)).estimate(kernels(relu(8, 8)))

    assert any("no whole net was measured" in note for note in estimate.notes)


def test_fewer_nets_never_make_an_interval_narrower_than_none() -> None:
    one = kernels(*net(5))
    none, many = (Predictor.fit(TARGET, conv_samples(60), nets(n)).estimate(one) for n in (0, 24))

    assert none.high_s / none.latency_s > 1.4
    assert many.high_s / many.latency_s < none.high_s / none.latency_s


def test_a_model_in_which_nothing_runs_is_said_and_not_known_well(predictor: Predictor) -> None:
    estimate = predictor.estimate(kernels())

    assert estimate.high_s > 2 * estimate.latency_s > 0
    assert "nothing in it runs: this is what calling a runtime takes" in estimate.notes


def test_energy_and_memory_come_from_nets_that_were_measured_with_them(predictor: Predictor) -> None:
    one = net(77)
    estimate = predictor.estimate(kernels(*one))

    assert estimate.energy is not None
    assert estimate.energy.value == pytest.approx(2 * estimate.latency_s, rel=0.15)
    assert estimate.peak_memory is not None
    assert 3e6 < estimate.peak_memory.value < 2e7
    bare = Predictor.fit(TARGET, conv_samples(60), nets(4)).estimate(kernels(*one))
    assert bare.energy is None
    assert "too few nets" in (bare.energy_missing or "")


def test_a_predictor_can_be_handed_to_other_processes(predictor: Predictor) -> None:
    spawned = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    graph = builder("onnx")
    made = graph.graph(graph.conv(graph.image(28, 28, 16), 32))

    with spawned as pool:
        there = pool.submit(predictor.predict, made).result()

    assert there.latency_s == predictor.predict(made).latency_s


def test_the_parts_of_a_prediction_add_up_to_it(predictor: Predictor) -> None:
    net = builder("onnx")
    x = net.conv(net.image(32, 32), 16, activation="relu")
    graph = net.graph(net.activate(net.conv(x, 32), "relu"))

    parts = predictor.explain(graph)

    assert sum(part.seconds for part in parts) == pytest.approx(predictor.predict(graph).latency_s)
    assert parts[0].seconds > 0


def test_an_estimate_says_what_it_holds_for(predictor: Predictor) -> None:
    assert predictor.estimate(kernels(relu(8, 8))).target == "toy-toyrt (toyrt 1.0, 1 thread)"


def test_one_disturbed_sample_in_a_hundred_changes_little() -> None:
    clean, disturbed = conv_samples(200, noise=0.002), conv_samples(200, noise=0.002)
    for k in (10, 90):
        disturbed[k] = KernelSample(
            kernel=disturbed[k].kernel,
            time_s=8 * disturbed[k].time_s,
            n_runs=30,
            spread=0.02,
            source=disturbed[k].source,
        )
    new = [conv(side, 40, 72) for side in (8, 16, 30, 60)]

    a, b = (KernelTimes.fit(samples)[0].predict(new).time_s for samples in (clean, disturbed))

    assert b == pytest.approx(a, rel=0.08)


def test_equal_samples_and_seeds_give_equal_predictors() -> None:
    one, two = (Predictor.fit(TARGET, conv_samples(120), nets(8), seed=3).estimate(kernels(*net(5))) for _ in range(2))

    assert one == two


def test_the_overhead_of_timing_is_found_from_nets() -> None:
    random = np.random.default_rng(0)
    made, latency_s = [], []
    for _ in range(20):
        true_s = random.uniform(1e-6, 1e-4, int(random.integers(5, 80)))
        made.append(Net(true_s + 2e-6, np.zeros(len(true_s), dtype=np.int64)))
        latency_s.append(float(true_s.sum()))

    found = Correction.fit(made, np.array(latency_s))

    assert found.overhead_s == pytest.approx(2e-6)
    assert found.apply(made) == pytest.approx(latency_s, rel=0.05)


def test_too_few_scores_are_extrapolated_and_more_are_taken_as_they_are() -> None:
    few, many = Scores((0.5, 1.0)), Scores(tuple(k / 100 for k in range(1, 101)))

    assert few.quantile(0.9) > 1.0
    assert not few.guarantees(0.9)
    assert many.quantile(0.9) == pytest.approx(0.91)
    assert many.guarantees(0.9)


def test_families_count_and_not_nets_where_errors_are_alike_within_a_family() -> None:
    """Ten families of ten nets; in one all are far off, which a net of the next family may be as well."""
    families = tuple(f"family {k // 10}" for k in range(100))
    alike = Scores((1.0,) * 90 + (9.0,) * 10, families)
    by_net = Scores(alike.values)
    everywhere = Scores(tuple(float(1 + k % 10) for k in range(100)), families)

    assert (alike.n_families, by_net.n_families) == (10, 100)
    assert by_net.quantile(0.9) == 9.0
    assert by_net.quantile(0.85) == alike.quantile(0.8) == 1.0
    assert alike.quantile(0.9) == 9.0
    # Each family has scores from 1 to 10: the worst of one of each is 10 or 9 in most draws.
    assert 9.0 <= everywhere.quantile(0.9) <= 10.0
    assert alike.guarantees(0.9)
    assert not alike.guarantees(0.95)
    assert alike.quantile(0.95) > 9.0


def test_features_tell_height_from_width_and_groups_and_strides() -> None:
    wide = conv(16, 8, 8)
    values = dict(zip(NAMES, form(wide).values, strict=True))

    assert values["kernel_height"] == pytest.approx(math.log2(4))
    assert values["clamp"] == 1.0
    assert values["output_fill_16"] == 0.5
    assert form(conv(16, 8, 8, 1)).family == "pointwise convolution float32"
    assert form(wide).key != form(conv(16, 8, 8, stride=2)).key
    assert np.isnan(dict(zip(NAMES, form(relu(8, 8)).values, strict=True))["groups"])


def test_importing_costs_nothing_until_something_is_used() -> None:
    heavy = ("numpy", "lightgbm", "scipy", "onnx", "torch")
    program = f"import sys, latency_models; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def many_like(family: str, kernel: KernelSpec, factor: float) -> list[NetSample]:
    """Nets of a family that have nothing but such a kernel, which takes in them as many times as long."""
    alike = [
        NetSample(
            name=f"{family} {k}", family=family, source=f"{family} {k}", kernels=(kernel,) * (3 + k), latency_s=1.0
        )
        for k in range(6)
    ]
    return [timed(one, factor) for one in alike]


def test_what_kernels_take_in_nets_is_learned_from_nets() -> None:
    slow_in_nets = [timed(one, 1.5) for one in nets(24)]
    predictor = Predictor.fit(TARGET, conv_samples(120), slow_in_nets)

    new = net(4000)
    estimate = predictor.estimate(kernels(*new))

    assert estimate.latency_s == pytest.approx(1.5 * sum(seconds(kernel) for kernel in new), rel=0.15)
    assert predictor.metrics["kernels/convolution float32/n"] > 120 * 2 / 3


def test_a_net_is_held_against_what_is_learned_without_its_own_family() -> None:
    """A family in which a kernel takes four times as long as anywhere: nobody who has not seen it can know."""
    kernel = conv(20, 40, 60)
    odd, usual = many_like("odd", kernel, 4.0), [timed(one, 1.0) for one in nets(24)]

    _, held_out = KernelTimes.fit([*conv_samples(120), *(one for sample in [*usual, *odd] for one in sample.timed)])
    predictor = Predictor.fit(TARGET, conv_samples(120), [*usual, *odd])

    of_odd = held_out.time_s[-sum(len(one.kernels) for one in odd) :]
    assert of_odd == pytest.approx(np.full(len(of_odd), seconds(kernel)), rel=0.25)
    assert predictor.times.predict(odd[0].kernels).time_s.mean() > 2 * seconds(kernel)
    assert max(predictor.scores.values) > 3 * np.median(predictor.scores.values)


def test_a_net_of_which_only_some_kernels_were_timed_is_refused() -> None:
    one = timed(nets(1)[0], 1.0)

    with pytest.raises(ValueError, match="and 1 of them were timed"):
        Predictor.fit(TARGET, conv_samples(60), [replace(one, timed=one.timed[:1])])


def test_a_kind_of_kernel_that_only_one_family_has_counts_as_unknown_when_it_is_held_out() -> None:
    whirls = [
        KernelSample(kernel=strange(1000 * k), time_s=1e-3, n_runs=15, spread=0.02, source=f"w{k}", group="whirling")
        for k in range(1, 9)
    ]

    times, held_out = KernelTimes.fit([*conv_samples(60), *whirls])

    assert times.predict([strange(3000)]).basis[0] != BOUND
    assert set(held_out.basis[-8:]) == {BOUND}
    assert len(held_out.time_s) == 68
