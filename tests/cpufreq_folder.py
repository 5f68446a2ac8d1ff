"""A folder with the files of a big.LITTLE device under /sys and /proc, to be read and written as the kernel's."""

from __future__ import annotations

from pathlib import Path

from tests.moved_machine import MovedMachine

CPUS = "/sys/devices/system/cpu"
STEPS_KHZ = (600_000, 1_000_000, 1_500_000, 1_800_000)
COOLER = "/sys/class/thermal/cooling_device0"
# Cortex-A72 r0p3 and Cortex-A53 r0p4, as they say of themselves (Arm: MIDR_EL1 in their reference manuals).
BIG_MIDR, LITTLE_MIDR = 0x410FD083, 0x410FD034


class LateMachine(MovedMachine):
    """What is written is seen when some time has passed, as with a real cpufreq; the last of several writes counts."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.clock_s = 0.0
        self._on_its_way: dict[str, str] = {}

    def write(self, path: str, text: str) -> None:
        self._on_its_way[path] = text

    def sleep(self, seconds: float) -> None:
        self.clock_s += seconds
        for path, text in self._on_its_way.items():
            super().write(path, text)
        self._on_its_way.clear()


class CpufreqFolder:
    """CPUs 0 and 1 are big and share policy0, 2 and 3 are little and share policy2."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.machine = MovedMachine(root)
        for name in ("online", "present", "possible"):
            self.put(f"{CPUS}/{name}", "0-3")
        self.put("/proc/self/status", "Name:\tpython3\nCpus_allowed:\tf\nCpus_allowed_list:\t0-3\n")
        self.put("/proc/self/cpuset", "/")
        self.put(f"{COOLER}/type", "cpufreq-cpu0")
        self.put(f"{COOLER}/cur_state", "0")
        for first, capacity, midr in ((0, 1024, BIG_MIDR), (2, 446, LITTLE_MIDR)):
            for cpu in (first, first + 1):
                self.put(f"{CPUS}/cpu{cpu}/cpu_capacity", str(capacity))
                self.put(f"{CPUS}/cpu{cpu}/regs/identification/midr_el1", f"{midr:#018x}")
            base = f"{CPUS}/cpufreq/policy{first}"
            self.put(f"{base}/related_cpus", f"{first} {first + 1}")
            # Some drivers list them downwards.
            self.put(f"{base}/scaling_available_frequencies", " ".join(map(str, reversed(STEPS_KHZ))) + " ")
            self.put(f"{base}/scaling_min_freq", str(STEPS_KHZ[0]))
            self.put(f"{base}/scaling_max_freq", str(STEPS_KHZ[-1]))
            self.put(f"{base}/cpuinfo_max_freq", str(STEPS_KHZ[-1]))
            self.put(f"{base}/scaling_governor", "performance")

    def put(self, path: str, text: str) -> None:
        target = Path(f"{self.root}{path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n")

    def remove(self, path: str) -> None:
        Path(f"{self.root}{path}").unlink()

    def limit_khz(self, policy: str = "policy0") -> int:
        return int(self.machine.read(f"{CPUS}/cpufreq/{policy}/scaling_max_freq"))

    def set_limit(self, khz: int, policy: str = "policy0") -> None:
        self.put(f"{CPUS}/cpufreq/{policy}/scaling_max_freq", str(khz))
