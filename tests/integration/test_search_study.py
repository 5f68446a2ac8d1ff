"""Studies: shared by workers, one of which is killed; resumed; whose folder is full, gone or damaged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeprof.errors import SearchError
from edgeprof.search.plan import read_plan
from edgeprof.search.progress import progress_of
from edgeprof.search.running import Event
from edgeprof.search.session import begin, opened, work
from edgeprof.search.study import ABANDONED, DONE, RULED_OUT, RUNNING, Study, Trial

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


def volume_of(folder: Path) -> float:
    with opened(folder) as search:
        found = progress_of(trials_of(folder), search.goals).hypervolume
    assert found is not None
    return found


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
    assert volume_of(folder) > 0.97 * volume_of(alone), "as good a front as that of a single process"


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
