"""LiteRT 2.x (ai-edge-litert): its C API for both passes, its Interpreter where that cannot take the model."""

import os
from importlib.util import find_spec
from typing import List, Optional, Sequence, Tuple, Union

from device_agents.machine import Machine
from device_agents.runtimes import Recorded, RuntimeRefusal
from device_agents.runtimes.available import distribution_version
from device_agents.runtimes.litert_capi import CompiledModel, Library, LiteRtError, TensorType
from device_agents.runtimes.options import Pinned, affinity_text, require_file, require_options, require_threads
from device_agents.runtimes.tensors import Dim, concrete_shapes, require_sizes, require_supported, size_bytes
from device_agents.runtimes.tflite_events import KernelTimes
from device_agents.runtimes.tflite_file import ELEMENT_TYPES, require_whole
from device_agents.runtimes.tflite_interpreter import InterpreterSession
from device_agents.wire import Job, TensorInfo

NAME = "litert"
LIBRARY = "libLiteRt.so"
RESOLUTION_S = 1e-6
OTHER_RUNTIME = "profile its operators with --runtime tflite"


def open_session(
    job: Job, model_path: str, machine: Machine, profiled: bool
) -> "Union[CompiledSession, InterpreterSession]":
    """Open the model with the C API, or unprofiled with the Interpreter.

    Raises:
        RuntimeRefusal: the options, the model or the device do not allow it.
    """
    require_options(job.options, NAME, ("xnnpack", "delegate", "delegate_options", "streams"))
    require_threads(job.options)
    require_file(model_path, job.model.name, "model-invalid")
    if job.options.delegate:
        require_file(job.options.delegate, "delegate", "delegate-failed")
    require_whole(model_path, job.model.name)
    library_path = _library_path()
    if job.options.delegate:
        if profiled:
            raise RuntimeRefusal(
                "unsupported-model", "LiteRT cannot time operators together with an external delegate", OTHER_RUNTIME
            )
        return _open_interpreter(job, model_path, machine, [])
    if library_path is None:
        if profiled:
            raise RuntimeRefusal("unsupported-model", f"this ai-edge-litert has no {LIBRARY}", OTHER_RUNTIME)
        return _open_interpreter(job, model_path, machine, [f"this ai-edge-litert has no {LIBRARY}"])
    try:
        return _open_compiled(library_path, job, model_path, machine, profiled)
    except LiteRtError as error:
        if profiled:
            raise RuntimeRefusal(
                "unsupported-model",
                f"{job.model.name}: LiteRT's compiled model cannot take it ({error}), so its operators cannot be timed",
                OTHER_RUNTIME,
            ) from error
        why = (
            f"LiteRT's compiled model cannot take it ({error}): the Interpreter of the same package is used, "
            "and the attempt counts in the peak memory"
        )
        return _open_interpreter(job, model_path, machine, [why])


def _open_compiled(library_path: str, job: Job, model_path: str, machine: Machine, profiled: bool) -> "CompiledSession":
    """A session that can run: tensors whose shape is only known at run time fail no earlier than in a run.

    Where there may be such tensors the model is tried with zeros and loaded again, so that what is measured starts
    from a fresh state.

    Raises:
        LiteRtError: the compiled model cannot take this model.
    """
    tried = CompiledSession(library_path, job, model_path, machine, profiled)
    if tried.has_only_known_shapes:
        return tried
    try:
        tried.try_run()
    finally:
        tried.close()
    session = CompiledSession(library_path, job, model_path, machine, profiled)
    session.import_s, session.load_s, session.initialise_s = tried.import_s, tried.load_s, tried.initialise_s
    session.notes.append("the model was tried and loaded again before measuring: it may have dynamic tensors")
    return session


def _library_path() -> Optional[str]:
    package = find_spec("ai_edge_litert")
    if package is None or package.origin is None:
        raise RuntimeRefusal("runtime-missing", "ai-edge-litert is not installed", "pip install ai-edge-litert")
    path = os.path.join(os.path.dirname(package.origin), LIBRARY)
    return path if os.path.isfile(path) else None


def _open_interpreter(job: Job, model_path: str, machine: Machine, notes: Sequence[str]) -> InterpreterSession:
    start = machine.now()
    try:
        from ai_edge_litert import interpreter
    except ImportError as error:
        raise RuntimeRefusal(
            "runtime-missing", f"ai-edge-litert cannot be imported: {error}", "pip install ai-edge-litert"
        ) from error
    names = (
        distribution_version("ai-edge-litert", "ai-edge-litert-nightly") or "unknown",
        "ai_edge_litert.Interpreter",
    )
    session = InterpreterSession(interpreter, names, machine.now() - start, job, model_path, machine)
    session.notes += notes
    return session


class CompiledSession:
    """A model compiled by LiteRT; its profiler keeps 512k events (64 MB), so it is read and emptied after every run."""

    piled_up_per_run: Optional[int] = 0

    def __init__(self, library_path: str, job: Job, model_path: str, machine: Machine, profiled: bool) -> None:
        self.runtime_version = distribution_version("ai-edge-litert", "ai-edge-litert-nightly") or "unknown"
        self.notes: List[str] = []
        self._job = job
        self._profiled = profiled
        self._times = KernelTimes()
        self._is_recording = False
        start = machine.now()
        try:
            library = Library(library_path)
        except OSError as error:
            raise RuntimeRefusal("runtime-missing", f"{library_path} cannot be loaded: {error}") from error
        self.import_s = machine.now() - start
        self._pinned = Pinned(job.options.affinity)
        self._model = CompiledModel(library)
        try:
            self._open(model_path, machine)
        except BaseException:
            self.close()
            raise

    # --- opening -------------------------------------------------------------------------------------------------

    def _open(self, model_path: str, machine: Machine) -> None:
        model, options = self._model, self._job.options
        start = machine.now()
        model.load(model_path)
        self.load_s = machine.now() - start
        names = [model.name("Input", k) for k in range(model.n_inputs)]
        declared = [(name, _dims(tensor)) for name, tensor in zip(names, model.input_types)]
        shapes, notes = concrete_shapes(declared, options)
        require_supported(
            [TensorInfo(name, _dtype(tensor), shape) for name, tensor, shape in zip(names, model.input_types, shapes)]
        )
        self.notes += notes
        if model.n_signatures > 1:
            self.notes.append(f"the model has {model.n_signatures} signatures: the first one was run")
        start = machine.now()
        model.compile(options.threads, options.xnnpack, self._profiled)
        model.allocate(shapes)
        self.initialise_s = machine.now() - start
        self.inputs = self._infos("Input", model.input_types)
        self.outputs = self._infos("Output", model.output_types)
        require_supported(self.outputs)
        self.has_only_known_shapes = self._is_fully_accelerated()
        if self._profiled:
            model.start_profiler()
        self.in_force = {
            "api": "LiteRT CompiledModel (C API)",
            "threads": str(options.threads),
            "affinity": affinity_text(options.affinity),
            "xnnpack": self._xnnpack(),
        }

    def _is_fully_accelerated(self) -> bool:
        """Whether XNNPACK took all nodes; it takes none with dynamic tensors."""
        try:
            return self._model.is_fully_accelerated()
        except (AttributeError, LiteRtError):
            return False

    def try_run(self) -> None:
        """Run with zeros, twice: the first run may work and leave an output dynamic, which the second one refuses.

        Raises:
            LiteRtError: it does not run.
        """
        self.set_inputs([bytes(size_bytes(tensor)) for tensor in self.inputs])
        self._model.run()
        self._model.run()

    def _xnnpack(self) -> str:
        """The library only tells whether a delegate took all nodes; the CPU has no other delegate than this one."""
        if not self._job.options.xnnpack:
            return "off"
        if self.has_only_known_shapes:
            return "active: all nodes"
        return "unknown: some nodes, or all, are not delegated; the operator pass tells"

    def _infos(self, side: str, types: Sequence[TensorType]) -> Tuple[TensorInfo, ...]:
        return tuple(
            TensorInfo(self._model.name(side, k), _dtype(tensor), tensor.layout.shape())
            for k, tensor in enumerate(types)
        )

    # --- running -------------------------------------------------------------------------------------------------

    def set_inputs(self, data: Sequence[bytes]) -> None:
        require_sizes(self.inputs, data)
        for k, block in enumerate(data):
            self._model.write_input(k, block)

    def run(self) -> None:
        try:
            self._model.run()
        except LiteRtError as error:
            raise RuntimeRefusal(
                "bad-input",
                f"{self._job.model.name} does not run: {error}; the agent's standard error has LiteRT's reason",
                "give the shapes this model is meant for, or convert it again",
            ) from error

    def read_outputs(self) -> List[bytes]:
        return [self._model.read_output(k, size_bytes(tensor)) for k, tensor in enumerate(self.outputs)]

    def begin_recording(self) -> None:
        self._take()
        self._times.clear()
        self._is_recording = True

    def after_run(self) -> None:
        if self._profiled:
            self._take()

    def _take(self) -> None:
        events = self._model.stop_profiler()
        if self._is_recording:
            self._times.add_run(events)
        self._model.start_profiler()

    def end_recording(self) -> Recorded:
        self._is_recording = False
        if self._job.options.xnnpack:
            n = self._times.n_delegated()
            self.in_force["xnnpack"] = f"active: {n} operators" if n else "not active: it took no node"
        return Recorded("LiteRT profiler", self._times.kernels(), RESOLUTION_S)

    def executed_graph(self) -> Optional[str]:
        return None

    def close(self) -> None:
        self._model.close()
        self._pinned.release()


def _dims(tensor: TensorType) -> Tuple[Dim, ...]:
    return tuple(dim if dim > 0 else None for dim in tensor.layout.shape())


def _dtype(tensor: TensorType) -> str:
    return ELEMENT_TYPES.get(tensor.element, f"type {tensor.element}")
