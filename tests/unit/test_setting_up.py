"""Which wheels a device's Python takes, and what to do where there are none."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from packaging.tags import cpython_tags, sys_tags

from edgeprof.errors import NoWheel
from edgeprof.setting_up import on_device
from edgeprof.setting_up.platforms import markers, tags, way_out
from edgeprof.setting_up.there import Facts
from edgeprof.setting_up.wheels import fetch

PI = Facts(
    python=(3, 11, 2),
    implementation="cpython",
    flags="",
    bits=64,
    machine="aarch64",
    system="linux",
    libc="glibc",
    libc_version=(2, 36),
    has_ensurepip=False,
    other_pythons={},
    cache="/home/pi/.cache/edgeprof",
    unwritable=None,
    free_bytes=10**10,
    environments=(),
)


def facts(**changes: object) -> Facts:
    return msgspec.structs.replace(PI, **changes)


def platforms(of: Facts) -> list[str]:
    options = tags(of)
    return [value for option, value in itertools.pairwise(options) if option == "--platform"]


def test_a_newer_glibc_takes_older_wheels_and_not_the_other_way_round() -> None:
    taken = platforms(facts(libc_version=(2, 31)))

    assert taken[0] == "manylinux_2_31_aarch64"
    assert {"manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64", "linux_aarch64"} <= set(taken)
    assert not any("_2_34_" in name or "_2_16_" in name for name in taken)


def test_a_32_bit_user_land_takes_its_own_wheels_whatever_the_kernel() -> None:
    assert all(name.endswith("_armv7l") for name in platforms(facts(bits=32)))
    assert all(name.endswith("_i686") for name in platforms(facts(bits=32, machine="x86_64")))


def test_musl_takes_no_wheel_of_glibc() -> None:
    taken = platforms(facts(libc="musl", libc_version=(1, 2)))

    assert taken == ["musllinux_1_2_aarch64", "musllinux_1_1_aarch64", "musllinux_1_0_aarch64", "linux_aarch64"]


def test_an_unknown_c_library_takes_wheels_without_one_alone() -> None:
    assert platforms(facts(libc="", libc_version=None)) == ["linux_aarch64"]


def test_this_machine_is_described_as_packaging_describes_it() -> None:
    here = msgspec.convert(on_device.look({}), Facts)

    expected = {tag.platform for tag in cpython_tags(abis=["none"], warn=False)}

    assert set(platforms(here)) == expected
    assert next(sys_tags()).abi in tags(here)


def test_markers_are_those_of_the_device() -> None:
    told = markers(facts(python=(3, 9, 2), machine="armv7l"))

    assert (told["python_version"], told["python_full_version"], told["platform_machine"]) == ("3.9", "3.9.2", "armv7l")


@pytest.mark.parametrize(
    ("changes", "runtime", "words"),
    [
        ({"libc_version": (2, 31)}, "tflite", "needs glibc 2.34"),
        (
            {"python": (3, 13, 0), "other_pythons": {"3.11": "/usr/bin/python3.11"}},
            "tflite",
            "add --python /usr/bin/python3.11",
        ),
        ({"python": (3, 13, 0)}, "tflite", "take litert"),
        ({"python": (3, 15, 0), "other_pythons": {"3.12": "/opt/python3.12"}}, "onnxruntime", "/opt/python3.12"),
        ({"python": (3, 15, 0)}, "onnxruntime", "install another Python"),
        ({"libc": "musl", "bits": 32}, "onnxruntime", "glibc (Debian"),
        ({"libc": "libc", "libc_version": None}, "onnxruntime", "Termux's proot"),
    ],
)
def test_the_nearest_way_out_is_named(changes: dict[str, object], runtime: str, words: str) -> None:
    assert words in way_out(facts(**changes), runtime, "pi5")


def test_a_python_that_is_no_cpython_has_no_wheels(tmp_path: Path) -> None:
    with pytest.raises(NoWheel, match="for pypy on linux"):
        fetch(facts(implementation="pypy"), "onnxruntime", "pi5", tmp_path)


def test_the_loader_in_a_program_tells_musl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A stand-in: a file with the name of a loader that prints what musl's prints (ldso/dynlink.c).
    loader = tmp_path / "ld-musl-aarch64.so.1"
    loader.write_text("#!/bin/sh\necho 'musl libc (aarch64)\nVersion 1.2.4\nDynamic Program Loader' >&2\nexit 1\n")
    loader.chmod(0o755)
    program = tmp_path / "python"
    program.write_bytes(b"\x7fELF" + bytes(600) + str(loader).encode() + bytes(100))
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(os, "confstr", lambda _: None)

    assert on_device.c_library() == ("musl", [1, 2])


def test_an_environment_needs_neither_venv_nor_ensurepip_and_sees_nothing_of_the_system(tmp_path: Path) -> None:
    packages = Path(on_device.bare_environment(str(tmp_path)))
    (packages / "mine.py").write_text("")
    program = "import sys, mine; print(sys.prefix); import msgspec"

    done = subprocess.run([tmp_path / "bin" / "python", "-c", program], capture_output=True, text=True, check=False)

    assert done.stdout.strip() == str(tmp_path)
    assert "No module named 'msgspec'" in done.stderr
