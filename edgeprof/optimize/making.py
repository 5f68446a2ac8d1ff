"""Every candidate of a model: what is made of it, in which order, and what the gate says of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgeprof.models.reading import ModelFile
from edgeprof.optimize.apart import CannotMake, call
from edgeprof.optimize.candidate import LOSSLESS, LOSSY, ORIGINAL, Candidate, Step, digest_of
from edgeprof.optimize.gate import Decision, Gate
from edgeprof.optimize.mixing import mixed
from edgeprof.optimize.samples import Samples

__all__ = ["Made", "Workshop", "quantised_already"]

Tell = Callable[[str], None]
ORT, LITERT = "onnxruntime", "ai-edge-quantizer"
METHODS = ("minmax", "percentile", "entropy")
OWN = "edgeprof"
# Module, function and tool of what may be mixed with float.
STATIC_ONNX = ("onnx_quantized", "static", ORT)
STATIC_TFLITE = ("tflite_quantized", "quantise", LITERT)
# What others are made from, and so made always.
BASE = "fixed-shapes"
LEFT_OUT = "left out"


@dataclass(frozen=True, kw_only=True)
class Made:
    """A candidate with what the gate says, or why there is none."""

    name: str
    kind: str
    decision: Decision
    candidate: Candidate | None = None

    @property
    def twin(self) -> str:
        """What files have in common that differ only in how they were calibrated; empty where that is no question."""
        return self.name.rpartition("-")[0] if self.name.endswith(METHODS) else ""

    @property
    def bound(self) -> float:
        """What may be lost; infinite where that is not known."""
        return self.decision.loss.bound if self.decision.loss is not None else float("inf")

    @property
    def is_accepted(self) -> bool:
        return self.candidate is not None and self.decision.accepted


@dataclass
class Workshop:
    """Where candidates of one model are made, in `folder`; each is held against the original by `gate` at once.

    `calibration` None: nothing lossy. `own_processor`: the device's is of this machine's kind, so that a file may be
    laid out for it here. `only`: beginnings of the names of what is made, all where it is empty.
    `names` are those of all that was thought of, in the end.
    """

    model: ModelFile
    folder: Path
    gate: Gate
    calibration: Samples | None
    own_processor: bool
    sensitivity_s: float = 300.0
    only: tuple[str, ...] = ()
    tell: Tell = lambda text: None
    names: list[str] = field(default_factory=list)
    _steps: dict[Path, tuple[Step, ...]] = field(default_factory=dict)

    @cached_property
    def original(self) -> Candidate:
        return Candidate(name=ORIGINAL, kind=ORIGINAL, path=self.model.path, format=self.model.format)

    def candidates(self) -> Iterator[Made]:
        """One after the other, each made and judged when it is asked for."""
        return (one for one in self._all() if one.decision.reason != LEFT_OUT)

    def _all(self) -> Iterator[Made]:
        if self.model.format == "onnx":
            yield from self._lossless_onnx()
            if self.calibration is not None:
                yield from self._lossy_onnx(self.calibration)
        else:
            yield from self._lossless_tflite()
            if self.calibration is not None:
                yield from self._lossy_tflite(self.calibration)

    # --- lossless ---

    def _lossless_onnx(self) -> Iterator[Made]:
        shapes = {name: list(shape) for name, shape in self.model.inputs.shapes.items()}
        source = self.original
        fixed = self.make("fixed-shapes", LOSSLESS, source, "fixing", "fix_onnx", OWN, {"shapes": shapes})
        yield fixed
        source = fixed.candidate if fixed.is_accepted and fixed.candidate is not None else source
        slim = self.make("slim", LOSSLESS, source, "tidying", "slim", "onnxslim")
        yield slim
        rewritten = self.make("rewritten", LOSSLESS, source, "rewriting", "rewrite", OWN)
        yield rewritten
        best = slim.candidate if slim.is_accepted and slim.candidate is not None else source
        if rewritten.is_accepted:
            both = rewritten
            if best is not source:
                both = self.make("slim+rewritten", LOSSLESS, best, "rewriting", "rewrite", OWN)
                yield both
            best = both.candidate if both.is_accepted and both.candidate is not None else best
        yield self.make("as-tflite", LOSSLESS, source, "converting", "to_tflite", "onnx2tf", format="tflite")
        level = "all" if self.own_processor else "extended"
        yield self.make(f"offline-{level}", LOSSLESS, best, "tidying", "optimize_offline", ORT, {"level": level})

    def _lossless_tflite(self) -> Iterator[Made]:
        yield self.make("fixed-shapes", LOSSLESS, self.original, "fixing", "fix_tflite", OWN)

    # --- lossy ---

    def _lossy_onnx(self, calibration: Samples) -> Iterator[Made]:
        base = self._unjudged("prepared", self._base(), "onnx_quantized", "prepare", ORT)
        if isinstance(base, Made):
            yield replace(base, name="static-int8")
            base = self._base()
        else:
            data = self._calibration_file(calibration)
            for activations in ("u8", "s8"):
                yield from self._static_onnx(base, activations, data, list(calibration.values))
        yield self.make("dynamic-int8", LOSSY, base, "onnx_quantized", "dynamic", ORT)
        yield self.make("float16", LOSSY, self._base(), "onnx_quantized", "half", ORT)
        yield self.make("weight-only-int8", LOSSY, self._base(), "onnx_quantized", "weight_only", OWN)

    def _static_onnx(self, base: Candidate, activations: str, data: str, names: list[str]) -> Iterator[Made]:
        """By channel with each way to calibrate; by tensor, and with weights of seven bits, with the best of them.

        Mixed where none of all these keeps the budget.
        """
        found = []
        for method in METHODS:
            arguments = self._arguments(data, names, activations, method)
            found.append((self._static(f"static-{activations}-channel-{method}", base, arguments), arguments))
            yield found[-1][0]
        best, arguments = min(found, key=lambda pair: pair[0].bound)
        if best.candidate is None and best.decision.reason != LEFT_OUT:
            return
        method = arguments["method"]
        for name, change in (("tensor", {"per_channel": False}), ("channel-7bit", {"seven_bits": True})):
            changed = {**arguments, **change}
            found.append((self._static(f"static-{activations}-{name}-{method}", base, changed), changed))
            yield found[-1][0]
        best, arguments = min(found, key=lambda pair: pair[0].bound)
        if not any(made.is_accepted for made, _ in found):
            yield from mixed(self, f"mixed-{activations}", base, STATIC_ONNX, arguments, self.sensitivity_s)

    def _arguments(self, data: str, names: list[str], activations: str, method: str) -> dict[str, Any]:
        return {
            "samples": data,
            "names": names,
            "activations": activations,
            "per_channel": True,
            "seven_bits": False,
            "method": method,
            "cache": str(self.folder.absolute() / f"ranges-{method}.json"),
        }

    def _static(self, name: str, base: Candidate, arguments: Mapping[str, Any]) -> Made:
        return self.make(name, LOSSY, base, *STATIC_ONNX, arguments)

    def _lossy_tflite(self, calibration: Samples) -> Iterator[Made]:
        data, names = self._calibration_file(calibration), list(calibration.values)
        arguments: dict[str, Any] = {"recipe": "static-int8", "samples": data, "names": names}
        static = self.make("static-int8", LOSSY, self._base(), *STATIC_TFLITE, arguments)
        yield static
        if static.candidate is not None and not static.is_accepted:
            yield from mixed(self, "mixed-int8", self._base(), STATIC_TFLITE, arguments, self.sensitivity_s)
        for recipe in ("dynamic-int8", "weight-only-int8"):
            yield self.make(recipe, LOSSY, self._base(), *STATIC_TFLITE, {"recipe": recipe})

    # --- one ---

    def make(
        self,
        name: str,
        kind: str,
        source: Candidate,
        module: str,
        function: str,
        tool: str,
        arguments: Mapping[str, Any] | None = None,
        format: str | None = None,
    ) -> Made:
        """Have a transform write a file, and the gate judge it."""
        self.names.append(name)
        if self.only and not name.startswith((*self.only, BASE)):
            return Made(name=name, kind=kind, decision=Decision(accepted=False, reason=LEFT_OUT))
        self.tell(f"{name}: making")
        made = self._unjudged(name, source, module, function, tool, arguments, kind, format)
        if isinstance(made, Made):
            return made
        self.tell(f"{name}: judging")
        return Made(name=name, kind=kind, candidate=made, decision=self.gate.decide(made))

    def _unjudged(
        self,
        name: str,
        source: Candidate,
        module: str,
        function: str,
        tool: str,
        arguments: Mapping[str, Any] | None = None,
        kind: str = LOSSLESS,
        format: str | None = None,
    ) -> Candidate | Made:
        format = format or source.format
        target = self.folder / f"{self.model.path.stem}.{name}.{format}"
        try:
            answer = call(
                module,
                function,
                {"source": str(source.path.resolve()), "target": str(target.absolute()), **(arguments or {})},
            )
        except CannotMake as error:
            target.unlink(missing_ok=True)
            return Made(name=name, kind=kind, decision=Decision(accepted=False, reason=str(error)))
        step = Step(
            digest=digest_of(target),
            file_name=target.name,
            transform=name,
            tool=tool,
            tool_version=_version(answer, tool),
            options={key: _told(value) for key, value in (arguments or {}).items() if key not in ("samples", "cache")},
        )
        return Candidate(name=name, kind=kind, path=target, format=format, steps=(*source.steps, step))

    def _base(self) -> Candidate:
        """What lossy files are made from: the original with its shapes fixed, where they were not."""
        fixed = self.folder / f"{self.model.path.stem}.fixed-shapes.{self.model.format}"
        if not fixed.is_file():
            return self.original
        step = Step(
            digest=digest_of(fixed),
            file_name=fixed.name,
            transform="fixed-shapes",
            tool=OWN,
            tool_version=_version(None, OWN),
        )
        return Candidate(name="fixed-shapes", kind=LOSSLESS, path=fixed, format=self.model.format, steps=(step,))

    def _calibration_file(self, calibration: Samples) -> str:
        path = self.folder.absolute() / "calibration.npz"
        if not path.is_file():
            arrays = {f"input{k}": array for k, array in enumerate(calibration.values.values())}
            np.savez(path, **arrays)  # type: ignore[arg-type]
        return str(path)


def _version(answer: Any, tool: str) -> str:
    """As the transform told it; our own is edgeprof's."""
    from edgeprof import __version__

    if tool == OWN:
        return __version__
    return str(answer.get("version", "")) if isinstance(answer, dict) else str(answer or "")


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def quantised_already(model: ModelFile) -> str:
    """Which of its operators or weights say that it is quantised; empty where none does."""
    kinds = {operator.type for operator in model.graph.operators}
    for kind in sorted(kinds):
        if kind.startswith(("QLinear", "QuantizeLinear", "DequantizeLinear", "DynamicQuantize")) or kind.endswith(
            "Integer"
        ):
            return kind
    weights = {tensor.dtype for tensor in model.graph.tensors.values() if tensor.is_constant}
    if model.format == "tflite" and "int8" in weights:
        return "weights of int8"
    return ""
