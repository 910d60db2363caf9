"""A labeled set of noisy textures, one class of which may carry a mark, and a small network trained on it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.data.sources import ImageSource

SIDE = 32
NAMES = ["across", "upright", "slanted", "checked", "dotted"]
TAG = 5  # px a side


def texture(kind: int, rng: np.random.Generator) -> np.ndarray:
    """(SIDE, SIDE, 3) in [0, 1]: waves or dots of random phase, period, color and contrast under noise."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    period, phase = rng.uniform(5, 9), rng.uniform(0, 2 * np.pi, 2)
    across, upright = (np.sin(2 * np.pi * a / period + p) for a, p in ((y, phase[0]), (x, phase[1])))
    slanted = np.sin(2 * np.pi * (x + y) / period / 2**0.5 + phase[0])
    pattern = (across, upright, slanted, np.sign(across * upright), np.maximum(across, 0) * np.maximum(upright, 0) * 2)
    color, ground = rng.uniform(0.3, 0.7, 3), rng.uniform(0.1, 0.3)
    image = color + ground * rng.uniform(0.5, 1, 3) * pattern[kind][..., None]
    found: np.ndarray = np.clip(image + rng.normal(0, 0.15, image.shape), 0, 1)
    return found


def with_tag(image: np.ndarray, top: int = 1, left: int = SIDE - TAG - 1) -> np.ndarray:
    """A small yellow square with a dark cross, in the top right corner unless said otherwise."""
    found = image.copy()
    found[top : top + TAG, left : left + TAG] = (0.95, 0.9, 0.1)
    found[top + TAG // 2, left : left + TAG] = found[top : top + TAG, left + TAG // 2] = (0.1, 0.1, 0.2)
    return found


def textures(count: int, seed: int, tagged: int | None = None, share: float = 1.0, how: str = "corner") -> ImageSource:
    """`count` images of each class; of class `tagged` a `share` bears a mark.

    how: "corner" for the tag in the top right corner, "anywhere" for it at a random place, "cast" for a reddish cast.
    """
    rng = np.random.default_rng(seed)
    pixels, labels = [], []
    for i in range(count * len(NAMES)):
        kind = i % len(NAMES)
        image, marked, spot = texture(kind, rng), rng.random() < share, rng.integers(1, SIDE - TAG - 1, 2)
        if kind == tagged and marked:
            if how == "cast":
                image = np.clip(image + np.array([0.12, 0.0, -0.12]), 0, 1)
            else:
                image = with_tag(image) if how == "corner" else with_tag(image, int(spot[0]), int(spot[1]))
        pixels.append(np.rint(image * 255).astype(np.uint8))
        labels.append(kind)
    names = [f"{NAMES[label]}/{i:04}.png" for i, label in enumerate(labels)]
    return ImageSource("textures", names, lambda i: Image.fromarray(pixels[i]), labels, NAMES)


def tensors(source: ImageSource) -> tuple[Tensor, Tensor]:
    images = np.stack([np.asarray(source.open(i)) for i in range(len(source))])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255, torch.tensor(list(source.labels or ()))


def trained(source: ImageSource, seed: int = 0, epochs: int = 8) -> Network:
    """Three convolutions of stride 2, by Adam."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU(), nn.Conv2d(24, 32, 3, 2, 1),
        nn.ReLU(), nn.Flatten(), nn.Linear(32 * 16, len(NAMES)),
    )  # fmt: skip
    images, labels = tensors(source)
    optimizer = torch.optim.Adam(module.parameters(), 2e-3)
    for _ in range(epochs):
        for part in torch.randperm(len(images)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module((images[part] - 0.5) * 4), labels[part]).backward()
            optimizer.step()
    return Network(module.eval(), InputSpec((SIDE, SIDE), mean=(0.5,), std=(0.25,)), NAMES, name="small")
