"""Spaces of NNI (extra `nni`) as ours: those of `nni.nas.hub`, or any `ModelSpace` whose choices are lists."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgeprof.errors import UsageError
from edgeprof.search.space import Architecture, Gene, SearchSpace
from latency_models.building import BuildError, GraphBuilder, Value
from latency_models.graph import Graph
from latency_models.reading import read

if TYPE_CHECKING:
    import torch

__all__ = ["NniSpace"]


class NniSpace(SearchSpace):
    """A `ModelSpace` of NNI. Its nets are torch modules: files are what torch exports, and only ONNX.

    To train them takes a function of one's own (`accuracy.by = "function"`), which is given the module.
    """

    def __init__(self, space: Any, input: Sequence[int], name: str = "") -> None:
        """Of a ModelSpace, and the shape of one sample (channels, height, width).

        Raises:
            UsageError: it is none, or has choices that are no lists.
        """
        self._space, self._input = space, tuple(input)
        self.name = name or type(space).__name__
        try:
            choices = space.simplify()
        except AttributeError as error:
            raise UsageError(
                f"{type(space).__name__} is no ModelSpace of NNI", "name one of nni.nas.hub.pytorch"
            ) from error
        genes = []
        for label, mutable in choices.items():
            values = getattr(mutable, "values", None)
            if not isinstance(values, list | tuple):
                raise UsageError(
                    f"{label} of {self.name} is a {type(mutable).__name__}, and no list of choices",
                    "make it an nni.choice",
                )
            numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)
            genes.append(Gene(str(label), tuple(values), numbers))
        self._labels, self._genes = list(choices), tuple(genes)

    @property
    def genes(self) -> tuple[Gene, ...]:
        return self._genes

    def build(self, net: GraphBuilder, architecture: Architecture) -> Value:
        raise BuildError(f"nets of {self.name} are torch modules: train them by a function of your own")

    def module(self, architecture: Architecture, seed: int = 0) -> torch.nn.Module:
        """The net as NNI makes it, not trained.

        Raises:
            BuildError: NNI cannot make it.
        """
        import torch

        sample = {
            label: gene.choices[value]
            for label, gene, value in zip(self._labels, self._genes, architecture, strict=True)
        }
        torch.manual_seed(seed)
        try:
            made: torch.nn.Module = self._space.freeze(sample)
        except Exception as error:  # whatever the space raises: some draws of the hub are no nets
            raise BuildError(f"NNI cannot make {self.describe(architecture)}: {error}") from error
        return made

    def model(self, architecture: Architecture, format: str = "onnx", seed: int = 0) -> bytes:
        """The file that torch exports.

        Raises:
            BuildError: the format is not ONNX, or torch cannot export the net.
        """
        import torch

        if format != "onnx":
            raise BuildError(f"nets of {self.name} are torch modules, which become ONNX files alone")
        file = io.BytesIO()
        module = self.module(architecture, seed).eval()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # The older exporter: the newer one needs onnxscript, whose pins and NNI's do not go together.
                torch.onnx.export(module, (torch.zeros(1, *self._input),), file, dynamo=False)
        except Exception as error:  # torch has many
            raise BuildError(f"torch cannot export {self.name}: {error}") from error
        return file.getvalue()

    def graph(self, architecture: Architecture, format: str = "onnx") -> Graph:
        return read(self.model(self.canonical(architecture), format), name=self.name)
