"""Decoded JSON into typed dataclasses, checking every field, on a device that has nothing but the standard library."""

import dataclasses
import math
from typing import Any, Type, TypeVar, Union, get_args, get_origin, get_type_hints


class WireError(Exception):
    """A line from the peer that is not what the protocol allows."""


T = TypeVar("T")


def build(kind: Type[T], value: Any, path: str) -> T:
    """Turn decoded JSON into `kind`, checking every field; unknown fields are ignored, as on the host.

    Raises:
        WireError: names the first wrong field by its path.
    """
    return _build(kind, value, path)  # type: ignore[no-any-return]


def _build(kind: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, path)
    origin, args = get_origin(kind), get_args(kind)
    if origin is Union:
        return None if value is None else _build(args[0], value, path)
    if origin is tuple:
        items = _expect(list, value, path)
        return tuple(_build(args[0], item, f"{path}[{k}]") for k, item in enumerate(items))
    if origin is dict:
        return {key: _build(args[1], item, f"{path}.{key}") for key, item in _expect(dict, value, path).items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, float) and not math.isfinite(value):
        raise WireError(f"{path}: expected a finite number")
    return _expect(kind, value, path)


def _build_dataclass(kind: Any, value: Any, path: str) -> Any:
    raw = _expect(dict, value, path)
    hints = get_type_hints(kind)
    values = {}
    for item in dataclasses.fields(kind):
        if item.name in raw:
            values[item.name] = _build(hints[item.name], raw[item.name], f"{path}.{item.name}")
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise WireError(f"{path}: {item.name} is missing")
    return kind(**values)


def _expect(kind: Any, value: Any, path: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise WireError(f"{path}: expected {kind.__name__}, got {type(value).__name__}")
    return value
