"""Collects the tensors and operators of a graph that is being built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from latency_models.graph import DeclaredInput, Graph, Operator, Tensor, size_of, with_work

__all__ = ["Recorder"]


class Recorder:
    """Tensors and operators so far, with names that are theirs alone."""

    def __init__(self, format: str) -> None:
        self._format = format
        self._tensors: dict[str, Tensor] = {}
        self._operators: list[Operator] = []
        self._inputs: list[str] = []
        self._n_constants = 0

    @property
    def operators(self) -> tuple[Operator, ...]:
        """What was added so far."""
        return tuple(self._operators)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors so far, in the order in which they came to be."""
        return tuple(self._tensors.values())

    def tensor(self, name: str) -> Tensor:
        """A tensor by name."""
        return self._tensors[name]

    def input(
        self, shape: tuple[int, ...], dtype: str = "float32", scale: float | None = None, zero_point: int = 0
    ) -> str:
        """An input of the graph; its name."""
        name = f"input_{len(self._inputs)}"
        self._inputs.append(name)
        return self._add(name, shape, dtype, scale=scale, zero_point=zero_point)

    def weights(
        self, shape: Sequence[int], dtype: str = "float32", scale: float | None = None, zero_point: int = 0
    ) -> str:
        """A constant whose values do not matter; its name."""
        self._n_constants += 1
        name = f"weights_{self._n_constants}"
        return self._add(name, tuple(shape), dtype, is_constant=True, scale=scale, zero_point=zero_point)

    def state(self, shape: Sequence[int], dtype: str = "float32") -> str:
        """A variable that the runtime keeps from one run to the next; its name."""
        self._n_constants += 1
        return self._add(f"state_{self._n_constants}", tuple(shape), dtype)

    def constant(self, values: Sequence[float], dtype: str, shape: Sequence[int] | None = None) -> str:
        """A small constant whose values tell the operator what to do; its name."""
        self._n_constants += 1
        dims = tuple(shape) if shape is not None else (len(values),)
        name = f"constant_{self._n_constants}"
        return self._add(name, dims, dtype, is_constant=True, values=tuple(float(value) for value in values))

    def add(
        self,
        type: str,
        inputs: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        attributes: Mapping[str, object] | None = None,
        *,
        dtype: str = "float32",
        domain: str = "",
        scale: float | None = None,
        zero_point: int = 0,
    ) -> tuple[str, ...]:
        """An operator with outputs of these shapes; their names."""
        index = len(self._operators)
        name = f"{type}_{index}"
        outputs = tuple(f"{name}_out{k}" if len(shapes) > 1 else f"{name}_out" for k in range(len(shapes)))
        for output, shape in zip(outputs, shapes, strict=True):
            self._add(output, tuple(shape), dtype, scale=scale, zero_point=zero_point)
        operator = Operator(
            index=index,
            name=name,
            type=type,
            inputs=tuple(inputs),
            outputs=outputs,
            attributes=dict(attributes or {}),
            domain=domain,
            name_is_invented=self._format == "tflite",
        )
        self._operators.append(with_work(self._format, operator, self._tensors))
        return outputs

    def graph(self, name: str, outputs: Sequence[str], version: int) -> Graph:
        """The graph."""
        return Graph(
            format=self._format,
            name=name,
            inputs=tuple(self._inputs),
            outputs=tuple(outputs),
            tensors=dict(self._tensors),
            operators=tuple(self._operators),
            version=version,
            declared=tuple(
                DeclaredInput(name=one, dtype=self._tensors[one].dtype, dims=self._tensors[one].shape)
                for one in self._inputs
            ),
            opsets={"": version},
        )

    def _add(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        is_constant: bool = False,
        values: tuple[float, ...] | None = None,
        scale: float | None = None,
        zero_point: int = 0,
    ) -> str:
        self._tensors[name] = Tensor(
            name=name,
            dtype=dtype,
            shape=shape,
            is_constant=is_constant,
            size_bytes=size_of(dtype, shape),
            values=values,
            scale=scale,
            zero_point=zero_point,
        )
        return name
