"""The configurations of a device, made from what it tells of its CPUs and clocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from device_agents import topology, wire
from device_agents.runtimes.simulated_machine import SimulatedMachine
from edgeprof.models import board_to_simulate
from edgeprof.tuning.configuration import MIXED, Configuration
from edgeprof.tuning.features import features
from edgeprof.tuning.space import Choices, clusters, configurations, default

LITTLE_HZ, BIG_HZ = (0.6e9, 1.2e9, 1.8e9), (0.8e9, 1.6e9, 2.4e9)


def policy(name: str, cpus: tuple[int, ...], clocks_hz: tuple[float, ...]) -> wire.ClockPolicy:
    return wire.ClockPolicy(name, cpus, clocks_hz, clocks_hz[0], clocks_hz[-1], clocks_hz[-1], "schedutil", True)


def cpu(number: int, policy: str | None, capacity: int | None = None, midr: int | None = None) -> wire.Cpu:
    return wire.Cpu(number, True, True, capacity, midr, policy)


PHONE = wire.Topology(
    cpus=tuple(cpu(k, "policy0", 400) for k in range(4)) + tuple(cpu(k, "policy4", 1024) for k in range(4, 6)),
    policies=(policy("policy0", (0, 1, 2, 3), LITTLE_HZ), policy("policy4", (4, 5), BIG_HZ)),
)
ALL = Choices(runtimes=("onnxruntime",), caps=True)


def summary(told: wire.Topology) -> list[tuple[str, tuple[int, ...]]]:
    return [(one.name, one.cpus) for one in clusters(told)]


def test_clusters_are_the_fastest_first_by_capacity() -> None:
    assert summary(PHONE) == [("big", (4, 5)), ("little", (0, 1, 2, 3))]
    assert [one.steps_hz for one in clusters(PHONE)] == [BIG_HZ, LITTLE_HZ]


def test_where_the_kernel_ranks_no_cpus_their_clocks_do_and_then_their_kinds() -> None:
    without = replace(PHONE, cpus=tuple(replace(one, capacity=None) for one in PHONE.cpus))
    a53, x1 = 0x410FD034, 0x410FD440
    kinds = wire.Topology((cpu(0, None, midr=a53), cpu(1, None, midr=a53), cpu(2, None, midr=x1)), ())

    assert summary(without) == summary(PHONE)
    assert summary(kinds) == [("big", (2,)), ("little", (0, 1))]


def test_three_kinds_have_a_middle_and_alike_ones_are_one_cluster() -> None:
    three = replace(PHONE, cpus=(*PHONE.cpus, cpu(6, None, 700)))
    alike = wire.Topology(tuple(cpu(k, None, 1024) for k in range(4)), ())

    assert [name for name, _ in summary(three)] == ["big", "middle", "little"]
    assert summary(alike) == [("all", (0, 1, 2, 3))]


def test_cpus_that_are_off_or_not_ours_are_left_out() -> None:
    cpus = (replace(PHONE.cpus[0], usable=False), replace(PHONE.cpus[1], online=False), *PHONE.cpus[2:])
    told = replace(PHONE, cpus=cpus)

    assert summary(told) == [("big", (4, 5)), ("little", (2, 3))]
    assert {number for one in configurations(told, ALL) for number in one.affinity} == {2, 3, 4, 5}


def test_two_pairs_of_alike_cores_with_clocks_of_their_own_are_capped_together() -> None:
    pairs = wire.Topology(
        tuple(cpu(k, "policy0" if k < 2 else "policy2", 1024) for k in range(4)),
        (policy("policy0", (0, 1), BIG_HZ), policy("policy2", (2, 3), BIG_HZ)),
    )

    capped = [one for one in configurations(pairs, ALL) if one.caps]

    assert capped
    for one in capped:
        assert [cap.policy for cap in one.caps] == ["policy0", "policy2"]
        assert len({cap.max_hz for cap in one.caps}) == 1


def test_the_first_configuration_is_what_the_runtime_does_untold() -> None:
    assert (
        configurations(PHONE, ALL)[0]
        == default(PHONE, "onnxruntime")
        == Configuration(runtime="onnxruntime", threads=6)
    )
    assert configurations(PHONE, replace(ALL, runtimes=("litert",)))[0] == Configuration(runtime="litert")


def test_none_comes_twice_all_have_names_of_their_own_and_the_order_is_always_the_same() -> None:
    found = configurations(PHONE, replace(ALL, runtimes=("onnxruntime", "litert"), delegates=("libgpu.so",)))

    assert len(found) == len(set(found)) == len({one.name for one in found})
    assert found == configurations(PHONE, replace(ALL, runtimes=("onnxruntime", "litert"), delegates=("libgpu.so",)))


@pytest.mark.parametrize("most", [5, 60, 300, 2000])
def test_there_are_no_more_than_asked_for_and_steps_of_clocks_go_first(most: int) -> None:
    found = configurations(PHONE, replace(ALL, most=most))

    assert 0 < len(found) <= most
    assert found[0] == default(PHONE, "onnxruntime")
    if most >= 60:
        assert {one.where for one in found} == {one.where for one in configurations(PHONE, ALL)}


def test_pinned_threads_have_a_cpu_each_and_the_calling_thread_the_fastest() -> None:
    pinned = [one for one in configurations(PHONE, ALL) if one.affinity]
    mixed = [one for one in pinned if one.placement == MIXED]

    assert all(len(one.affinity) == one.threads for one in pinned)
    assert {one.affinity for one in mixed} == {
        (*range(4, 4 + big), *range(little)) for big in (1, 2) for little in (1, 2, 3, 4)
    }
    assert {one.placement for one in pinned} == {"big", "little", MIXED}


def test_only_clusters_that_run_something_are_capped_and_never_at_their_highest_clock() -> None:
    for one in configurations(PHONE, ALL):
        if one.placement == "little":
            assert {cap.policy for cap in one.caps} <= {"policy0"}
        assert all(cap.max_hz < (BIG_HZ if cap.policy == "policy4" else LITTLE_HZ)[-1] for cap in one.caps)
        assert one.needs == (("root",) if one.caps else ())


def test_clocks_that_may_not_be_set_are_not_capped() -> None:
    fixed = replace(
        PHONE, policies=tuple(replace(one, settable=False, not_settable="no root") for one in PHONE.policies)
    )

    assert not any(one.caps for one in configurations(fixed, ALL))
    assert not any(one.caps for one in configurations(PHONE, replace(ALL, caps=False)))


def test_a_driver_that_lists_no_steps_is_capped_between_its_limits() -> None:
    unlisted = replace(PHONE, policies=tuple(replace(one, clocks_hz=()) for one in PHONE.policies))

    steps = clusters(unlisted)[0].steps_hz

    assert (steps[0], steps[-1]) == (BIG_HZ[0], BIG_HZ[-1])
    assert list(steps) == sorted(set(steps))


def test_only_what_a_runtime_has_is_varied() -> None:
    ours = configurations(
        PHONE, replace(ALL, caps=False, delegates=("libgpu.so",), providers=("XnnpackExecutionProvider",))
    )
    lite = configurations(
        PHONE, replace(ALL, caps=False, runtimes=("litert",), delegates=("libgpu.so",), providers=("X",))
    )

    assert {one.spinning for one in ours if one.threads > 1} == {None, False}
    assert {one.spinning for one in ours if one.threads == 1} == {None}
    assert {one.provider for one in ours} == {None, "XnnpackExecutionProvider"}
    assert {(one.xnnpack, one.delegate) for one in ours} == {(True, None)}
    assert {one.spinning for one in lite} == {None}
    assert {(one.xnnpack, one.delegate) for one in lite} == {(True, None), (False, None), (True, "libgpu.so")}
    assert {one.provider for one in lite} == {None}


def test_numbers_of_threads_can_be_given() -> None:
    assert {one.threads for one in configurations(PHONE, replace(ALL, threads=(2, 4)))[1:]} == {2, 4}


def test_options_keep_what_a_configuration_does_not_say() -> None:
    base = wire.RuntimeOptions(threads=9, batch=4, optimization="basic")
    one = Configuration(runtime="onnxruntime", threads=2, affinity=(4, 5), placement="big", spinning=False)

    assert one.options(base) == replace(base, threads=2, affinity=(4, 5), spinning=False)
    assert one.name == "onnxruntime, 2 threads, big 4-5, not spinning"


def test_a_simulated_board_tells_its_clusters_by_the_files_that_a_kernel_has() -> None:
    told = topology.read(SimulatedMachine(board_to_simulate("rock-5b"), 0))

    assert summary(told) == [("big", (4, 5, 6, 7)), ("little", (0, 1, 2, 3))]
    assert 200 <= len(configurations(told, replace(ALL, runtimes=("simulated",)))) <= 2000


def test_features_are_finite_vary_and_see_caps() -> None:
    found = configurations(PHONE, ALL)
    rows = features(found, PHONE)
    capped = Configuration(
        runtime="onnxruntime", threads=2, affinity=(4, 5), placement="big", caps=(wire.ClockCap("policy4", 0.8e9),)
    )
    pair = features([replace(capped, caps=()), capped], PHONE)

    assert rows.shape[0] == len(found)
    assert np.isfinite(rows).all()
    assert (np.ptp(rows, axis=0) > 0).all()
    assert np.isclose(pair[0, 0] - pair[1, 0], np.log(3.0))  # of the sum of speeds, the first that varies


def test_a_device_that_tells_nothing_of_its_cpus_has_its_default_alone() -> None:
    nothing = wire.Topology((), ())

    assert configurations(nothing, ALL) == [Configuration(runtime="onnxruntime")]
    assert features(configurations(nothing, ALL), nothing).shape == (1, 0)
