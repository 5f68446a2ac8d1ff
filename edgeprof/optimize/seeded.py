"""Inputs made from a seed, for those who have no data: enough to see that a lossless change is one, and no more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from device_agents import inputs
from device_agents.wire import TensorInfo
from edgeprof.errors import InputError
from edgeprof.models.arrays import Array
from edgeprof.optimize.samples import Samples
from latency_models.graph import DeclaredInput

__all__ = ["N_SEEDED", "seeded"]

N_SEEDED = 16


def seeded(declared: Sequence[DeclaredInput], shapes: Mapping[str, tuple[int, ...]], seed: int) -> Samples:
    """The first of them are those that `edgeprof profile` makes of the same seed.

    Raises:
        InputError: an input is of a type that no seed makes (text).
    """
    tensors = [TensorInfo(item.name, str(item.dtype), shapes[item.name]) for item in declared]
    rows: list[dict[str, Array]] = []
    for k in range(N_SEEDED):
        try:
            data = inputs.make(tensors, seed + k)
        except KeyError as error:
            raise InputError(f"inputs of type {error} cannot be made from a seed", "give --data") from error
        rows.append(
            {
                tensor.name: np.frombuffer(block, np.dtype(tensor.dtype), count=math.prod(tensor.shape)).reshape(
                    tensor.shape
                )
                for tensor, block in zip(tensors, data, strict=True)
            }
        )
    values = {tensor.name: np.stack([row[tensor.name] for row in rows]) for tensor in tensors}
    return Samples(values=values, labels=None, source=f"{N_SEEDED} seeded inputs")
