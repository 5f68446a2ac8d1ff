"""The laws of campaigns in a store: what a controller that was replaced brings never counts, nothing counts twice."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest

from edgeprof.errors import Fenced, StoreError
from edgeprof.own_cost import Joules, OwnCost
from edgeprof.store import DONE, FAILED, PENDING, RUNNING, Campaign, CampaignJob, Reason, Store
from tests.unit.run_factory import make_run

ROOT = Path(__file__).parents[2]
NIGHT = Campaign(id="20260101-night", name="night", created_at_s=1000.0, plan='{"models": ["a\\u0000b"]}')
JOBS = tuple(CampaignJob(number=k, device=f"pi{k % 2}", label=f"net on pi{k % 2}, {k}") for k in range(4))
LOST = Reason(attempt=1, at_s=1010.0, kind="link", message="the link broke: 'x' \x00 👩‍🍳")


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    """With a campaign that controller "one" has taken."""
    with Store(place) as store:
        store.new_campaign(NIGHT, JOBS)
        store.take_campaign(NIGHT.id, "one", "here, process 1", now_s=1001.0)
        yield store


def begin(store: Store, number: int = 0, controller: str = "one", attempt: int = 1) -> None:
    store.begin_attempt(NIGHT.id, number, controller, attempt, f"ticket-{number}-{attempt}", 1002.0)


def finish(store: Store, number: int = 0, controller: str = "one", attempt: int = 1, run_id: str = "run") -> None:
    run = make_run(run_id)
    store.finish_job(NIGHT.id, number, controller, attempt, run=run, state=DONE, reason=None, took_s=7.5)


def put_back(store: Store, *, state: str = PENDING, reason: Reason = LOST) -> None:
    store.finish_job(NIGHT.id, 0, "one", 1, run=None, state=state, reason=reason, took_s=1.5)


# --- campaigns ---


def test_a_campaign_and_its_jobs_come_out_as_they_went_in(store: Store, place: str) -> None:
    with Store(place) as another:
        found, jobs = another.campaign("latest"), another.jobs(NIGHT.id)

    assert found == replace(NIGHT, controller="one", controller_place="here, process 1", seen_at_s=1001.0)
    assert jobs == JOBS


def test_campaigns_are_listed_newest_first_and_found_by_id_prefix_and_name(store: Store) -> None:
    store.new_campaign(Campaign(id="20260102-day", name="day", created_at_s=2000.0, plan="{}"), ())

    assert [one.id for one in store.campaigns()] == ["20260102-day", NIGHT.id]
    assert store.campaign("latest").id == "20260102-day"
    for reference in (NIGHT.id, "20260101", "night"):
        assert store.campaign(reference).id == NIGHT.id


@pytest.mark.parametrize("reference", ["nihgt", "20260101-nigth", "NIGHT", "", "%"])
def test_an_unknown_campaign_is_an_error_that_names_those_near(store: Store, reference: str) -> None:
    with pytest.raises(StoreError, match="no campaign") as caught:
        store.campaign(reference)

    assert "night" in caught.value.advice


def test_a_reference_that_means_several_campaigns_lists_them(store: Store) -> None:
    store.new_campaign(replace(NIGHT, id="20260102-night"), ())

    with pytest.raises(StoreError, match="means 2 campaigns: 20260102-night, 20260101-night"):
        store.campaign("2026")


def test_a_name_means_the_newest_campaign_of_that_name(store: Store) -> None:
    store.new_campaign(replace(NIGHT, id="20260102-night", created_at_s=NIGHT.created_at_s + 1.0), ())

    assert store.campaign("night").id == "20260102-night"


def test_without_campaigns_the_store_says_so(place: str) -> None:
    with Store(place) as store, pytest.raises(StoreError, match="no campaigns yet"):
        store.campaign("latest")


def test_an_id_that_is_taken_is_refused_and_no_job_of_it_is_kept(store: Store) -> None:
    with pytest.raises(StoreError, match="another campaign with the id"):
        store.new_campaign(replace(NIGHT, name="other"), [replace(JOBS[0], number=9)])

    assert store.campaign(NIGHT.id).name == "night"
    assert store.jobs(NIGHT.id) == JOBS


def test_jobs_with_the_same_number_are_refused_with_their_campaign(store: Store) -> None:
    with pytest.raises(StoreError, match="campaign twice was not stored"):
        store.new_campaign(replace(NIGHT, id="twice"), [JOBS[0], JOBS[0]])

    assert [one.id for one in store.campaigns()] == [NIGHT.id]


@pytest.mark.parametrize("campaign_id", ["", "latest", "a/b", "a b"])
def test_an_id_that_could_not_be_typed_is_refused(store: Store, campaign_id: str) -> None:
    with pytest.raises(StoreError, match="cannot be a campaign's id"):
        store.new_campaign(replace(NIGHT, id=campaign_id), ())


# --- jobs ---


def test_a_job_runs_and_is_done_with_its_run(store: Store) -> None:
    begin(store)
    running = store.jobs(NIGHT.id)[0]
    finish(store)

    job = store.jobs(NIGHT.id)[0]
    assert (running.state, running.attempt, running.ticket, running.started_at_s) == (RUNNING, 1, "ticket-0-1", 1002.0)
    assert (job.state, job.run_id, job.took_s) == (DONE, "run", 7.5)
    assert store.get("run") == make_run("run")


def test_reasons_add_up_over_attempts(store: Store) -> None:
    begin(store)
    put_back(store)
    begin(store, attempt=2)
    again = replace(LOST, attempt=2)
    store.finish_job(NIGHT.id, 0, "one", 2, run=None, state=FAILED, reason=again, took_s=None)

    job = store.jobs(NIGHT.id)[0]
    assert (job.state, job.attempt, job.reasons, job.run_id, job.took_s) == (FAILED, 2, (LOST, again), None, None)


def test_runs_of_a_campaign_come_in_the_order_of_its_jobs_and_without_others(store: Store) -> None:
    store.add(make_run("alien"))
    for number, run_id in ((2, "second"), (1, "first")):
        begin(store, number)
        finish(store, number, run_id=run_id)

    assert [row.id for row in store.runs_of(NIGHT.id)] == ["first", "second"]
    assert {row.id for row in store.list(campaign_id=NIGHT.id)} == {"first", "second"}

    store.delete(["first"])

    assert [row.id for row in store.runs_of(NIGHT.id)] == ["second"]
    assert store.jobs(NIGHT.id)[1].state == DONE


def test_a_change_that_is_made_once_more_changes_nothing(store: Store) -> None:
    begin(store)
    begin(store)
    finish(store)
    once = store.jobs(NIGHT.id)
    finish(store)

    assert store.jobs(NIGHT.id) == once
    assert len(store.list()) == 1


def test_a_failure_that_is_told_once_more_is_written_once(store: Store) -> None:
    begin(store)
    put_back(store)
    put_back(store)

    assert store.jobs(NIGHT.id)[0].reasons == (LOST,)


def test_a_job_that_is_done_cannot_begin_again(store: Store) -> None:
    begin(store)
    finish(store)

    with pytest.raises(StoreError, match="job 0 of campaign 20260101-night is done in attempt 1"):
        begin(store, attempt=2)


def test_an_attempt_number_is_used_once(store: Store) -> None:
    begin(store)
    put_back(store)

    with pytest.raises(StoreError, match="attempt 1 cannot begin"):
        begin(store)


def test_a_run_whose_id_is_anothers_is_refused_and_the_job_goes_on(store: Store) -> None:
    store.add(make_run("run", seed=9))
    begin(store)

    with pytest.raises(StoreError, match="another run with the id run"):
        finish(store)

    assert store.jobs(NIGHT.id)[0].state == RUNNING
    assert store.get("run") == make_run("run", seed=9)


@pytest.mark.parametrize(("state", "has_run"), [(DONE, False), (FAILED, True), (RUNNING, False), ("lost", False)])
def test_a_job_ends_with_a_run_exactly_if_it_is_done(store: Store, state: str, has_run: bool) -> None:
    begin(store)
    run = make_run() if has_run else None

    with pytest.raises(ValueError, match="a job cannot end as"):
        store.finish_job(NIGHT.id, 0, "one", 1, run=run, state=state, reason=None, took_s=None)


def test_a_job_or_campaign_that_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(StoreError, match="has no job 44"):
        begin(store, 44)
    with pytest.raises(StoreError, match="no campaign 'nothing'"):
        store.take_campaign("nothing", "one", "here", now_s=1.0)
    with pytest.raises(StoreError, match="no campaign 'nothing'"):
        store.seen("nothing", "one", 1.0)


# --- fencing ---


def test_what_a_controller_brings_that_was_replaced_is_refused_whole(store: Store) -> None:
    begin(store)
    begin(store, 1)
    store.take_campaign(NIGHT.id, "two", "there, process 2", now_s=1003.0)
    before = store.jobs(NIGHT.id)

    refused: tuple[Callable[[], None], ...] = (
        lambda: finish(store),
        lambda: put_back(store),
        lambda: begin(store, 2),
        lambda: store.seen(NIGHT.id, "one", 1004.0),
    )
    for change in refused:
        with pytest.raises(Fenced, match="the controller at there, process 2 took campaign 20260101-night over"):
            change()

    assert store.jobs(NIGHT.id) == before
    assert store.list() == ()
    assert store.campaign(NIGHT.id).seen_at_s == 1003.0


def test_the_new_controller_picks_a_running_job_up(store: Store) -> None:
    begin(store)
    store.take_campaign(NIGHT.id, "two", "there, process 2", now_s=1003.0)

    finish(store, controller="two")
    store.seen(NIGHT.id, "two", 1005.0)

    assert store.jobs(NIGHT.id)[0].run_id == "run"
    assert store.campaign(NIGHT.id).seen_at_s == 1005.0


def test_an_attempt_that_was_given_up_brings_nothing(store: Store) -> None:
    begin(store)
    begin(store, attempt=2)

    with pytest.raises(Fenced, match="what came of attempt 1 does not count"):
        finish(store, attempt=1)

    assert store.list() == ()
    finish(store, attempt=2)


def test_a_second_result_of_a_job_does_not_count(store: Store) -> None:
    begin(store)
    finish(store)

    with pytest.raises(Fenced, match="is done in attempt 1"):
        finish(store, run_id="second")

    assert [row.id for row in store.list()] == ["run"]


def test_a_campaign_that_was_given_up_is_nobodys_until_it_is_taken(store: Store) -> None:
    begin(store)
    store.leave_campaign(NIGHT.id, "one")

    assert (store.campaign(NIGHT.id).controller, store.campaign(NIGHT.id).controller_place) == (None, None)
    with pytest.raises(Fenced, match="given up"):
        finish(store)


def test_leaving_a_campaign_of_another_changes_nothing(store: Store) -> None:
    store.leave_campaign(NIGHT.id, "two")

    assert store.campaign(NIGHT.id).controller == "one"


# --- at once ---


def test_device_workers_finish_their_jobs_through_one_store(place: str) -> None:
    jobs = [CampaignJob(number=k, device=f"d{k}", label="net") for k in range(64)]
    with Store(place) as store:
        store.new_campaign(NIGHT, jobs)
        store.take_campaign(NIGHT.id, "one", "here", now_s=1.0)

        def work(number: int) -> None:
            begin(store, number)
            finish(store, number, run_id=f"run-{number}")

        with ThreadPoolExecutor(64) as workers:
            list(workers.map(work, range(64)))

        assert {job.state for job in store.jobs(NIGHT.id)} == {DONE}
        assert len(store.runs_of(NIGHT.id)) == 64


def test_nobody_takes_a_campaign_over_while_a_result_is_being_written(store: Store, place: str) -> None:
    with Store(place) as other, ThreadPoolExecutor(1) as threads:
        with store._writing("x") as connection:
            store._require_owner(connection, NIGHT.id, "one")
            taking = threads.submit(other.take_campaign, NIGHT.id, "two", "there", now_s=2.0)
            # However long this is, a takeover that waits cannot have happened.
            done_early, _ = wait([taking], timeout=0.5)
        taking.result(timeout=60)

    assert not done_early
    assert store.campaign(NIGHT.id).controller == "two"


RACER = """
    import json, sys
    from edgeprof.errors import Fenced
    from edgeprof.store import Store
    from tests.contracts.test_campaigns_in_store import NIGHT, begin, finish
    place, controller = sys.argv[1:]
    counted, fenced = [], []
    with Store(place) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        store.take_campaign(NIGHT.id, controller, "a process", now_s=1.0)
        for number in range(30):
            try:
                attempt = store.jobs(NIGHT.id)[number].attempt + 1
                begin(store, number, controller, attempt)
                finish(store, number, controller, attempt, f"{number}-{controller}")
                counted.append(f"{number}-{controller}")
            except Fenced:
                fenced.append(number)
                if len(fenced) % 3 == 0:
                    store.take_campaign(NIGHT.id, controller, "a process", now_s=1.0)
            except Exception as error:
                if "cannot begin" not in str(error):
                    raise
    print(json.dumps([counted, len(fenced)]))
"""


@pytest.mark.slow
def test_two_controllers_that_race_never_count_a_job_twice(place: str) -> None:
    with Store(place) as store:
        store.new_campaign(NIGHT, [CampaignJob(number=k, device="d", label="net") for k in range(30)])
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(RACER), place, name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"

    answers = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        out, _ = racer.communicate(timeout=120)
        assert racer.returncode == 0
        answers.append(json.loads(out))

    counted = [run_id for answer in answers for run_id in answer[0]]
    with Store(place) as store:
        jobs = store.jobs(NIGHT.id)
        stored = {row.id for row in store.list()}
    assert len({run_id.partition("-")[0] for run_id in counted}) == len(counted)
    assert {job.run_id for job in jobs if job.state == DONE} == set(counted) == stored
    assert all((job.run_id is not None) == (job.state == DONE) for job in jobs)


# --- what the work itself took ---


def test_what_each_session_said_last_about_its_cost_is_kept(store: Store, place: str) -> None:
    host = Joules(value_j=3.0, low_j=1.5, high_j=6.0, kind="modelled", words="CPU time; 'x' \u00b5")
    first = OwnCost(began_at_s=1000.0, elapsed_s=2.0, cpu_s=1.0, host=host)
    second = replace(first, began_at_s=2000.0, devices=host)

    store.keep_own_cost(NIGHT.id, "two", second)
    store.keep_own_cost(NIGHT.id, "one", replace(first, elapsed_s=1.0))
    store.keep_own_cost(NIGHT.id, "one", first)

    with Store(place) as another:
        assert another.own_costs(NIGHT.id) == (first, second)
        assert another.own_costs("nothing") == ()
