"""A board that exists only as figures: its clock, its temperature and the files that tell about them."""

import math
import random
from typing import Dict, List, Sequence, Tuple

from device_agents.machine import Machine
from device_agents.wire import SIMULATED, Board

TICKS_PER_S = 100  # of cpufreq's time_in_state and of /proc/stat
IDLE_SHARE_OF_CLOCK = 0.4  # a lowest clock for the files; the simulated governor is "performance" and never uses it
LOAD_WINDOW_S = 60.0


class SimulatedMachine(Machine):
    """The board's own time passes only by `sleep` and `work`; nothing is read from the machine this runs on."""

    origin = SIMULATED

    def __init__(self, board: Board, seed: int) -> None:
        self.board = board
        self.random = random.Random(f"{board.name}/{seed}")
        self._now_s = 0.0
        self._temperature_c = board.ambient_c
        self._load = 0.0
        self._busy_s = 0.0
        self._at_clock_s: Dict[float, float] = {board.clock_hz: 0.0, self._throttled_hz(): 0.0}

    def now(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        self._pass(seconds, 0)

    def work(self, seconds: float, cores: int) -> None:
        """Let `cores` be busy for that long."""
        self._pass(seconds, cores)

    @property
    def is_throttled(self) -> bool:
        return self._temperature_c >= self.board.throttle_c

    @property
    def clock_hz(self) -> float:
        return self._throttled_hz() if self.is_throttled else self.board.clock_hz

    def read(self, path: str) -> str:
        files = self._files()
        if path not in files:
            raise FileNotFoundError(f"{path}: a simulated board has no such file")
        return files[path]

    def list(self, path: str) -> List[str]:
        prefix = path.rstrip("/") + "/"
        return sorted({name[len(prefix) :].split("/")[0] for name in self._files() if name.startswith(prefix)})

    def run(self, argv: Sequence[str], timeout_s: float = 5.0) -> Tuple[int, str]:
        raise FileNotFoundError(f"{argv[0]}: a simulated board has no programs")

    def _throttled_hz(self) -> float:
        return self.board.clock_hz * (1.0 - self.board.throttle_share)

    def _pass(self, seconds: float, cores: int) -> None:
        """First-order thermal model, solved exactly for a constant load."""
        board = self.board
        self._at_clock_s[self.clock_hz] += seconds
        self._busy_s += seconds * cores
        self._now_s += seconds
        heating = board.heating_c_per_s if cores else 0.0
        if board.cooling_per_s > 0.0:
            settled = board.ambient_c + heating / board.cooling_per_s
            self._temperature_c = settled + (self._temperature_c - settled) * math.exp(-board.cooling_per_s * seconds)
        else:
            self._temperature_c += heating * seconds
        self._load = cores + (self._load - cores) * math.exp(-seconds / LOAD_WINDOW_S)

    def _files(self) -> Dict[str, str]:
        files = {f"/sys/devices/system/cpu/cpufreq/policy0/{name}": text for name, text in self._cpufreq().items()}
        files.update({f"/proc/{name}": text for name, text in self._proc().items()})
        for name in ("online", "possible", "present"):
            files[f"/sys/devices/system/cpu/{name}"] = f"0-{self.board.cores - 1}\n"
        files["/sys/class/thermal/thermal_zone0/type"] = "cpu-thermal\n"
        files["/sys/class/thermal/thermal_zone0/temp"] = f"{round(self._temperature_c * 1000)}\n"
        return files

    def _cpufreq(self) -> Dict[str, str]:
        cpus = " ".join(str(cpu) for cpu in range(self.board.cores))
        lowest = _khz(self.board.clock_hz * IDLE_SHARE_OF_CLOCK)
        highest = _khz(self.board.clock_hz)
        return {
            "affected_cpus": f"{cpus}\n",
            "related_cpus": f"{cpus}\n",
            "scaling_governor": "performance\n",
            "scaling_cur_freq": f"{_khz(self.clock_hz)}\n",
            "scaling_min_freq": f"{lowest}\n",
            "scaling_max_freq": f"{highest}\n",
            "cpuinfo_min_freq": f"{lowest}\n",
            "cpuinfo_max_freq": f"{highest}\n",
            "stats/time_in_state": "".join(
                f"{_khz(clock_hz)} {round(spent_s * TICKS_PER_S)}\n" for clock_hz, spent_s in self._at_clock_s.items()
            ),
        }

    def _proc(self) -> Dict[str, str]:
        board = self.board
        busy = round(self._busy_s * TICKS_PER_S)
        idle = max(0, round(self._now_s * board.cores * TICKS_PER_S) - busy)
        kib = board.memory_bytes // 1024
        processor = f"model name\t: {board.name} (simulated)\n"
        pressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
        return {
            "loadavg": f"{self._load:.2f} {self._load:.2f} {self._load:.2f} 1/1 1\n",
            "stat": f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\n",
            "meminfo": f"MemTotal: {kib} kB\nMemFree: {kib} kB\nMemAvailable: {kib} kB\n",
            "cpuinfo": "".join(f"processor\t: {cpu}\n{processor}\n" for cpu in range(board.cores)),
            "pressure/cpu": pressure,
            "pressure/memory": pressure,
            "pressure/io": pressure,
        }


def _khz(hertz: float) -> int:
    return round(hertz / 1000)
