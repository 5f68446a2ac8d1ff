"""A board that exists only as figures: its clocks, its power, its temperature and the files that tell about them.

One thermal mass and one thermal governor, as in the docstring of `Board`. Power is what the board takes at rest plus,
for every busy core, its active power in proportion to its clock, and to the square of its voltage where that is known.
"""

import contextlib
import math
import random
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from device_agents.clock_caps import ClockError, step_khz
from device_agents.machine import FileReadAnew, Machine, OpenFile, Ticker
from device_agents.runtimes import RuntimeRefusal
from device_agents.runtimes.simulated_sensor import FOLDER, SimulatedSensor
from device_agents.topology import read_policies
from device_agents.wire import SIMULATED, Board, ClockCap, ClockReading, Cluster, MachineInfo

TICKS_PER_S = 100  # of cpufreq's time_in_state and of /proc/stat
LOAD_WINDOW_S = 60.0
SENSOR_FILE = f"{FOLDER}/power1_input"
# What the arithmetic, and files with a line for every CPU, are made for.
MAX_CLUSTERS, MAX_CORES, MAX_STEPS, MIN_POLL_S = 16, 1024, 256, 0.01


def _nothing() -> None:
    """Nobody asked to be called."""


class SimulatedMachine(Machine):
    """The board's own time passes only by `sleep` and `work`; nothing is read from the machine this runs on.

    It begins as warm as it gets at rest. Busy cores are given as a number for each cluster.

    Raises:
        RuntimeRefusal: the board's figures make no sense.
    """

    origin = SIMULATED

    def __init__(self, board: Board, seed: int) -> None:
        _require_sense(board)
        self.board = board
        self.random = random.Random(f"{board.name}/{seed}")
        self.at_rest = (0,) * len(board.clusters)
        self._now_s = 0.0
        self._temperature_c = board.ambient_c + board.idle_w * board.resistance_k_per_w
        self._until_poll_s = board.poll_s
        self._steps_down = 0
        self._highest = [len(cluster.clocks_hz) - 1 for cluster in board.clusters]
        self._load = 0.0
        self._busy_s = 0.0
        self._at_clock_s: List[Dict[float, float]] = [dict.fromkeys(c.clocks_hz, 0.0) for c in board.clusters]
        self.clocks_hz = self._clocks()
        self._sensor: Optional[SimulatedSensor] = None
        if board.sensor is not None:
            self._sensor = SimulatedSensor(board.sensor, f"{board.name}/{seed}/sensor", board.idle_w)
        self._ticker: Optional[Ticker] = None
        self._until_tick_s = math.inf
        self._tick: Callable[[], None] = _nothing

    def now(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        self._pass(seconds, self.at_rest)

    def work(self, seconds: float, busy: Tuple[int, ...], power_w: Optional[float] = None) -> None:
        """Let so many cores of each cluster be busy for that long, taking `power_w` if that is known better."""
        self._pass(seconds, busy, power_w)

    def clocks(self) -> ClockReading:
        return ClockReading(self._now_s, self._now_s)

    @contextlib.contextmanager
    def every(self, period_s: float, call: Callable[[], None]) -> Iterator[Ticker]:
        """As on a real machine, but in the board's own time, whose passing makes the calls."""
        self._ticker, self._tick, self._until_tick_s = Ticker(period_s), call, 0.0
        try:
            yield self._ticker
        finally:
            self._ticker, self._tick, self._until_tick_s = None, _nothing, math.inf

    def open(self, path: str, writable: bool = False) -> OpenFile:
        return FileReadAnew(self, path)

    def keeps_clocks_for(self, seconds: float) -> bool:
        """Whether the governor will not look within that time."""
        return seconds < self._until_poll_s

    @property
    def is_throttled(self) -> bool:
        return self._steps_down > 0

    @property
    def temperature_c(self) -> float:
        return self._temperature_c

    def power_w(self, busy: Tuple[int, ...]) -> float:
        """What the board takes with so many busy cores of each cluster, at the clocks of now."""
        return self.board.idle_w + sum(
            cores * cluster.core_active_w * active_share(cluster, clock_hz) + cluster.shared_active_w
            for cluster, cores, clock_hz in zip(self.board.clusters, busy, self.clocks_hz)
            if cores
        )

    def cap(self, caps: Sequence[ClockCap]) -> None:
        """From now on these policies go no higher.

        Raises:
            RuntimeRefusal: there is no such policy, or it has no such clock.
        """
        policies = self._policies()
        told = {policy.name: policy for policy in read_policies(self)} if caps else {}
        for cap in caps:
            if cap.policy not in policies:
                raise RuntimeRefusal(
                    "bad-option",
                    f"{self.board.name} has no clock policy {cap.policy!r}",
                    f"it has {', '.join(policies)}",
                )
            k = policies[cap.policy]
            steps_hz = self.board.clusters[k].clocks_hz
            try:
                limit_khz = step_khz(told[cap.policy], cap)
            except ClockError as error:
                raise RuntimeRefusal(error.kind, f"{self.board.name}: {error}", error.advice) from error
            self._highest[k] = max(step for step, hz in enumerate(steps_hz) if round(hz / 1e3) <= limit_khz)
        self.clocks_hz = self._clocks()

    def limits_in_words(self, caps: Sequence[ClockCap]) -> str:
        """Where capped policies are held, in the words of `CappedClocks.in_force`."""
        policies = self._policies()
        capped = {cap.policy: policies[cap.policy] for cap in caps}
        limits_hz = {name: self.board.clusters[k].clocks_hz[self._highest[k]] for name, k in capped.items()}
        return ", ".join(f"{name}: {hz / 1e6:.0f} MHz" for name, hz in limits_hz.items())

    def _policies(self) -> Dict[str, int]:
        """The index of each cluster by the name of its cpufreq policy, that of its first CPU."""
        firsts = [sum(cluster.cores for cluster in self.board.clusters[:k]) for k in range(len(self.board.clusters))]
        return {f"policy{first}": k for k, first in enumerate(firsts)}

    def read(self, path: str) -> str:
        if self._sensor is not None and path == SENSOR_FILE:  # read all the time: without making all the others
            return self._sensor.power1_input()
        files = self._files()
        if path not in files:
            raise FileNotFoundError(f"{path}: a simulated board has no such file")
        return files[path]

    def list(self, path: str) -> List[str]:
        prefix = path.rstrip("/") + "/"
        return sorted({name[len(prefix) :].split("/")[0] for name in self._files() if name.startswith(prefix)})

    def run(self, argv: Sequence[str], timeout_s: float = 5.0) -> Tuple[int, str]:
        raise FileNotFoundError(f"{argv[0]}: a simulated board has no programs")

    def process_s(self) -> Optional[float]:
        return None

    def describe(self) -> MachineInfo:
        return MachineInfo(
            model=self.board.name,
            architecture=SIMULATED,
            kernel="no kernel",
            libc="no libc",
            cpu=None,
            n_cpus=len(self.cluster_of()),
            memory_bytes=self.board.memory_bytes,
        )

    def cluster_of(self) -> List[int]:
        """The index of each CPU's cluster, by CPU number."""
        return [k for k, cluster in enumerate(self.board.clusters) for _ in range(cluster.cores)]

    def _pass(self, seconds: float, busy: Tuple[int, ...], power_w: Optional[float] = None) -> None:
        """Let time pass from one event to the next: the governor looks, the sensor shows a new value, a call is due."""
        while True:
            sensor_s = self._sensor.until_update_s if self._sensor is not None else math.inf
            step_s = min(seconds, self._until_poll_s, sensor_s, self._until_tick_s)
            self._warm(step_s, busy, self.power_w(busy) if power_w is None else power_w)
            seconds -= step_s
            self._until_poll_s -= step_s
            self._until_tick_s -= step_s
            if self._sensor is not None and sensor_s <= step_s:
                self._sensor.update()
            if self._until_poll_s <= 0:
                self._govern()
                self._until_poll_s = self.board.poll_s
            if self._ticker is not None and self._until_tick_s <= 0:
                self._until_tick_s = self._ticker.period_s
                self._tick()
            if seconds <= 0:
                return

    def _warm(self, seconds: float, busy: Tuple[int, ...], power_w: float) -> None:
        """The thermal mass, solved exactly: power is constant between two events."""
        board, cores = self.board, sum(busy)
        if self._sensor is not None:
            self._sensor.take(seconds, power_w)
        settled_c = board.ambient_c + power_w * board.resistance_k_per_w
        kept = math.exp(-seconds / (board.resistance_k_per_w * board.capacitance_j_per_k))
        self._temperature_c = settled_c + (self._temperature_c - settled_c) * kept
        self._load = cores + (self._load - cores) * math.exp(-seconds / LOAD_WINDOW_S)
        for spent_s, clock_hz in zip(self._at_clock_s, self.clocks_hz):
            spent_s[clock_hz] += seconds
        self._busy_s += seconds * cores
        self._now_s += seconds

    def _govern(self) -> None:
        if self._temperature_c >= self.board.trip_c:
            lowest = max(len(cluster.clocks_hz) for cluster in self.board.clusters) - 1
            self._steps_down = min(self._steps_down + 1, lowest)
        elif self._temperature_c < self.board.trip_c - self.board.hysteresis_k:
            self._steps_down = max(self._steps_down - 1, 0)
        self.clocks_hz = self._clocks()

    def _clocks(self) -> Tuple[float, ...]:
        return tuple(
            c.clocks_hz[min(highest, max(0, len(c.clocks_hz) - 1 - self._steps_down))]
            for c, highest in zip(self.board.clusters, self._highest)
        )

    def _files(self) -> Dict[str, str]:
        files = {f"/proc/{name}": text for name, text in self._proc().items()}
        first = 0
        for k, cluster in enumerate(self.board.clusters):
            base = f"/sys/devices/system/cpu/cpufreq/policy{first}"
            cpus = " ".join(str(cpu) for cpu in range(first, first + cluster.cores))
            files.update({f"{base}/{name}": text for name, text in self._cpufreq(k, cluster, cpus).items()})
            first += cluster.cores
        for name in ("online", "possible", "present"):
            files[f"/sys/devices/system/cpu/{name}"] = f"0-{first - 1}\n"
        for cpu, capacity in enumerate(self._capacities()):
            files[f"/sys/devices/system/cpu/cpu{cpu}/cpu_capacity"] = f"{capacity}\n"
        zone = "/sys/class/thermal/thermal_zone0"
        files[f"{zone}/type"] = "cpu-thermal\n"
        files[f"{zone}/temp"] = f"{round(self._temperature_c * 1000)}\n"
        files[f"{zone}/trip_point_0_type"] = "passive\n"
        files[f"{zone}/trip_point_0_temp"] = f"{round(self.board.trip_c * 1000)}\n"
        if self._sensor is not None:
            files.update(self._sensor.files())
        files[f"{zone}/trip_point_0_hyst"] = f"{round(self.board.hysteresis_k * 1000)}\n"
        return files

    def _capacities(self) -> List[int]:
        """Of each CPU as the kernel scales it: 1024 is the fastest of the board, at its highest clock."""
        speeds = [cluster.macs_per_cycle * cluster.clocks_hz[-1] for cluster in self.board.clusters]
        return [max(1, round(1024 * speeds[k] / max(speeds))) for k in self.cluster_of()]

    def _cpufreq(self, k: int, cluster: Cluster, cpus: str) -> Dict[str, str]:
        # As the kernel's cpufreq cooling does, the governor lowers the maximum, which "performance" then follows.
        clock = f"{_khz(self.clocks_hz[k])}\n"
        return {
            "affected_cpus": f"{cpus}\n",
            "related_cpus": f"{cpus}\n",
            "scaling_governor": "performance\n",
            "scaling_available_frequencies": " ".join(str(_khz(hz)) for hz in cluster.clocks_hz) + "\n",
            "scaling_cur_freq": clock,
            "scaling_min_freq": f"{_khz(cluster.clocks_hz[0])}\n",
            "scaling_max_freq": clock,
            "cpuinfo_min_freq": f"{_khz(cluster.clocks_hz[0])}\n",
            "cpuinfo_max_freq": f"{_khz(cluster.clocks_hz[-1])}\n",
            "stats/time_in_state": "".join(
                f"{_khz(hz)} {round(spent_s * TICKS_PER_S)}\n" for hz, spent_s in self._at_clock_s[k].items()
            ),
        }

    def _proc(self) -> Dict[str, str]:
        board = self.board
        cores = sum(cluster.cores for cluster in board.clusters)
        busy = round(self._busy_s * TICKS_PER_S)
        idle = max(0, round(self._now_s * cores * TICKS_PER_S) - busy)
        kib = board.memory_bytes // 1024
        processor = f"model name\t: {board.name} (simulated)\n"
        pressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
        return {
            "loadavg": f"{self._load:.2f} {self._load:.2f} {self._load:.2f} 1/1 1\n",
            "stat": f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\n",
            "meminfo": f"MemTotal: {kib} kB\nMemFree: {kib} kB\nMemAvailable: {kib} kB\n",
            "self/status": f"Cpus_allowed_list:\t0-{cores - 1}\n",
            "cpuinfo": "".join(f"processor\t: {cpu}\n{processor}\n" for cpu in range(cores)),
            "pressure/cpu": pressure,
            "pressure/memory": pressure,
            "pressure/io": pressure,
        }


def active_share(cluster: Cluster, clock_hz: float) -> float:
    """Power of a busy core at one of the cluster's clocks, as a share of that at the highest: it goes with f V^2."""
    share = clock_hz / cluster.clocks_hz[-1]
    if cluster.volts:
        share *= (cluster.volts[cluster.clocks_hz.index(clock_hz)] / cluster.volts[-1]) ** 2
    return share


def _khz(hertz: float) -> int:
    return round(hertz / 1000)


def _require_sense(board: Board) -> None:
    clusters, sensor = board.clusters, board.sensor
    positive = (
        *(value for c in clusters for value in (c.cores, c.macs_per_cycle, *c.clocks_hz)),
        *(value for c in clusters for value in (*c.volts, c.bytes_per_s, c.core_bytes_per_s) if value is not None),
        *((sensor.rate_hz,) if sensor is not None else ()),
        *(
            board.slow_memory_share,
            board.memory_bytes,
            board.memory_bytes_per_s,
            board.resistance_k_per_w,
            board.capacitance_j_per_k,
        ),
    )
    not_negative = (
        *(value for c in clusters for value in (c.core_active_w, c.shared_active_w, c.full_memory_from_hz)),
        *(board.contention, board.barrier_s, board.crossing_s, board.wake_s, board.migration, board.collision),
        *(board.operator_overhead_s, board.run_overhead_s, board.noise, board.idle_w, board.hysteresis_k),
        *((sensor.noise_w, sensor.step_w) if sensor is not None else ()),
    )
    sensible = (
        1 <= len(clusters) <= MAX_CLUSTERS
        and sum(c.cores for c in clusters) <= MAX_CORES
        and all(1 <= len(c.clocks_hz) <= MAX_STEPS and list(c.clocks_hz) == sorted(c.clocks_hz) for c in clusters)
        and all(len(c.volts) in (0, len(c.clocks_hz)) and list(c.volts) == sorted(c.volts) for c in clusters)
        and all(0 <= share <= 1 for share in (board.balance, board.stalled_share, board.asleep_share))
        and board.slow_memory_share <= 1
        and min(positive) > 0
        and min(not_negative) >= 0
        and board.noise < 1
        and board.poll_s >= MIN_POLL_S
    )
    if not sensible:
        advice = "use a board of this version of edgeprof: edgeprof sim list"
        raise RuntimeRefusal("bad-option", f"the figures of the board {board.name} make no sense", advice)
