"""Convert the networks of export.py to TFLite by litert-torch: python tests/exports/convert.py (see README.md).

Run by hand, in an environment with torch 2.13.0, litert-torch 0.10.0, onnx and onnxruntime. GroupedDecoder is left out:
the converter cannot lower its grouped transposed convolutions.
"""

from __future__ import annotations

import lzma
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import export  # noqa: E402

NAMES = ("mobilenet_v3_small", "efficientnet_b0", "vit", "text_encoder", "unet", "audio")


def refill(data: bytearray) -> None:
    """Fill the large weights again, in place: batch norms were multiplied into them, which xz cannot see through."""
    model = schema.Model.GetRootAsModel(data, 0)
    for k in range(model.BuffersLength()):
        weights = model.Buffers(k).DataAsNumpy()
        if isinstance(weights, np.ndarray) and weights.nbytes >= 4 * export.BLOCK and weights.nbytes % 4 == 0:
            values = weights.view(np.float32)
            scale = 2 ** (round(4 * np.log2(float(values.std()) * np.sqrt(3.0))) / 4)
            values[:] = export.repeating(values.shape, scale, start=k).numpy()


def main() -> None:
    """Write every network as tests/exports/NAME.tflite.xz."""
    import litert_torch

    torch.backends.mha.set_fastpath_enabled(False)
    for spec in export.EXPORTS:
        if spec.name not in NAMES:
            continue
        network = spec.network().eval()
        export.fill(network)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.tflite"
            litert_torch.convert(network, (spec.example()[:1],)).export(str(path))
            data = bytearray(path.read_bytes())
        refill(data)
        packed = lzma.compress(bytes(data), preset=9 | lzma.PRESET_EXTREME)
        (HERE / f"{spec.name}.tflite.xz").write_bytes(packed)
        print(spec.name, len(data), len(packed))


if __name__ == "__main__":
    main()
