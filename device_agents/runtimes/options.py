"""Options that mean the same to every runtime: their ranges, which of them a runtime has, and pinning to CPUs."""

import os
from typing import FrozenSet, Optional, Sequence, Set, Tuple

from device_agents.runtimes import RuntimeRefusal
from device_agents.wire import RuntimeOptions

THREADS_PER_CPU = 8
# Options that only some runtimes have; one that is set where it means nothing is refused, not ignored.
SPECIAL = (
    "optimization",
    "xnnpack",
    "provider",
    "provider_options",
    "delegate",
    "delegate_options",
    "library",
    "streams",
    "spinning",
)


def require_options(options: RuntimeOptions, runtime: str, understood: Sequence[str]) -> None:
    """Refuse values no runtime could use, and options this one does not have.

    Raises:
        RuntimeRefusal: bad-option.
    """
    if options.threads < 1:
        raise RuntimeRefusal("bad-option", f"threads cannot be {options.threads}", "give a whole number of at least 1")
    if options.streams < 1:
        raise RuntimeRefusal("bad-option", f"streams cannot be {options.streams}", "give a whole number of at least 1")
    defaults = RuntimeOptions()
    for name in SPECIAL:
        if name not in understood and getattr(options, name) != getattr(defaults, name):
            raise RuntimeRefusal(
                "bad-option",
                f"the option {name}={getattr(options, name)!r} has no meaning for the runtime {runtime}",
                "leave it out, or choose another runtime",
            )
    if options.provider_options and not options.provider:
        raise RuntimeRefusal("bad-option", "provider options are given without a provider", "name the provider too")
    if options.delegate_options and not options.delegate:
        raise RuntimeRefusal("bad-option", "delegate options are given without a delegate", "name the delegate too")


def require_threads(options: RuntimeOptions) -> None:
    """Refuse so many threads, of all streams together, that a job would not end in any reasonable time.

    Raises:
        RuntimeRefusal: bad-option.
    """
    most = THREADS_PER_CPU * (os.cpu_count() or 1)
    if options.threads * options.streams > most:
        what = f"{options.threads} threads"
        if options.streams > 1:
            what = f"{options.streams} streams with {what} each"
        raise RuntimeRefusal(
            "bad-option", f"{what} are too many for this device", f"give at most {most} threads in all"
        )


def require_file(path: str, what: str, kind: str) -> None:
    """Refuse a file that is not there before native code is asked to open it.

    Raises:
        RuntimeRefusal: of this kind.
    """
    if not os.path.isfile(path):
        raise RuntimeRefusal(kind, f"{what}: there is no file {path} on the device", "check the path")


class Pinned:
    """Keeps the calling thread, and every thread it starts meanwhile, on the given CPUs until `release`.

    Raises:
        RuntimeRefusal: bad-option; a CPU that does not exist or is offline. (Native libraries only log that.)
    """

    def __init__(self, cpus: Sequence[int]) -> None:
        self._before: Optional[Set[int]] = None
        if not cpus:
            return
        if not hasattr(os, "sched_setaffinity"):
            raise RuntimeRefusal("bad-option", "this system cannot pin threads to CPUs", "leave the affinity out")
        usable = _usable_cpus()
        wrong = [cpu for cpu in cpus if cpu not in usable]
        if wrong or len(set(cpus)) != len(cpus):
            raise RuntimeRefusal(
                "bad-option",
                f"the affinity {list(cpus)} is not a list of different CPUs that are online here",
                "this device has " + ", ".join(map(str, sorted(usable))),
            )
        self._before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cpus)

    def narrow(self, cpu: int) -> None:
        """Keep the calling thread alone on one CPU."""
        if self._before is not None:
            os.sched_setaffinity(0, {cpu})

    def release(self) -> None:
        if self._before is not None:
            os.sched_setaffinity(0, self._before)
            self._before = None


def _usable_cpus() -> FrozenSet[int]:
    """CPUs that are online and allowed to this process, whatever the thread is pinned to at the moment."""
    before = os.sched_getaffinity(0)
    try:
        # The kernel takes what is allowed of a wider set: sched_setaffinity(2).
        os.sched_setaffinity(0, range(max(1024, (os.cpu_count() or 1))))
        return frozenset(os.sched_getaffinity(0))
    except OSError:
        return frozenset(before)
    finally:
        os.sched_setaffinity(0, before)


def affinity_text(cpus: Tuple[int, ...]) -> str:
    return ",".join(map(str, cpus)) if cpus else "any"
