"""One way to run a model on a device: runtime, threads, the CPUs they are kept on, and caps of clocks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from device_agents import wire

__all__ = ["ANY", "MIXED", "Configuration"]

# Placements that are not the name of a cluster: left to the kernel, and pinned to CPUs of several clusters.
ANY, MIXED = "any", "mixed"


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One way to run a model.

    `placement` says in a word where its threads run: any, mixed, or the name of a cluster (big, middle, little, all).
    With several threads and as many CPUs in `affinity` each thread has one of its own, the calling thread the first.
    """

    runtime: str
    threads: int = 1
    affinity: tuple[int, ...] = ()
    placement: str = ANY
    spinning: bool | None = None
    xnnpack: bool = True
    provider: str | None = None
    delegate: str | None = None
    caps: tuple[wire.ClockCap, ...] = ()

    def options(self, base: wire.RuntimeOptions) -> wire.RuntimeOptions:
        """`base` with what this configuration says; the caps are not among a runtime's options but in the job."""
        return replace(
            base,
            threads=self.threads,
            affinity=self.affinity,
            spinning=self.spinning,
            xnnpack=self.xnnpack,
            provider=self.provider,
            delegate=self.delegate,
        )

    @property
    def where(self) -> tuple[object, ...]:
        """What runs it and on which cores, whatever their clocks: alike for configurations that differ in little."""
        return self.runtime, self.threads, self.affinity, self.provider, self.delegate

    @property
    def name(self) -> str:
        """A short text for tables, different for every configuration."""
        parts = [self.runtime, f"{self.threads} thread{'s' if self.threads > 1 else ''}"]
        if self.affinity:
            parts.append(f"{self.placement} {_ranges(self.affinity)}")
        if self.spinning is not None:
            parts.append("spinning" if self.spinning else "not spinning")
        if not self.xnnpack:
            parts.append("no xnnpack")
        parts += [one for one in (self.provider, self.delegate) if one]
        parts += [f"{cap.policy} <= {cap.max_hz / 1e6:.0f} MHz" for cap in self.caps]
        return ", ".join(parts)

    @property
    def needs(self) -> tuple[str, ...]:
        """What an app must be allowed to do: "root" to cap clocks; empty where any app may run so."""
        return ("root",) if self.caps else ()


def _ranges(cpus: tuple[int, ...]) -> str:
    """CPU numbers in their order, neighbours drawn together: 4-7,0."""
    found: list[list[int]] = []
    for cpu in cpus:
        if found and cpu == found[-1][-1] + 1:
            found[-1].append(cpu)
        else:
            found.append([cpu])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in found)
