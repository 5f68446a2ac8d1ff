"""Tools that tidy a graph and change nothing of what it computes: onnxslim, and ONNX Runtime's optimiser, offline."""

from __future__ import annotations

from edgeprof.optimize.apart import CannotMake

__all__ = ["optimize_offline", "slim"]

LEVELS = {"all": "ORT_ENABLE_ALL", "extended": "ORT_ENABLE_EXTENDED"}


def slim(source: str, target: str) -> str:
    """onnxslim: constants folded, what does nothing removed; its version."""
    import onnx
    import onnxslim

    slimmed = onnxslim.slim(onnx.load(source))
    if slimmed is None:
        raise CannotMake("onnxslim gives nothing")
    onnx.save(slimmed, target)
    return str(onnxslim.__version__)


def optimize_offline(source: str, target: str, level: str) -> str:
    """What ONNX Runtime makes of it when it loads, written down, so that a device need not do it; its version.

    `level` is "all" where the file is for this very kind of processor: it lays data out for its registers.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[level])
    options.optimized_model_filepath = target
    options.log_severity_level = 3
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return str(onnxruntime.__version__)
