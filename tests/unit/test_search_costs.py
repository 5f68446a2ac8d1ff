"""Costs of candidates: of several targets, their grams, what is ruled out, what is measured because it matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from edgeprof.errors import EvaluationFailed, SearchError
from edgeprof.search.costs import Costs, TargetCosts, across
from edgeprof.search.evaluating import Evaluator, could_matter
from edgeprof.search.evaluation import Evaluation, Goal, from_text, to_text
from edgeprof.search.feasibility import require_feasible
from edgeprof.search.judging import ByFunction, Candidate, Finished, GoesOn, Judgement, error_of
from edgeprof.search.proxies import OfGraph, agreement
from edgeprof.search.space import Architecture
from edgeprof.values import Value
from latency_models.datasheet import BoardPredictor
from latency_models.estimate import Estimate, Interval
from latency_models.graph import Graph
from tests.unit.spaces import Widths

SPACE = Widths()
GOALS = (Goal("error"), Goal("latency", 0.01))


class PerMac:
    """Predicts a nanosecond a multiply-accumulate, and a nanojoule."""

    def __init__(self, ns: float = 1.0, with_energy: bool = True) -> None:
        self.ns, self.with_energy = ns, with_energy

    def predict(self, model: Graph, *, level: float = 0.9) -> Estimate:
        seconds = self.ns * 1e-9 * sum(node.macs or 0 for node in model.operators)
        energy = Interval(value=seconds, low=seconds / 2, high=seconds * 2, level=level) if self.with_energy else None
        return Estimate(
            latency_s=seconds, low_s=0.8 * seconds, high_s=1.25 * seconds, level=level, origin="learned", target="t",
            energy=energy, energy_missing=None if self.with_energy else "no meter",
        )  # fmt: skip


def costs(*targets: TargetCosts, wanted: Sequence[str] = ("latency",)) -> Costs:
    return Costs(SPACE, targets or (TargetCosts("pi", PerMac()),), frozenset(wanted), (500.0, 400.0, 600.0))


def evaluator(**changed: object) -> Evaluator:
    def judged(candidate: Candidate) -> float:
        return 0.5 + 0.02 * sum(candidate.architecture)

    judge = ByFunction(judged, SPACE, 0, 1)
    return replace(Evaluator(goals=GOALS, costs=costs(), judge=judge), **changed)  # type: ignore[arg-type]


def test_costs_are_predicted_with_their_interval_and_origin() -> None:
    size, found, _ = costs().of((1, 1, 1))

    latency = found["pi"]["latency"]
    assert latency.low < latency.value < latency.high
    assert latency.origin == "predicted"
    assert size["size"].value >= 4 * (8 * 9 + 8 * 8 * 9 + 8 * 10)
    # A joule is 1 / 3.6e6 kWh; the energy of half to twice, of 400 to 600 g.
    carbon = found["pi"]["carbon"]
    assert carbon.value == pytest.approx(found["pi"]["energy"].value / 3.6e6 * 500)
    assert carbon.low == pytest.approx(found["pi"]["energy"].low / 3.6e6 * 400)


def test_a_board_alone_says_that_it_is_from_its_data_sheet() -> None:
    _, found, _ = costs(TargetCosts("pi", BoardPredictor.of("raspberrypi-5"))).of((1, 1, 1))

    assert found["pi"]["latency"].origin == "predicted, data-sheet"


def test_several_targets_are_the_worst_the_weighted_sum_or_each() -> None:
    targets = (TargetCosts("pi", PerMac(2.0)), TargetCosts("phone", PerMac(1.0), weight=3.0))
    of_all = costs(*targets)
    size, found, _ = of_all.of((1, 1, 1))
    slow = found["pi"]["latency"].value

    assert across(found, targets, "worst", size)["latency"].value == pytest.approx(1.5 * slow)
    assert across(found, targets, "weighted", size)["latency"].value == pytest.approx(2.5 * slow)
    each = across(found, targets, "each", size)
    assert each["latency pi"].value == slow
    assert each["latency phone"].value == pytest.approx(slow / 2)
    assert "latency" not in each


def test_what_a_target_does_not_predict_cannot_be_an_objective() -> None:
    with pytest.raises(SearchError, match="pi predicts no energy: no meter") as caught:
        costs(TargetCosts("pi", PerMac(with_energy=False)), wanted=["energy"]).of((0, 0, 0))
    assert "--energy" in caught.value.advice


def test_limits_rule_out_before_anything_is_trained() -> None:
    found = evaluator(goals=(Goal("error"), Goal("latency", 1e-6)))

    reason = found.rules_out(found.foreseen((3, 3, 1)))

    assert reason is not None
    assert "1e-06 s is the most" in reason
    assert found.rules_out(found.foreseen((0, 0, 0))) is None


def test_contradictory_limits_are_found_before_anything_is_trained() -> None:
    with pytest.raises(SearchError, match=r"none of 32 architectures keeps the limits.*the least found"):
        require_feasible(evaluator(goals=(Goal("error"), Goal("latency", 1e-9))), 60, 0)
    require_feasible(evaluator(goals=(Goal("error"), Goal("latency", 1e-6))), 60, 0)


def test_a_space_of_which_most_is_unknown_is_refused_with_the_names() -> None:
    class Unknown(PerMac):
        def predict(self, model: Graph, *, level: float = 0.9) -> Estimate:
            from latency_models.estimate import OperatorEstimate, Uncovered

            known = super().predict(model, level=level)
            one = OperatorEstimate(
                nodes=("a",), family="Whirl float32", latency_s=1.0, low_s=0.1, high_s=10.0, basis="bound"
            )
            reason = "Whirl float32: no kernel of this kind was ever measured"
            return replace(known, operators=(one,), uncovered=(Uncovered(operator="a", reason=reason, latency_s=1.0),))

    with pytest.raises(SearchError, match=r"pi knows too little of nets of widths: .*Whirl float32"):
        require_feasible(evaluator(costs=costs(TargetCosts("pi", Unknown()))), 20, 0)


def test_a_function_that_raises_or_gives_no_number_fails_that_candidate_alone() -> None:
    def raises(candidate: Candidate) -> float:
        raise RuntimeError("out of luck")

    for function, message in ((raises, "RuntimeError: out of luck"), (lambda candidate: float("nan"), "gave nan")):
        found = evaluator(judge=ByFunction(function, SPACE, 0, 1))
        result = found.evaluate(found.foreseen((0, 0, 0)), [])
        assert message in (result.failure or "")
        assert "latency" in result.values, "what is known is kept"
        assert result.told(GOALS).values is None


def test_an_accuracy_beyond_one_is_none() -> None:
    found = evaluator(judge=ByFunction(lambda candidate: 97.0, SPACE, 0, 1))

    assert "an accuracy of 97.0 is none" in (found.evaluate(found.foreseen((0, 0, 0)), []).failure or "")


def test_an_error_of_n_samples_has_an_interval() -> None:
    # Wilson's interval of 10 of 100 at 90 %: the middle (0.1 + 2.7055 / 200) / 1.027055 = 0.1105, half of it 0.0498.
    value = error_of(Judgement(0.9, "counted", 100))

    assert value.low == pytest.approx(0.0607, abs=2e-4)
    assert value.high == pytest.approx(0.1604, abs=2e-4)
    assert error_of(Judgement(1.0, "counted", 100)).high > 0


# --- devices ---


class Device:
    """Takes half as long as predicted, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[Architecture] = []

    def measure(self, architecture: Architecture) -> dict[str, Value]:
        self.asked.append(architecture)
        if architecture == (0, 0, 0):
            raise EvaluationFailed("it does not fit in memory")
        latency_s = PerMac(0.5).predict(SPACE.graph(architecture)).latency_s
        return {"latency": Value(latency_s, 0.99 * latency_s, 1.01 * latency_s, "measured")}


def test_a_device_that_always_measures_replaces_what_was_predicted() -> None:
    device = Device()
    found = evaluator(devices={"pi": device}, when={"pi": "always"})

    result = found.evaluate(found.foreseen((1, 1, 1)), [])

    assert result.values["latency"].origin == "measured"
    assert any("+100% off" in note for note in result.notes)
    failed = found.evaluate(found.foreseen((0, 0, 0)), [])
    assert failed.failure == "it does not fit in memory"


def test_the_device_is_asked_only_where_its_answer_could_change_a_decision() -> None:
    device = Device()
    found = evaluator(devices={"pi": device}, when={"pi": "when-it-matters"})
    dear = found.foreseen((3, 3, 1))
    unbeaten = Evaluation((0, 1, 0), {"error": Value(0.1, 0.1, 0.1, ""), "latency": Value(1e-9, 1e-9, 1e-9, "")})

    assert "measured" not in found.evaluate(dear, [unbeaten]).values["latency"].origin
    assert device.asked == []
    assert found.evaluate(dear, []).values["latency"].origin == "measured"


def test_what_may_keep_a_limit_matters_and_what_cannot_does_not() -> None:
    goals = (Goal("error"), Goal("latency", 1.0))

    def one(low: float, value: float) -> Evaluation:
        return Evaluation((0,), {"error": Value(0.1, 0.1, 0.1, ""), "latency": Value(value, low, 2 * value, "")})

    assert could_matter(one(0.9, 1.1), [], goals)
    assert not could_matter(one(1.2, 1.5), [], goals)


# --- halving ---


class Curves:
    """A judge whose nets learn as fast as their first gene says."""

    def prepare(self, tell: object) -> None:
        """Nothing."""

    def judge(self, architecture: Architecture, goes_on: GoesOn | None = None) -> Judgement:
        curve: list[float] = []
        for epoch in range(1, 10):
            curve.append(1.0 - 0.9 ** (epoch * (1 + architecture[0])))
            if goes_on is not None and epoch < 9 and not goes_on(epoch, curve[-1]):
                break
        return Judgement(curve[-1], "drawn", 100, tuple(curve))

    def finish(self, architecture: Architecture) -> Finished:
        raise AssertionError


def test_halving_ends_what_many_others_beat_and_not_what_is_cheaper() -> None:
    found = evaluator(judge=Curves(), epochs=9, halving=2.0)
    others: list[Evaluation] = []
    for second in range(4):
        for first in (3, 2):
            others.append(found.evaluate(found.foreseen((first, second, 0)), others))
    slow_learner = found.evaluate(found.foreseen((1, 3, 1)), others)
    cheapest = found.evaluate(found.foreseen((0, 0, 0)), others)

    assert len(slow_learner.curve) == 3, "a third of nine epochs"
    assert len(cheapest.curve) == 9, "nothing is cheaper, however slowly it learns"


# --- proxies and keeping ---


def test_a_proxy_rules_out_what_much_of_the_space_beats_and_its_worth_is_told() -> None:
    found = evaluator(proxy=OfGraph("parameters", SPACE))
    results: list[Evaluation] = []
    for architecture in ((0, 0, 0), (1, 1, 0), (2, 2, 0), (3, 3, 0), (0, 3, 1), (3, 3, 1)):
        foreseen = found.foreseen(architecture)
        assert found.rules_out(foreseen) is None
        results.append(found.evaluate(foreseen, results))
    agreed = agreement("parameters", results)

    assert agreed is not None
    assert agreed.n == 6
    assert agreed.spearman > 0.8
    assert "rank correlation" in agreed.words
    assert agreement("parameters", results[:3]) is None


def test_an_evaluation_is_kept_as_it_is() -> None:
    found = evaluator()
    result = found.evaluate(found.foreseen((1, 2, 1)), [])

    assert from_text(to_text(result)) == result
    for text in ("{}", "[]", "no json"):
        with pytest.raises(ValueError, match=r"no evaluation|Expecting value"):
            from_text(text)
