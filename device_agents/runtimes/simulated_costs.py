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
        self._board = board
        self.cpus = _cpus(board, cluster_of, options)
        self.clusters = [cluster_of[cpu] for cpu in self.cpus]
        self.busy = tuple(self.clusters.count(k) for k in range(len(board.clusters)))
        self.first = self.clusters[0]
        self._threads = options.threads
        self._spins = options.spinning is not False
        allowed = {cluster_of[cpu] for cpu in options.affinity or range(len(cluster_of))}
        one_to_one = len(options.affinity) == options.threads
        unlike = {board.clusters[k].macs_per_cycle * board.clusters[k].clocks_hz[-1] for k in allowed}
        self._wanders = len(unlike) > 1 and not one_to_one
        self._fastest_hz = max(board.clusters, key=lambda c: c.macs_per_cycle * c.clocks_hz[-1]).clocks_hz[-1]

    def slowdown(self, clocks_hz: Clocks) -> float:
        """Of the calling thread, compared with the highest clock of the fastest cluster."""
        return self._fastest_hz / clocks_hz[self.first]

    def seconds(self, item: Work, clocks_hz: Clocks) -> float:
        if item.time_s is not None:
            return item.time_s * self.slowdown(clocks_hz)
        return max(self._computing_s(item, clocks_hz), self._moving_s(item, clocks_hz)) + self._around_s(clocks_hz)

    def active_w(self, item: Work, clocks_hz: Clocks) -> float:
        """Mean power above rest while it runs."""
        board = self._board
        waiting = 1.0 if self._spins else board.asleep_share
        shared_w = sum(cluster.shared_active_w for cluster, n in zip(board.clusters, self.busy) if n)
        total_s = self.seconds(item, clocks_hz)
        if item.time_s is not None or total_s <= 0:
            shares = [1.0] * len(self.cpus)
        else:
            shares = [one / total_s for one in self._full_power_s(item, clocks_hz, waiting)]
        return shared_w + sum(
            share * board.clusters[k].core_active_w * active_share(board.clusters[k], clocks_hz[k])
            for k, share in zip(self.clusters, shares)
        )

    def _full_power_s(self, item: Work, clocks_hz: Clocks, waiting: float) -> List[float]:
        """For each core, so long at full power would take what it takes during the operator."""
        computing_s, around_s = self._computing_s(item, clocks_hz), self._around_s(clocks_hz)
        stalled_s = max(0.0, self._moving_s(item, clocks_hz) - computing_s) * self._board.stalled_share
        longest_s = max(self._parts_s(item, clocks_hz))
        stretched = computing_s / longest_s if longest_s > 0 else 1.0
        found = []
        for k, part_s in enumerate(self._parts_s(item, clocks_hz)):
            own_s = part_s * stretched
            between = 1.0 if k == 0 else waiting  # the calling thread is at work between the operators
            found.append(own_s + stalled_s + waiting * (computing_s - own_s) + between * around_s)
        return found

    def _speeds(self, clocks_hz: Clocks) -> List[float]:
        return [self._board.clusters[k].macs_per_cycle * clocks_hz[k] for k in self.clusters]

    def _parts_s(self, item: Work, clocks_hz: Clocks) -> List[float]:
        """How long each core computes."""
        speeds, balance = self._speeds(clocks_hz), self._board.balance
        together = sum(speeds)
        return [
            item.macs * ((1.0 - balance) / len(speeds) / speed + balance / together) if balance else
            item.macs / (speed * len(speeds))
            for speed in speeds
        ]  # fmt: skip

    def _computing_s(self, item: Work, clocks_hz: Clocks) -> float:
        longer = 1.0 + (self._board.migration if self._wanders else 0.0)
        too_many = self._threads / len(self.cpus) - 1.0
        if self._spins and too_many > 0:
            longer += self._board.collision * too_many
        return max(self._parts_s(item, clocks_hz)) * longer

    def _moving_s(self, item: Work, clocks_hz: Clocks) -> float:
        return item.moved_bytes / self._bytes_per_s(clocks_hz)

    def _bytes_per_s(self, clocks_hz: Clocks) -> float:
        board, drawn = self._board, 0.0
        is_full = False
        for cluster, clock_hz, n in zip(board.clusters, clocks_hz, self.busy):
            if n:
                whole = board.memory_bytes_per_s if cluster.bytes_per_s is None else cluster.bytes_per_s
                cores = whole if cluster.core_bytes_per_s is None else n * cluster.core_bytes_per_s
                drawn += min(whole, cores)
                is_full = is_full or clock_hz >= cluster.full_memory_from_hz
        memory = board.memory_bytes_per_s * (1.0 if is_full else board.slow_memory_share)
        return min(memory, drawn) / (1.0 + board.contention * (len(self.cpus) - 1))

    def _around_s(self, clocks_hz: Clocks) -> float:
        """Dispatching the operator, and the barrier at its end."""
        board, others = self._board, len(self.cpus) - 1
        barrier_s = board.barrier_s * others + board.crossing_s * (sum(n > 0 for n in self.busy) - 1)
        if others and not self._spins:
            barrier_s += board.wake_s
        return (board.operator_overhead_s + barrier_s) * self.slowdown(clocks_hz)


def _cpus(board: Board, cluster_of: Sequence[int], options: RuntimeOptions) -> List[int]:
    """The cores that are used, a thread each: as they are pinned one to one, else the fastest of those allowed."""
    allowed = set(options.affinity) or set(range(len(cluster_of)))
    if options.threads > 1 and len(allowed) == options.threads == len(options.affinity):
        return list(options.affinity)

    def speed(cpu: int) -> float:
        cluster = board.clusters[cluster_of[cpu]]
        return cluster.macs_per_cycle * cluster.clocks_hz[-1]

    return sorted(sorted(allowed), key=speed, reverse=True)[: options.threads]
