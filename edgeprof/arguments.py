"""What a caller of the Python API handed over, read into what the profiler takes; a wrong value is a `UsageError`."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from device_agents import wire
from edgeprof.errors import UsageError
from edgeprof.fleet import Device, Fleet
from edgeprof.models import ModelFile, read_arrays, read_model
from edgeprof.models.arrays import UNNAMED, Array
from edgeprof.models.in_memory import is_onnx_model, is_torch_module, save_onnx_model, save_torch_module
from edgeprof.places import fleet_file, store_place
from edgeprof.profiling import Settings

__all__ = ["at_least", "clock_caps_of", "device_of", "model_file", "place_of", "seconds", "shapes_of"]


def at_least(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name} cannot be {value!r}", f"give a whole number of at least {least}")
    return value


def seconds(name: str, value: float, least: float = 0.0) -> float:
    if not (isinstance(value, (int, float)) and math.isfinite(value) and value >= least):
        raise UsageError(f"{name} cannot be {value!r}", f"give seconds, at least {least:g}")
    return float(value)


def shapes_of(shapes: Mapping[str, Sequence[int]] | None) -> dict[str, tuple[int, ...]]:
    if shapes is not None and not isinstance(shapes, Mapping):
        raise UsageError(f"shapes is {shapes!r}", "give a mapping, as in shapes={'x': (1, 3, 224, 224)}")
    return {name: _shape(name, dims) for name, dims in (shapes or {}).items()}


def _shape(name: str, dims: Sequence[int]) -> tuple[int, ...]:
    if isinstance(dims, (str, int)):
        raise UsageError(
            f"the shape of {name!r} is {dims!r}", "give whole numbers, as in shapes={'x': (1, 3, 224, 224)}"
        )
    return tuple(at_least(f"a dimension of {name!r}", dim, 1) for dim in dims)


def clock_caps_of(caps: Mapping[str, float] | None) -> tuple[wire.ClockCap, ...]:
    advice = "give clocks in Hz by cpufreq policy, as in clock_caps={'policy0': 1.2e9}"
    if caps is not None and not isinstance(caps, Mapping):
        raise UsageError(f"clock_caps is {caps!r}", advice)
    for policy, max_hz in (caps or {}).items():
        if isinstance(max_hz, bool) or not (isinstance(max_hz, (int, float)) and 0 < max_hz < math.inf):
            raise UsageError(f"the clock of {policy} cannot be capped at {max_hz!r}", advice)
    return tuple(wire.ClockCap(policy, float(max_hz)) for policy, max_hz in (caps or {}).items())


def device_of(device: str | Device | None) -> Device:
    """The device that a name, an address or nothing stands for."""
    if isinstance(device, Device):
        return device
    fleet = Fleet.read(fleet_file())
    if device is None:
        return fleet.device("local")
    if ":" not in device:
        return fleet.device(device)
    known = next((one for one in fleet.devices if one.address == device), None)
    if known is not None:
        return known
    unnamed = Device(name="device", address=device)
    fleet.check(unnamed)
    return Device(name=unnamed.host or unnamed.board or "local", address=device)


def place_of(store: bool | str | PathLike[str] | None) -> str | Path:
    if store is True:
        return store_place()
    return store if isinstance(store, str) else Path(str(store))


@contextmanager
def model_file(model: Any, inputs: Any, settings: Settings) -> Iterator[tuple[ModelFile, tuple[str, ...]]]:
    """The model as a file, with notes on how it became one; a private copy is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="edgeprof-model-") as folder:
        notes: tuple[str, ...] = ()
        values: dict[str, Array] | None = None
        if is_torch_module(model):
            path, exported, notes = save_torch_module(model, inputs, Path(folder))
            values = exported or None
        else:
            values = _values(inputs)
            if is_onnx_model(model):
                path = save_onnx_model(model, Path(folder))
            elif isinstance(model, (str, PathLike)):
                path = Path(model)
            else:
                raise UsageError(
                    f"a {type(model).__name__} is no model", "give a file, an onnx.ModelProto or a torch.nn.Module"
                )
        options = settings.options
        yield read_model(path, shapes=options.shapes, batch=options.batch, values=values), notes


def _values(inputs: Any) -> dict[str, Array] | None:
    """Arrays by the name of their input; the only one may be without a name."""
    if inputs is None:
        return None
    if isinstance(inputs, (str, PathLike)):
        return read_arrays(Path(inputs))
    named = inputs if isinstance(inputs, Mapping) else {UNNAMED: inputs}
    arrays = {str(name): np.asarray(value) for name, value in named.items()}
    for name, array in arrays.items():
        if array.dtype == object:
            raise UsageError(
                f"the values of input {name!r} are no array of numbers", "give a numpy array, as in inputs={'x': array}"
            )
    return arrays
