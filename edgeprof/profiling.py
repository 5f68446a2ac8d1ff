"""Profile models on one device: choose the runtime, bring the files, have the agent measure, explain the kernels."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Self

from device_agents import wire
from edgeprof import __version__
from edgeprof.agent import Agent
from edgeprof.deadlines import Deadlines
from edgeprof.errors import EdgeprofError, JobRefused, LinkError, UsageError
from edgeprof.fleet import Device
from edgeprof.links import Link, open_link
from edgeprof.models import ModelFile, board_to_simulate, describe, input_notes, map_operators, with_groups, work
from edgeprof.provision import python_for
from edgeprof.reference import Reference, check_outputs
from edgeprof.run import Described, Operator, OutputCheck, Run, new_run_id

__all__ = ["BY_PROGRAM", "Measure", "OnProgress", "OpenDevice", "Settings", "attached", "misfit_by_program"]

# In this order a runtime is tried where the user names none.
RUNTIMES_BY_FORMAT = {"onnx": ("onnxruntime",), "tflite": ("litert", "tflite")}
# A program that the user puts on the device, for where no wheel can be had; only where it is named, or all there is.
BY_PROGRAM = "benchmark_model"
# Refusals after which the next runtime may still do the job.
TRY_NEXT = frozenset({"runtime-missing", "unsupported-model", "unsupported-operator"})
# Refusals that a wrong shape may cause. Of a TFLite model also model-invalid: tensors are allocated before it runs.
SHAPE_REFUSALS = frozenset({"bad-input", "crashed"})

OnProgress = Callable[[wire.Progress], None]
# Has a device do a job and brings its profile back.
Measure = Callable[["OpenDevice", ModelFile, wire.Job, OnProgress | None], wire.Profile]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to profile. `runtime` None means: the first one that can."""

    runtime: str | None = None
    options: wire.RuntimeOptions = field(default_factory=wire.RuntimeOptions)
    schedule: wire.Schedule = field(default_factory=wire.Schedule)
    gate: wire.Gate = field(default_factory=wire.Gate)
    operators: bool = False
    seed: int = 0
    deadline_s: float = 900.0
    check_outputs: bool = True
    energy: wire.EnergyPlan | None = None
    clock_caps: tuple[wire.ClockCap, ...] = ()

    def with_batch(self, batch: int | None) -> Settings:
        """The same with this batch."""
        return dataclasses.replace(self, options=dataclasses.replace(self.options, batch=batch))


class OpenDevice:
    """A device with its link open, and an agent for every Python that was needed so far. A context manager.

    `measure` has a job measured; `reference` checks outputs (by default one of its own, begun when it is needed).

    Raises (on entering, and from whatever needs the link after `disconnect`):
        LinkError: the device cannot be reached.
    """

    def __init__(
        self,
        device: Device,
        *,
        link: Link | None = None,
        deadlines: Deadlines | None = None,
        measure: Measure | None = None,
        reference: Reference | None = None,
        claim: wire.Claim | None = None,
    ) -> None:
        self.device = device
        self._link = link or open_link(device)
        self._deadlines = deadlines or device.deadlines
        self._measure = measure or attached
        self._reference = reference
        self._claim = claim
        self._stack = ExitStack()
        self._connection: ExitStack | None = None
        self._agents: dict[str, Agent] = {}
        self.connect_s = 0.0

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the link and all that was opened beside it; safe to call twice."""
        self.disconnect()
        self._stack.close()

    def connect(self) -> None:
        """Open the link, unless it is open."""
        if self._connection is not None:
            return
        begin = time.perf_counter()
        with ExitStack() as stack:
            stack.enter_context(self._link)
            self._connection = stack.pop_all()
        self.connect_s = time.perf_counter() - begin

    def disconnect(self) -> None:
        """Close the link and end the agents; what was handed to the device's keeper goes on."""
        connection, self._connection = self._connection, None
        self._agents.clear()
        if connection is not None:
            connection.close()

    def agent(self, runtime: str) -> Agent:
        """The agent in the Python that has this runtime; started on first use, and again if it has left."""
        return self._agent(python_for(self.device, runtime))

    def _agent(self, python: str) -> Agent:
        self.connect()
        running = self._agents.get(python)
        if running is not None and running.is_alive():
            return running
        if running is not None:
            running.close()
        agent = Agent(
            self._link,
            python,
            name=self.device.name,
            slot=self.device.slot,
            claim=self._claim,
            deadlines=self._deadlines,
        )
        if self._connection is None:
            raise LinkError(f"{self.device.name}: the link is not open", "connect again")
        self._agents[python] = self._connection.enter_context(agent)
        return agent

    def any_agent(self) -> Agent:
        """An agent that runs already, or else the one in the device's own Python: for what needs no runtime."""
        return next((agent for agent in self._agents.values() if agent.is_alive()), None) or self._agent(
            self.device.python
        )

    def ends_well(self, argv: list[str]) -> bool:
        """Whether a program that the link starts ends with code 0, soon."""
        self.connect()
        process = self._link.start(argv)
        try:
            return process.wait(self._deadlines.answer_s) == 0
        except TimeoutError:
            return False
        finally:
            process.close()

    def profile(self, model: ModelFile, settings: Settings, on_progress: OnProgress | None = None) -> Run:
        """Profile a model; where no runtime is named, the first one that can do all that was asked.

        Raises:
            JobRefused: no runtime here can do it; the message has every one's reason.
            UsageError: the settings do not fit the device.
        """
        refusals: list[EdgeprofError] = []
        partial: Run | None = None
        candidates = self.candidates(model, settings)
        for runtime in candidates:
            try:
                run = self._profile_with(runtime, model, settings, on_progress)
            except JobRefused as refusal:
                if refusal.kind not in TRY_NEXT or len(candidates) == 1:
                    raise
                refusals.append(refusal)
                continue
            if settings.operators and run.profile.operators is None:
                partial = partial or run
                reason = f"{runtime} gave no operators: {run.profile.operators_missing}"
                refusals.append(EdgeprofError(reason))
                continue
            return _with_notes(run, refusals)
        if partial is not None:
            return _with_notes(partial, refusals[1:])
        raise JobRefused("; ".join(str(r) for r in refusals), _advice(refusals), "no-runtime")

    def candidates(self, model: ModelFile, settings: Settings) -> tuple[str, ...]:
        """The runtimes to try, in order.

        Raises:
            UsageError: the settings do not fit the device or the model.
        """
        if self.device.board is not None:
            if settings.runtime not in (None, "simulated"):
                raise UsageError(f"{self.device.name} simulates a board: it has no {settings.runtime}")
            return ("simulated",)
        if settings.runtime == "simulated":
            raise UsageError(
                "the simulated runtime needs a simulated board", "add one: edgeprof devices add x sim:pi-4"
            )
        fitting = RUNTIMES_BY_FORMAT[model.format]
        if self.device.scheme == "adb" or settings.runtime == BY_PROGRAM:
            problem = misfit_by_program(self.device, model.format, settings.runtime, settings.options.library)
            if problem is not None:
                raise problem
            return (BY_PROGRAM,)
        if settings.runtime is None:
            return fitting
        if settings.runtime not in fitting:
            raise UsageError(
                f"{settings.runtime} does not run .{model.format} files", "it needs " + " or ".join(fitting)
            )
        return (settings.runtime,)

    def _profile_with(self, runtime: str, model: ModelFile, settings: Settings, on_progress: OnProgress | None) -> Run:
        job = self.job(runtime, model, settings)
        begin = time.perf_counter()
        try:
            profile = self._measure(self, model, job, on_progress)
        except JobRefused as refusal:
            raise _with_assumptions(refusal, model) from refusal
        stages_s = {"connect": self.connect_s, **self.agent(runtime).stages_s, "profile": time.perf_counter() - begin}
        return self.explain(model, settings, profile, stages_s, on_progress)

    def ready_agent(self, runtime: str, options: wire.RuntimeOptions) -> Agent:
        """The agent in the Python that has this runtime.

        Raises:
            JobRefused: the runtime cannot be used there; the message says why.
        """
        agent = self.agent(runtime)
        info = next((r for r in agent.hello.runtimes if r.name == runtime), None)
        is_elsewhere = (options.library is not None and self.device.scheme != "adb") or runtime == BY_PROGRAM
        if info is None or (info.reason is not None and not is_elsewhere):
            reason = info.reason if info is not None else "unknown to the agent"
            raise JobRefused(
                f"{self.device.name}: {runtime} cannot be used: {reason}",
                f"see what is missing: edgeprof devices doctor {self.device.name}",
                "runtime-missing",
            )
        return agent

    def explain(
        self,
        model: ModelFile,
        settings: Settings,
        profile: wire.Profile,
        stages_s: dict[str, float] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Run:
        """What a profile from this device means in the words of the model file, with its outputs checked: a run."""
        profile = self.with_origin(profile)
        begin = time.perf_counter()
        found = map_operators(model, profile.operators) if profile.operators is not None else None
        mapped = time.perf_counter()
        check, check_missing = self._check_outputs(model, settings, profile, on_progress)
        ends_s = {"map operators": mapped - begin, "check outputs": time.perf_counter() - mapped}
        described, doubts = _described(model, profile, found.operators if found is not None else ())
        return Run(
            id=new_run_id(),
            created_at_s=time.time(),
            device=self.device.name,
            edgeprof_version=__version__,
            profile=dataclasses.replace(profile, output_values=()),
            operators=with_groups(found.operators, model.graph) if found is not None else (),
            structure=found.structure if found is not None else None,
            notes=(*input_notes(model, profile.job.runtime), *(found.notes if found is not None else ()), *doubts),
            stages_s={**(stages_s or {}), **ends_s},
            output_check=check,
            output_check_missing=check_missing,
            described=described,
        )

    def with_origin(self, profile: wire.Profile) -> wire.Profile:
        """With the origin that fleet.toml knows better than the device."""
        if self.device.origin is None or profile.origin != wire.MEASURED:
            return profile
        return dataclasses.replace(profile, origin=self.device.origin)

    def _check_outputs(
        self, model: ModelFile, settings: Settings, profile: wire.Profile, on_progress: OnProgress | None
    ) -> tuple[OutputCheck | None, str | None]:
        """The check, or why there is none: a reference that fails costs the check and never the profile."""
        if not settings.check_outputs:
            return None, "not asked for (--no-check-outputs)"
        if profile.job.runtime == "simulated":
            return None, "a simulation computes times, not values"
        if profile.job.runtime == BY_PROGRAM:
            return None, f"{BY_PROGRAM} does not show what a model computes"
        if on_progress is not None:
            on_progress(wire.Progress("outputs"))
        try:
            if self._reference is None and self.device.scheme == "local":
                return check_outputs(self.agent(profile.job.runtime), model.to_send(), profile), None
            self._reference = self._reference or self._stack.enter_context(Reference())
            return self._reference.check(model.to_send(), profile), None
        except EdgeprofError as error:
            return None, str(error)

    def job(self, runtime: str, model: ModelFile, settings: Settings) -> wire.Job:
        """What the agent is asked to do."""
        options = settings.options
        if runtime == BY_PROGRAM and options.library is None:
            options = dataclasses.replace(options, library=self.device.benchmark_model)
        job = wire.Job(
            model=model.ref(),
            runtime=runtime,
            options=dataclasses.replace(options, shapes=dict(model.inputs.given)),
            schedule=settings.schedule,
            gate=settings.gate,
            operators=settings.operators,
            seed=settings.seed,
            deadline_s=settings.deadline_s,
            send_outputs=settings.check_outputs and runtime not in ("simulated", BY_PROGRAM),
            inputs=tuple(item for item, _ in model.inputs.files),
            energy=settings.energy,
            clock_caps=settings.clock_caps,
        )
        if runtime != "simulated":
            return job
        return dataclasses.replace(
            job,
            options=dataclasses.replace(job.options, shapes={}),  # the work was counted with them
            inputs=(),
            board=board_to_simulate(self.device.board or ""),
            work=work(model.graph),
        )


def misfit_by_program(device: Device, form: str, runtime: str | None, library: str | None) -> UsageError | None:
    """Why the program cannot run a model of this format there, as far as that is known beforehand."""
    if runtime not in (None, BY_PROGRAM):
        advice = f"use --runtime {BY_PROGRAM}, or reach the phone through Termux: docs/android.md"
        return UsageError(f"{device.name} is reached by adb, which runs no {runtime}", advice)
    if form != "tflite":
        return UsageError(f"{device.name}: {BY_PROGRAM} does not run .{form} files", "it needs .tflite")
    if library is None and device.benchmark_model is None:
        advice = f"edgeprof devices add {device.name} {device.address} --benchmark-model PATH (docs/android.md)"
        return UsageError(f"{device.name}: where {BY_PROGRAM} is on the device is not known", advice)
    return None


def _described(
    model: ModelFile, profile: wire.Profile, operators: tuple[Operator, ...]
) -> tuple[tuple[Described, ...], tuple[str, ...]]:
    """The kernels in the words that predictors learn from, and what is doubtful of it."""
    if profile.operators is None:
        return (), ()
    try:
        return describe(model, profile.operators, operators), ()
    except Exception as error:  # an odd graph must cost what is learned from the run, and never the run
        return (), (f"kernels could not be described for predictors: {type(error).__name__}: {error}",)


def attached(opened: OpenDevice, model: ModelFile, job: wire.Job, on_progress: OnProgress | None) -> wire.Profile:
    """Measure while the link is open: the job ends with the link."""
    agent = opened.ready_agent(job.runtime, job.options)
    agent.push(model.to_send() if job.runtime != "simulated" else (), on_progress)
    return agent.profile(job, on_progress)


def _with_assumptions(refusal: JobRefused, model: ModelFile) -> JobRefused:
    """A model that does not run may just not run with dimensions of 1: say that they were assumed, and what to type."""
    kinds = SHAPE_REFUSALS if model.format == "onnx" else {*SHAPE_REFUSALS, "model-invalid"}
    if not model.inputs.assumptions or refusal.kind not in kinds:
        return refusal
    message = f"{refusal}; it was run with sizes that nobody gave: " + "; ".join(model.inputs.assumptions)
    advice = "give the options named above, with the sizes that this model is meant for in place of the ones"
    return JobRefused(message, advice, refusal.kind, refusal.detail)


def _with_notes(run: Run, refusals: list[EdgeprofError]) -> Run:
    """Say aloud which runtimes were passed over, and why."""
    return dataclasses.replace(run, notes=(*run.notes, *(f"passed over: {r}" for r in refusals)))


def _advice(refusals: list[EdgeprofError]) -> str:
    return next((r.advice for r in refusals if r.advice), "")
