"""Examine a device: what works, what is missing, and how to mend it. Changes nothing there but the agent's own file."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from device_agents import wire
from device_agents.machine import SERIAL
from device_agents.power import discover
from device_agents.runtimes.simulated_machine import SimulatedMachine
from edgeprof.agent import Agent
from edgeprof.energy.evidence import CHARGER_WORDS
from edgeprof.errors import EdgeprofError
from edgeprof.fleet import RUNTIMES, Device
from edgeprof.models import board_to_simulate
from edgeprof.phones import is_background, look_notes
from edgeprof.profiling import BY_PROGRAM, OpenDevice

__all__ = ["Finding", "described", "examine", "meter_findings", "meters"]

FREE_BYTES_WANTED = 200 * 1024 * 1024
FASTEST_GOVERNOR = "performance"
# Raspberry Pi firmware bits (see device_agents/conditions.py).
UNDER_VOLTAGE_EVER, THROTTLED_EVER = 1 << 16, 0b1110 << 16


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at. `level` is ok, note (numbers may suffer) or problem (profiling will fail)."""

    level: str
    what: str
    advice: str = ""


def examine(device: Device) -> Iterator[Finding]:
    """Findings as they are made; the first problem with the link or the agent ends them."""
    try:
        if device.board is not None:
            board_to_simulate(device.board)
        with OpenDevice(device) as opened:
            yield Finding(level="ok", what=f"reached {device.address}")
            yield from _examine_open(device, opened)
    except EdgeprofError as error:
        yield Finding(level="problem", what=str(error), advice=error.advice)


def _examine_open(device: Device, opened: OpenDevice) -> Iterator[Finding]:
    if device.board is not None:
        yield from _simulation(device, opened)
        return
    agents: dict[int, Agent] = {}
    usable = []
    if device.scheme == "adb" or device.benchmark_model is not None:
        finding, is_usable = _by_program(device, opened)
        usable += [BY_PROGRAM] if is_usable else []
        yield finding
    for runtime in () if device.scheme == "adb" else RUNTIMES:
        agent = opened.agent(runtime)
        if id(agent) not in agents:
            yield from _python(device, agent, is_first=not agents)
            agents[id(agent)] = agent
        finding, is_usable = _runtime(device, agent, runtime)
        usable += [runtime] if is_usable else []
        yield finding
    if not usable:
        yield Finding(level="problem", what="no runtime can be used", advice="install one of those above")
    agent = opened.any_agent()
    if device.scheme == "adb":
        yield from _python(device, agent, is_first=True)
    conditions = agent.conditions()
    yield from meter_findings(device, agent.meters(), conditions.power_source)
    yield from _state(conditions)


def _simulation(device: Device, opened: OpenDevice) -> Iterator[Finding]:
    if device.scheme == "ssh":
        agent = opened.agent("simulated")
        yield Finding(level="ok", what=f"agent runs on Python {agent.hello.python}")
    yield Finding(level="ok", what=f"simulated board {device.board}: its numbers are simulated, never measured")
    if device.board is not None:
        yield from meter_findings(device, _simulated_meters(device.board), None)


def _python(device: Device, agent: Agent, *, is_first: bool) -> Iterator[Finding]:
    hello = agent.hello
    machine = hello.machine
    described = f"{machine.model or 'unknown model'}, {machine.architecture}, {machine.n_cpus} CPUs, {machine.kernel}"
    yield Finding(level="ok", what=f"agent runs on Python {hello.python}: {described}")
    if not is_first:
        return  # what follows is true of the device, whatever its Python
    if machine.emulator:
        yield Finding(level="note", what=f"emulated ({machine.emulator}): timings prove plumbing, not performance")
    if hello.free_bytes < FREE_BYTES_WANTED:
        free = f"{hello.free_bytes / 1e6:.0f} MB free in {hello.cache_dir}"
        yield Finding(level="note", what=free, advice="models are kept there: make room")
    if hello.user_id == 0 and device.scheme == "ssh":
        advice = "log in as an ordinary user: the agent needs no privilege"
        yield Finding(level="note", what="the agent runs as root", advice=advice)


def _runtime(device: Device, agent: Agent, runtime: str) -> tuple[Finding, bool]:
    info = next((r for r in agent.hello.runtimes if r.name == runtime), None)
    if info is None:
        return Finding(level="note", what=f"{runtime}: unknown to the agent"), False
    if info.reason is None:
        return Finding(level="ok", what=f"{runtime} {info.version or ''}".strip()), True
    advice = _how_to_install(device, runtime)
    return Finding(level="note", what=f"{runtime}: {info.reason}", advice=advice), False


def _how_to_install(device: Device, runtime: str) -> str:
    if device.scheme == "ssh" or runtime == "tflite":
        return f"edgeprof devices setup {device.name} --runtime {runtime}"
    package = {"onnxruntime": "onnxruntime", "litert": "ai-edge-litert"}[runtime]
    return f"{device.python} -m pip install {package} (in a virtual environment, see --python)"


def meters(device: Device) -> tuple[wire.MeterInfo, ...]:
    """The device's own power meters, the preferred one first, unusable ones too; of a simulated board its sensor."""
    if device.board is not None:
        return _simulated_meters(device.board)
    with OpenDevice(device) as opened:
        return opened.any_agent().meters()


def _simulated_meters(board: str) -> tuple[wire.MeterInfo, ...]:
    return discover(SimulatedMachine(board_to_simulate(board), seed=0))


def described(meter: wire.MeterInfo) -> str:
    """What a meter's numbers mean, in one line."""
    unit = "W" if meter.kind == wire.POWER else "J counted"
    step = f"in steps of {meter.resolution:.2g} {unit.split()[0]}" if meter.resolution else "in unknown steps"
    period = f"a new value every {meter.period_s:g} s" if meter.period_s else "period unknown"
    channels = f", {len(meter.channels)} channels" if len(meter.channels) > 1 else ""
    leaves_out = f"; not in it: {'; '.join(meter.not_covered)}" if meter.not_covered else ""
    return f"{meter.name}: boundary {meter.boundary}{channels}, {unit} {step}, {period}{leaves_out}"


def meter_findings(device: Device, found: Sequence[wire.MeterInfo], power_source: str | None) -> Iterator[Finding]:
    for meter in found:
        if meter.unusable is not None:
            what = f"power meter {meter.name} ({meter.boundary}) cannot be read: {meter.unusable}"
            yield Finding(level="note", what=what, advice="mend it, or energy comes from another meter")
        elif meter.on_charge and any(word in (power_source or "") for word in CHARGER_WORDS):
            what = f"power meter {meter.name} does not show what the device takes: {power_source}"
            yield Finding(level="note", what=what, advice="unplug the charger before profile --energy")
        else:
            yield Finding(level="ok", what=f"power meter {described(meter)}")
    if not any(meter.unusable is None for meter in found) and device.meter is None:
        advice = "attach one (docs/how-to/meters.md), or take what the data sheet says: edgeprof carbon RUN"
        yield Finding(
            level="note", what="no power meter that can be read: profile --energy will be refused", advice=advice
        )


def _by_program(device: Device, opened: OpenDevice) -> tuple[Finding, bool]:
    """Whether TFLite's program is where it is said to be, and may be run."""
    path, level = device.benchmark_model, "problem" if device.scheme == "adb" else "note"
    put_there = f"edgeprof devices add {device.name} {device.address} --benchmark-model PATH (docs/android.md)"
    if path is None:
        what = f"{BY_PROGRAM}: where the program is on the phone is not known"
        return Finding(level=level, what=what, advice=put_there), False
    argv = ["test", "-x", path]
    if device.scheme == "adb":
        # The link starts programs here, with the phone's serial number in their environment.
        argv = ["sh", "-c", f'exec adb -s "${SERIAL}" shell "test -x $1"', "sh", shlex.quote(path)]
    if opened.ends_well(argv):
        return Finding(level="ok", what=f"{BY_PROGRAM}: {path}"), True
    what = f"{BY_PROGRAM}: {path} is not there, or may not be run"
    return Finding(level=level, what=what, advice=f"put it there, chmod +x; another path: {put_there}"), False


def _state(conditions: wire.Conditions) -> Iterator[Finding]:
    for clock in conditions.clocks:
        if clock.governor and clock.governor != FASTEST_GOVERNOR:
            node = "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor"
            advice = f"for steady numbers, there: echo {FASTEST_GOVERNOR} | sudo tee {node}"
            yield Finding(level="note", what=f"governor of CPUs {clock.cpus} is {clock.governor}", advice=advice)
    yield from _throttling(conditions)
    for what, advice in look_notes((conditions,)):
        yield Finding(level="note", what=what, advice=advice)
    if conditions.cpuset not in (None, "/") and not is_background(conditions):
        yield Finding(level="ok", what=f"cpuset {conditions.cpuset}, CPUs {conditions.allowed_cpus or 'unknown'}")
    if conditions.screen:
        yield Finding(level="ok", what=f"screen: {conditions.screen}")
    for name, degrees in conditions.temperatures_c.items():
        yield Finding(level="ok", what=f"temperature {name}: {degrees:.0f} C")
    if conditions.power_source:
        yield Finding(level="ok", what=f"power: {conditions.power_source}")
    for what, why in conditions.unreadable.items():
        yield Finding(level="note", what=f"{what} cannot be read: {why}", advice="verdicts will say so")


def _throttling(conditions: wire.Conditions) -> Iterator[Finding]:
    bits = conditions.throttled
    if bits is None:
        return
    if bits & UNDER_VOLTAGE_EVER:
        advice = "use the board's own power supply and a short cable"
        yield Finding(level="note", what=f"under-voltage since boot (get_throttled {bits:#x})", advice=advice)
    if bits & THROTTLED_EVER:
        advice = "add cooling, then reboot to clear the bits"
        yield Finding(level="note", what=f"clocks were held down since boot (get_throttled {bits:#x})", advice=advice)
    if not bits:
        yield Finding(level="ok", what="never throttled since boot")
