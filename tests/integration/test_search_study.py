"""Studies: shared by workers, one of which is killed; resumed; whose folder is full, gone or damaged."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeprof.errors import SearchError
from edgeprof.search.front import hypervolume
from edgeprof.search.plan import read_plan
from edgeprof.search.progress import progress_of
from edgeprof.search.running import Event
from edgeprof.search.session import begin, opened, work
from edgeprof.search.study import ABANDONED, DONE, RULED_OUT, RUNNING, Study, Trial
from tests.integration.test_keeper import small_disk

pytestmark = pytest.mark.slow

# A candidate takes a moment, so that several workers have one in hand when one of them is killed.
FUNCTION = """
import time
def train(candidate):
    time.sleep({pause})
    genes = candidate.architecture
    return 0.5 + 0.4 * (1 - sum((one - 2) ** 2 for one in genes) / (4 * len(genes)))
"""
PLAN = """
objectives = ["error", "latency"]
[search]
evaluations = {evaluations}
seed = 3
strategy = "{strategy}"
[space]
input = [16, 16, 3]
layers = [
  {{ conv = [8, 16, 24, 32], kernel = [1, 3, 5], stride = 2, activation = "relu" }},
  {{ conv = [8, 16, 24, 32], kernel = [1, 3, 5], activation = "relu" }},
  {{ depthwise = [3, 5, 7], repeat = [1, 2, 3] }},
  {{ global_average = true }},
  {{ dense = 10 }},
]
[accuracy]
by = "function"
function = "mine.py:train"
[[targets]]
board = "raspberrypi-5"
"""


def study_in(folder: Path, *, evaluations: int = 30, pause: float = 0.0, strategy: str = "guided") -> Path:
    (folder / "mine.py").write_text(FUNCTION.format(pause=pause))
    text = PLAN.format(evaluations=evaluations, strategy=strategy)
    (folder / "search.toml").write_text(text)
    begin(read_plan(folder / "search.toml"), text, folder, folder / "study")
    return folder / "study"


def trials_of(folder: Path) -> list[Trial]:
    with opened(folder) as search, Study(folder, search.space, search.n_objectives) as study:
        return study.trials()


def volumes_of(*folders: Path) -> list[float]:
    """The hypervolume of each study's front, all below the worst of everything that was evaluated in any."""
    fronts, everything = [], []
    for folder in folders:
        with opened(folder) as search:
            goals = search.goals
        found = progress_of(trials_of(folder), goals)
        done = [one.result for one in trials_of(folder) if one.state == DONE and one.result is not None]
        everything += [[one.values[goal.name].value for goal in goals] for one in done]
        fronts.append(np.array([[one.values[goal.name].value for goal in goals] for one in found.front]))
    reference = np.array(everything).max(axis=0)
    return [hypervolume(front / reference, np.ones(2)) for front in fronts]


def worker(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [Path(sys.executable).with_name("edgeprof"), "search", "worker", folder],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture
def workers() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for one in started:
        if one.poll() is None:
            one.kill()
        one.communicate()


def test_four_workers_one_of_them_killed_evaluate_everything_once(
    tmp_path: Path, workers: list[subprocess.Popen[str]]
) -> None:
    folder = study_in(tmp_path, evaluations=40, pause=0.4)
    (tmp_path / "alone").mkdir()
    alone = study_in(tmp_path / "alone", evaluations=40)
    with opened(alone) as search:
        work(search, alone)

    workers += [worker(folder) for _ in range(4)]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:  # until the first worker has a candidate in hand
        held = [one for one in trials_of(folder) if one.state == RUNNING and f"-{workers[0].pid}-" in one.worker]
        if held and len(trials_of(folder)) > 8:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the first worker never had a candidate in hand")
    workers[0].send_signal(signal.SIGKILL)
    for one in workers[1:]:
        _, said = one.communicate(timeout=150)
        assert one.returncode == 0, said

    trials = trials_of(folder)
    done = Counter(one.architecture for one in trials if one.state == DONE)
    assert len(done) == 40
    assert set(done.values()) == {1}, "every candidate once"
    assert {one.state for one in trials} <= {DONE, ABANDONED, RULED_OUT}
    assert {one.architecture for one in trials if one.state == ABANDONED} <= set(done), "taken over by another"
    assert len({one.worker for one in trials}) >= 4
    mine, single = volumes_of(folder, alone)
    assert mine > 0.97 * single, "as good a front as that of a single process"


@pytest.mark.parametrize("strategy", ["guided", "evolution", "tpe", "pymoo"])
def test_a_search_that_was_interrupted_finds_what_it_would_have_found(tmp_path: Path, strategy: str) -> None:
    (tmp_path / "whole").mkdir()
    whole = study_in(tmp_path / "whole", strategy=strategy)
    with opened(whole) as search:
        work(search, whole)
    folder = study_in(tmp_path, strategy=strategy)

    class Killed(BaseException):
        pass

    def stop(event: Event) -> None:
        if event.what == "evaluated" and event.n_done == 17:
            raise Killed

    with opened(folder) as search, pytest.raises(Killed):
        work(search, folder, stop)
    with opened(folder) as search:
        ended = work(search, folder)

    assert ended.by == "evaluations"
    wanted = [one.architecture for one in trials_of(whole) if one.state == DONE]
    assert [one.architecture for one in trials_of(folder) if one.state == DONE] == wanted


def test_larger_budgets_let_it_go_on(tmp_path: Path) -> None:
    folder = study_in(tmp_path, evaluations=10)
    with opened(folder) as search:
        work(search, folder)
    with opened(folder, evaluations=14) as search:
        assert work(search, folder).by == "evaluations"
    assert sum(one.state == DONE for one in trials_of(folder)) == 14


def test_time_and_grams_end_it(tmp_path: Path) -> None:
    folder = study_in(tmp_path, evaluations=1000, pause=0.05)
    with opened(folder, time_s=1.0) as search:
        assert work(search, folder).by == "time"
    with opened(folder, max_gco2e=1e-9) as search:
        n = sum(one.state == DONE for one in trials_of(folder))
        assert work(search, folder).by == "grams"
        assert sum(one.state == DONE for one in trials_of(folder)) <= n + 1


def test_a_folder_is_begun_once_and_what_is_none_is_said(tmp_path: Path) -> None:
    folder = study_in(tmp_path)
    with pytest.raises(SearchError, match="has a search already") as caught:
        study_in(tmp_path)
    assert "edgeprof search resume" in caught.value.advice
    with pytest.raises(SearchError, match="has no search"), opened(tmp_path / "nowhere"):
        pass
    (folder / "study.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(SearchError, match="made by another edgeprof"), opened(folder):
        pass


def test_a_journal_whose_end_is_torn_is_read_and_gone_on_with(tmp_path: Path) -> None:
    """As SIGKILL or a full disk leaves it: half a line."""
    folder = study_in(tmp_path, evaluations=10)
    with opened(folder) as search:
        work(search, folder)
    journal = folder / "journal.log"
    data = journal.read_bytes()
    journal.write_bytes(data[: len(data) - 25])

    with opened(folder, evaluations=12) as search:
        assert work(search, folder).by == "evaluations"
    done = [one.architecture for one in trials_of(folder) if one.state == DONE]
    assert len(done) == len(set(done)) == 12


@pytest.mark.parametrize("damage", ["middle", "zeros", "binary", "result"])
def test_garbage_in_the_journal_is_told_in_words(tmp_path: Path, damage: str) -> None:
    folder = study_in(tmp_path, evaluations=6)
    with opened(folder) as search:
        work(search, folder)
    journal = folder / "journal.log"
    data = journal.read_bytes()
    lines = data.split(b"\n")
    garbage = {
        "middle": b"\n".join([*lines[:5], b'{"garbage', *lines[6:]]),
        "zeros": data[:200] + bytes(100) + data[300:],
        "binary": b"\xff\xfe" * 300 + b"\n",
        "result": data.replace(b'\\"values\\"', b'\\"valves\\"'),
    }
    assert garbage[damage] != data
    journal.write_bytes(garbage[damage])

    with opened(folder) as search, pytest.raises(SearchError, match="journal is damaged") as caught:
        work(search, folder)
    assert "restore it" in caught.value.advice


def test_a_disk_that_fills_up_loses_nothing_that_was_found(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk"):
        folder = study_in(tmp_path / "disk", evaluations=500, strategy="random")
        stuffing = folder / "stuffing"

        def fill(event: Event) -> None:
            if event.what == "evaluated" and event.n_done == 5:
                with contextlib.suppress(OSError):
                    stuffing.write_bytes(bytes(10**6))

        with opened(folder) as search, pytest.raises(SearchError, match="No space left on device") as caught:
            work(search, folder, fill)
        assert "edgeprof search resume" in caught.value.advice
        stuffing.unlink()
        n_kept = sum(one.state == DONE for one in trials_of(folder))
        assert n_kept >= 5
        with opened(folder, evaluations=n_kept + 3) as search:
            assert work(search, folder).by == "evaluations"
        done = [one.architecture for one in trials_of(folder) if one.state == DONE]
        assert len(done) == len(set(done)) == n_kept + 3


def test_an_error_of_the_search_itself_is_not_taken_for_damage(tmp_path: Path) -> None:
    folder = study_in(tmp_path, evaluations=6)
    with (
        opened(folder) as search,
        Study(folder, search.space, search.n_objectives) as study,
        pytest.raises(KeyError),
        study.alone(),
    ):
        raise KeyError("a mistake of ours")


def test_a_folder_that_vanishes_is_told_in_words(tmp_path: Path) -> None:
    folder = study_in(tmp_path, evaluations=50)

    def remove(event: Event) -> None:
        if event.n_done == 3:
            folder.rename(tmp_path / "gone")

    with opened(folder) as search, pytest.raises(SearchError, match="study: No such file") as caught:
        work(search, folder, remove)
    assert "edgeprof search resume" in caught.value.advice
    (tmp_path / "gone").rename(folder)
    with opened(folder, evaluations=6) as search:
        assert work(search, folder).by == "evaluations"


@pytest.mark.parametrize("strategy", ["guided", "tpe", "pymoo"])
def test_a_candidate_that_was_interrupted_is_begun_anew_and_nothing_else_changes(tmp_path: Path, strategy: str) -> None:
    (tmp_path / "whole").mkdir()
    whole = study_in(tmp_path / "whole", evaluations=20, strategy=strategy)
    with opened(whole) as search:
        work(search, whole)
    folder = study_in(tmp_path, evaluations=20, strategy=strategy)
    (tmp_path / "mine.py").write_text(
        "n = 0\ndef train(candidate):\n    global n\n    n += 1\n    if n == 9:\n        raise KeyboardInterrupt\n"
        + FUNCTION.format(pause=0).split("time.sleep(0)\n")[1]
    )
    with opened(folder) as search, pytest.raises(KeyboardInterrupt):
        work(search, folder)
    with Study(folder, opened(folder).space, 2) as study:
        assert len([name for name in study.notes() if name.startswith("cost ")]) == 1, "what it took is kept"
    (tmp_path / "mine.py").write_text(FUNCTION.format(pause=0))
    with opened(folder) as search:
        work(search, folder)

    wanted = [one.architecture for one in trials_of(whole) if one.state == DONE]
    assert [one.architecture for one in trials_of(folder) if one.state == DONE] == wanted


def test_a_candidate_that_takes_its_process_with_it_is_given_up_after_three(
    tmp_path: Path, workers: list[subprocess.Popen[str]]
) -> None:
    folder = study_in(tmp_path, evaluations=8)
    (tmp_path / "mine.py").write_text(
        "import os, signal\ndef train(candidate):\n    if candidate.architecture[0] == 0:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n    return 0.5 + 0.01 * sum(candidate.architecture)\n"
    )
    for _ in range(20):
        workers.append(worker(folder))
        _, said = workers[-1].communicate(timeout=120)
        if workers[-1].returncode == 0:
            break
    assert workers[-1].returncode == 0, said

    failed = [one for one in trials_of(folder) if one.state == DONE and one.result is not None and one.result.failure]
    assert failed
    assert all(
        "3 processes that evaluated it were killed" in (one.result.failure or "") for one in failed if one.result
    )
    assert all(one.architecture[0] == 0 for one in failed)


def test_what_fails_from_the_first_is_told_and_tried_again_once_it_is_mended(tmp_path: Path) -> None:
    folder = study_in(tmp_path, evaluations=12)
    good = (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").write_text("import sys\ndef train(candidate):\n    sys.exit(3)\n")
    with opened(folder) as search:
        ended = work(search, folder)
    assert ended.by == "failing"
    assert "SystemExit: 3" in ended.text
    assert sum(one.state == DONE for one in trials_of(folder)) == 5

    (tmp_path / "mine.py").write_text(good)
    with opened(folder) as search:
        with Study(folder, search.space, search.n_objectives) as study, study.alone():
            assert study.forget_failures() == 5
        assert work(search, folder).by == "evaluations"
    done = [one for one in trials_of(folder) if one.state == DONE]
    assert len(done) == 12
    assert all(one.result is not None and one.result.failure is None for one in done)


def test_budgets_that_a_search_was_begun_with_stay(tmp_path: Path) -> None:
    text = PLAN.format(evaluations=30, strategy="random")
    (tmp_path / "mine.py").write_text(FUNCTION.format(pause=0))
    (tmp_path / "search.toml").write_text(text)
    begin(read_plan(tmp_path / "search.toml"), text, tmp_path, tmp_path / "study", evaluations=4)
    with opened(tmp_path / "study") as search:
        assert search.plan.search.evaluations == 4
    with opened(tmp_path / "study", evaluations=6) as search:
        assert search.plan.search.evaluations == 6
