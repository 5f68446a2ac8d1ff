"""`tune` as a person types it: on a simulated board, on this machine, killed and resumed, and asked for nonsense."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from device_agents import wire
from edgeprof.errors import LinkError
from edgeprof.fleet import Device
from edgeprof.models import read_model
from edgeprof.models.example import write_example
from edgeprof.run import Run
from edgeprof.store import Store
from edgeprof.tuning.measuring import Bench
from edgeprof.tuning.objective import Objective
from edgeprof.tuning.recipe import read_recipe
from edgeprof.tuning.session import Wish, tune_on
from tests.integration.command_line import CommandLine
from tests.integration.test_docs import said_by_each_command
from tests.waiting import Clock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# A 10 Hz sensor and four CPUs alike: the quickest to simulate of those with a meter.
BOARD, BIG_LITTLE = "pi-5", "phone-sdm845"


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A home with simulated boards and a model."""
    line = CommandLine(tmp_path_factory.mktemp("tune"))
    for name, board in (("pi5", BOARD), ("phone", BIG_LITTLE), ("rock", "rock-5b")):
        assert line.run("devices", "add", name, f"sim:{board}").returncode == 0
    write_example(line.folder / "model.onnx")
    return line


def entries(progress: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in progress.read_text().splitlines()]
    return [line for line in lines if line["type"] == "measured"]


def test_energy_under_a_latency_budget_on_a_simulated_phone(typed: CommandLine) -> None:
    done = typed.run(
        "tune", "model.onnx", "-d", "phone", "--objective", "energy", "--latency-budget", "20ms", "--threads", "1,2,4",
        "--measurements", "16", "-o", "phone.toml", "--json", "phone.json", "--code", "app",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "SIMULATED board: nothing of it was measured" in done.stdout
    recipe, document = read_recipe(typed.folder / "phone.toml"), json.loads((typed.folder / "phone.json").read_text())
    best, default = recipe.best.measured, recipe.default
    assert best.origin == "simulated"
    assert best.latency_s is not None
    assert best.energy_j is not None
    assert best.latency_s.high <= 0.020
    assert default is not None
    assert default.measured.energy_j is not None
    assert best.energy_j.high < default.measured.energy_j.low, "big cores at full clock are not the leanest"
    assert recipe.tried.jobs == document["n_jobs"] <= 16
    assert recipe.tried.configurations > 100
    assert document["chosen"]["latency_s"]["value"] == best.latency_s.value
    assert [one["energy_j"]["value"] for one in document["front"]] == sorted(
        (one["energy_j"]["value"] for one in document["front"]), reverse=True
    )
    with Store(str(typed.folder / "edgeprof" / "store.sqlite")) as store:
        kept = {one.id for one in store.list() if one.device == "phone"}
    assert set(best.runs) | set(default.measured.runs) <= kept, "the proof is in the store"
    assert len(kept) >= recipe.tried.jobs - recipe.tried.failed
    assert len(best.runs) > 1, "what is handed over was measured again"
    for name in ("run_model.py", "run_model.cpp", "TunedModel.kt"):
        assert "SIMULATED" in (typed.folder / "app" / name).read_text()
    script = subprocess.run(
        [sys.executable, "-c", f"compile(open({str(typed.folder / 'app' / 'run_model.py')!r}).read(), 'x', 'exec')"],
        check=False,
    )
    assert script.returncode == 0


def test_without_root_nothing_needs_it(typed: CommandLine) -> None:
    done = typed.run(
        "tune", "model.onnx", "-d", "rock", "--without-root", "--measurements", "14", "-o", "rock.toml", "--no-store"
    )

    assert done.returncode == 0, done.stderr
    recipe = read_recipe(typed.folder / "rock.toml")
    assert recipe.best.needs == ()
    assert recipe.best.measured.runs == ()
    assert "the runs were not kept in a store" in recipe.notes
    assert recipe.best.settings.clock_caps == ()
    assert not any(line["configuration"]["caps"] for line in entries(typed.folder / "rock.toml.progress"))  # type: ignore[index]
    with Store(str(typed.folder / "edgeprof" / "store.sqlite")) as store:
        assert not any(one.device == "rock" for one in store.list())


def test_on_this_machine_what_is_handed_over_was_measured_and_its_code_runs(typed: CommandLine) -> None:
    done = typed.run(
        "tune", "model.onnx", "--threads", "1", "--measurements", "5", "--code", "here", "--json", "-",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["origin"] == "measured"
    assert document["n_jobs"] <= 5
    recipe = read_recipe(typed.folder / "model.local.recipe.toml")
    assert recipe.best.settings.runtime == "onnxruntime"
    assert recipe.best.settings.runtime_version is not None
    script = subprocess.run(
        [sys.executable, "here/run_model.py", "--runs", "3"],
        cwd=typed.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert script.returncode == 0, script.stderr
    assert "scores: float32 (1, 10)" in script.stdout


# --- interrupted ----------------------------------------------------------------------------------------------------


def test_after_a_kill_it_goes_on_and_measures_nothing_twice(typed: CommandLine) -> None:
    command = ("tune", "model.onnx", "-d", "pi5", "--measurements", "14", "-o", "pi5.toml", "--json", "pi5.json")
    progress = typed.folder / "pi5.toml.progress"
    with typed.start(*command) as tuning:
        wait_for(lambda: progress.exists() and progress.read_bytes().count(b"\n") >= 5)
        tuning.send_signal(signal.SIGKILL)
    before = entries_whole(progress)
    assert len(before) >= 3
    with progress.open("ab") as file:
        file.write(b'{"type":"measured","confi')

    again = typed.run(*command)
    assert again.returncode == 1
    assert "was interrupted" in again.stderr
    assert "--resume" in again.stderr
    resumed = typed.run(*command, "--resume")

    assert resumed.returncode == 0, resumed.stderr
    after = entries(progress)
    assert after[: len(before)] == before, "what was measured stands"
    document = json.loads((typed.folder / "pi5.json").read_text())
    assert document["n_jobs"] == len(after) <= 14
    assert document["n_before"] == len(before)
    runs = Counter(str(line["run"]) for line in after)
    assert max(runs.values()) == 1
    with Store(str(typed.folder / "edgeprof" / "store.sqlite")) as store:
        kept = [one.id for one in store.list() if one.device == "pi5"]
    # A run may have been kept in the store the moment before the kill, and not yet in the file.
    assert len(after) <= len(kept) <= len(after) + 1

    whole = typed.run("tune", "model.onnx", "-d", "pi5", "--measurements", "14", "-o", "whole.toml", "--no-store")
    assert whole.returncode == 0, whole.stderr
    assert [line["configuration"] for line in entries(typed.folder / "whole.toml.progress")] == [
        line["configuration"] for line in after
    ], "interrupted or not, the same is measured"


def entries_whole(progress: Path) -> list[dict[str, object]]:
    """Those whose line was written to its end."""
    data = progress.read_bytes()
    progress.write_bytes(data[: data.rfind(b"\n") + 1])
    return entries(progress)


def wait_for(holds: Callable[[], bool], at_most_s: float = 120.0) -> None:
    until_s = time.monotonic() + at_most_s
    while not holds():
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_an_interruption_from_the_keyboard_says_how_to_go_on(typed: CommandLine) -> None:
    progress = typed.folder / "keys.toml.progress"
    with typed.start("tune", "model.onnx", "-d", "pi5", "-o", "keys.toml", "--no-store") as tuning:
        wait_for(lambda: progress.exists() and progress.read_bytes().count(b"\n") >= 3)
        tuning.send_signal(signal.SIGINT)
        _, said = tuning.communicate(timeout=60)

    assert tuning.returncode == 130
    assert "--resume -o keys.toml" in said
    assert not (typed.folder / "keys.toml").exists()
    n_measured = len(entries(progress))
    resumed = typed.run(
        "tune", "model.onnx", "-d", "pi5", "-o", "keys.toml", "--no-store", "--resume", "--budget", "1s"
    )
    assert resumed.returncode == 0, resumed.stderr
    said = " ".join(resumed.stdout.split())
    assert f"{n_measured} of them in earlier sittings" in said
    # How many a second is enough for, the machine decides.
    assert re.search(r"ended: 1 s are enough for \d measurements here", said)


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def test_an_agent_that_dies_is_started_again(typed: CommandLine) -> None:
    model = read_model(typed.folder / "model.onnx")
    runs: list[Run] = []
    told: list[str] = []
    clock = Clock()
    bench = Bench(device=Device(name="pi5", address=f"sim:{BOARD}"), model=model, keep=runs.append, tell=told.append)
    bench.patience.wait, bench.patience.now = clock.wait, clock.now
    others, killed = set(children()), list[int]()

    def kill_the_agent_in_the_third(progress: wire.Progress) -> None:
        if len(runs) == 2 and not killed:
            killed.extend(set(children()) - others)
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    bench.on_progress = kill_the_agent_in_the_third
    found = tune_on(bench, Wish(jobs=8), typed.folder / "killed.toml")

    assert killed
    assert any("trying again" in text for text in told)
    assert clock.waits_s == [0.5]
    assert found.ended_by == "done"
    assert 3 < found.n_jobs == len(runs) <= 8


def test_a_device_that_stays_away_leaves_a_recipe_of_what_was_measured_and_can_be_gone_on_with(
    typed: CommandLine,
) -> None:
    model = read_model(typed.folder / "model.onnx")
    device, place = Device(name="pi5", address=f"sim:{BOARD}"), typed.folder / "away.toml"
    runs: list[Run] = []
    clock = Clock()
    bench = Bench(device=device, model=model, keep=runs.append)
    bench.patience.wait, bench.patience.now = clock.wait, clock.now
    others = set(children())

    def kill_every_agent_from_the_fifth_on(progress: wire.Progress) -> None:
        if len(runs) >= 4:
            for pid in set(children()) - others:
                os.kill(pid, signal.SIGKILL)

    bench.on_progress = kill_every_agent_from_the_fifth_on
    found = tune_on(bench, Wish(jobs=8), place)

    assert found.ended_by == "lost"
    assert "the agent is gone" in found.why
    assert clock.now_s == pytest.approx(120.0)
    assert read_recipe(place).tried.jobs == 4
    again = tune_on(Bench(device=device, model=model, keep=runs.append), Wish(jobs=8), place, resume=True)
    assert again.ended_by == "done"
    assert again.n_before == 4
    assert len(runs) == again.n_jobs


def test_a_device_that_is_not_there_is_an_error_and_leaves_nothing(typed: CommandLine) -> None:
    device = Device(name="gone", address="ssh://nobody@127.0.0.1:1", connect_timeout_s=1.0)
    lost = Bench(device=device, model=read_model(typed.folder / "model.onnx"))

    with pytest.raises(LinkError):
        tune_on(lost, Wish(), typed.folder / "gone.toml")

    assert not list(typed.folder.glob("gone.toml*"))


# --- nonsense -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ("-d", "rock", "--objective", "energy"),
            1,
            "no power meter can be read (there is none), and energy is asked for",
        ),
        (("-d", "phone", "--objective", "energy", "--meter", "none"), 1, "no meter called 'none' can be read"),
        (("-d", "nobody"), 1, "no device named 'nobody'"),
        (("-d", "phone", "--runtime", "litert"), 2, "phone simulates a board: it has no litert"),
        (("--runtime", "tflite"), 2, "tflite does not run .onnx files"),
        (("--runtime", "nonsense"), 2, "'nonsense' is none of"),
        (("--threads", "0"), 2, "'0' is not a list of numbers"),
        (("--latency-budget", "30"), 2, "'30' is no time of an inference: write it as 30ms"),
        (("--latency-budget", "0ms"), 2, "is no time of an inference"),
        (("--budget", "1x"), 2, "is no duration"),
        (("--budget", "1m", "--measurements", "9"), 2, "exclude each other"),
        (("--measurements", "1"), 2, "is not in the range"),
        (("--resume", "-o", "never.toml"), 1, "nothing was begun that could be resumed"),
        (("-o", "none/recipe.toml"), 1, "there is no directory"),
        (("-d", "rock", "--store", "x.sqlite", "--no-store"), 2, "exclude each other"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_measured(
    typed: CommandLine, arguments: tuple[str, ...], code: int, said: str
) -> None:
    before = set(typed.folder.iterdir())

    done = typed.run("tune", "model.onnx", *arguments)

    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert {path.name for path in set(typed.folder.iterdir()) - before} <= {"x.sqlite", "cache"}


def test_a_budget_that_nothing_keeps_is_a_failure_with_the_nearest_in_the_recipe(typed: CommandLine) -> None:
    done = typed.run(
        "tune",
        "model.onnx",
        "-d",
        "pi5",
        "--latency-budget",
        "1us",
        "--measurements",
        "4",
        "-o",
        "late.toml",
        "--no-store",
    )

    assert done.returncode == 3
    assert "nothing that was measured surely keeps the latency budget of 0.001 ms" in " ".join(done.stdout.split())
    assert read_recipe(typed.folder / "late.toml").latency_budget_s == pytest.approx(1e-6)


def test_help_has_an_example_and_the_defaults(typed: CommandLine) -> None:
    done = typed.run("tune", "--help")

    assert done.returncode == 0
    assert "edgeprof tune model.tflite -d phone --objective energy --latency-budget 30ms" in done.stdout
    assert re.search(r"--resume +Go on", done.stdout)
    assert Objective().name == "latency"


@pytest.mark.timeout(600)
def test_the_page_about_tuning_can_be_followed_to_its_end(tmp_path: Path) -> None:
    said = said_by_each_command(Path(__file__).parents[2] / "docs" / "how-to" / "tune.md", tmp_path)

    printed = [" ".join(text.split()) for text in said.values()]
    assert any("SIMULATED board" in text and "latency against energy" in text for text in printed)
    assert any("median of 5 runs" in text for text in printed)
    assert any("of them in earlier sittings" in text for text in printed)
    assert re.search(r"\d+ \([\d, ]*\) \(", printed[-1])
    for name in ("phone.toml", "here.toml", "quick.toml", "pi5.toml"):
        read_recipe(tmp_path / name)
