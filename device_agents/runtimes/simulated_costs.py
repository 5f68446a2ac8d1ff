"""What an operator takes on a simulated board, in time and power, for threads placed on certain of its cores.

Every operator is cut into parts for the threads, a core each; the slowest of them says how long computing takes.
Moving data takes the bandwidth that all cores share. What threads do to each other stands in the docstring of `Board`.
"""

from typing import List, Sequence, Tuple

from device_agents.runtimes.simulated_machine import active_share
from device_agents.wire import Board, RuntimeOptions, Work

Clocks = Tuple[float, ...]


class Placed:
    """Threads on cores: `cpus`, the calling thread's first, and `busy`, how many of them each cluster has."""

    def __init__(self, board: Board, cluster_of: Sequence[int], options: RuntimeOptions) -> None:
        self.board = board
        self.cpus = _cpus(board, cluster_of, options)
        self.clusters = [cluster_of[cpu] for cpu in self.cpus]
        self.busy = tuple(self.clusters.count(k) for k in range(len(board.clusters)))
        self.first = self.clusters[0]
        self.threads = options.threads
        self.spins = options.spinning is not False
        allowed = {cluster_of[cpu] for cpu in options.affinity or range(len(cluster_of))}
        one_to_one = len(options.affinity) == options.threads
        unlike = {board.clusters[k].macs_per_cycle * board.clusters[k].clocks_hz[-1] for k in allowed}
        self.wanders = len(unlike) > 1 and not one_to_one
        self.fastest_hz = max(board.clusters, key=lambda c: c.macs_per_cycle * c.clocks_hz[-1]).clocks_hz[-1]

    def at(self, clocks_hz: Clocks) -> "Rates":
        """How fast these threads are at such clocks."""
        return Rates(self, clocks_hz)


class Rates:
    """What operators take at certain clocks; what all operators have in common is computed once."""

    def __init__(self, placed: Placed, clocks_hz: Clocks) -> None:
        board, clusters = placed.board, placed.clusters
        self._stalled_share = board.stalled_share
        # The calling thread, compared with the highest clock of the fastest cluster.
        self._slowdown = placed.fastest_hz / clocks_hz[placed.first]
        self._parts_s_per_mac = _parts_s_per_mac(board, clusters, clocks_hz)
        self._longest_s_per_mac = max(self._parts_s_per_mac)
        self._stretched = _stretched(placed)
        self._bytes_per_s = _bytes_per_s(placed, clocks_hz)
        self._around_s = _around_s(placed) * self._slowdown
        self._waiting = 1.0 if placed.spins else board.asleep_share
        self._cores_w = [
            board.clusters[k].core_active_w * active_share(board.clusters[k], clocks_hz[k]) for k in clusters
        ]
        self._shared_w = sum(cluster.shared_active_w for cluster, n in zip(board.clusters, placed.busy) if n)

    def seconds(self, item: Work) -> float:
        if item.time_s is not None:
            return item.time_s * self._slowdown
        return max(self._computing_s(item), item.moved_bytes / self._bytes_per_s) + self._around_s

    def active_w(self, item: Work) -> float:
        """Mean power above rest while it runs."""
        total_s = self.seconds(item)
        if item.time_s is not None or total_s <= 0:
            return self._shared_w + sum(self._cores_w)
        computing_s = self._computing_s(item)
        stalled_s = max(0.0, item.moved_bytes / self._bytes_per_s - computing_s) * self._stalled_share
        energy_j = 0.0
        for k, (core_w, part_s_per_mac) in enumerate(zip(self._cores_w, self._parts_s_per_mac)):
            own_s = item.macs * part_s_per_mac * self._stretched
            between = self._waiting if k else 1.0  # the calling thread is at work between the operators
            full_s = own_s + stalled_s + self._waiting * (computing_s - own_s) + between * self._around_s
            energy_j += core_w * full_s
        return self._shared_w + energy_j / total_s

    def _computing_s(self, item: Work) -> float:
        return item.macs * self._longest_s_per_mac * self._stretched


def _parts_s_per_mac(board: Board, clusters: Sequence[int], clocks_hz: Clocks) -> List[float]:
    """How long each core computes for a MAC of the whole operator."""
    speeds, balance = [board.clusters[k].macs_per_cycle * clocks_hz[k] for k in clusters], board.balance
    fair = balance / sum(speeds)
    return [(1.0 - balance) / (len(speeds) * speed) + fair for speed in speeds]


def _stretched(placed: Placed) -> float:
    """By how much threads that wander, or that spin without a core of their own, make computing longer."""
    longer = 1.0 + (placed.board.migration if placed.wanders else 0.0)
    too_many = placed.threads / len(placed.cpus) - 1.0
    return longer + (placed.board.collision * too_many if placed.spins and too_many > 0 else 0.0)


def _bytes_per_s(placed: Placed, clocks_hz: Clocks) -> float:
    board, drawn, is_full = placed.board, 0.0, False
    for cluster, clock_hz, n in zip(board.clusters, clocks_hz, placed.busy):
        if n:
            whole = board.memory_bytes_per_s if cluster.bytes_per_s is None else cluster.bytes_per_s
            drawn += whole if cluster.core_bytes_per_s is None else min(whole, n * cluster.core_bytes_per_s)
            is_full = is_full or clock_hz >= cluster.full_memory_from_hz
    memory = board.memory_bytes_per_s * (1.0 if is_full else board.slow_memory_share)
    return min(memory, drawn) / (1.0 + board.contention * (len(placed.cpus) - 1))


def _around_s(placed: Placed) -> float:
    """Dispatching an operator, and the barrier at its end, at the highest clock."""
    board, others = placed.board, len(placed.cpus) - 1
    barrier_s = board.barrier_s * others + board.crossing_s * (sum(n > 0 for n in placed.busy) - 1)
    if others and not placed.spins:
        barrier_s += board.wake_s
    return board.operator_overhead_s + barrier_s


def _cpus(board: Board, cluster_of: Sequence[int], options: RuntimeOptions) -> List[int]:
    """The cores that are used, a thread each: as they are pinned one to one, else the fastest of those allowed."""
    allowed = set(options.affinity) or set(range(len(cluster_of)))
    if options.threads > 1 and len(allowed) == options.threads == len(options.affinity):
        return list(options.affinity)

    def speed(cpu: int) -> float:
        cluster = board.clusters[cluster_of[cpu]]
        return cluster.macs_per_cycle * cluster.clocks_hz[-1]

    return sorted(sorted(allowed), key=speed, reverse=True)[: options.threads]
