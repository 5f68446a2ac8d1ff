"""A baseline is measured again as it was measured."""

from __future__ import annotations

from dataclasses import replace

from device_agents.wire import ClockCap, RuntimeOptions
from edgeprof.checking import settings_of
from tests.unit.run_factory import make_run


def test_clocks_threads_and_order_of_cpus_are_those_of_the_baseline() -> None:
    run = make_run()
    options = RuntimeOptions(threads=2, affinity=(3, 0), spinning=False, shapes={"x": (1, 3)})
    job = replace(run.profile.job, options=options, clock_caps=(ClockCap("policy0", 1.2e9),))

    settings = settings_of(replace(run, profile=replace(run.profile, job=job)))

    assert settings.options == replace(options, shapes={})
    assert settings.clock_caps == job.clock_caps
