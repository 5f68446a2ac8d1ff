"""What no honest run contains: refused, with where it stands. The types were checked before."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from device_agents.wire import EMULATED, MEASURED, SIMULATED, Conditions
from edgeprof.errors import StoreError
from edgeprof.run import Run

__all__ = ["check_plausible", "check_texts"]

MAX_TEXT, MAX_KEYS = 20_000, 20_000
# Terminals obey them: a name must not clear a screen or write to a clipboard.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
DIGEST = re.compile(r"[0-9a-f]{64}")
DEVICE = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")
ORIGINS = (MEASURED, EMULATED, SIMULATED)
# An inference or a start of more than a day; a temperature that no chip survives.
DAY_S, COLDEST_C, HOTTEST_C = 86_400.0, -100.0, 250.0
REFUSED = "do not use it: it was not made by edgeprof, or was changed afterwards"


def check_texts(value: Any, where: str) -> None:
    """Every text may be shown on a terminal, and none is a container of something else.

    Raises:
        StoreError: one may not.
    """
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise StoreError(f"{where}: a text of {len(value)} characters", REFUSED)
        if found := CONTROL.search(value):
            raise StoreError(f"{where}: a control character, {found[0]!r}", REFUSED)
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise StoreError(f"{where}: half of a character", REFUSED)
    elif isinstance(value, dict):
        if len(value) > MAX_KEYS:
            raise StoreError(f"{where}: {len(value)} entries", REFUSED)
        for key, item in value.items():
            check_texts(key, where)
            check_texts(item, f"{where}.{key}")
    elif isinstance(value, list):
        for k, item in enumerate(value):
            check_texts(item, f"{where}[{k}]")


def check_plausible(run: Run, where: str) -> None:
    """Numbers that a device can have seen.

    Raises:
        StoreError: one is not; names it.
    """
    for what in _odd(run):
        raise StoreError(f"{where}: {what}", REFUSED)


def _odd(run: Run) -> Iterator[str]:
    profile = run.profile
    if not DEVICE.fullmatch(run.device):
        yield f"device: {run.device!r} is not the kind of name that bundles have"
    if profile.origin not in ORIGINS:
        yield f"profile.origin: {profile.origin!r} is none of {', '.join(ORIGINS)}"
    if profile.origin != SIMULATED and profile.job.runtime == "simulated":
        yield f"profile.origin: {profile.origin!r}, but a simulation computed it"
    digests = {
        "profile.job.model.digest": profile.job.model.digest,
        "profile.agent_digest": profile.agent_digest,
        **{f"profile.job.model.files[{k}].sha256": file.sha256 for k, file in enumerate(profile.job.model.files)},
    }
    for name, digest in digests.items():
        if not DIGEST.fullmatch(digest):
            yield f"{name}: {digest!r} is no SHA-256"
    if profile.operators is not None and profile.operators.graph is not None:
        yield "profile.operators.graph: a bundle has none"
    if profile.output_values:
        yield "profile.output_values: a bundle has none"
    yield from _odd_times(run)
    for k, each in enumerate(profile.rounds):
        for name, conditions in (("before", each.before), ("after", each.after)):
            yield from _odd_conditions(conditions, f"profile.rounds[{k}].{name}")


def _odd_times(run: Run) -> Iterator[str]:
    profile = run.profile
    for name in ("import_s", "load_s", "initialise_s", "first_inference_s"):
        yield from _not_within([getattr(profile, name)], f"profile.{name}", 0.0, DAY_S)
    yield from _not_within(profile.warmup_s, "profile.warmup_s", 0.0, DAY_S)
    if not profile.rounds:
        yield "profile.rounds: nothing was measured"
    for k, each in enumerate(profile.rounds):
        if not each.latencies_s:
            yield f"profile.rounds[{k}].latencies_s: nothing was measured"
        yield from _not_within(each.latencies_s, f"profile.rounds[{k}].latencies_s", 0.0, DAY_S)
        if any(latency == 0.0 for latency in each.latencies_s):
            yield f"profile.rounds[{k}].latencies_s: an inference that took no time"
    if profile.operators is not None:
        yield from _not_within(profile.operators.latencies_s, "profile.operators.latencies_s", 0.0, DAY_S)
        for k, kernel in enumerate(profile.operators.kernels):
            # The runtime's own cost is subtracted from each, which may leave less than nothing of a tiny one.
            yield from _not_within(kernel.times_s, f"profile.operators.kernels[{k}].times_s", -1.0, DAY_S)


def _odd_conditions(conditions: Conditions, where: str) -> Iterator[str]:
    yield from _not_within(conditions.temperatures_c.values(), f"{where}.temperatures_c", COLDEST_C, HOTTEST_C)
    for clocks in conditions.clocks:
        seen = [
            hz for hz in (clocks.current_hz, clocks.min_hz, clocks.max_hz, clocks.hardware_max_hz) if hz is not None
        ]
        yield from _not_within(seen, f"{where}.clocks", 0.0, 1e12)


def _not_within(values: Iterable[float], where: str, low: float, high: float) -> Iterator[str]:
    for value in values:
        if not (math.isfinite(value) and low <= value <= high):
            yield f"{where}: {value} is not between {low:g} and {high:g}"
            return
