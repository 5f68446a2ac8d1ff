"""What is known of a product of matrices."""

from __future__ import annotations

from latency_models.features.reading import fills
from latency_models.kernels import KernelSpec, Operand

__all__ = ["MATRIX_TYPES", "describe_product"]

MATRIX_TYPES = frozenset(
    (
        "Gemm", "MatMul", "FusedGemm", "FusedMatMul", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul", "TransposeMatMul", "FULLY_CONNECTED", "BATCH_MATMUL",
    )
)  # fmt: skip


def describe_product(kernel: KernelSpec, found: dict[str, float]) -> str:
    present = [one for one in kernel.inputs if one is not None and len(one.shape) >= 1 and one.count > 1]
    left = present[0] if present else Operand(dtype=None, shape=(1,))
    right = next((one for one in present[1:] if len(one.shape) >= 2), None)
    result = kernel.outputs[0]
    columns = result.shape[-1] if result.shape else 1
    is_dense = right is not None and right.is_constant
    macs = found["macs"]
    rows = result.shape[-2] if len(result.shape) > 1 else 1
    matrices = result.count / max(1, rows * columns)
    if is_dense:
        rows, matrices = result.count // max(1, columns), 1.0
    depth = macs / result.count if macs and result.count else float(left.shape[-1] if left.shape else 1)
    if not macs:
        found["macs"] = depth * result.count
        found["intensity"] = found["macs"] / max(1.0, found["bytes"])
    found.update(rows=float(rows), depth=depth, columns=float(columns), matrices=matrices)
    found.update(fills(round(depth), columns, rows))
    swaps = ("transA", "transB", "transBatchA", "transBatchB", "adj_x", "adj_y")
    found["transposed"] = float(sum(bool(kernel.attributes.get(name)) for name in swaps))
    return "dense" if is_dense else "matrix product"
