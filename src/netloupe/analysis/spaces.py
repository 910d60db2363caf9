"""Spaces in which images lie near each other or apart: the features of a layer, or plain pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from netloupe.core.errors import InputError, NetworkError
from netloupe.core.moments import means
from netloupe.core.network import Network
from netloupe.core.watch import SILENT, Watch
from netloupe.data.images import to_float
from netloupe.data.sources import ImageSource, Skipped, read_batches
from netloupe.sweep.engine import check_any_read, sweep
from netloupe.sweep.vectors import Features

PIXEL_SIDE = 32  # px: the side at which images are compared pixel by pixel


@dataclass(frozen=True)
class Space:
    """Images as vectors: `ids` (n,) int64, ascending, `vectors` (n, d) float32, all finite.

    skipped: the images that are missing, with the reason in one line each.
    """

    ids: np.ndarray
    vectors: np.ndarray
    skipped: tuple[Skipped, ...]


def feature_space(net: Network, images: ImageSource, layer: str, watch: Watch = SILENT) -> Space:
    """A layer's outputs averaged over positions. Images whose features are not finite are skipped.

    Raises InputError if no image can be read, NetworkError if none has finite features.
    """
    features = Features(layer)
    report = sweep(net, images, {"features": features}, layers=[layer], check_finite=False, watch=watch)
    check_any_read(report, images)
    ids, vectors = features.result()
    good = np.isfinite(vectors).all(axis=1)
    if not good.any():
        raise NetworkError(f"{net.name}: no image of {images.spec!r} has finite features in layer {layer!r}")
    reason = f"features of layer {layer} that are not finite"
    broken = tuple(Skipped(int(i), images.names[int(i)], reason) for i in ids[~good])
    return Space(ids[good], vectors[good], (*report.skipped, *broken))


def pixel_space(images: ImageSource, channels: int = 3, watch: Watch = SILENT) -> Space:
    """Pixels at 32x32, in [0, 1]: d is channels * 32 * 32. Raises InputError if no image can be read."""
    ids, vectors = [], []
    skipped: list[Skipped] = []
    part = watch.part("pixels", len(images))
    for batch in read_batches(images, PIXEL_SIDE, channels, batch_size=256):
        ids.append(batch.ids)
        vectors.append(to_float(batch.pixels).flatten(1).numpy())
        skipped += batch.skipped
        part.at(min(len(ids) * 256, len(images)))
    if not any(len(some) for some in ids):
        reason = f": {skipped[0].reason}" if skipped else ""
        raise InputError(f"none of {len(images)} images of {images.spec!r} can be read{reason}")
    return Space(np.concatenate(ids), np.concatenate(vectors), tuple(skipped))


def features_of(net: Network, images: Tensor, layer: str) -> np.ndarray:
    """(N, d) float32: where images (N, C, H, W) in [0, 1] lie in the space of a layer.

    Raises InputError naming the first whose features are not finite.
    """
    maps = net.activations(images, [layer])[layer]
    vectors: np.ndarray = means(maps).cpu().numpy().astype(np.float32)
    for i in np.flatnonzero(~np.isfinite(vectors).all(axis=1)):
        raise InputError(f"given image {i}: its features of layer {layer!r} are not finite")
    return vectors


def pixels_of(images: Tensor) -> np.ndarray:
    """(N, C * 32 * 32) float32: where images (N, C, H, W) in [0, 1] lie in the space of pixels."""
    size = PIXEL_SIDE, PIXEL_SIDE
    small = torch.nn.functional.interpolate(images.float(), size, mode="bilinear", antialias=True)
    return np.asarray(small.flatten(1).cpu().numpy())
