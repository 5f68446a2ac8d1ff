"""The host: reach devices, profile models on them, remember, report.

    import edgeprof

    profile = edgeprof.profile("model.onnx", "pi5")

What is offered here is imported when it is first used, so that the command line starts fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeprof.api import Device, Profile, profile

__all__ = ["Device", "Profile", "__version__", "profile"]

__version__ = "0.1.0"

if not TYPE_CHECKING:  # else every misspelt name would have a type

    def __getattr__(name: str) -> Any:
        if name in __all__:
            return getattr(import_module("edgeprof.api"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
