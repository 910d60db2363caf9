"""A tiny network and a folder of images, for tests that build something whole in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from netloupe.core.errors import InputError
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.data.images import as_seen
from netloupe.data.open import open_source
from netloupe.render.pictures import resized


class Tiny(nn.Module):
    """Two convolutions with an in-place ReLU between, and a classifier of four classes; one channel is dead."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5, padding=2)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 70, 3)
        self.fc = nn.Linear(70, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.conv1(x)))
        x = self.conv2(x).relu()
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def tiny_network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    module = Tiny()
    with torch.no_grad():
        module.conv1.weight[2] = 0
        module.conv1.bias[2] = -1.0
    return Network(
        module, InputSpec((24, 32), mean=(0.5,), std=(0.25,)), ["cat", "dog", "<b>'owl'</b>", "eel"], name="tiny"
    )


def write_photos(folder: Path, count: int = 12, seed: int = 0, size: tuple[int, int] = (48, 64)) -> Path:
    """`count` random but smooth PNG files of (height, width)."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC).save(folder / f"p{i:02d}.png")
    return folder


def thumbnails(folder: Path) -> dict[int, np.ndarray]:
    """By id the thumbnails (32, 32, 3) uint8 of the photographs in a folder that can be read, as `Tiny` sees them."""
    source = open_source(folder)
    found = {}
    for i in range(len(source)):
        try:
            found[i] = resized(as_seen(source.open(i), (24, 32)), (32, 32))
        except InputError:
            continue
    return found
