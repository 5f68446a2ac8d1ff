"""Boards as data: every figure with a source, assumptions apart, and none that physics would not allow."""

from __future__ import annotations

import dataclasses
import json
from importlib import resources

import pytest

from device_agents import conditions, wire
from device_agents.runtimes import machine_for, open_session
from device_agents.runtimes.simulated_machine import SimulatedMachine
from device_agents.wire import FileRef, Job, ModelRef, RuntimeOptions, Work
from edgeprof.errors import FleetError
from edgeprof.models import board_to_simulate
from edgeprof.models.simulated import on_the_wire
from latency_models import boards

CATALOGUE = (
    "example", "jetson-nano", "phone-sdm845", "phone-sm8250", "pi-3", "pi-4", "pi-5", "pi-zero-2", "rock-5b"
)  # fmt: skip
WORK = (Work("conv", "Conv", 50_000_000, 1_000_000), Work("relu", "Relu", 0, 2_000_000))
MODEL = ModelRef("m.onnx", "onnx", "digest", (FileRef("m.onnx", "digest", 1_000_000),))


def text_of(name: str) -> str:
    return resources.files(boards).joinpath(f"{name}.toml").read_text("utf-8")


def test_the_catalogue_is_there() -> None:
    assert boards.names() == CATALOGUE


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_figure_has_its_source_and_what_is_assumed_says_so(name: str) -> None:
    board = boards.load(name)

    assert board.name == name
    assert board.missing == ()
    for path, figure in board.figures.items():
        assert figure.source.strip(), path
        assert figure.is_assumed == figure.source.startswith(("assumed:", "invented")), path


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name != "example"])
def test_what_a_real_board_is_comes_from_sources_and_only_its_simulation_is_assumed(name: str) -> None:
    board = boards.load(name)
    cited = {path for path, figure in board.figures.items() if not figure.is_assumed}

    for cluster in board.clusters:
        assert {f"clusters.{cluster}.{figure}" for figure in ("core", "cores", "clocks_hz", "simd_bits")} <= cited
    assert {"memory.bandwidth_bytes_per_s", "thermal.trip_c"} <= cited


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_figures_are_physically_possible(name: str) -> None:
    board = board_to_simulate(name)
    figures = boards.load(name).figures

    resting_c = board.ambient_c + board.idle_w * board.resistance_k_per_w
    full_w = board.idle_w + sum(cluster.cores * cluster.core_active_w for cluster in board.clusters)
    time_constant_s = board.resistance_k_per_w * board.capacitance_j_per_k
    assert resting_c < board.trip_c - board.hysteresis_k
    assert 1.0 < full_w < 20.0
    assert 10.0 < time_constant_s < 1000.0
    assert 1e9 < board.memory_bytes_per_s < 1e11
    for cluster in board.clusters:
        assert 1e8 < cluster.clocks_hz[0] < cluster.clocks_hz[-1] < 4e9
        simd_bits = figures.get(f"clusters.{cluster.name}.simd_bits")
        if simd_bits is not None:
            # float32 lanes, at most two units of that width.
            assert isinstance(simd_bits.value, int)
            assert cluster.macs_per_cycle <= 2 * simd_bits.value / 32


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_board_can_be_simulated_and_rises_from_rest_under_load(name: str) -> None:
    board = board_to_simulate(name)
    cpus = sum(cluster.cores for cluster in board.clusters)
    job = Job(MODEL, "simulated", RuntimeOptions(threads=cpus), board=board, work=WORK, seed=1)
    machine = machine_for(job)
    assert isinstance(machine, SimulatedMachine)
    before = machine.temperature_c
    session = open_session(job, "", machine, False)

    for _ in range(100):
        session.run()

    assert before < machine.temperature_c
    assert len(conditions.read(machine).clocks) == len(board.clusters)


@pytest.mark.parametrize("name", ["phone-sdm845", "phone-sm8250", "pi-3", "pi-4", "pi-5"])
def test_boards_without_a_cooler_throttle_under_load_on_all_cores_and_recover(name: str) -> None:
    board = board_to_simulate(name)
    machine = SimulatedMachine(board, 0)
    all_cores = tuple(cluster.cores for cluster in board.clusters)

    machine.work(900.0, all_cores)
    throttled, hot_c = machine.is_throttled, machine.temperature_c
    machine.sleep(900.0)

    assert throttled
    assert hot_c == pytest.approx(board.trip_c, abs=2 * board.hysteresis_k)
    assert not machine.is_throttled


def test_a_job_with_the_largest_board_stays_small() -> None:
    sizes = [len(json.dumps(dataclasses.asdict(board_to_simulate(name)))) for name in CATALOGUE]

    assert max(sizes) < 4096


def test_the_example_says_that_it_is_invented() -> None:
    board = boards.load("example")

    assert "Invented figures" in board.description
    assert all(figure.source.startswith("invented") for figure in board.figures.values())


def test_an_unknown_board_names_those_that_look_like_it() -> None:
    with pytest.raises(boards.UnknownBoard, match=r"no board 'exmaple'; did you mean example"):
        boards.load("exmaple")
    with pytest.raises(boards.UnknownBoard, match=r"known: .*example"):
        boards.load("zzz")


BOARD = """\
description = "A board to spoil."

[memory]
bytes = { value = 1000, source = "page 1" }

[clusters.cpu]
core = { value = "A1", source = "page 2" }
cores = { value = 4, source = "page 2" }
clocks_hz = { value = [1e9, 2e9], source = "page 3" }

[simulation.software]
noise = { value = 0.01, source = "assumed: quiet" }
"""


def test_a_board_with_missing_figures_can_be_read_and_says_which_a_simulation_lacks() -> None:
    board = boards.parse("mine", BOARD)

    assert board.clusters == ("cpu",)
    assert board.figures["clusters.cpu.clocks_hz"].value == (1e9, 2e9)
    assert board.figures["memory.bytes"] == boards.Figure(value=1000, unit="B", source="page 1", is_assumed=False)
    assert board.figures["software.noise"].is_assumed
    assert "clusters.cpu.fp32_macs_per_cycle" in board.missing
    assert "power.idle_w" in board.missing
    assert "memory.bytes" not in board.missing


def test_a_board_with_missing_figures_is_not_simulated() -> None:
    with pytest.raises(
        FleetError, match=r"mine cannot be simulated: its file lacks clusters.cpu.fp32_macs_per_cycle, "
    ):
        on_the_wire(boards.parse("mine", BOARD))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (', source = "page 1"', "", "memory.bytes has no source"),
        ('source = "page 1"', 'source = " "', "memory.bytes has no source"),
        ('source = "page 1"', 'source = "assumed: so"', r"memory.bytes is assumed, so it belongs under \[simulation\]"),
        ("assumed: quiet", "quiet", "software.noise stands under"),
        ("[memory]", "[memori]", "unknown figure 'memori.bytes'; did you mean memory.bytes"),
        (
            "[simulation.software]\n",
            '[simulation.memory]\nbytes = { value = 1, source = "assumed: x" }\n',
            "cited already",
        ),
        ("value = 1000", 'value = "little"', "memory.bytes is 'little', not a number"),
        ("value = 1000", "value = nan", "memory.bytes is nan, not a number"),
        ("value = 1000", "value = true", "memory.bytes is True, not a number"),
        ("value = 1000", "value = 0", "memory.bytes is 0, too small"),
        ("value = 0.01", "value = 0.9", "software.noise is 0.9, too large"),
        ("value = 4", "value = 1.5", "clusters.cpu.cores is 1.5, not a whole number"),
        ("[1e9, 2e9]", "[2e9, 1e9]", "not in rising order"),
        ("[1e9, 2e9]", "1e9", "not a list of numbers"),
        ("[1e9, 2e9]", "[]", "not a list of numbers"),
        ('value = "A1"', "value = 1", "clusters.cpu.core is 1, not a text"),
        ('{ value = 1000, source = "page 1" }', "1000", "memory.bytes is not a figure with value and source"),
        ("clusters.cpu", "memory.cpu", r"it has no cluster; describe its cores under \[clusters.NAME\]"),
        ("description", "# description", "description is missing"),
        ("[memory]", "[memory", "board mine: "),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_by_name(old: str, new: str, complaint: str) -> None:
    assert old in BOARD

    with pytest.raises(boards.BoardError, match=complaint):
        boards.parse("mine", BOARD.replace(old, new, 1))


def test_a_job_carries_the_figures_of_the_board_s_file() -> None:
    carried, figures = board_to_simulate("phone-sdm845"), boards.load("phone-sdm845").figures

    assert isinstance(carried, wire.Board)
    assert [cluster.name for cluster in carried.clusters] == ["little", "big"]
    assert carried.clusters[1].clocks_hz == figures["clusters.big.clocks_hz"].value
    assert carried.memory_bytes_per_s == figures["memory.bandwidth_bytes_per_s"].value
    assert carried.trip_c == figures["thermal.trip_c"].value
    with pytest.raises(FleetError, match="no board 'pi9'"):
        board_to_simulate("pi9")


@pytest.mark.parametrize(
    ("name", "boundary"),
    [("pi-5", "soc-rails"), ("jetson-nano", "module"), ("phone-sdm845", "battery"), ("pi-3", None), ("pi-4", None)],
)
def test_boards_with_a_power_sensor_have_it_in_the_simulation_and_others_do_not(
    name: str, boundary: str | None
) -> None:
    sensor = board_to_simulate(name).sensor

    assert (sensor.boundary if sensor is not None else None) == boundary


INTERACTIONS = """
[simulation.memory]
contention = { value = 0.1, source = "assumed: a test" }
slow_share = { value = 0.5, source = "assumed: a test" }

[simulation.software]
barrier_s = { value = 2e-6, source = "assumed: a test" }

[simulation.clusters.cpu]
volts = { value = [0.8, 0.8, 0.9, 1.0], source = "assumed: a test" }
core_bandwidth_bytes_per_s = { value = 1e9, source = "assumed: a test" }
"""


def test_a_job_carries_what_threads_do_to_each_other_where_the_board_s_file_says_it() -> None:
    text = text_of("example")
    for section in INTERACTIONS.strip().split("\n\n"):
        head, *lines = section.splitlines()
        text = text.replace(head, "\n".join((head, *lines)))

    plain, given = board_to_simulate("example"), on_the_wire(boards.parse("given", text))

    assert (given.contention, given.slow_memory_share, given.barrier_s) == (0.1, 0.5, 2e-6)
    assert (given.clusters[0].volts, given.clusters[0].core_bytes_per_s) == ((0.8, 0.8, 0.9, 1.0), 1e9)
    assert (plain.contention, plain.slow_memory_share, plain.barrier_s) == (0.0, 1.0, 0.0)
    assert (plain.clusters[0].volts, plain.clusters[0].core_bytes_per_s) == ((), None)


def test_voltages_may_stay_and_never_fall() -> None:
    text = text_of("example").replace(
        "[simulation.clusters.cpu]",
        '[simulation.clusters.cpu]\nvolts = { value = [0.8, 0.7], source = "assumed: a test" }',
    )

    with pytest.raises(boards.BoardError, match=r"clusters\.cpu\.volts is \[0\.8, 0\.7\], falling somewhere"):
        boards.parse("odd", text)


SENSOR = """
[simulation.sensor]
boundary = { value = "module", source = "assumed: a test" }
rate_hz = { value = 10.0, source = "assumed: a test" }
noise_w = { value = 0.0, source = "assumed: a test" }
step_w = { value = 0.02, source = "assumed: a test" }
"""


def test_a_sensor_described_in_part_is_refused_with_what_is_lacking() -> None:
    text = text_of("pi-4") + "\n".join(SENSOR.splitlines()[:3])

    with pytest.raises(FleetError, match=r"lacks sensor\.rate_hz, sensor\.noise_w, sensor\.step_w") as error:
        on_the_wire(boards.parse("half", text))
    assert error.value.advice


def test_a_sensor_of_an_unknown_boundary_is_refused_with_those_there_are() -> None:
    with pytest.raises(FleetError, match="'shed'") as error:
        on_the_wire(boards.parse("odd", text_of("pi-4") + SENSOR.replace("module", "shed")))
    assert "soc-rails" in (error.value.advice or "")
