"""A phone's folder for the stand-in of adb's server: files and programs with contents that nobody recorded."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.android.adb_server import StandInPhone

PROGRAM = Path(__file__).parent / "benchmark_model.py"
TOOL = "/data/local/tmp/benchmark_model"
# The shape is that of BatteryService's dump (Android's frameworks/base); the values are invented.
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: {usb}
  Wireless powered: false
  status: {status}
  health: 2
  present: true
  level: {level}
  scale: 100
  voltage: 3912
  temperature: 271
  technology: Li-ion
"""
POWER = "POWER MANAGER (dumpsys power)\n\nPower Manager State:\n  mWakefulness={wakefulness}\n"
TRUST = 'Trust manager state:\n User "Owner" (id=0, flags=0x4c13) (current): trusted=0, deviceLocked={locked}\n'


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def write_tool(path: Path, form: str, fault: str = "") -> None:
    """The stand-in for benchmark_model as a program at this path."""
    source = path.with_name("benchmark_model.py")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(PROGRAM, source)
    source.chmod(0o644)
    write_program(path, f'STAND_IN={fault} exec python3 {source} {form} "$@"')


def make_phone(
    root: Path,
    serial: str = "STANDIN0001",
    *,
    form: str = "new",
    fault: str = "",
    level: int = 80,
    status: int = 2,
    usb: bool = True,
    wakefulness: str = "Awake",
    locked: bool = False,
    state: str = "device",
) -> StandInPhone:
    write_tool(root / TOOL.lstrip("/"), form, fault)
    battery = BATTERY.format(usb=str(usb).lower(), status=status, level=level)
    dumps = {
        "battery": battery,
        "power": POWER.format(wakefulness=wakefulness),
        "trust": TRUST.format(locked=int(locked)),
    }
    for name, text in dumps.items():
        (root / f"dump-{name}").write_text(text)
    write_program(root / "bin" / "dumpsys", 'cat "$PHONE_ROOT/dump-$1"')
    write_program(
        root / "bin" / "getprop",
        'case "$1" in ro.product.model) echo "Stand-in";; ro.product.manufacturer) echo edgeprof;; '
        "ro.build.version.release) echo 14;; esac",
    )
    files = {
        "proc/cpuinfo": "processor\t: 0\nCPU part\t: 0xd05\nprocessor\t: 1\nCPU part\t: 0xd0b\n",
        "proc/meminfo": "MemTotal: 4000000 kB\nMemAvailable: 2000000 kB\n",
        "proc/loadavg": "0.10 0.10 0.10 1/900 100\n",
        "proc/uptime": "1000.00 900.00\n",
        "proc/stat": "cpu  1000 0 1000 90000 0 0 0 0 0 0\n",
        "proc/self/cpuset": "/\n",
        "proc/self/status": "Cpus_allowed_list:\t0-1\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-0-0\n",
        "sys/class/thermal/thermal_zone0/temp": "35000\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return StandInPhone(serial, root, state)
