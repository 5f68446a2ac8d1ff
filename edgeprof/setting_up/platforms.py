"""Which wheels fit a device's Python, in pip's words, and what to do where none does.

The tags are explained in PyPA's specification "Platform compatibility tags".
"""

from __future__ import annotations

from edgeprof.setting_up.there import Facts

__all__ = ["markers", "tags", "way_out"]

# The oldest glibc that a wheel may be built for, by architecture (PEP 600: manylinux1 and 2014 as 2_5 and 2_17).
OLDEST_GLIBC_MINOR = {"x86_64": 5, "i686": 5}
OTHER_OLDEST_GLIBC_MINOR = 17
OLD_NAMES = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
# The last release of tflite-runtime, by its wheels' tags.
TFLITE_PYTHONS, TFLITE_GLIBC = ("3.9", "3.10", "3.11"), (2, 34)
OWN_INDEX = (
    "if you have an index with wheels for it, name it in pip's own settings (PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS)"
)


def tags(facts: Facts) -> list[str]:
    """Options of pip that stand for the device in the place of this machine."""
    options = ["--implementation", "cp", "--python-version", ".".join(map(str, facts.python))]
    for abi in (f"cp{facts.python[0]}{facts.python[1]}{facts.flags}", "abi3", "none"):
        options += ["--abi", abi]
    for platform in _platforms(facts):
        options += ["--platform", platform]
    return options


def _platforms(facts: Facts) -> list[str]:
    """The newest first."""
    found = []
    if facts.libc == "glibc" and facts.libc_version is not None and facts.libc_version[0] == 2:
        oldest = OLDEST_GLIBC_MINOR.get(facts.architecture, OTHER_OLDEST_GLIBC_MINOR)
        for minor in range(facts.libc_version[1], oldest - 1, -1):
            found.append(f"manylinux_2_{minor}")
            found += [OLD_NAMES[minor]] if minor in OLD_NAMES else []
    elif facts.libc == "musl" and facts.libc_version is not None:
        major, newest = facts.libc_version
        found += [f"musllinux_{major}_{minor}" for minor in range(newest, -1, -1)]
    return [f"{name}_{facts.architecture}" for name in (*found, "linux")]


def markers(facts: Facts) -> dict[str, str]:
    """The device in the words of environment markers (PEP 508); pip itself would take those of this machine."""
    full = ".".join(map(str, facts.python))
    return {
        "implementation_name": facts.implementation,
        "implementation_version": full,
        "os_name": "posix",
        "platform_machine": facts.machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": full,
        "python_version": facts.version,
        "sys_platform": "linux",
        "extra": "",
    }


def way_out(facts: Facts, runtime: str, name: str) -> str:
    """The nearest thing to do where no wheel of a runtime fits device `name`."""
    if facts.libc == "musl":
        return (
            "wheels of runtimes are built for glibc, and this system has musl: use a system with glibc (Debian, "
            "Raspberry Pi OS), or a Debian container there that has an sshd and a Python of its own"
        )
    if facts.libc != "glibc":
        return (
            "wheels of runtimes are built for glibc, which this Python does not use: give another Python there by "
            "--python, or one in a Debian system inside that one (on a phone: Termux's proot)"
        )
    if facts.is_narrow:
        return f"the kernel is 64-bit already: install the 64-bit image of the same system there; or {OWN_INDEX}"
    if facts.bits == 32:
        return (
            "runtimes are published for 64-bit systems: if the processor is one (Raspberry Pi 3, 4, 5, Zero 2), "
            f"install the 64-bit image there; or {OWN_INDEX}"
        )
    if runtime == "tflite":
        return _way_out_of_tflite(facts, name)
    others = ", ".join(facts.other_pythons.values())
    if others:
        again = f"edgeprof devices setup {name} --runtime {runtime} --python PATH"
        return f"it may fit another Python there ({others}): {again}"
    return f"install another Python there (3.10 to 3.13 have the most wheels) and name it with --python; or {OWN_INDEX}"


def _way_out_of_tflite(facts: Facts, name: str) -> str:
    litert = f"take litert, its successor: edgeprof devices setup {name} --runtime litert"
    older = [facts.other_pythons[version] for version in TFLITE_PYTHONS if version in facts.other_pythons]
    if facts.libc_version is not None and facts.libc_version < TFLITE_GLIBC:
        return f"tflite-runtime 2.14 needs glibc {TFLITE_GLIBC[0]}.{TFLITE_GLIBC[1]}: {litert}"
    if facts.version not in TFLITE_PYTHONS and older:
        return f"tflite-runtime 2.14 ends at Python 3.11, which is there too: add --python {older[-1]}; or {litert}"
    return f"tflite-runtime 2.14 has wheels for Python 3.9 to 3.11 on x86-64 and ARM: {litert}"
