"""Campaigns as a person runs them: on simulated boards and over a real sshd, ended in any way and resumed."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import onnx
import onnx.helper
import pytest

from edgeprof.errors import StoreError
from edgeprof.models.example import write_example
from edgeprof.store import Campaign, CampaignJob, Store
from tests.integration.command_line import CommandLine
from tests.integration.sshd import Sshd

BOARDS = ("one", "two", "three")
QUICK = ("--rounds", "1", "--min-runs", "1", "--min-time", "0", "--gate-timeout", "0")
PATIENCE_S = 60.0
# Empty files that are locked while somebody works; the kernel unlocks them.
STAYS = ("lease", "lock")


@pytest.fixture
def typed(tmp_path: Path) -> CommandLine:
    write_example(tmp_path / "a.onnx")
    write_example(tmp_path / "b.onnx")
    # Another file, another digest: the field "producer_version" of an ONNX model, empty.
    with (tmp_path / "b.onnx").open("ab") as file:
        file.write(b"\x1a\x00")
    return CommandLine(tmp_path)


@pytest.fixture
def boards(typed: CommandLine) -> CommandLine:
    home = typed.folder / "edgeprof"
    home.mkdir()
    (home / "fleet.toml").write_text(
        "".join(f'[devices.{name}]\naddress = "sim:example"\ngroups = ["sims"]\n' for name in BOARDS)
    )
    return typed


def store_of(typed: CommandLine) -> Store:
    return Store(typed.folder / "edgeprof" / "store.sqlite")


def state_of(typed: CommandLine) -> tuple[Campaign, tuple[CampaignJob, ...]]:
    with store_of(typed) as store:
        campaign = store.campaign("latest")
        return campaign, store.jobs(campaign.id)


def tickets_left(typed: CommandLine) -> list[Path]:
    spool = typed.folder / "cache" / "edgeprof" / "spool"
    return [path for path in spool.rglob("*") if path.is_file() and path.name not in STAYS]


def run_on_boards(*more: str | Path) -> tuple[str | Path, ...]:
    models = ("-m", "a.onnx", "-m", "b.onnx")
    return ("campaign", "run", *models, "--group", "sims", *QUICK, "--repetitions", "2", *more)


def test_every_job_of_a_campaign_is_done_once_and_its_runs_are_in_the_store(boards: CommandLine) -> None:
    done = boards.run(*run_on_boards("--json"))

    assert done.returncode == 0, done.stderr
    recap = json.loads(done.stdout)
    assert recap["counts"] == {"done": 12, "failed": 0, "running": 0, "pending": 0}
    assert recap["cost"]["host"]["value_j"] > 0, "what the campaign itself took"
    assert recap["cost"]["grams"]["low"] < recap["cost"]["grams"]["high"]
    told = " ".join(boards.run("campaign", "status").stdout.split())
    assert "what this campaign itself took" in told
    assert "Our World in Data" in told
    campaign, jobs = state_of(boards)
    with store_of(boards) as store:
        runs = {row.id: row for row in store.runs_of(campaign.id)}
        seeds = {store.get(run_id).profile.job.seed for run_id in runs}
    assert len(runs) == 12
    assert all(job.run_id is not None and runs[job.run_id].device == job.device for job in jobs)
    assert seeds == {0, 1}, "repetitions of a simulated board draw noise of their own"
    assert campaign.controller is None
    assert not tickets_left(boards)
    listed = boards.run("runs", "list", "--campaign", campaign.id)
    assert sum(run_id in listed.stdout for run_id in runs) == 12


def test_a_dry_run_says_what_would_be_done_and_touches_nothing(boards: CommandLine) -> None:
    said = boards.run(*run_on_boards("--dry-run"))

    assert said.returncode == 0, said.stderr
    assert "12 jobs on 3 devices" in said.stdout
    assert not (boards.folder / "edgeprof" / "store.sqlite").exists()
    assert not (boards.folder / "cache").exists()


def test_a_flag_that_says_zero_is_heard(boards: CommandLine) -> None:
    done = boards.run(*run_on_boards("--retries", "0", "--limit", "one", "--repetitions", "1"))

    assert done.returncode == 0, done.stderr
    with store_of(boards) as store:
        plan = json.loads(store.campaign("latest").plan)["plan"]
        job = store.get("latest").profile.job
    assert plan["retries"] == 0
    assert job.gate.timeout_s == 0.0
    assert job.schedule.min_s == 0.0


def test_a_plan_file_is_run_whatever_folder_one_is_in(boards: CommandLine) -> None:
    plans = boards.folder / "plans"
    plans.mkdir()
    (plans / "nightly.toml").write_text(
        'name = "nightly"\nmodels = ["../*.onnx"]\ngroups = ["sims"]\n'
        "[defaults]\nrounds = 1\nmin_runs = 1\nmin_s = 0.0\ngate_timeout_s = 0.0\n[matrix]\nthreads = [1, 2]\n"
    )

    done = boards.run("campaign", "run", plans / "nightly.toml", "--limit", "t*", "--exclude", "two")

    assert done.returncode == 0, done.stderr
    _, jobs = state_of(boards)
    assert {job.device for job in jobs} == {"three"}
    assert len(jobs) == 4
    assert "nightly" in boards.run("campaign", "list").stdout


def write_model_of_an_unknown_operator(path: Path) -> None:
    """A simulation can do with it what it needs; no runtime can."""
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4]) for name in "xy")
    node = onnx.helper.make_node("NoSuchOperator", ["x"], ["y"], "odd", domain="nobody")
    opsets = [onnx.helper.make_opsetid("", 13), onnx.helper.make_opsetid("nobody", 1)]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y]), opset_imports=opsets, ir_version=8)
    onnx.save(model, str(path))


def test_a_job_that_cannot_work_fails_with_its_reason_and_the_others_are_done(boards: CommandLine) -> None:
    boards.run("devices", "add", "here", "local:", "--group", "sims")
    write_model_of_an_unknown_operator(boards.folder / "odd.onnx")

    done = boards.run("campaign", "run", "-m", "odd.onnx", "--group", "sims", *QUICK)

    assert done.returncode == 3, done.stderr
    assert "NoSuchOperator" in done.stdout, "the recap has the reason"
    _, jobs = state_of(boards)
    states = {job.device: (job.state, job.attempt) for job in jobs}
    assert states == {**dict.fromkeys(BOARDS, ("done", 1)), "here": ("failed", 1)}, "it would fail again"


def test_an_unreachable_device_is_given_up_and_does_not_keep_the_others(boards: CommandLine) -> None:
    boards.run("devices", "add", "dead", "ssh://nobody@127.0.0.1:9", "--group", "sims")
    (boards.folder / "plan.toml").write_text(
        'models = ["a.onnx"]\ngroups = ["sims"]\nlost_s = 1.0\n'
        "[defaults]\nrounds = 1\nmin_runs = 1\nmin_s = 0.0\ngate_timeout_s = 0.0\n"
    )

    done = boards.run("campaign", "run", "plan.toml")

    assert done.returncode == 3
    assert "given up: dead: 127.0.0.1:9 refuses connections" in done.stderr.replace("\n", " ")
    _, jobs = state_of(boards)
    assert {job.device: job.state for job in jobs} == {**dict.fromkeys(BOARDS, "done"), "dead": "pending"}


def test_too_many_devices_given_up_end_the_campaign(boards: CommandLine) -> None:
    for name in ("dead1", "dead2"):
        boards.run("devices", "add", name, "ssh://nobody@127.0.0.1:9", "--group", "sims")
    (boards.folder / "plan.toml").write_text(
        'models = ["a.onnx"]\ngroups = ["sims"]\nlost_s = 0.5\nrepetitions = 200\n'
        "[defaults]\nrounds = 1\nmin_runs = 1\nmin_s = 0.0\ngate_timeout_s = 0.0\n"
    )

    done = boards.run("campaign", "run", "plan.toml", "--fail-percent", "30")

    assert done.returncode in (1, 3), "whether any job was done by then"
    assert "2 of 5 devices were given up" in done.stderr
    _, jobs = state_of(boards)
    assert any(job.state == "pending" for job in jobs if job.device in BOARDS), "they stop, and do not end first"


def killed_after(typed: CommandLine, n_done: int, *arguments: str | Path) -> set[str]:
    """Begin, wait until so many jobs are done, kill the controller; the runs that are stored then."""
    controller = typed.start(*arguments)
    until = time.monotonic() + PATIENCE_S
    stored: set[str] = set()
    while time.monotonic() < until and controller.poll() is None:
        try:
            _, jobs = state_of(typed)
        except StoreError:  # the campaign is not there yet
            time.sleep(0.05)
            continue
        stored = {job.run_id for job in jobs if job.run_id is not None}
        if len(stored) >= n_done:
            break
        time.sleep(0.02)
    controller.send_signal(signal.SIGKILL)
    controller.communicate()
    _, jobs = state_of(typed)
    return {job.run_id for job in jobs if job.run_id is not None}


@pytest.mark.slow
def test_a_controller_killed_again_and_again_repeats_nothing_and_loses_nothing(boards: CommandLine) -> None:
    before = killed_after(boards, 1, *run_on_boards("--repetitions", "4"))
    for n_done in (4, 9, 15):
        after = killed_after(boards, n_done, "campaign", "resume")
        assert before <= after
        before = after

    done = boards.run("campaign", "resume")

    assert done.returncode == 0, done.stderr
    _, jobs = state_of(boards)
    assert len(jobs) == 24
    assert {job.state for job in jobs} == {"done"}
    runs = [job.run_id for job in jobs]
    assert before <= set(runs)
    assert len(set(runs)) == 24
    with store_of(boards) as store:
        assert len(store.list()) == 24, "no run that belongs to no job"
    assert not tickets_left(boards)


@pytest.fixture
def board(typed: CommandLine, sshd: Sshd) -> CommandLine:
    typed.environment |= sshd.client_environment()
    added = typed.run("devices", "add", "board", sshd.address, "--python", sys.executable)
    assert added.returncode == 0, added.stderr
    return typed


def spool_of(sshd: Sshd) -> Path:
    return sshd.home / ".cache" / "edgeprof" / "spool"


def spooled(sshd: Sshd, typed: CommandLine) -> dict[str, Any]:
    listed = typed.run("devices", "list", "--json")
    return next(one for one in json.loads(listed.stdout) if one["name"] == "board")


LONG = ("--rounds", "2", "--min-runs", "1", "--min-time", "1.5", "--gate-timeout", "0")


@pytest.mark.ssh
@pytest.mark.slow
def test_what_a_device_measured_while_nobody_was_there_counts(board: CommandLine, sshd: Sshd) -> None:
    controller = board.start("campaign", "run", "-m", "a.onnx", "-d", "board", *LONG)
    wait_for(lambda: spooled(sshd, board).get("lease"))
    controller.send_signal(signal.SIGKILL)
    controller.communicate()
    killed_at_s = time.time()
    held = spooled(sshd, board)["lease"]
    assert held is not None
    assert held["purpose"].startswith("campaign c")
    assert 800 < held["expires_in_s"] < 1200, "it is held for as long as the job may take"

    done = board.run("campaign", "resume")

    assert done.returncode == 0, done.stderr
    _, (job,) = state_of(board)
    with store_of(board) as store:
        run = store.get(job.run_id or "")
    assert run.profile.started_at_s < killed_at_s, "it was measured once, and that is the one"
    assert job.attempt == 1
    assert spooled(sshd, board)["lease"] is None


@pytest.mark.ssh
@pytest.mark.slow
def test_a_detached_campaign_is_measured_without_a_host_and_collected_later(board: CommandLine, sshd: Sshd) -> None:
    left = board.run("campaign", "run", "-m", "a.onnx", "-m", "b.onnx", "-d", "board", *LONG, "--detach")
    assert left.returncode == 0, left.stderr
    lease = spooled(sshd, board)["lease"]
    assert lease["expires_in_s"] > 1700, "it is held for as long as both jobs may take"
    left_at_s = time.time()
    wait_for(lambda: not spooled(sshd, board).get("lease"))

    done = board.run("campaign", "resume")

    assert done.returncode == 0, done.stderr
    measured_by_s = time.time()
    campaign, jobs = state_of(board)
    assert [job.state for job in jobs] == ["done", "done"]
    with store_of(board) as store:
        for row in store.runs_of(campaign.id):
            assert store.get(row.id).profile.started_at_s < measured_by_s
    assert left_at_s < measured_by_s


def wait_for(condition: Any) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.2)


def test_a_time_budget_leaves_the_rest_for_a_resumed_campaign(boards: CommandLine) -> None:
    done = boards.run(*run_on_boards("--repetitions", "100", "--time-budget", "2"))

    assert done.returncode == 3
    assert "the time budget of 2 s does not hold another job" in " ".join(done.stderr.split())
    _, jobs = state_of(boards)
    assert {job.state for job in jobs} == {"done", "pending"}


def test_a_device_rests_between_jobs_as_the_plan_says(boards: CommandLine) -> None:
    (boards.folder / "plan.toml").write_text(
        'models = ["a.onnx"]\ndevices = ["one"]\nrepetitions = 2\nrest = { min_s = 0.5 }\n'
        "[defaults]\nrounds = 1\nmin_runs = 1\nmin_s = 0.0\ngate_timeout_s = 0.0\n"
    )

    done = boards.run("campaign", "run", "plan.toml")

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("one 1/2  resting") == 1, "between two jobs, and neither before nor after them"


def test_a_second_controller_is_refused_until_it_says_take_over(boards: CommandLine) -> None:
    first = boards.start(*run_on_boards("--repetitions", "60"))
    wait_for(lambda: (boards.folder / "edgeprof" / "store.sqlite").exists() and has_controller(boards))
    refused = boards.run("campaign", "resume")
    assert refused.returncode == 1
    assert "is being run by process" in refused.stderr

    second = boards.start("campaign", "resume", "--take-over")
    _, said = first.communicate(timeout=PATIENCE_S)

    assert first.returncode == 1
    assert "took campaign" in said
    second.send_signal(signal.SIGINT)
    _, said = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 130
    assert "campaign resume" in said
    _, jobs = state_of(boards)
    runs = [job.run_id for job in jobs if job.run_id is not None]
    assert len(runs) == len(set(runs))
    with store_of(boards) as store:
        assert {row.id for row in store.list()} == set(runs), "what the first brought after that was not kept"


def has_controller(typed: CommandLine) -> bool:
    try:
        return state_of(typed)[0].controller is not None
    except StoreError:  # the campaign is not there yet
        return False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("campaign", "run"), "name a plan, or models by -m FILE"),
        (("campaign", "run", "nosuch.toml"), "cannot be read"),
        (("campaign", "run", "-m", "nosuch.onnx"), "nosuch.onnx"),
        (("campaign", "run", "-m", "a.onnx", "-d", "nosuch"), "no device named 'nosuch'"),
        (("campaign", "run", "-m", "a.onnx", "--limit", "pi*"), "no device of this campaign is like 'pi*'"),
        (("campaign", "resume"), "no campaign"),
        (("campaign", "status", "nosuch"), "no campaign"),
    ],
)
def test_bad_input_is_told_with_what_to_do(typed: CommandLine, arguments: tuple[str, ...], said: str) -> None:
    done = typed.run(*arguments)

    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_interrupting_says_how_to_go_on(boards: CommandLine) -> None:
    controller = boards.start(*run_on_boards("--repetitions", "60"))
    wait_for(lambda: has_controller(boards))
    controller.send_signal(signal.SIGINT)
    _, said = controller.communicate(timeout=PATIENCE_S)

    assert controller.returncode == 130
    assert "edgeprof campaign resume c" in said
    campaign, _ = state_of(boards)
    assert campaign.controller is None
