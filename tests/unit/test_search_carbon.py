"""Grams of a search: hours in which it may work, what sittings add up to, when it is repaid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from edgeprof.carbon.intensity import of_user
from edgeprof.carbon.monte_carlo import Spread
from edgeprof.errors import CarbonError, UsageError
from edgeprof.own_cost import Joules, OwnCost
from edgeprof.search.clean_hours import CleanHours
from edgeprof.search.evaluation import Evaluation, Goal
from edgeprof.search.plan import Carbon
from edgeprof.search.session import payback_of
from edgeprof.search.spending import elapsed_s, grams_of, joules_of
from edgeprof.search.verifying import Member, stands, ties_of
from edgeprof.values import Value


class Clock:
    """A day that passes while somebody sleeps."""

    def __init__(self, minute: int) -> None:
        self.at_s = 60.0 * minute
        self.told: list[str] = []

    def sleep(self, seconds: float) -> None:
        self.at_s += seconds

    def minute(self) -> int:
        return int(self.at_s // 60) % (24 * 60)

    def hours(self, carbon: Carbon, intensity: Sequence[float] = ()) -> CleanHours:
        given = iter(intensity)
        return CleanHours(
            carbon, self.told.append, self.minute, self.sleep, (lambda: next(given)) if intensity else None,
            clock=lambda: self.at_s,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("hours", "at", "waits_until"),
    [
        (("10:00-16:00",), 8 * 60, 10 * 60),
        (("10:00-16:00",), 12 * 60, 12 * 60),
        (("22:00-06:00",), 23 * 60, 23 * 60),
        (("22:00-06:00",), 3 * 60, 3 * 60),
        (("22:00-06:00",), 7 * 60, 22 * 60),
        (("01:00-02:00", "05:30-06:00"), 2 * 60, 5 * 60 + 30),
        ((), 100, 100),
    ],
)
def test_it_waits_for_the_hours_that_were_given(hours: tuple[str, ...], at: int, waits_until: int) -> None:
    clock = Clock(at)

    clock.hours(Carbon(clean_hours=hours)).wait()

    assert clock.minute() == waits_until
    assert len(clock.told) == (1 if waits_until != at else 0), "said once, not every minute"


def test_it_waits_until_the_provider_says_less_and_does_not_ask_all_the_time() -> None:
    clock = Clock(0)
    hours = clock.hours(Carbon(below_g_per_kwh=100.0), [300.0, 150.0, 80.0])

    hours.wait()
    assert clock.at_s == 120.0
    hours.wait()  # what was said still counts: a fourth question would have no answer
    clock.sleep(3600)
    with pytest.raises(StopIteration):
        hours.wait()


def test_a_provider_that_does_not_answer_is_waited_for() -> None:
    answers: Iterator[float | Exception]
    clock, answers = Clock(0), iter((CarbonError("no route"), 50.0))

    def intensity() -> float:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    CleanHours(
        Carbon(below_g_per_kwh=100.0), clock.told.append, clock.minute, clock.sleep, intensity, clock=lambda: clock.at_s
    ).wait()

    assert "does not answer: no route" in clock.told[0]


@pytest.mark.parametrize("hours", ["22-6", "25:00-26:00", "10:00-10:00", "soon"])
def test_what_are_no_hours_is_refused(hours: str) -> None:
    with pytest.raises(UsageError, match="hours"):
        Clock(0).hours(Carbon(clean_hours=(hours,)))
    with pytest.raises(UsageError, match="needs a provider"):
        CleanHours(Carbon(below_g_per_kwh=1.0), print)


def cost(began_at_s: float, length_s: float, joules: float) -> OwnCost:
    host = Joules(value_j=joules, low_j=joules / 2, high_j=joules * 2, kind="modelled", words="CPU time")
    return OwnCost(began_at_s=began_at_s, elapsed_s=length_s, cpu_s=length_s, host=host)


def test_sittings_add_up_and_workers_side_by_side_count_once_in_time() -> None:
    costs = [cost(0, 100, 1000), cost(50, 100, 1000), cost(1000, 10, 100)]

    assert elapsed_s(costs) == 160.0
    joules, grams = joules_of(costs), grams_of(costs, of_user("360g/kWh"))
    assert joules is not None
    assert joules.value_j == 2100
    # 2100 J are 2100 / 3.6e6 kWh, of 360 g each.
    assert grams is not None
    assert grams.nominal == pytest.approx(0.21)
    assert grams.low < grams.nominal < grams.high
    assert joules_of([]) is None


# --- members ---

GOALS = (Goal("error"), Goal("latency", 2.0))


def member(
    number: int, error: tuple[float, float, float], latency: tuple[float, float, float], ug: float = 1.0
) -> Member:
    values = {"error": Value(*error, "trained"), "latency": Value(*latency, "measured")}
    return Member(
        number=number, predicted=Evaluation((number,)), verified=values, accuracy=1.0 - error[0],
        grams={"pi": Value(ug * 1e-6, 0.0, 1.0, "measured")},
    )  # fmt: skip


def test_members_tie_where_every_interval_overlaps_and_only_there() -> None:
    members = [
        member(1, (0.10, 0.08, 0.12), (1.0, 0.9, 1.1)),
        member(2, (0.11, 0.09, 0.13), (1.05, 1.0, 1.2)),
        member(3, (0.15, 0.13, 0.17), (0.5, 0.4, 0.6)),
    ]

    assert ties_of(members, GOALS) == {1: [2], 2: [1], 3: []}
    assert stands(members, GOALS) == [True, True, True], "who ties is not beaten"
    slower = member(4, (0.12, 0.10, 0.14), (1.5, 1.4, 1.6))
    assert stands([*members, slower], GOALS) == [True, True, True, False], "beaten by the second beyond its interval"


def test_what_exceeds_a_limit_or_failed_does_not_stand() -> None:
    members = [
        member(1, (0.1, 0.1, 0.1), (2.5, 2.4, 2.6)),
        Member(2, Evaluation((2,)), {}, failure="it does not run"),
        member(3, (0.2, 0.2, 0.2), (1.0, 1.0, 1.0)),
    ]

    assert stands(members, GOALS) == [False, False, True]


def test_the_search_is_repaid_by_what_smaller_members_save() -> None:
    members = [
        member(1, (0.1,) * 3, (1.0,) * 3, 5.0),
        member(2, (0.2,) * 3, (0.5,) * 3, 3.0),
        member(3, (0.3,) * 3, (0.4,) * 3, 6.0),
    ]

    found = payback_of(members, [True] * 3, Spread(nominal=0.2, median=0.2, low=0.1, high=0.4))

    assert [(one.member, one.target) for one in found] == [(2, "pi"), (3, "pi")]
    assert found[0].inferences == pytest.approx(0.2 / 2e-6)
    assert found[1].inferences is None, "it saves nothing"
    assert payback_of(members, [True] * 3, None) == []
