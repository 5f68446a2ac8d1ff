"""Train MobileNetV2 (width 1.0) on the digits of scikit-learn, enlarged to 96 x 96, and write what `optimize` needs.

    python mobilenet_on_digits.py --seed 0 --out mobilenet

writes into that folder `mobilenet.onnx`, `data.npz` (to optimize with: what the net was trained on is not in it) and
`held_back.npz` (to see whether a promise was kept), and prints the accuracy on both. Takes two to five minutes.
Needs edgeprof with the extras torch and search.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

# Sandler et al., MobileNetV2, 2018, table 2: expansion, channels, repeats, stride.
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
SIDE, CLASSES = 96, 10
N_TRAIN, N_DATA = 1000, 400


class Bottleneck(nn.Module):
    """Widen, filter each channel, narrow; with a shortcut where the shape stays."""

    def __init__(self, inside: int, outside: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [nn.Conv2d(inside, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()]
        layers += [nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()]
        layers += [nn.Conv2d(wide, outside, 1, bias=False), nn.BatchNorm2d(outside)]
        self.layers = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and inside == outside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.has_shortcut else self.layers(x)


def mobilenet() -> nn.Module:
    """Width 1.0, with a last layer for ten digits."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()]
    inside = 32
    for expansion, channels, repeats, stride in BLOCKS:
        for k in range(repeats):
            layers.append(Bottleneck(inside, channels, stride if k == 0 else 1, expansion))
            inside = channels
    layers += [nn.Conv2d(inside, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, CLASSES))


def digits(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All 1,797 in an order of the seed: images (n, 3, 96, 96) between -1 and 1, and labels (n,)."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = np.random.default_rng(seed).permutation(len(raw.target))
    small = torch.from_numpy(raw.images[order]).float()[:, None] / 8.0 - 1.0
    images = functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return images.expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(raw.target[order])


def train(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int, seed: int) -> None:
    """Adam with one cycle of the rate; images are shifted by up to an eighth."""
    torch.manual_seed(seed)
    size = 32
    steps = epochs * (len(images) // size)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-4)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for k in range(len(images) // size):
            batch = order[k * size : (k + 1) * size]
            down, right = (int(one) for one in torch.randint(-12, 13, (2,)))
            shifted = torch.roll(images[batch], (down, right), dims=(2, 3)).to(memory_format=torch.channels_last)
            loss = functional.cross_entropy(net(shifted), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()


def accuracy(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Top-1."""
    net.eval()
    with torch.no_grad():
        found = torch.cat([net(part).argmax(1) for part in images.split(128)])
    return float((found == labels).float().mean())


def main() -> None:
    """Train, write, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("mobilenet"))
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    images, labels = digits(options.seed)
    net = mobilenet().to(memory_format=torch.channels_last)
    train(net, images[:N_TRAIN], labels[:N_TRAIN], options.epochs, options.seed)
    net = net.to(memory_format=torch.contiguous_format)
    options.out.mkdir(parents=True, exist_ok=True)
    parts = {"data": slice(N_TRAIN, N_TRAIN + N_DATA), "held_back": slice(N_TRAIN + N_DATA, None)}
    found = {name: accuracy(net, images[part], labels[part]) for name, part in parts.items()}
    for name, part in parts.items():
        np.savez(options.out / f"{name}.npz", image=images[part].numpy(), labels=labels[part].numpy())
    torch.onnx.export(
        net.eval(),
        (images[:1],),
        options.out / "mobilenet.onnx",
        input_names=["image"],
        output_names=["logits"],
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    print(json.dumps({"seed": options.seed, **{f"{name}_accuracy": round(one, 4) for name, one in found.items()}}))


if __name__ == "__main__":
    main()
