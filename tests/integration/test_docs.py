"""What README and docs tell people to type is typed here."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeprof.campaign.plan import Configuration, Plan, Rest
from edgeprof.fleet import Device, Fleet
from edgeprof.models.example import write_example
from edgeprof.search.plan import Accuracy, Carbon, Data, Limits, Search, Target
from edgeprof.search.plan import Plan as SearchPlan
from edgeprof.search.spaces import SPACES
from tests.integration.command_line import CommandLine
from tests.integration.sshd import Sshd

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
PYTHON_AND_TORCH = re.compile(r"```python(?: torch)?\n(.*?)```", re.DOTALL)
TOML = re.compile(r"```toml\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


def typed_lines(page: Path) -> list[str]:
    blocks = BLOCK.findall(page.read_text())
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.mark.ssh
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tutorial_can_be_followed_to_its_end(tmp_path: Path, sshd: Sshd) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    environment = {**os.environ, **sshd.client_environment(), "EDGEPROF_HOME": str(tmp_path / "home")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    lines = typed_lines(ROOT / "docs" / "tutorial.md")
    assert len(lines) > 10

    for line in lines:
        command = line.replace("ssh://pi@raspberrypi.local", f"{sshd.address} --python {sys.executable}")
        done = subprocess.run(
            shlex.split(command), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

        assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.ssh
@pytest.mark.slow
def test_the_page_about_setting_up_can_be_followed_to_its_end(tmp_path: Path, sshd: Sshd) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    typed = CommandLine(tmp_path, sshd.client_environment())
    page = ROOT / "docs" / "how-to" / "setup.md"
    lines = typed_lines(page)
    assert len(lines) == 9

    said = []
    for line in lines:
        program, *arguments = shlex.split(
            line.replace("ssh://pi@raspberrypi.local", f"{sshd.address} --python {sys.executable}")
        )
        if program == "python":
            subprocess.run([sys.executable, *arguments], cwd=tmp_path, check=True)
            continue
        done = typed.run(*arguments)
        assert done.returncode == 0, f"$ {line}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)

    assert "would take" in said[2]
    assert said[3].count("is ready: a tiny model gave the right answer") == 2
    assert list(sshd.home.iterdir()) == []
    # Whatever is not typed here needs a board, and says so.
    for before in page.read_text().split("```sh\n")[:-1]:
        assert "**On the board**" in before.splitlines()[-3] + before.splitlines()[-2]


@pytest.mark.slow
def test_the_page_about_simulated_boards_can_be_followed_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    home = {"EDGEPROF_HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    lines = typed_lines(ROOT / "docs" / "how-to" / "simulated-boards.md")
    assert len(lines) > 5

    for line in lines:
        environment = {**os.environ, **home, "PATH": path}
        done = subprocess.run(
            shlex.split(line), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

        assert done.returncode == 0, f"$ {line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_the_page_about_campaigns_can_be_followed_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    home = {"EDGEPROF_HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    lines = typed_lines(ROOT / "docs" / "how-to" / "campaigns.md")
    assert len(lines) > 10

    for line in lines:
        done = subprocess.run(
            shlex.split(line),
            cwd=tmp_path,
            env={**os.environ, **home, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"$ {line}\n{done.stdout}\n{done.stderr}"
    (block,) = PYTHON.findall((ROOT / "docs" / "how-to" / "campaigns.md").read_text())
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path,
        env={**os.environ, **home},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"c[0-9a-f-]+ \[('done'(, )?){6}\] \[\]\n", done.stdout), done.stdout


def said_by_each_command(page: Path, folder: Path) -> dict[str, str]:
    """What every command of a page prints, then its Python, all run in that folder one after the other."""
    (folder / "docs").symlink_to(ROOT / "docs")
    home = {"EDGEPROF_HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "cache")}
    environment = {**os.environ, **home, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    (block,) = PYTHON.findall(page.read_text())
    said = {}
    for command in [*(shlex.split(line) for line in typed_lines(page)), [sys.executable, "-c", block]]:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"$ {shlex.join(command)}\n{done.stdout}\n{done.stderr}"
        said[shlex.join(command)] = done.stdout
    return said


@pytest.mark.slow
def test_the_page_about_energy_can_be_followed_to_its_end(tmp_path: Path) -> None:
    said = said_by_each_command(ROOT / "docs" / "how-to" / "energy.md", tmp_path)

    profiled, grams, printed = (" ".join(text.split()) for text in list(said.values())[-3:])
    assert "per inference, rest included, at the boundary 'soc-rails'" in profiled
    assert "have an energy of their own" in profiled
    assert "simulated" in grams
    assert printed.count("Interval(value=") > 10


@pytest.mark.slow
def test_the_page_about_clocks_can_be_followed_to_its_end(tmp_path: Path) -> None:
    said = said_by_each_command(ROOT / "docs" / "how-to" / "clocks.md", tmp_path)

    # Notes are wrapped where the page is full.
    pages = [" ".join(text.split()) for text in said.values()]
    shown, free, capped, printed = pages[1], *pages[3:]
    assert "CPUs 4-7, capacity 1024, policy4 at" in shown
    assert "as the job asked (--clock-cap)" not in free
    assert "as the job asked (--clock-cap)" in capped
    assert printed == "True"


@pytest.mark.slow
def test_the_page_about_carbon_can_be_followed_to_its_end(tmp_path: Path) -> None:
    said = said_by_each_command(ROOT / "docs" / "how-to" / "carbon.md", tmp_path)

    assert len(said) > 10
    printed = list(said.values())
    assert "\u00b5g" in printed[-1]
    (table,) = [text for command, text in said.items() if "carbon_table.py" in command]
    assert [line.count("|") for line in table.splitlines()] == [9] * 5  # three boards, three countries, two modes
    assert any("pays back its making after" in text for text in printed)
    assert any("never: " in text for text in printed)


def test_the_page_about_campaigns_has_every_key_of_a_plan_and_the_plan_of_the_examples() -> None:
    page = (ROOT / "docs" / "how-to" / "campaigns.md").read_text()

    (shown,) = TOML.findall(page)
    assert shown == (ROOT / "docs" / "examples" / "plan.toml").read_text()
    for key in {*Plan.__struct_fields__, *Configuration.__struct_fields__, *Rest.__struct_fields__} - {"name"}:
        assert f"`{key}`" in page or f"[{key}]" in page, key


@pytest.mark.slow
def test_the_page_about_inputs_can_be_followed_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    page = ROOT / "docs" / "how-to" / "inputs.md"
    home = {"EDGEPROF_HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    lines = typed_lines(page)
    assert len(lines) > 5

    said = ""
    for line in lines:
        command = shlex.split(line)
        if command[0] == "edgeprof":
            command += ["--rounds", "3", "--min-time", "0.05"]
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **home, "PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"$ {line}\n{done.stdout}\n{done.stderr}"
        said += done.stdout + done.stderr

    (shown,) = re.findall(r"```text\n(.*?)```", page.read_text(), re.DOTALL)
    assert shown in said
    for words in ("given values", "items per second by batch size", "of 2 streams at once"):
        assert words in said


def test_the_python_example_prints_a_median_and_operators(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    for script in ("make_model.py", "profile_here.py"):
        done = subprocess.run(
            [sys.executable, ROOT / "docs" / "examples" / script, model], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    assert re.search(r"model.onnx: [0-9.]+ ms", done.stdout)
    assert "block0/pointwise/conv" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a busy machine the gate of its first profile takes a minute
def test_the_page_about_python_runs_from_its_first_block_to_its_last(tmp_path: Path) -> None:
    """With its torch module where torch is installed."""
    run_blocks(tmp_path, PYTHON if importlib.util.find_spec("torch") is None else PYTHON_AND_TORCH)


@pytest.mark.slow
def test_the_page_about_predicting_can_be_followed_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As for users: a simulated board cools in its own time, and a run of a hot one would not count.
    monkeypatch.delenv("EDGEPROF_GATE_TIMEOUT")
    said = said_by_each_command(ROOT / "docs" / "how-to" / "predict.md", tmp_path)

    printed = [" ".join(text.split()) for text in said.values()]
    assert any("SIMULATED board: nothing of it was measured" in text for text in printed)
    assert any("against 1 run:" in text for text in printed)
    assert any("DATA SHEET" in text for text in printed)
    assert "simulated" in printed[-1]


@pytest.mark.slow
def test_the_page_about_few_samples_runs(tmp_path: Path) -> None:
    (block,) = PYTHON.findall((ROOT / "docs" / "how-to" / "few-samples.md").read_text())

    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("True")


def run_blocks(folder: Path, blocks: re.Pattern[str]) -> None:
    """Run the page's blocks in one session, in a folder with a model."""
    write_example(folder / "model.onnx")
    found = blocks.findall((ROOT / "docs" / "how-to" / "python.md").read_text())
    assert len(found) > 5
    environment = {**os.environ, "EDGEPROF_HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "cache")}

    done = subprocess.run(
        [sys.executable, "-c", "\n".join(found)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text())

    missing = [target for target in targets if not (page.parent / target).exists()]

    assert missing == []


def test_the_page_about_devices_shows_every_key_of_fleet_toml_in_one_that_can_be_read(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "devices.md").read_text()
    (shown,) = TOML.findall(page)
    path = tmp_path / "fleet.toml"
    path.write_text(shown)

    fleet = Fleet.read(path)

    assert [device.name for device in fleet.devices] == ["local", "pi5", "qemu", "toy", "stand-in", "phone"]
    for key in set(Device.__struct_fields__) - {"name"}:
        assert f"| `{key}` |" in page
        assert f"{key} = " in shown


def test_the_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()

    assert "make demo" in readme
    assert "make test" in readme


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_page_about_searches_can_be_followed_to_its_end(tmp_path: Path) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed: run `make torch`")
    page = ROOT / "docs" / "how-to" / "search.md"
    examples = tmp_path / "docs" / "examples"
    examples.mkdir(parents=True)
    # A third of it shows as much.
    plan = (ROOT / "docs" / "examples" / "digits.toml").read_text()
    (examples / "digits.toml").write_text(plan.replace("evaluations = 30", "evaluations = 10"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "EDGEPROF_HOME": str(tmp_path / "home"), "PATH": path}
    for line in typed_lines(page):
        typed = shlex.split(line.replace("--evaluations 34", "--evaluations 12"))
        done = subprocess.run(typed, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"$ {line}\n{done.stdout}\n{done.stderr}"
    (layers,) = TOML.findall(page.read_text())
    function, mine = PYTHON.findall(page.read_text())
    (tmp_path / "mine.py").write_text(f"{function}\n{mine}")
    rest = 'objectives = ["error", "size"]\n[search]\nevaluations = 4\n[accuracy]\nby = "function"\n'
    rest += 'function = "mine.py:train"\n'
    for number, space in enumerate((layers, '[space]\npython = "mine.py:Mine"\n')):
        (tmp_path / f"plan{number}.toml").write_text(rest + space)
        done = subprocess.run(
            ["edgeprof", "search", "run", f"plan{number}.toml"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_about_optimizing_can_be_followed_to_its_end(tmp_path: Path) -> None:
    page = ROOT / "docs" / "how-to" / "optimize.md"
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    quick = {"EDGEPROF_GATE_TIMEOUT": "0", "EDGEPROF_HOME": str(tmp_path / "home"), "PATH": path}
    said = []
    for line in typed_lines(page):
        done = subprocess.run(
            shlex.split(line), cwd=tmp_path, env={**os.environ, **quick}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"$ {line}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)
    data, metric = PYTHON.findall(page.read_text())
    subprocess.run([sys.executable, "-c", data], cwd=tmp_path, check=True)
    (tmp_path / "score.py").write_text(metric)
    judged = CommandLine(tmp_path, quick).run(
        "optimize", "digits/model.onnx", "--data", "digits/data.npz", "--metric", "score.py:f1",
        "--only", "slim", "--budget-time", "1s",
    )  # fmt: skip

    assert "dynamic-int8" in said[2]
    assert "model.onnx" in said[3]
    assert len(np.load(tmp_path / "data.npz")["labels"]) == 100
    assert judged.returncode == 0, judged.stderr
    assert "judged by score.py:f1 on 897 samples (the original: 0.9" in judged.stdout


@pytest.mark.slow
def test_the_example_in_sound_finds_nets_for_two_targets(tmp_path: Path, models_dir: Path) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed: run `make torch`")
    for part in ("TRAIN", "TEST"):
        name = f"JapaneseVowels_{part}.ts"
        (tmp_path / name).symlink_to(next(models_dir.rglob(name)))
    text = (ROOT / "docs" / "examples" / "vowels.toml").read_text()
    (tmp_path / "vowels.toml").write_text(
        text.replace("epochs = 20", "epochs = 4").replace("evaluations = 10", "evaluations = 6")
    )
    typed = CommandLine(tmp_path)
    assert typed.run("devices", "add", "pi5", "sim:pi-5").returncode == 0

    done = typed.run("search", "run", "vowels.toml", "--json", "found.json")

    assert done.returncode == 0, done.stderr
    front = json.loads((tmp_path / "found.json").read_text())["front"]
    assert set(front[0]["runs"]) == {"pi5", "local"}
    assert max(one["test_accuracy"] for one in front) > 0.5


def test_every_field_of_a_search_is_in_its_reference() -> None:
    page = (ROOT / "docs" / "reference" / "search.md").read_text()
    for kind in (SearchPlan, Search, Limits, Data, Accuracy, Target, Carbon):
        for name in kind.__struct_fields__:
            if name not in ("search", "limits", "space", "data", "accuracy", "targets", "carbon"):
                assert f"`{name}`" in page, f"{kind.__name__}.{name}"
    for space in SPACES.values():
        for name in inspect.signature(space).parameters:
            assert name == "name" or f"`{name}`" in page, f"{space.__name__}.{name}"
