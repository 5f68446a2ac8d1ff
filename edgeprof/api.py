"""Profiling from Python: `edgeprof.profile(model, device)` and what it returns.

`edgeprof.Profile` is a measured run as people use it; the raw samples in it are `profile.run.profile`, a
`device_agents.wire.Profile`.
"""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device_agents import wire
from edgeprof import gate_timeout
from edgeprof.arguments import at_least, clock_caps_of, device_of, model_file, place_of, seconds, shapes_of
from edgeprof.energy import ModelEnergy, OperatorEnergies
from edgeprof.errors import EdgeprofError, MeasurementError, StoreError
from edgeprof.files import write_whole
from edgeprof.fleet import Device
from edgeprof.metering import metered
from edgeprof.operator_loops import with_loops
from edgeprof.operators import OperatorRow, OperatorTotals, operator_rows, operator_totals
from edgeprof.outputs import disagreements
from edgeprof.profiling import OpenDevice, Settings
from edgeprof.reports.document import from_document, to_document, write_documents
from edgeprof.reports.joules import Joules, joules
from edgeprof.reports.quantities import duration, plain
from edgeprof.run import OutputCheck, Run
from edgeprof.spooled import considerate
from edgeprof.statistics import Summary, summarise
from edgeprof.store import Store
from edgeprof.verdict import Verdict, judge

if TYPE_CHECKING:
    import onnx
    import pandas
    import torch
    from rich.console import RenderableType

__all__ = ["Device", "Profile", "profile"]

PAGE_WIDTH = 120


def profile(
    model: str | PathLike[str] | onnx.ModelProto | torch.nn.Module,
    device: str | Device | None = None,
    *,
    inputs: Any = None,
    streams: int = 1,
    runtime: str | None = None,
    operators: bool = True,
    operator_runs: int = 30,
    energy: bool = False,
    meter: str | None = None,
    energy_windows: int = 5,
    energy_window_s: float = 10.0,
    energy_budget_s: float = 900.0,
    threads: int = 1,
    affinity: Sequence[int] = (),
    spinning: bool | None = None,
    clock_caps: Mapping[str, float] | None = None,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    optimization: str = "all",
    provider: str | None = None,
    provider_options: Mapping[str, str] | None = None,
    xnnpack: bool = True,
    delegate: str | None = None,
    delegate_options: Mapping[str, str] | None = None,
    library: str | None = None,
    rounds: int = 5,
    min_runs: int = 20,
    min_s: float = 1.0,
    max_s: float | None = None,
    gate_timeout_s: float | None = None,
    deadline_s: float = 900.0,
    seed: int = 0,
    check_outputs: bool = True,
    store: bool | str | PathLike[str] | None = True,
    on_progress: Callable[[wire.Progress], None] | None = None,
) -> Profile:
    """Measure a model on a device: its latency with a verdict, and its operators in the words of the model.

    `model` is a file (ONNX or TFLite), an onnx.ModelProto, or a torch.nn.Module, which is exported in eval mode.
    `inputs` are the values to run with instead of seeded ones: an array for the only input, a mapping of names to
    arrays, or the path of an .npz or .npy file. A torch module needs them, to be exported: what its forward takes, a
    tensor, several in a tuple, or a mapping of names to tensors.
    `device` is a name in fleet.toml, an address such as "ssh://pi@host", a Device, or None for this machine.
    `store` says where the run is kept: True is the user's store ($EDGEPROF_STORE), None or False nowhere, else a path
    or a URL.
    `energy` measures joules, too: of an inference, and with `operators` of each, for at most `energy_budget_s` seconds.
    `clock_caps` has the highest clock in Hz that a cpufreq policy may have meanwhile, as {"policy0": 1.2e9}.
    `on_progress` is called with the stage of the job and how far it is.
    All others are the options of `edgeprof profile`, under the same names; those that end with `_s` are seconds.

    Raises:
        EdgeprofError: a `UsageError`, `ModelError`, `FleetError`, `LinkError` or `AgentError` says what to do.
    """
    settings = Settings(
        runtime=runtime,
        options=wire.RuntimeOptions(
            threads=at_least("threads", threads, 1),
            optimization=optimization,
            xnnpack=xnnpack,
            provider=provider,
            provider_options=dict(provider_options or {}),
            delegate=delegate,
            delegate_options=dict(delegate_options or {}),
            library=library,
            affinity=tuple(affinity),
            batch=None if batch is None else at_least("batch", batch, 1),
            streams=at_least("streams", streams, 1),
            spinning=spinning,
            shapes=shapes_of(shapes),
        ),
        schedule=wire.Schedule(
            rounds=at_least("rounds", rounds, 1),
            min_runs=at_least("min_runs", min_runs, 1),
            min_s=seconds("min_s", min_s),
            max_s=max(wire.Schedule().max_s, min_s) if max_s is None else seconds("max_s", max_s, min_s),
            operator_runs=at_least("operator_runs", operator_runs, 1),
        ),
        gate=wire.Gate(
            timeout_s=gate_timeout.usual_s() if gate_timeout_s is None else seconds("gate_timeout_s", gate_timeout_s)
        ),
        operators=operators,
        seed=seed,
        deadline_s=seconds("deadline_s", deadline_s, 1.0),
        check_outputs=check_outputs,
        energy=_energy_plan(meter, energy_windows, energy_window_s) if energy else None,
        clock_caps=clock_caps_of(clock_caps),
    )
    chosen = device_of(device)
    with ExitStack() as stack:
        # Opened first: better said before minutes of measuring than after.
        kept = stack.enter_context(Store(place_of(store))) if store not in (None, False) else None
        file, notes = stack.enter_context(model_file(model, inputs, settings))
        opened = stack.enter_context(OpenDevice(chosen, measure=metered(considerate)))
        run = opened.profile(file, settings, on_progress)
        run = dataclasses.replace(run, notes=(*notes, *run.notes))
        is_kept = kept is not None and _keep(run, kept)
        if energy and operators and energy_budget_s > 0:
            before = run
            run = with_loops(opened, file, run, meter=meter or "", budget_s=energy_budget_s, on_progress=on_progress)
            if kept is not None and is_kept:
                _keep(run, kept, before)
    return Profile(run)


def _energy_plan(meter: str | None, windows: int, window_s: float) -> wire.EnergyPlan:
    return wire.EnergyPlan(
        meter=meter or "",
        windows=at_least("energy_windows", windows, 5),
        window_s=seconds("energy_window_s", window_s, 10.0),
    )


def _keep(run: Run, store: Store, before: Run | None = None) -> bool:
    """Whether it was stored, in the place of `before` if there is one; else the caller still has it."""
    try:
        if before is None:
            store.add(run)
        else:
            store.replace(before, run)
    except StoreError as error:
        warnings.warn(f"{error}; what to do: {error.advice}", stacklevel=3)
        return False
    return True


# --- what came of it -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Profile:
    """One measured run, computed from its raw samples whenever it is asked; shows itself in terminals and notebooks.

    `run` is what the store keeps, `run.profile` the raw samples. Times are in seconds. What is unknown is None, and the
    field with `_missing` says why.
    """

    run: Run

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def device(self) -> str:
        return self.run.device

    @property
    def model(self) -> str:
        """The name of the model's file."""
        return self.run.profile.job.model.name

    @property
    def origin(self) -> str:
        """Measured, emulated or simulated: where every number comes from."""
        return self.run.profile.origin

    @property
    def median_s(self) -> float | None:
        return self.latency.median_s if self.latency is not None else None

    @property
    def latency(self) -> Summary | None:
        """The pass without operator profiling: median, its interval, percentiles, spread."""
        return self._latency[0]

    @property
    def latency_missing(self) -> str | None:
        return self._latency[1]

    @cached_property
    def _latency(self) -> tuple[Summary | None, str | None]:
        try:
            return summarise(self.run.profile), None
        except MeasurementError as error:
            return None, str(error)

    @cached_property
    def verdict(self) -> Verdict:
        return judge(self.run.profile, self.latency)

    @cached_property
    def operators(self) -> tuple[OperatorRow, ...]:
        """One row per kernel in execution order; empty where operators were not timed."""
        return tuple(operator_rows(self.run))

    @property
    def operators_missing(self) -> str | None:
        return self.run.profile.operators_missing

    @property
    def energy(self) -> ModelEnergy | None:
        """Joules of an inference with intervals; None where there is no number."""
        return self._joules.model

    @property
    def energy_missing(self) -> str | None:
        """Why there is no energy."""
        return self._joules.missing

    @property
    def operator_energies(self) -> OperatorEnergies | None:
        """Joules of each kernel; None where they were not measured."""
        return self._joules.operators

    @cached_property
    def _joules(self) -> Joules:
        return joules(self.run)

    @cached_property
    def operator_totals(self) -> OperatorTotals | None:
        return operator_totals(self.run)

    @property
    def output_check(self) -> OutputCheck | None:
        """The outputs against plain kernels of the same runtime on the host."""
        return self.run.output_check

    @property
    def output_check_missing(self) -> str | None:
        return self.run.output_check_missing

    @property
    def output_disagreements(self) -> tuple[str, ...]:
        """Every output that is another answer and not another rounding, with the figure."""
        return disagreements(self.run.output_check) if self.run.output_check is not None else ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the verdict, the device and the mapping want to be known."""
        return (*self.verdict.notes, *self.run.profile.notes, *self.run.notes)

    # --- elsewhere ---

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of the run: docs/reference/run.md."""
        return to_document(self.run)

    def to_pandas(self) -> pandas.DataFrame:
        """One row per kernel in execution order; columns say their units.

        Raises:
            UsageError: pandas is not installed.
            MeasurementError: operators were not timed.
        """
        from edgeprof.reports.frame import operators_frame

        return operators_frame(self.run)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the JSON document, complete or not at all. `edgeprof runs import` reads it too.

        Raises:
            EdgeprofError: the file cannot be written.
        """
        try:
            write_whole(Path(path), write_documents([self.run]))
        except OSError as error:
            raise EdgeprofError(
                f"{path}: cannot be written: {error.strerror}", "name a file in a folder that exists"
            ) from error

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Profile:
        """Read what `save` or `edgeprof profile --json` wrote.

        Raises:
            StoreError: it cannot be read, or is no document of a run.
        """
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error.strerror}", "check the path") from error
        return cls(from_document(text, str(path)))

    # --- shown ---

    def __rich__(self) -> RenderableType:
        from edgeprof.reports.text import render_run

        return render_run(self.run)

    def __str__(self) -> str:
        from rich.console import Console

        page = io.StringIO()
        Console(file=page, width=PAGE_WIDTH, no_color=True, highlight=False).print(self)
        return page.getvalue()

    def __repr__(self) -> str:
        latency = duration(self.median_s) if self.median_s is not None else "no latency"
        what = f"{self.id}: {self.model} on {self.device}, {latency}, {self.verdict.level}, {self.origin}"
        return f"<edgeprof.Profile {plain(what)}>"

    def _repr_html_(self) -> str:
        from edgeprof.reports.html import html_fragment

        return html_fragment(self.run)
