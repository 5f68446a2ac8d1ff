"""An external delegate is loaded, applied and recorded: a real shared library, compiled here, that takes no node."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeprof.provision import own_environment
from tests.integration.command_line import CommandLine

# tensorflow/lite/core/c/common.h (TfLiteDelegate) and tensorflow/lite/delegates/external/external_delegate.cc
SOURCE = r"""
#include <stdint.h>
#include <stdlib.h>
typedef struct Delegate {
  void *data;
  int (*prepare)(void *context, struct Delegate *self);
  int (*copy_from)(void *, struct Delegate *, int, void *);
  int (*copy_to)(void *, struct Delegate *, int, void *);
  void (*release)(void *, struct Delegate *, int *);
  int64_t flags;
  void *opaque_builder;
} Delegate;
static int prepare(void *context, Delegate *self) { return 0; }
void *tflite_plugin_create_delegate(char **keys, char **values, size_t n, void (*report)(const char *)) {
  for (size_t k = 0; k < n; ++k)
    if (keys[k][0] == 'f') { report("this delegate refuses the option that begins with f"); return NULL; }
  Delegate *made = calloc(1, sizeof *made);
  made->prepare = prepare;
  return made;
}
void tflite_plugin_destroy_delegate(void *made) { free(made); }
"""
QUICK = ("--rounds", "1", "--min-runs", "2", "--min-time", "0", "--gate-timeout", "0", "--json", "-")
TFLITE_PYTHON = own_environment("tflite") / "bin" / "python"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to make a delegate with")
    source, library = tmp_path / "delegate.c", tmp_path / "libdelegate.so"
    source.write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library


@pytest.mark.parametrize("runtime", ["litert", "tflite"])
def test_a_delegate_is_loaded_and_recorded(runtime: str, library: Path, tmp_path: Path, models_dir: Path) -> None:
    if runtime == "tflite" and not TFLITE_PYTHON.exists():
        pytest.skip(f"tflite-runtime has no wheel for Python {sys.version_info[0]}.{sys.version_info[1]}")
    model = next(models_dir.rglob("face_detection_short_range.tflite"))

    done = CommandLine(tmp_path).run("profile", model, "--runtime", runtime, "--delegate", library, *QUICK)

    assert done.returncode == 0, done.stderr
    profile = json.loads(done.stdout)["raw"]["profile"]
    assert profile["job"]["options"]["delegate"] == str(library)
    assert str(library) in json.dumps(profile["in_force"])


@pytest.mark.parametrize("runtime", ["litert", "tflite"])
def test_a_delegate_that_refuses_is_an_error_that_names_it(
    runtime: str, library: Path, tmp_path: Path, models_dir: Path
) -> None:
    if runtime == "tflite" and not TFLITE_PYTHON.exists():
        pytest.skip(f"tflite-runtime has no wheel for Python {sys.version_info[0]}.{sys.version_info[1]}")
    model = next(models_dir.rglob("face_detection_short_range.tflite"))
    options = ("--delegate", library, "--delegate-option", "fail=yes")

    done = CommandLine(tmp_path).run("profile", model, "--runtime", runtime, *options, *QUICK)

    assert done.returncode == 1
    assert str(library) in done.stderr
    assert "Traceback" not in done.stderr
