"""Models that are objects of this process and not files yet: onnx.ModelProto and torch.nn.Module.

Neither onnx nor torch is imported before such an object is there.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device_agents.wire import TensorInfo
from edgeprof.errors import ModelError, UsageError
from edgeprof.models.arrays import Array
from edgeprof.outputs import compare_arrays

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = ["is_onnx_model", "is_torch_module", "save_onnx_model", "save_torch_module"]

UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
LONGEST_NAME = 60
TOO_LARGE = "export it to a file with external data yourself, and profile the file"
INSTALL_TORCH = "pip install 'edgeprof[torch]'"


def is_onnx_model(model: object) -> bool:
    return _is_a(model, "onnx", "ModelProto")


def is_torch_module(model: object) -> bool:
    return _is_a(model, "torch.nn", "Module")


def _is_a(model: object, package: str, name: str) -> bool:
    return any(kind.__name__ == name and kind.__module__.startswith(package) for kind in type(model).__mro__)


def save_onnx_model(model: onnx.ModelProto, folder: Path, name: str | None = None) -> Path:
    """Write the model into `folder`, under its graph's name.

    Raises:
        ModelError: it cannot be written as one file.
    """
    try:
        data = model.SerializeToString()
    except Exception as error:  # protobuf has errors of its own for what is over 2 GB or lacks a required field
        raise ModelError(f"the onnx.ModelProto cannot be written: {error}", TOO_LARGE) from error
    path = folder / f"{_file_name(name or model.graph.name)}.onnx"
    path.write_bytes(data)
    return path


def _file_name(name: str) -> str:
    return UNFIT.sub("_", name)[:LONGEST_NAME].strip("._-") or "model"


def save_torch_module(
    module: torch.nn.Module, inputs: Any, folder: Path
) -> tuple[Path, dict[str, Array], tuple[str, ...]]:
    """Export the module as ONNX into `folder`, in eval mode; (the file, its inputs, notes on how true the export is).

    Args:
        module: comes back in the mode it was in.
        inputs: what its forward takes: a tensor, several in a tuple or list, or a mapping of names to tensors.
        folder: where to write.

    Raises:
        UsageError: there are no inputs, or they are no tensors; torch cannot export because onnxscript is missing.
        ModelError: the module cannot be exported.
    """
    import torch

    positional, named = _arguments(torch, inputs)
    name = type(module).__name__
    with _evaluating(module), torch.no_grad():
        program = _export(torch, module, positional, named, name)
        try:
            expected = module(*positional, **named)
        except Exception as error:
            raise ModelError(
                f"{name} does not run with the inputs given: {error}", "give the inputs it takes"
            ) from error
    path = save_onnx_model(program.model_proto, folder, name)
    note = f"torch {torch.__version__} exported {name}; {_fidelity(torch, path, positional, named, expected)}"
    values = [leaf.detach().cpu().numpy() for leaf in _leaves(torch, (positional, named))]
    names = [value.name for value in program.model_proto.graph.input]
    return path, dict(zip(names, values, strict=False)) if len(names) == len(values) else {}, (note,)


def _arguments(torch: Any, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if inputs is None:
        raise UsageError(
            "a torch module can only be exported with example inputs",
            "give what its forward takes, as in profile(net, inputs=torch.randn(1, 3, 224, 224))",
        )
    if isinstance(inputs, Mapping):
        return (), {name: _tensor(torch, value) for name, value in inputs.items()}
    several = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
    return tuple(_tensor(torch, value) for value in several), {}


def _tensor(torch: Any, value: Any) -> Any:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"an input is a {type(value).__name__}, not a tensor", "give tensors or arrays") from error


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Dropout and batch norm behave as they will on the device; every part's own mode comes back afterwards."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _export(torch: Any, module: Any, positional: tuple[Any, ...], named: dict[str, Any], name: str) -> Any:
    try:
        with warnings.catch_warnings():
            # About torch's own code, not about the module.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.onnx.export(module, positional, kwargs=named, dynamo=True, external_data=False, verbose=False)
    except ImportError as error:
        raise UsageError(f"torch cannot export to ONNX here: {error}", INSTALL_TORCH) from error
    except Exception as error:
        why = str(error).strip().split("\n")[0]
        raise ModelError(
            f"{name} cannot be exported as ONNX: {type(error).__name__}: {why}",
            "torch.onnx.export(..., report=True) says which part of it; or export it yourself and profile the file",
        ) from error


def _fidelity(torch: Any, path: Path, positional: tuple[Any, ...], named: dict[str, Any], expected: Any) -> str:
    """Whether the export computes what the module does, in words; a comparison that fails is no reason to stop."""
    try:
        given = [t.detach().cpu().numpy() for t in _leaves(torch, (positional, named))]
        found = _run_file(path, given)
        theirs = [t.detach().cpu().numpy() for t in _leaves(torch, expected)]
        if len(found) != len(theirs):
            return f"it has {len(found)} outputs, the module {len(theirs)}: not compared"
        rows = [
            compare_arrays(TensorInfo(str(k), str(b.dtype), b.shape), a.ravel(), b.ravel())
            for k, (a, b) in enumerate(zip(found, theirs, strict=True))
        ]
    except Exception as error:
        return f"its outputs could not be compared with the module's: {str(error).strip().splitlines()[0]}"
    worst = max(rows, key=lambda row: row.max_error_of_peak or 0.0)
    figures = f"max error {worst.max_error or 0.0:.2g}, of peak {worst.peak or 0.0:.3g}"
    return f"on the inputs given its outputs differ from the module's by at most: {figures}"


def _leaves(torch: Any, tree: Any) -> Sequence[Any]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _run_file(path: Path, given: Sequence[Any]) -> list[Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    found: list[Any] = session.run(None, dict(zip(names, given, strict=True)))
    return found
