"""ONNX Runtime: latency through IOBinding, operators through its own profiler."""

import base64
import ctypes
import os
import shutil
import tempfile
import zlib
from typing import Any, Dict, List, Optional, Sequence, Tuple

from device_agents.machine import Machine
from device_agents.runtimes import Recorded, RuntimeRefusal, ort_errors, ort_profile
from device_agents.runtimes.options import Pinned, affinity_text, require_file, require_options, require_threads
from device_agents.runtimes.tensors import ITEM_BYTES, Dim, concrete_shapes, require_sizes, require_supported
from device_agents.wire import Job, RuntimeOptions, TensorInfo

NAME = "onnxruntime"
CPU = "CPUExecutionProvider"
LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "none": "ORT_DISABLE_ALL",
}
# ONNX Runtime's names of element types where they are not numpy's.
DTYPES = {"float": "float32", "double": "float64"}
OUTPUT_BYTES = {**ITEM_BYTES, "bfloat16": 2}
ONLY_ERRORS = 3
# The optimized graph travels in the reply; beyond this it would crowd out the times.
MAX_GRAPH_BYTES = 8 * 1024 * 1024
GRAPH_FILE, WEIGHTS_FILE = "graph.onnx", "weights"
CONTROL_FLOW = frozenset(("If", "Loop", "Scan"))


def open_session(job: Job, model_path: str, machine: Machine, profiled: bool) -> "OrtSession":
    """Open the model, with the profiler on if `profiled`.

    Raises:
        RuntimeRefusal: the options, the model or the device do not allow it.
    """
    require_options(job.options, NAME, ("optimization", "provider", "provider_options", "streams", "spinning"))
    require_threads(job.options)
    require_file(model_path, job.model.name, "model-invalid")
    start = machine.now()
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeRefusal(
            "runtime-missing", f"onnxruntime cannot be imported: {error}", "pip install onnxruntime"
        ) from error
    return OrtSession(onnxruntime, machine.now() - start, job, model_path, machine, profiled)


class OrtSession:
    """One InferenceSession. Its profiler writes into a private folder that `close` removes."""

    load_s = 0.0

    def __init__(self, ort: Any, import_s: float, job: Job, model_path: str, machine: Machine, profiled: bool) -> None:
        self.import_s = import_s
        self.runtime_version: str = ort.__version__
        self.notes: List[str] = []
        self._ort = ort
        self._job = job
        self._folder: Optional[str] = None
        self._n_runs = 0
        self._first_recorded = 0
        self.piled_up_per_run: Optional[int] = None
        _require_provider(ort, job.options)
        _require_level(job.options)
        self._pinned = Pinned(job.options.affinity)
        try:
            if profiled:
                self._folder = tempfile.mkdtemp(prefix="edgeprof-ort-")
            start = machine.now()
            self._session = self._create(model_path)
            self.initialise_s = machine.now() - start
            self._pin_one_to_one()
            self.in_force = self._read_in_force()
            self._bind()
        except BaseException:
            self.close()
            raise

    # --- opening -------------------------------------------------------------------------------------------------

    def _create(self, model_path: str) -> Any:
        with_graph = self._folder is not None and self._has_room_for_graph(model_path)
        try:
            return self._try_create(model_path, with_graph)
        except RuntimeRefusal:
            if not with_graph:
                raise
        # Writing the optimized graph may be what failed (a full disk, a graph with compiled nodes).
        session = self._try_create(model_path, False)
        self.notes.append("the optimized graph could not be written: kernels can only be told by their names")
        return session

    def _try_create(self, model_path: str, with_graph: bool) -> Any:
        options = self._job.options
        providers: List[Any] = [CPU]
        if options.provider and options.provider != CPU:
            providers = [(options.provider, dict(options.provider_options)), CPU]
        elif options.provider_options:
            providers = [(CPU, dict(options.provider_options))]
        try:
            # Without enable_fallback=0 a failure is printed to stdout and another provider silently used.
            return self._ort.InferenceSession(
                model_path, self._session_options(with_graph), providers=providers, enable_fallback=0
            )
        except Exception as error:
            refusal = ort_errors.refusal_at_load(error, self._job.model.name)
            if options.provider and options.provider != CPU and refusal.kind == "model-invalid":
                refusal = RuntimeRefusal(
                    "delegate-failed",
                    f"{options.provider}: {refusal}",
                    "check its options, or try without it",
                    refusal.detail,
                )
            raise refusal from error

    def _session_options(self, with_graph: bool) -> Any:
        options = self._job.options
        made = self._ort.SessionOptions()
        made.intra_op_num_threads = options.threads
        made.inter_op_num_threads = 1
        made.log_severity_level = ONLY_ERRORS
        made.graph_optimization_level = getattr(self._ort.GraphOptimizationLevel, LEVELS[options.optimization])
        # Ignored by versions that do not have it.
        made.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        spinning = _spinning_to_set(options)
        if spinning is not None:
            made.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
        if options.affinity and options.threads > 1:
            made.add_session_config_entry("session.intra_op_thread_affinities", worker_affinities(options))
        if self._folder is not None:
            made.enable_profiling = True
            made.profile_file_prefix = os.path.join(self._folder, "profile")
        if self._folder is not None and with_graph:
            made.optimized_model_filepath = os.path.join(self._folder, GRAPH_FILE)
            entry = "session.optimized_model_external_initializers_"
            made.add_session_config_entry(entry + "file_name", WEIGHTS_FILE)
            made.add_session_config_entry(entry + "min_size_in_bytes", "1024")
        return made

    def _has_room_for_graph(self, model_path: str) -> bool:
        """Its weights are written too, for a moment; a small board's temporary folder may lie in memory."""
        folder = os.path.dirname(os.path.abspath(model_path))
        weights = sum(
            os.path.getsize(os.path.join(folder, ref.name))
            for ref in self._job.model.files[1:]
            if os.path.isfile(os.path.join(folder, ref.name))
        )
        needed = 3 * (os.path.getsize(model_path) + weights)
        if shutil.disk_usage(self._folder or folder).free > needed:
            return True
        self.notes.append(
            f"the optimized graph was not written: {self._folder} has less than {needed} bytes free; "
            "kernels can only be told by their names"
        )
        return False

    def _pin_one_to_one(self) -> None:
        options = self._job.options
        if is_one_to_one(options):
            self._pinned.narrow(options.affinity[0])

    def _read_in_force(self) -> Dict[str, str]:
        options = self._job.options
        used = self._session.get_providers()
        if options.provider and options.provider not in used:
            raise RuntimeRefusal(
                "delegate-failed",
                f"{options.provider} was asked for, but the session uses {', '.join(used)}",
                "check its options and libraries on the device",
            )
        told = self._session.get_provider_options().get(options.provider, {}) if options.provider else {}
        for key in options.provider_options:
            if key not in told:
                self.notes.append(f"{options.provider} does not say whether it took the option {key!r}")
        in_force = {
            "providers": ", ".join(used),
            "threads": str(options.threads),
            "optimization": options.optimization,
            "spinning": _spinning(options),
            "affinity": affinity_text(options.affinity),
            "load_and_initialise": "one call",
        }
        in_force.update(self._nodes_per_provider())
        return in_force

    def _nodes_per_provider(self) -> Dict[str, str]:
        if not hasattr(self._session, "get_provider_graph_assignment_info"):
            return {}
        counts: Dict[str, int] = {}
        has_bodies = False
        for part in self._session.get_provider_graph_assignment_info():
            nodes = part.get_nodes()
            counts[part.ep_name] = counts.get(part.ep_name, 0) + len(nodes)
            has_bodies = has_bodies or any(node.op_type in CONTROL_FLOW for node in nodes)
        if counts and not has_bodies:  # a body may run any number of times
            self.piled_up_per_run = sum(counts.values())
        provider = self._job.options.provider
        if provider and counts and provider not in counts:
            self.notes.append(f"{provider} took no node of this model: all of it ran on {', '.join(counts)}")
        return {"nodes_per_provider": ", ".join(f"{name}: {n}" for name, n in counts.items())} if counts else {}

    # --- tensors -------------------------------------------------------------------------------------------------

    def _bind(self) -> None:
        import numpy

        declared = [(node, _dtype(node.type)) for node in self._session.get_inputs()]
        given = self._job.options.shapes
        # Unknown rank and no rank look alike here; the host has told them apart in the file.
        dims = [(node.name, _dims(node.shape) or (None,) * len(given.get(node.name, ()))) for node, _ in declared]
        shapes, notes = concrete_shapes(dims, self._job.options)
        self.notes += notes
        self.inputs = tuple(TensorInfo(node.name, dtype, shape) for (node, dtype), shape in zip(declared, shapes))
        require_supported(self.inputs)
        outputs = [(node, _dtype(node.type)) for node in self._session.get_outputs()]
        self.outputs = tuple(
            TensorInfo(node.name, dtype, tuple(dim if isinstance(dim, int) else 1 for dim in node.shape or ()))
            for node, dtype in outputs
        )
        self._values = [
            self._ort.OrtValue.ortvalue_from_shape_and_type(list(tensor.shape), numpy.dtype(tensor.dtype).type, "cpu")
            for tensor in self.inputs
        ]
        # Binding a text output ends the process with a bus error in onnxruntime 1.32; sequences cannot be bound.
        self._is_bound = all(dtype in OUTPUT_BYTES for _, dtype in outputs)
        self.in_force["api"] = "InferenceSession.run_with_iobinding" if self._is_bound else "InferenceSession.run"
        self._results: List[Any] = []
        self._feeds: Dict[str, Any] = {}
        self._binding = self._session.io_binding()
        for tensor, value in zip(self.inputs, self._values):
            self._binding.bind_ortvalue_input(tensor.name, value)
        self._bind_outputs()

    def _bind_outputs(self) -> None:
        """Anew for new inputs: the buffers of the first run are used again, and its shapes are then fixed."""
        self._binding.clear_binding_outputs()
        if self._is_bound:
            for tensor in self.outputs:
                self._binding.bind_output(tensor.name, "cpu")

    def set_inputs(self, data: Sequence[bytes]) -> None:
        require_sizes(self.inputs, data)
        for value, block in zip(self._values, data):
            if block:
                ctypes.memmove(value.data_ptr(), block, len(block))
        if not self._is_bound:
            self._feeds = {tensor.name: value.numpy() for tensor, value in zip(self.inputs, self._values)}
        self._bind_outputs()

    def run(self) -> None:
        try:
            if self._is_bound:
                self._session.run_with_iobinding(self._binding)
            else:
                self._results = self._session.run(None, self._feeds)
        except Exception as error:
            raise ort_errors.refusal_at_run(error) from error
        self._n_runs += 1

    def read_outputs(self) -> List[bytes]:
        if not self._is_bound:
            return [_python_bytes(value) for value in self._results]
        values = self._binding.get_outputs()
        self.outputs = tuple(
            TensorInfo(tensor.name, tensor.dtype, tuple(value.shape())) for tensor, value in zip(self.outputs, values)
        )
        return [_raw_bytes(tensor, value) for tensor, value in zip(self.outputs, values)]

    # --- operators -----------------------------------------------------------------------------------------------

    def begin_recording(self) -> None:
        self._first_recorded = self._n_runs

    def after_run(self) -> None:
        """Nothing can be done: the profiler keeps every run until its session's end."""

    def end_recording(self) -> Recorded:
        times = ort_profile.KernelTimes()
        with open(self._session.end_profiling(), encoding="utf-8", errors="replace") as lines:
            for event in ort_profile.events(lines):
                times.add(event)
        if times.n_runs != self._n_runs or times.n_events >= ort_profile.MAX_EVENTS:
            raise RuntimeRefusal(
                "unsupported-model",
                f"onnxruntime's profiler drops what goes beyond {ort_profile.MAX_EVENTS} kernels in a session: "
                f"{self._n_runs} runs were made, {times.n_runs} are in the profile",
                "profile a part of the model",
            )
        self.piled_up_per_run = max(1, times.n_events // max(1, times.n_runs))
        return Recorded(
            method="onnxruntime profiler",
            kernels=times.kernels(self._first_recorded),
            resolution_s=ort_profile.RESOLUTION_S,
        )

    def executed_graph(self) -> Optional[str]:
        path = os.path.join(self._folder or "", GRAPH_FILE)
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            packed = base64.b64encode(zlib.compress(file.read(), 6))
        if len(packed) > MAX_GRAPH_BYTES:
            self.notes.append(f"the optimized graph takes {len(packed)} bytes without its weights and was left out")
            return None
        return packed.decode("ascii")

    def close(self) -> None:
        # Members are dropped one by one: a half-opened session has only some of them.
        for name in ("_binding", "_values", "_results", "_feeds", "_session"):
            self.__dict__.pop(name, None)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        self._pinned.release()


def _spinning_to_set(options: RuntimeOptions) -> Optional[bool]:
    """As asked. Else not with several streams: a thread that spins for its own takes the CPU from the others."""
    if options.spinning is None and options.streams > 1:
        return False
    return options.spinning


def _spinning(options: RuntimeOptions) -> str:
    if options.threads == 1:
        return "no worker threads"
    if options.spinning is not None:
        return "yes: as asked" if options.spinning else "no: as asked"
    return "yes" if options.streams == 1 else "no: it would disturb the other streams"


def is_one_to_one(options: RuntimeOptions) -> bool:
    """Exactly one CPU for each of several threads: each thread stays on its own. Several streams share them."""
    return options.streams == 1 and options.threads > 1 and len(options.affinity) == options.threads


def worker_affinities(options: RuntimeOptions) -> str:
    """One group for each thread but the calling one, ids counted from 1 (onnxruntime_session_options_config_keys.h)."""
    if is_one_to_one(options):
        return ";".join(str(cpu + 1) for cpu in options.affinity[1:])
    return ";".join([",".join(str(cpu + 1) for cpu in options.affinity)] * (options.threads - 1))


def _require_provider(ort: Any, options: RuntimeOptions) -> None:
    available = ort.get_available_providers()
    if options.provider and options.provider not in available:
        raise RuntimeRefusal(
            "bad-option",
            f"this onnxruntime {ort.__version__} has no execution provider {options.provider!r}",
            "available: " + ", ".join(available),
        )


def _require_level(options: RuntimeOptions) -> None:
    if options.optimization not in LEVELS:
        raise RuntimeRefusal(
            "bad-option", f"unknown optimization level {options.optimization!r}", "known: " + ", ".join(LEVELS)
        )


def _dtype(kind: str) -> str:
    """float32 from tensor(float); whatever is no tensor keeps its name."""
    inner = kind[len("tensor(") : -1] if kind.startswith("tensor(") else kind
    return DTYPES.get(inner, inner)


def _dims(shape: Optional[Sequence[Any]]) -> Tuple[Dim, ...]:
    return tuple(_dim(dim) for dim in shape or ())


def _dim(dim: Any) -> Dim:
    """Exporters of Paddle call every open dimension "?": that is no name which all of them share."""
    is_named = isinstance(dim, str) and dim != "?"
    return dim if is_named or (isinstance(dim, int) and dim > 0) else None


def _raw_bytes(tensor: TensorInfo, value: Any) -> bytes:
    if not value.has_value():
        return b""
    n = OUTPUT_BYTES[tensor.dtype]
    for dim in tensor.shape:
        n *= dim
    return ctypes.string_at(value.data_ptr(), n) if n else b""


def _python_bytes(value: Any) -> bytes:
    """Text and sequences have no raw form; their Python form is as repeatable."""
    if hasattr(value, "dtype") and value.dtype != object:
        return bytes(value.tobytes())
    return repr(value.tolist() if hasattr(value, "tolist") else value).encode()
