"""Generated code: Python that really runs, for every runtime; text from users that is never more than text."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprof.errors import TuningError
from edgeprof.models.example import write_example
from edgeprof.models.write_tflite import tflite_bytes
from edgeprof.tuning.code import FILES, as_cpp, as_kotlin, as_python, write_code
from edgeprof.tuning.literals import cpp_literal, kotlin_literal, python_literal, quoted
from edgeprof.tuning.recipe import Cap, Recipe, RecipeSettings
from latency_models.building import builder
from tests.contracts.test_runtime import TFLITE_PYTHON
from tests.unit.recipes import CAPPED, PLAIN, make_recipe

EVIL = 'a"b\'\'\'"""\\\nimport os\r${x}$x ??/ */ é\N{SNOWMAN}\u202e\x00'
SETTINGS = [
    RecipeSettings(runtime="onnxruntime", threads=1),
    RecipeSettings(runtime="onnxruntime", threads=1, affinity=(3,), spinning=True),
    RecipeSettings(runtime="onnxruntime", threads=3, affinity=(4, 0, 1), spinning=False),
    RecipeSettings(runtime="onnxruntime", threads=2, affinity=(0, 1, 2), provider="XnnpackExecutionProvider"),
    RecipeSettings(runtime="onnxruntime", threads=2, provider=EVIL),
    RecipeSettings(runtime="litert", threads=4, affinity=(0, 1, 2, 3)),
    RecipeSettings(runtime="tflite", threads=2, xnnpack=False),
    RecipeSettings(runtime="tflite", threads=1, delegate=EVIL),
    RecipeSettings(runtime="simulated", threads=2, affinity=(0, 1)),
]


def recipe_of(settings: RecipeSettings, name: str = "net.onnx") -> Recipe:
    format = "tflite" if settings.runtime in ("litert", "tflite") else "onnx"
    model = msgspec.structs.replace(make_recipe().model, name=name, format=format)
    return make_recipe(model=model, best=msgspec.structs.replace(PLAIN, settings=settings))


# --- Python that runs -----------------------------------------------------------------------------------------------

LOOK = """
import json, os, runpy, sys
import numpy as np
made = runpy.run_path(sys.argv[1])
values = dict(np.load(sys.argv[3])) if len(sys.argv) > 3 else {}
run = made["open_model"](sys.argv[2], values)
outputs = run()
print(json.dumps([sorted(os.sched_getaffinity(0)), {k: np.ravel(v).tolist() for k, v in outputs.items()}]))
"""


def started(
    script: Path, model: Path, *inputs: Path, python: str = sys.executable
) -> tuple[list[int], dict[str, list[float]]]:
    """The CPUs that the calling thread is left on, and the outputs, in a process of its own."""
    done = subprocess.run(
        [python, "-c", LOOK, script, model, *inputs], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    cpus, outputs = json.loads(done.stdout)
    return cpus, outputs


def typed(script: Path, *arguments: str | Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, script, *arguments], capture_output=True, text=True, timeout=120, check=False, cwd=script.parent
    )


def test_the_script_for_onnxruntime_runs_as_the_recipe_says(tmp_path: Path) -> None:
    cpus = tuple(sorted(os.sched_getaffinity(0), reverse=True)[:2])
    write_example(tmp_path / "net.onnx")
    image = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    np.savez(tmp_path / "values.npz", image=image)
    settings = RecipeSettings(runtime="onnxruntime", threads=len(cpus), affinity=cpus, spinning=False)
    (script, *_) = write_code(recipe_of(settings), tmp_path)

    kept_on, outputs = started(script, tmp_path / "net.onnx", tmp_path / "values.npz")

    assert kept_on == [cpus[0]], "the calling thread stays on the first of the recipe's CPUs"
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"image": image})
    assert outputs["scores"] == pytest.approx(np.ravel(expected).tolist(), rel=1e-4)
    done = typed(script, "--runs", "2")
    assert done.returncode == 0, done.stderr
    assert "scores: float32 (1, 10)" in done.stdout
    assert "median of 2 runs" in done.stdout


def test_the_script_says_what_is_wrong_with_its_inputs_and_cpus(tmp_path: Path) -> None:
    write_example(tmp_path / "net.onnx")
    np.savez(tmp_path / "values.npz", picture=np.zeros(3))
    (script, *_) = write_code(recipe_of(RecipeSettings(runtime="onnxruntime", threads=1)), tmp_path)

    wrong = typed(script, "--inputs", "values.npz")
    assert wrong.returncode == 1
    assert "the model has no inputs called picture" in wrong.stderr

    (script, *_) = write_code(recipe_of(RecipeSettings(runtime="onnxruntime", threads=1, affinity=(4000,))), tmp_path)
    wrong = typed(script)
    assert wrong.returncode == 1
    assert "does not have the CPUs (4000,)" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def small_tflite(path: Path) -> None:
    build = builder("tflite")
    x = build.conv(build.image(8, 8), 4, 3, activation="relu")
    path.write_bytes(tflite_bytes(build.graph(build.dense(build.global_average(x, keep=False), 3))))


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("runtime", ["litert", "tflite"])
def test_the_scripts_for_tflite_files_run_as_the_recipe_says(runtime: str, xnnpack: bool, tmp_path: Path) -> None:
    python = sys.executable
    if runtime == "tflite":
        if not TFLITE_PYTHON.is_file():
            pytest.skip("tflite-runtime has no wheel for Python 3.12 and newer: run `make setup` with Python 3.11")
        python = str(TFLITE_PYTHON)
    cpu = max(os.sched_getaffinity(0))
    small_tflite(tmp_path / "net.tflite")
    settings = RecipeSettings(runtime=runtime, threads=2, affinity=(cpu,), xnnpack=xnnpack)
    (script, *_) = write_code(recipe_of(settings, "net.tflite"), tmp_path)

    kept_on, outputs = started(script, tmp_path / "net.tflite", python=python)

    assert kept_on == [cpu]
    (values,) = outputs.values()
    assert len(values) == 3
    assert np.isfinite(values).all()
    assert typed(script, python=python).returncode == 0


# --- every language, every setting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: f"{one.runtime}-{one.threads}")
@pytest.mark.parametrize("name", ["net.onnx", EVIL], ids=["plain", "evil"])
def test_code_for_every_setting_is_whole(settings: RecipeSettings, name: str) -> None:
    recipe = recipe_of(settings, name)

    python, cpp, kotlin = as_python(recipe), as_cpp(recipe), as_kotlin(recipe)

    tree = ast.parse(python)
    compile(tree, "run_model.py", "exec")
    constants = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
    assert ast.literal_eval(constants["MODEL"]) == name
    assert ast.literal_eval(constants["THREADS"]) == settings.threads
    assert ast.literal_eval(constants["CPUS"]) == settings.affinity
    for text, mark in ((python, "#"), (cpp, "//"), (kotlin, "//")):
        first = text.splitlines()[0]
        assert first.startswith(mark)
        assert "$comments" not in text
        assert all(line.isprintable() for line in text.split("\n")), "nothing that an editor would obey"
    for text in (cpp, kotlin):
        assert "NOT COMPILED HERE" in text.splitlines()[0]
        assert text.count("{") == text.count("}") or name == EVIL or settings.delegate or settings.provider == EVIL
    assert cpp_literal(name) in cpp
    assert f"FILE = {kotlin_literal(name)}" in kotlin
    assert f"setNumThreads({settings.threads})" in kotlin or f"setIntraOpNumThreads({settings.threads})" in kotlin
    assert f"kThreads = {settings.threads};" in cpp


def test_caps_are_commands_in_comments_with_what_to_restore() -> None:
    caps = (Cap(policy="policy4", max_hz=1.2e9, before_hz=2.4e9), Cap(policy="policy0", max_hz=1e9))
    best = msgspec.structs.replace(CAPPED, settings=msgspec.structs.replace(CAPPED.settings, clock_caps=caps))

    for text, mark in ((as_python(make_recipe(best=best)), "# "), (as_cpp(make_recipe(best=best)), "// ")):
        lines = text.splitlines()
        folder = "/sys/devices/system/cpu/cpufreq"
        capped = lines.index(f"{mark}  echo 1200000 > {folder}/policy4/scaling_max_freq")
        restored = lines.index(f"{mark}  echo 2400000 > {folder}/policy4/scaling_max_freq")
        assert capped < restored
        assert f"{mark}  echo NOTED > {folder}/policy0/scaling_max_freq" in lines


def test_what_was_simulated_is_called_so_in_the_code() -> None:
    recipe = recipe_of(RecipeSettings(runtime="simulated", threads=2))

    assert "SIMULATED" in as_python(recipe)
    assert "import onnxruntime as ort" in as_python(recipe)
    assert "SIMULATED" not in as_python(recipe_of(RecipeSettings(runtime="litert", threads=2), "net.tflite"))


def test_one_thread_for_each_cpu_leaves_the_first_to_the_caller_in_every_language() -> None:
    settings = RecipeSettings(runtime="onnxruntime", threads=3, affinity=(4, 0, 1))

    assert "WORKER_CPUS = '1;2'" in as_python(recipe_of(settings))
    assert "pin(CPUS[:1])" in as_python(recipe_of(settings))
    assert 'thread_affinities", "1;2");' in as_cpp(recipe_of(settings))
    assert "Pin({kCpus.front()});" in as_cpp(recipe_of(settings))
    assert 'thread_affinities", "1;2")' in as_kotlin(recipe_of(settings))
    shared = RecipeSettings(runtime="onnxruntime", threads=2, affinity=(0, 1, 2))
    assert "WORKER_CPUS = '1,2,3'" in as_python(recipe_of(shared))
    assert "Pin({kCpus" not in as_cpp(recipe_of(shared))


@given(st.text())
def test_literals_and_comments_hold_any_text(text: str) -> None:
    assert ast.literal_eval(python_literal(text)) == text
    # Octal escapes, quotes and backslashes are Python's too, the question mark is not.
    read = ast.literal_eval("b" + cpp_literal(text).replace("\\?", "?"))
    assert read == text.encode("utf-8", "surrogatepass")
    assert json.loads(kotlin_literal(text).replace("\\$", "$")) == text
    assert quoted(text).isprintable()


def test_a_compiler_reads_the_same_name(tmp_path: Path) -> None:
    compiler = shutil.which("c++") or shutil.which("g++")
    name = EVIL.replace("\x00", "")
    if compiler is None:  # the literal is held against Python's reading above
        assert "\\?\\?/" in cpp_literal(name)
        return
    (tmp_path / "name.cpp").write_text(
        f"// {quoted(name)}\n#include <cstdio>\nint main() {{ std::fputs({cpp_literal(name)}, stdout); }}\n"
    )

    subprocess.run([compiler, "-trigraphs", "-o", tmp_path / "name", tmp_path / "name.cpp"], check=True)

    assert subprocess.run([tmp_path / "name"], capture_output=True, check=True).stdout == name.encode()


def test_files_are_replaced_and_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    recipe = recipe_of(SETTINGS[0])

    assert write_code(recipe, tmp_path / "a" / "b") == [tmp_path / "a" / "b" / name for name in FILES]
    write_code(recipe_of(SETTINGS[2]), tmp_path / "a" / "b")
    assert "CPUS = (4, 0, 1)" in (tmp_path / "a" / "b" / "run_model.py").read_text()
    (tmp_path / "file").write_text("")
    with pytest.raises(TuningError, match="code cannot be written there"):
        write_code(recipe, tmp_path / "file")
