"""Scores of nets that were not trained, by what they do with samples and by their weights."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from edgeprof.search.learning.fitting import as_input
from edgeprof.search.learning.module import Net

__all__ = ["naswot", "synflow"]


@torch.no_grad()
def naswot(net: Net, x: NDArray[np.float32]) -> float:
    """How well the signs of what is activated tell samples apart: the log determinant of their likeness."""
    likeness = torch.zeros(len(x), len(x), dtype=torch.float64)

    def hear(activated: torch.Tensor) -> None:
        signs = (activated.flatten(1) > 0).double()
        likeness.add_(signs @ signs.T + (1 - signs) @ (1 - signs).T)

    net.listener = hear
    try:
        net.train()
        net(as_input(x, net))
    finally:
        net.listener = None
    return float(torch.linalg.slogdet(likeness).logabsdet)


def synflow(net: Net) -> float:
    """The logarithm of what flows from an input of ones to the output through the absolute values of all weights."""
    signs = {}
    with torch.no_grad():
        for name, one in net.named_parameters():
            signs[name] = torch.sign(one)
            one.abs_()
    try:
        net.eval()
        shape = tuple(dim or 0 for dim in net.tape.graph.shape(net.tape.graph.inputs[0]) or ())
        net.zero_grad()
        net(torch.ones(shape)).sum().backward()
        flows = [float((one.detach() * one.grad).abs().sum()) for one in net.parameters() if one.grad is not None]
    finally:
        with torch.no_grad():
            for name, one in net.named_parameters():
                one.mul_(signs[name])
        net.zero_grad()
    return float(np.log1p(sum(flows)))
