"""Export well-known networks from torch as ONNX files: true topologies and widths, weights that compress.

    python3 -m venv .cache/torch-venv
    .cache/torch-venv/bin/pip install torch==2.13.0 onnxscript==0.7.2 onnxruntime==1.32.0
    .cache/torch-venv/bin/python tests/exports/export.py

Writes tests/exports/NAME.onnx.xz and prints what onnxruntime makes of each. Weights come from one repeating block of
pseudo-random numbers, scaled as He's initialisation would, each parameter from another place in it: no tensor is all
zero or all one, no two are equal, and xz shrinks the files to little more than their graphs. All are evaluation graphs
with batch norm statistics that are not the defaults.
"""

from __future__ import annotations

import itertools
import lzma
import math
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from torch import nn

HERE = Path(__file__).parent
OPSET = 20
BLOCK = 1021  # a prime: a repetition never falls together with a row or a channel
TOKENS, VOCABULARY = 64, 1000


# --- MobileNetV3-small ---------------------------------------------------------------------------------------------


def conv_bn(i: int, o: int, kernel: int, stride: int = 1, groups: int = 1, activation: nn.Module | None = None):
    layers = [nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]
    return nn.Sequential(*layers, *([activation] if activation else []))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, squeezed: int, inner: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)
        self.inner, self.gate = inner, gate

    def forward(self, x):
        return x * self.gate(self.fc2(self.inner(self.fc1(self.pool(x)))))


class InvertedResidual(nn.Module):
    def __init__(self, i, hidden, o, kernel, stride, activation, excite=None) -> None:
        super().__init__()
        self.has_shortcut = stride == 1 and i == o
        layers = [conv_bn(i, hidden, 1, activation=activation())] if hidden != i else []
        layers.append(conv_bn(hidden, hidden, kernel, stride, hidden, activation()))
        layers += [excite] if excite else []
        self.block = nn.Sequential(*layers, conv_bn(hidden, o, 1))

    def forward(self, x):
        return x + self.block(x) if self.has_shortcut else self.block(x)


class MobileNetV3Small(nn.Module):
    """Table 2 of "Searching for MobileNetV3"."""

    ROWS = (  # kernel, hidden, out, squeeze and excite, hard swish, stride
        (3, 16, 16, True, False, 2), (3, 72, 24, False, False, 2), (3, 88, 24, False, False, 1),
        (5, 96, 40, True, True, 2), (5, 240, 40, True, True, 1), (5, 240, 40, True, True, 1),
        (5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1),
        (5, 288, 96, True, True, 2), (5, 576, 96, True, True, 1), (5, 576, 96, True, True, 1),
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        layers, i = [conv_bn(3, 16, 3, 2, activation=nn.Hardswish())], 16
        for kernel, hidden, o, excites, swishes, stride in self.ROWS:
            squeezed = max(8, round(hidden / 4 / 8) * 8)
            excite = SqueezeExcite(hidden, squeezed, nn.ReLU(), nn.Hardsigmoid()) if excites else None
            activation = nn.Hardswish if swishes else nn.ReLU
            layers.append(InvertedResidual(i, hidden, o, kernel, stride, activation, excite))
            i = o
        layers.append(conv_bn(96, 576, 1, activation=nn.Hardswish()))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(576, 1024), nn.Hardswish(), nn.Linear(1024, 1000))

    def forward(self, x):
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))


# --- EfficientNet-B0 -----------------------------------------------------------------------------------------------


class EfficientNetB0(nn.Module):
    """Table 1 of "EfficientNet: Rethinking Model Scaling"."""

    STAGES = (  # expansion, out, repeats, kernel, stride
        (1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2), (6, 112, 3, 5, 1), (6, 192, 4, 5, 2),
        (6, 320, 1, 3, 1),
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        stages, i = [conv_bn(3, 32, 3, 2, activation=nn.SiLU())], 32
        for expansion, o, repeats, kernel, stride in self.STAGES:
            blocks = []
            for k in range(repeats):
                excite = SqueezeExcite(i * expansion, max(1, i // 4), nn.SiLU(), nn.Sigmoid())
                first = stride if k == 0 else 1
                blocks.append(InvertedResidual(i, i * expansion, o, kernel, first, nn.SiLU, excite))
                i = o
            stages.append(nn.Sequential(*blocks))
        stages.append(conv_bn(320, 1280, 1, activation=nn.SiLU()))
        self.features = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x):
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))


# --- transformers --------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Written out, as many vision transformers do, so that an exporter shows its matrix products."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(q @ k.transpose(-2, -1) * self.scale, dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))


class TransformerLayer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """ViT-Ti/16 of "DeiT" at half its depth: 6 layers of width 192 with 3 heads."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 192, 16, 16)
        self.class_token = nn.Parameter(torch.zeros(1, 1, 192))
        self.position = nn.Parameter(torch.zeros(1, 197, 192))
        self.layers = nn.ModuleList(TransformerLayer(192, 3) for _ in range(6))
        self.norm, self.head = nn.LayerNorm(192), nn.Linear(192, 1000)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


class TextEncoder(nn.Module):
    """The encoder of "Attention is all you need", 4 layers of width 128, over int64 tokens, by torch's classes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(VOCABULARY, 128), nn.Parameter(torch.zeros(TOKENS, 128))
        layer = nn.TransformerEncoderLayer(128, 4, 512, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(128, 16)

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens) + self.position).mean(dim=1))


# --- U-Net, grouped and transposed convolutions, audio -------------------------------------------------------------


class DoubleConv(nn.Sequential):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(conv_bn(i, o, 3, activation=nn.ReLU()), conv_bn(o, o, 3, activation=nn.ReLU()))


class UNet(nn.Module):
    """ "U-Net", padded, four levels, a quarter of its widths."""

    def __init__(self, widths=(16, 32, 64, 128)) -> None:
        super().__init__()
        self.down = nn.ModuleList(DoubleConv(i, o) for i, o in zip((3, *widths), widths, strict=False))
        self.pool = nn.MaxPool2d(2)
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, 2) for i, o in pairs)
        self.merge = nn.ModuleList(DoubleConv(i, o) for i, o in pairs)
        self.head = nn.Conv2d(widths[0], 2, 1)

    def forward(self, x):
        skips = []
        for k, level in enumerate(self.down):
            x = level(x if k == 0 else self.pool(x))
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            x = merge(torch.cat([skip, up(x)], dim=1))
        return self.head(x)


class ResNeXtBlock(nn.Module):
    def __init__(self, i: int, o: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1 = conv_bn(i, o // 2, 1, activation=nn.ReLU())
        self.conv2 = conv_bn(o // 2, o // 2, 3, stride, groups, nn.ReLU())
        self.conv3 = conv_bn(o // 2, o, 1)
        self.shortcut = conv_bn(i, o, 1, stride) if stride != 1 or i != o else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.shortcut(x) + self.conv3(self.conv2(self.conv1(x))))


class GroupedDecoder(nn.Module):
    """Blocks of "ResNeXt" (8 groups), and a decoder of grouped and plain transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 32, 7, 2, activation=nn.ReLU())
        rows = ((32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1))
        self.blocks = nn.Sequential(*(ResNeXtBlock(i, o, stride, 8) for i, o, stride in rows))
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(128, 64, 4, 2, 1, groups=8), nn.BatchNorm2d(64), nn.LeakyReLU(0.1),
            nn.ConvTranspose2d(64, 32, 3, 2, 1, output_padding=1), nn.PReLU(32),
            nn.ConvTranspose2d(32, 8, 4, 2, 1, groups=4), nn.ELU(), nn.Conv2d(8, 3, 3, padding=1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, x):
        return self.decoder(self.blocks(self.stem(x)))


class AudioNet(nn.Module):
    """Strided convolutions over 1 s of sound at 16 kHz, a GRU in both directions, an LSTM, two heads."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 16, 32, 64)
        layers = []
        for i, o in itertools.pairwise(widths):
            layers += [nn.Conv1d(i, o, 10, 5, 4), nn.GroupNorm(4, o), nn.GELU()]
        self.features = nn.Sequential(*layers)
        self.gru = nn.GRU(64, 48, batch_first=True, bidirectional=True)
        self.lstm = nn.LSTM(96, 64, batch_first=True)
        self.voice, self.speaker = nn.Linear(64, 1), nn.Linear(64, 32)

    def forward(self, sound):
        x, _ = self.gru(self.features(sound).transpose(1, 2))
        x, _ = self.lstm(x)
        return torch.sigmoid(self.voice(x)), self.speaker(x[:, -1])


# --- exporting -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Export:
    """A file to make. `by` is torch's exporter: "dynamo", or "torchscript", the one before it."""

    name: str
    network: Callable[[], nn.Module]
    example: Callable[[], torch.Tensor]
    by: str = "dynamo"
    input: str = "x"
    outputs: tuple[str, ...] = ("y",)
    has_dynamic_batch: bool = True
    quantised: tuple[str, ...] = field(default=())


def picture(side: int) -> Callable[[], torch.Tensor]:
    return lambda: repeating((2, 3, side, side), 1.0)


def tokens() -> torch.Tensor:
    return (torch.arange(2 * TOKENS) * 37 % VOCABULARY).reshape(2, TOKENS)


EXPORTS = (
    Export("mobilenet_v3_small", MobileNetV3Small, picture(224), quantised=("static",)),
    Export("mobilenet_v3_small_ts", MobileNetV3Small, picture(224), by="torchscript"),
    Export("efficientnet_b0", EfficientNetB0, picture(224)),
    Export("vit", VisionTransformer, picture(224)),
    Export("text_encoder", TextEncoder, tokens, input="tokens", quantised=("static", "dynamic")),
    Export("text_encoder_ts", TextEncoder, tokens, by="torchscript", input="tokens"),
    Export("unet", UNet, picture(128)),
    Export("grouped_decoder", GroupedDecoder, picture(96)),
    Export(
        "audio", AudioNet, lambda: repeating((1, 1, 16000), 1.0), input="sound", outputs=("voice", "speaker"),
        has_dynamic_batch=False,  # the initial state of torch's recurrent layers has the example's batch
    ),
)  # fmt: skip


def repeating(shape: tuple[int, ...], scale: float, centre: float = 0.0, start: int = 0) -> torch.Tensor:
    """A tensor filled from the one block of numbers in [-1, 1), begun at `start`, times `scale` around `centre`."""
    block = np.random.default_rng(0).uniform(-1.0, 1.0, BLOCK).astype(np.float32)
    return torch.from_numpy(np.resize(np.roll(block, -start), shape) * np.float32(scale) + np.float32(centre))


def fill(module: nn.Module) -> None:
    """Give every parameter and statistic values that keep activations in a sane range, and that are not special."""
    with torch.no_grad():
        for k, (name, value) in enumerate((*module.named_parameters(), *module.named_buffers())):
            if not value.is_floating_point():
                continue
            if name.endswith("running_var") or is_scale(module, name):
                scale, centre = 0.3, 1.0
            elif value.ndim > 1:
                scale, centre = math.sqrt(3.0 / max(1, value[0].numel())), 0.0
            else:
                scale, centre = 0.1, 0.0
            value.copy_(repeating(tuple(value.shape), scale, centre, start=k))


def refill(path: Path) -> None:
    """Fill the large weights of a file again: exporters multiply batch norms into them, which xz cannot see through.

    Stack traces that the exporter left name files of this machine: they keep the part below this repository.
    """
    model = onnx.load(path)
    for entry in (entry for node in model.graph.node for entry in node.metadata_props):
        entry.value = entry.value.replace(f"{HERE.parents[1]}/", "")
    for k, tensor in enumerate(model.graph.initializer):
        if tensor.data_type == onnx.TensorProto.FLOAT and math.prod(tensor.dims) >= BLOCK:
            # Steps of a quarter power of two: few different scales, so that many tensors share their bytes.
            scale = 2 ** (round(4 * math.log2(float(numpy_helper.to_array(tensor).std()) * math.sqrt(3.0))) / 4)
            filled = repeating(tuple(tensor.dims), scale, start=k).numpy()
            tensor.CopyFrom(numpy_helper.from_array(filled, tensor.name))
    onnx.save(model, path)


def is_scale(module: nn.Module, name: str) -> bool:
    """Whether a parameter multiplies what a normalisation layer made."""
    owner, _, last = name.rpartition(".")
    return last == "weight" and isinstance(module.get_submodule(owner), nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm)


def export(spec: Export, path: Path) -> None:
    network = spec.network().eval()
    fill(network)
    names = {"input_names": [spec.input], "output_names": list(spec.outputs)}
    if spec.by == "dynamo":
        batch = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)} if spec.has_dynamic_batch else {}
        torch.onnx.export(
            network, (spec.example(),), path, dynamo=True, opset_version=OPSET, external_data=False, verbose=False,
            **names, **batch,
        )  # fmt: skip
        return
    batch = {"dynamic_axes": {name: {0: "batch"} for name in (spec.input, *spec.outputs)}}
    # TransformerEncoderLayer's fused fast path has no counterpart in ONNX.
    torch.backends.mha.set_fastpath_enabled(False)
    torch.onnx.export(network, (spec.example(),), str(path), dynamo=False, opset_version=17, **names, **batch)


class Calibration(CalibrationDataReader):
    def __init__(self, spec: Export) -> None:
        self.batches = iter([{spec.input: spec.example().numpy()}])

    def get_next(self):
        return next(self.batches, None)


def quantise(kind: str, spec: Export, source: Path, path: Path) -> None:
    """onnxruntime's own: "static" is QDQ, u8 activations and s8 weights per channel; "dynamic" is s8 weights."""
    if kind == "dynamic":
        quantize_dynamic(source, path, weight_type=QuantType.QInt8)
        return
    quantize_static(
        source, path, Calibration(spec), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip


def finish(spec: Export, path: Path) -> None:
    """Check that onnxruntime runs it with all optimisations and gives finite numbers; then compress."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {spec.input: spec.example().numpy()})
    if not all(np.isfinite(value).all() and np.ptp(value) > 0 for value in outputs):
        raise SystemExit(f"{path.name}: an output is not finite, or constant")
    content = path.read_bytes()
    if str(HERE.parents[1]).encode() in content:
        raise SystemExit(f"{path.name}: names a folder of this machine")
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 26}]
    packed = lzma.compress(content, format=lzma.FORMAT_XZ, filters=filters)
    (HERE / f"{path.name}.xz").write_bytes(packed)
    largest = max(float(np.abs(value).max()) for value in outputs)
    print(f"{path.name}: {len(content):,} bytes, {len(packed):,} compressed, outputs up to {largest:.3g}", flush=True)


def main() -> None:
    warnings.simplefilter("ignore")
    wanted = set(sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        for spec in EXPORTS:
            if wanted and spec.name not in wanted:
                continue
            path = Path(folder) / f"{spec.name}.onnx"
            export(spec, path)
            refill(path)
            finish(spec, path)
            for kind in spec.quantised:
                quantised = Path(folder) / f"{spec.name}_{kind}_int8.onnx"
                quantise(kind, spec, path, quantised)
                finish(spec, quantised)


if __name__ == "__main__":
    main()
