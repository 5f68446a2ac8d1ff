"""Search spaces that come along, and those of a user: in TOML, or a class in a file of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeprof.errors import UsageError
from edgeprof.imports import imported
from edgeprof.search.space import SearchSpace
from edgeprof.search.spaces.layers import Layers
from edgeprof.search.spaces.nasbench201 import NasBench201
from edgeprof.search.spaces.once_for_all import OnceForAll, Stage
from edgeprof.search.spaces.sound import Sound
from edgeprof.search.spaces.transformer import Transformer

__all__ = ["SPACES", "Layers", "NasBench201", "OnceForAll", "Sound", "Stage", "Transformer", "space_of"]

SPACES: Mapping[str, type[SearchSpace]] = {
    "once-for-all": OnceForAll, "nasbench201": NasBench201, "sound": Sound, "transformer": Transformer,
}  # fmt: skip


def space_of(given: Mapping[str, Any], beside: Path) -> SearchSpace:
    """The space of a plan: `name` and its arguments, `python` and its arguments, or `input` and `layers`.

    Args:
        given: the table.
        beside: the folder in which a file of the user's is looked for.

    Raises:
        UsageError: there is no such space, or it has no such arguments.
    """
    arguments = {name: _frozen(value) for name, value in given.items() if name not in ("name", "python", "nni")}
    if "nni" in given:
        return _of_nni(str(given["nni"]), arguments, beside)
    if "python" in given:
        kind, words = imported(str(given["python"]), beside), str(given["python"])
    elif "layers" in given:
        return Layers(input=given.get("input", ()), layers=given["layers"], name=str(given.get("name", "layers")))
    else:
        words = str(given.get("name"))
        if words not in SPACES:
            raise UsageError(
                f"there is no space {words!r}", f"there are {', '.join(SPACES)}; or give layers, or python"
            )
        kind = SPACES[words]
        if "stages" in arguments:
            arguments["stages"] = tuple(Stage(*stage) for stage in arguments["stages"])
    if isinstance(kind, SearchSpace) and not arguments:
        return kind
    try:
        made = kind(**arguments)  # type: ignore[operator]
    except TypeError as error:
        raise UsageError(f"the space {words}: {error}", "give it the arguments that it has") from error
    if not isinstance(made, SearchSpace):
        raise UsageError(f"{words} makes no SearchSpace, but a {type(made).__name__}", "derive it from SearchSpace")
    return made


def _of_nni(path: str, arguments: dict[str, Any], beside: Path) -> SearchSpace:
    """A space of NNI, as `nni = "nni.nas.hub.pytorch:MobileNetV3Space"` with `input` and its arguments."""
    try:
        import nni.nas.nn.pytorch  # noqa: F401, so that a missing package is told from a wrong path
    except ImportError as error:
        raise UsageError("NNI is not there", "pip install 'edgeprof[nni]', in an environment of its own") from error
    from edgeprof.search.nni_space import NniSpace

    shape = arguments.pop("input", (3, 224, 224))
    kind = imported(path, beside)
    try:
        made = kind(**arguments) if isinstance(kind, type) else kind
    except TypeError as error:
        raise UsageError(f"the space {path}: {error}", "give it the arguments that it has") from error
    return NniSpace(made, shape)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value
