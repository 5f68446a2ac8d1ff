"""A session over the Python Interpreter of tflite-runtime, which ai-edge-litert has kept."""

import ctypes
import re
from typing import Any, Dict, List, Optional, Protocol, Sequence, Tuple

from device_agents.machine import Machine
from device_agents.runtimes import RuntimeRefusal, xnnpack
from device_agents.runtimes.callback_recording import CallbackRecording, Profiler
from device_agents.runtimes.options import Pinned, affinity_text
from device_agents.runtimes.tensors import Dim, concrete_shapes, require_sizes, require_supported
from device_agents.wire import Job, TensorInfo


class AttachedProfiler(Profiler, Protocol):
    def attach(self, interpreter: Any, library_path: str) -> None:
        """Make the interpreter report to this profiler."""


class InterpreterSession(CallbackRecording):
    """`module` is tflite_runtime.interpreter or ai_edge_litert.interpreter."""

    def __init__(
        self,
        module: Any,
        names: Tuple[str, str],
        import_s: float,
        job: Job,
        model_path: str,
        machine: Machine,
        profiler: Optional[AttachedProfiler] = None,
        library_path: str = "",
    ) -> None:
        self.runtime_version, api = names
        self.import_s = import_s
        self.notes: List[str] = []
        self._module = module
        self._job = job
        super().__init__(profiler)
        self._pinned = Pinned(job.options.affinity)
        try:
            start = machine.now()
            self._interpreter = self._load(model_path)
            self.load_s = machine.now() - start
            if profiler is not None:
                profiler.attach(self._interpreter, library_path)
            shapes = self._concrete_shapes()
            start = machine.now()
            self._initialise(shapes)
            self.initialise_s = machine.now() - start
            self.inputs = self._infos(self._interpreter.get_input_details())
            self.outputs = self._infos(self._interpreter.get_output_details())
            self.in_force = {
                "api": api,
                "threads": str(job.options.threads),
                "affinity": affinity_text(job.options.affinity),
                **self._delegation(),
            }
            if self.in_force["xnnpack"].startswith("not active"):
                self.notes += xnnpack.what_is_missing(machine)
        except BaseException:
            self.close()
            raise

    # --- opening -------------------------------------------------------------------------------------------------

    def _load(self, model_path: str) -> Any:
        options = self._job.options
        settings: Dict[str, Any] = {"model_path": model_path, "num_threads": options.threads}
        if not options.xnnpack:
            kinds = self._module.OpResolverType
            settings["experimental_op_resolver_type"] = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        if options.delegate:
            settings["experimental_delegates"] = [self._load_delegate(options.delegate)]
        try:
            return self._module.Interpreter(**settings)
        except Exception as error:
            refusal = refusal_for(error, self._job.model.name)
            if options.delegate and refusal.kind == "model-invalid":
                refusal = RuntimeRefusal(
                    "delegate-failed",
                    f"{options.delegate} could not be applied: {error}",
                    "check the delegate's options and its driver on the device",
                    refusal.detail,
                )
            raise refusal from error

    def _load_delegate(self, path: str) -> Any:
        try:
            # Looked up here first: failing inside load_delegate makes its destructor fail as well, and print that.
            ctypes.CDLL(path).tflite_plugin_create_delegate  # noqa: B018
            return self._module.load_delegate(path, dict(self._job.options.delegate_options))
        except Exception as error:
            raise RuntimeRefusal(
                "delegate-failed",
                f"the delegate {path} cannot be loaded: {error}",
                "give the path, on the device, of a library built for its architecture and TFLite version",
            ) from error

    def _concrete_shapes(self) -> Tuple[Tuple[int, ...], ...]:
        details = self._interpreter.get_input_details()
        shapes, notes = concrete_shapes([(detail["name"], _dims(detail)) for detail in details], self._job.options)
        self.notes += notes
        declared = tuple(TensorInfo(detail["name"], _dtype(detail), shape) for detail, shape in zip(details, shapes))
        require_supported(declared)
        return shapes

    def _initialise(self, shapes: Sequence[Tuple[int, ...]]) -> None:
        try:
            for detail, shape in zip(self._interpreter.get_input_details(), shapes):
                if tuple(detail["shape"].tolist()) != shape:
                    self._interpreter.resize_tensor_input(detail["index"], list(shape))
            self._interpreter.allocate_tensors()
        except Exception as error:
            raise refusal_for(error, self._job.model.name) from error

    def _delegation(self) -> Dict[str, str]:
        """Delegates replace the nodes they take by nodes of their own, which end the list of operators."""
        options = self._job.options
        try:
            operators = self._interpreter._get_ops_details()
        except (AttributeError, RuntimeError, ValueError):
            told = {"xnnpack": "unknown: this interpreter does not list its operators" if options.xnnpack else "off"}
        else:
            n_parts = sum("DELEGATE" in operator["op_name"].upper() for operator in operators)
            told = {"delegated_parts": str(n_parts), "xnnpack": _xnnpack(options.xnnpack, options.delegate, n_parts)}
            if options.delegate and n_parts == 0:
                self.notes.append(f"{options.delegate} took no node of this model")
        if options.delegate:
            told["delegate"] = options.delegate
        return told

    def _infos(self, details: Sequence[Dict[str, Any]]) -> Tuple[TensorInfo, ...]:
        return tuple(
            TensorInfo(detail["name"], _dtype(detail), tuple(max(1, size) for size in detail["shape"].tolist()))
            for detail in details
        )

    # --- running -------------------------------------------------------------------------------------------------

    def set_inputs(self, data: Sequence[bytes]) -> None:
        require_sizes(self.inputs, data)
        for detail, block in zip(self._interpreter.get_input_details(), data):
            view = self._interpreter.tensor(detail["index"])()
            memory = memoryview(view.reshape(-1).view("uint8"))
            memory[:] = block

    def run(self) -> None:
        try:
            self._interpreter.invoke()
        except Exception as error:
            raise refusal_for(error, self._job.model.name) from error

    def read_outputs(self) -> List[bytes]:
        arrays = [self._interpreter.get_tensor(detail["index"]) for detail in self._interpreter.get_output_details()]
        self.outputs = tuple(
            TensorInfo(tensor.name, tensor.dtype, tuple(array.shape)) for tensor, array in zip(self.outputs, arrays)
        )
        return [bytes(array.tobytes()) for array in arrays]

    def close(self) -> None:
        # The interpreter goes before the profiler whose callbacks it calls; a half-opened session has no interpreter.
        self.__dict__.pop("_interpreter", None)
        self._pinned.release()


def refusal_for(error: BaseException, model: str) -> RuntimeRefusal:
    """The interpreter's RuntimeErrors and ValueErrors, told by their messages."""
    words = " ".join(str(error).split())[:400] or type(error).__name__
    if isinstance(error, MemoryError) or re.search(r"bad_alloc|[Ff]ailed to allocate memory|out of memory", words):
        return RuntimeRefusal("out-of-memory", f"{model}: {words}", "use smaller shapes, or a smaller model")
    if re.search(r"[Uu]nresolved custom op|Didn't find op|Missing registration|unsupported.*op", words):
        return RuntimeRefusal(
            "unsupported-operator",
            f"{model}: {words}",
            "use a newer runtime (--runtime litert), or replace this operator when converting the model",
        )
    return RuntimeRefusal("model-invalid", f"{model}: {words}", "convert the model again, or try another runtime")


def _xnnpack(is_wanted: bool, delegate: Optional[str], n_parts: int) -> str:
    if not is_wanted:
        return "off"
    if delegate:
        return "unknown: the delegated parts may be those of the delegate that was asked for"
    return f"active: delegated parts of the graph: {n_parts}" if n_parts else "not active: it took no node"


def _dims(detail: Dict[str, Any]) -> Tuple[Dim, ...]:
    """The signature has -1 where the file leaves a dimension open; old files have none."""
    signature = detail["shape_signature"].tolist() or detail["shape"].tolist()
    return tuple(None if dim < 1 else int(dim) for dim in signature)


def _dtype(detail: Dict[str, Any]) -> str:
    name: str = detail["dtype"].__name__
    return "string" if name in ("bytes_", "str_", "object_") else name.rstrip("_")
