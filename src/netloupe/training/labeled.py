"""Labeled images in memory: how they are read, cropped at random, and scored."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.identity import Stamped
from netloupe.core.watch import SILENT, Watch
from netloupe.data.bands import eight_bits
from netloupe.data.labels import required
from netloupe.data.sources import ImageSource, read_batches


@dataclass(frozen=True)
class Images:
    """A labeled set in memory: pixels (N, C, H, W) uint8, labels (N,) int64.

    left_out: how many images of the source are not in it, for being broken or without a label. names: of each, where
    they have any.
    """

    pixels: Tensor
    labels: Tensor
    left_out: int = 0
    names: Sequence[str] = ()

    def to(self, device: torch.device) -> Images:
        """The same set on a device."""
        return Images(self.pixels.to(device), self.labels.to(device), self.left_out, self.names)

    def some(self, most: int) -> Images:
        """At most `most` of them, evenly apart."""
        count = min(most, len(self.labels))
        ids = torch.arange(count) * len(self.labels) // max(count, 1)
        return Images(self.pixels[ids], self.labels[ids])

    def check(self, classes: int, what: str) -> None:
        """Raise InputError unless there are images and every label is a class in [0, classes)."""
        if len(self.labels) == 0:
            raise InputError(f"no {what} images with a label")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= classes:
            raise InputError(f"{what} labels from {low} to {high} (accepted: 0 to {classes - 1})")

    def stamped(self) -> Stamped:
        """What a saved state is of: the labels and pixels."""
        labels, pixels = self.labels.tolist(), self.pixels.cpu().contiguous().numpy()
        stamps = [f"{label} {zlib.crc32(image)}" for label, image in zip(labels, pixels, strict=True)]
        return Stamped(self.names or [f"image {i}" for i in range(len(labels))], stamps)


def read_labeled(source: ImageSource, size: int, watch: Watch = SILENT, *, channels: int = 3) -> Images:
    """All labeled images of a source, decoded at `size` px square. Broken and unlabeled images are left out.

    Raises InputError if the source has no labels.
    """
    required(source, "training")
    pixels = torch.empty((len(source), channels, size, size), dtype=torch.uint8)
    labels: list[int] = []
    names: list[str] = []
    part = watch.part("reading images", len(source))
    for batch in read_batches(source, size, channels, workers=max(2, os.cpu_count() or 2)):
        for i, image in zip(batch.ids.tolist(), batch.pixels, strict=True):
            label = source.label(i)
            if label is not None:
                pixels[len(labels)] = torch.from_numpy(eight_bits(image)).permute(2, 0, 1)
                labels.append(label)
                names.append(source.names[i])
        part.advance(len(batch.ids) + len(batch.skipped))
    count = len(labels)
    return Images(pixels[:count], torch.tensor(labels, dtype=torch.int64), len(source) - count, names)


def random_crops(pixels: Tensor, side: int, smallest: float, generator: torch.Generator) -> Tensor:
    """Random crops of (N, C, H, W) uint8, resized to (N, C, side, side) float in [0, 255], half of them mirrored.

    Area share uniform in [smallest, 1], aspect ratio log-uniform in [3/4, 4/3], place uniform inside the image
    (the crop of Szegedy et al. 2014), bilinear. A crop that would be longer than the image is cut to its length.
    """
    count = len(pixels)
    draw = torch.rand((5, count), generator=generator)
    area = smallest + (1 - smallest) * draw[0]
    aspect = ((draw[1] * 2 - 1) * math.log(4 / 3)).exp()
    height, width = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    theta = torch.zeros((count, 2, 3))
    theta[:, 0, 0] = width * torch.where(draw[4] < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = (draw[2] * 2 - 1) * (1 - width)
    theta[:, 1, 2] = (draw[3] * 2 - 1) * (1 - height)
    grid = F.affine_grid(theta.to(pixels.device), [count, pixels.shape[1], side, side], align_corners=False)
    return F.grid_sample(pixels.float(), grid, padding_mode="reflection", align_corners=False)


@dataclass(frozen=True)
class Score:
    """Loss (mean cross-entropy, nats) and accuracy on a labeled set, shares in [0, 1].

    by_class: the top-1 share of each class, None for a class without images.
    """

    loss: float
    top1: float
    top5: float
    by_class: list[float | None] = field(repr=False)


def score(logits: Callable[[Tensor], Tensor], images: Images, classes: int, *, batch_size: int = 250) -> Score:
    """Loss and accuracy of `logits` (pixels (N, C, H, W) uint8 -> (N, classes)) on a labeled set.

    Raises InputError if there are no images, or labels beyond the classes.
    """
    images.check(classes, "scored")
    with torch.no_grad():
        out = torch.cat([logits(part).cpu() for part in images.pixels.split(batch_size)])
    labels = images.labels.cpu()
    best = out.topk(min(5, classes)).indices == labels[:, None]
    right, count = torch.zeros(classes), torch.zeros(classes)
    right.index_add_(0, labels, best[:, 0].float())
    count.index_add_(0, labels, torch.ones(len(labels)))
    shares = zip(right.tolist(), count.tolist(), strict=True)
    return Score(
        loss=float(F.cross_entropy(out, labels)),
        top1=float(best[:, 0].float().mean()),
        top5=float(best.any(1).float().mean()),
        by_class=[hits / all_of_it if all_of_it else None for hits, all_of_it in shares],
    )
