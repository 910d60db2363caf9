"""Small exact networks and images for the tests of the sweep, and a plain reading of what a sweep should find.

Weights are small whole numbers and pixels multiples of 1/16, so that every activation is exact in float32: equal
images give equal activations in any batch, and the oracle may ask for equality.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from netloupe.core.errors import InputError
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.taps import LOGITS
from netloupe.data.sources import ImageSource
from netloupe.sweep.accumulator import Accumulator
from netloupe.sweep.classes import ClassMeans
from netloupe.sweep.peaks import Peaks
from netloupe.sweep.top import Strongest
from netloupe.sweep.vectors import Features, Predictions

SIDE = 8


class Tiny(nn.Module):
    """Two convolutions with an in-place ReLU, a block that hands on its last part, one channel dead, one constant."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.relu1 = nn.ReLU(inplace=True)
        self.block = nn.Sequential(nn.Conv2d(6, 5, 3, stride=2), nn.ReLU())
        self.fc = nn.Linear(5, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.relu1(self.conv1(x)))
        logits: Tensor = self.fc(x.amax((2, 3)))
        return logits


def tiny_network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    module = Tiny()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape).float())
        module.conv1.weight[1], module.conv1.bias[1] = 0, -1  # below zero everywhere
        module.conv1.weight[2], module.conv1.bias[2] = 0, 3  # the same everywhere
    return Network(module, InputSpec(size=(SIDE, SIDE)), name="tiny")


def tiny_images(count: int = 53, seed: int = 1) -> Tensor:
    """(count, 3, 8, 8) in [0, 1]; every fourth repeats an earlier one."""
    torch.manual_seed(seed)
    images = torch.randint(0, 17, (count, 3, SIDE, SIDE)).float() / 16
    for i in range(3, count, 4):
        images[i] = images[i // 2]
    return images


def source_of(
    images: np.ndarray,
    labels: Sequence[int | None] | None = None,
    broken: Sequence[int] = (),
    photographs: Sequence[int] | None = None,
) -> ImageSource:
    """A source of uint8 images (N, H, W, 3), some of which can't be read, or are pieces of one photograph."""

    def opener(i: int) -> Image.Image:
        if i in broken:
            raise InputError(f"image-{i}.png: not an image")
        return Image.fromarray(images[i])

    names = [f"image-{i}.png" for i in range(len(images))]
    return ImageSource("memory", names, opener, labels, photographs=photographs)


def all_accumulators(k: int = 9) -> dict[str, Accumulator]:
    return {
        "patches": Strongest(k),
        "varied": Strongest(k, per_photograph=2),
        "peaks": Peaks(),
        "classes": ClassMeans(),
        "features": Features("block"),
        "predictions": Predictions(),
    }


def flat_results(accumulators: dict[str, Accumulator]) -> dict[str, np.ndarray]:
    """Every array of every result by a name of its own."""
    found: dict[str, np.ndarray] = {}
    for name, accumulator in accumulators.items():
        result = accumulator.result()  # type: ignore[attr-defined]
        for layer, entry in (result if isinstance(result, dict) else {LOGITS: result}).items():
            fields = entry._asdict() if hasattr(entry, "_asdict") else vars(entry)
            for field, value in fields.items():
                found[f"{name}/{layer}/{field}"] = np.asarray(value)
    return found


def assert_equal_results(one: dict[str, np.ndarray], other: dict[str, np.ndarray], *, tolerance: float = 0.0) -> None:
    """The same arrays; float64 ones (sums) may differ by a relative `tolerance`."""
    assert one.keys() == other.keys()
    assert one
    for name, values in one.items():
        loose = tolerance if values.dtype == np.float64 else 0.0
        np.testing.assert_allclose(other[name], values, rtol=loose, atol=loose, err_msg=name)


def outputs(net: Network, images: Tensor) -> dict[str, np.ndarray]:
    """Layer -> (N, C, ...) float32 of all layers and the logits, one image at a time."""
    names = [*net.layers, LOGITS]
    parts = [net.activations(images[i : i + 1], names) for i in range(len(images))]
    return {name: np.concatenate([part[name].numpy() for part in parts]) for name in names}


def plain_peaks(maps: np.ndarray) -> np.ndarray:
    """(N, C) highest values over positions."""
    return maps.reshape(*maps.shape[:2], -1).max(2)


def plain_top(maps: np.ndarray, k: int, ids: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """values (C, k), images (C, k), positions (C, k, 2) by sorting Python tuples, channel by channel."""
    count, channels = maps.shape[:2]
    ids = range(count) if ids is None else ids
    values, images = np.full((channels, k), np.nan, np.float32), np.full((channels, k), -1)
    positions = np.full((channels, k, 2), -1)
    for c in range(channels):
        ranked = sorted((-float(maps[i, c].max()), ids[i], i) for i in range(count))
        for rank, (value, image, i) in enumerate(ranked[:k]):
            values[c, rank], images[c, rank] = -value, image
            one = maps[i, c]
            places = [(y, x) for y in range(one.shape[0]) for x in range(one.shape[1])] if one.ndim == 2 else [(0, 0)]
            positions[c, rank] = next(p for p in places if one.ndim == 0 or one[p] == -value)
    return values, images, positions
