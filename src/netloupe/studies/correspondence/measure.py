"""Whether a network changes its features alike where the same part is hidden in different images.

Zeiler & Fergus 2013, section 4.4 and Table 1. x_i are the features of image i at a layer, x~_i those of the image with
the part hidden, e_i = x_i - x~_i. Delta = sum over i != j of H(sign(e_i), sign(e_j)), H being the Hamming distance: low
where hiding the part does the same to all images. Squares at random places are the control.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.core.errors import InputError, NetworkError
from netloupe.core.network import Network
from netloupe.core.perform import decided, finished, function_of
from netloupe.core.watch import SILENT, Watch
from netloupe.data.sources import ImageSource, pixel_reader
from netloupe.studies.correspondence import figure
from netloupe.studies.correspondence.record import RANDOM, Correspondence, by_chance, unlike
from netloupe.studies.correspondence.task import CorrespondenceTask
from netloupe.studies.points import TWO_FACES, find_points, photo_faces, read_points


@function_of(CorrespondenceTask)
def correspondence(
    net: Network,
    images: Tensor,
    parts: Mapping[str, np.ndarray],
    layers: Sequence[str] | None = None,
    *,
    names: Iterable[str] | None = None,
    notes: Iterable[str] = (),
    watch: Watch = SILENT,
    **settings: Any,
) -> Correspondence:
    """The signs of what hiding each part changes in images (N, C, H, W) in [0, 1], compared between images.

    parts: name -> (N, 2), (y, x) in px of the input, NaN for an image without it.
    What is hidden is cut off at the edges of the image and has the data set's mean color; random squares lie wholly
    inside it. A part that fewer than two images have is left out and noted. Each image goes through the network by
    itself, so that features that can't see the square stay the same to the last bit.
    Raises InputError for images, parts, square or draws that can't be used, and where no part is left; UnknownName for
    a layer; NetworkError for features that are not finite.
    """
    task = CorrespondenceTask.of({"layers": layers, **settings})
    found = measure(task, net, images, parts, names, notes, watch)
    return finished(found, task, net, {"images": images})


def run(task: CorrespondenceTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Correspondence:
    source: ImageSource = inputs["data"]
    size = net.inputs.size
    if "points" in inputs:
        found = read_points(inputs["points"], source, size)
        notes = [f"left out: {note}" for note in found.notes]
    elif source.opened == "photos":
        found, notes = find_points(photo_faces(), source, size), [TWO_FACES]
    else:
        raise InputError(
            f"where the parts are in {source.opened!r} is not known "
            "(fix: --points FILE; the atlas's #/points writes one)"
        )
    read = pixel_reader(source, size, net.inputs.channels)
    images = torch.stack([read(i) for i in found.ids])
    parts = {part: found.places[:, i] for i, part in enumerate(found.parts)}
    return measure(task, net, images, parts, [source.names[i] for i in found.ids], notes, watch)


def measure(
    task: CorrespondenceTask,
    net: Network,
    images: Tensor,
    parts: Mapping[str, np.ndarray],
    names: Iterable[str] | None,
    notes: Iterable[str],
    watch: Watch,
) -> Correspondence:
    """What `correspondence` says, of images and parts as it takes them."""
    net.inputs.check(images)
    net.inputs.check_range(images)
    usual = () if task.layers else (net.layers.last_map().name, net.layers.features().name)
    wanted = tuple(net.layers.each(task.layers or usual))
    task = replace(task, layers=wanted)
    _check(images, parts)
    few = {part: int(np.isfinite(at).all(1).sum()) for part, at in parts.items() if np.isfinite(at).all(1).sum() < 2}
    said = [
        f"{part}: left out, {count} image{'s have' if count != 1 else ' has'} it (2 are needed)"
        for part, count in few.items()
    ]
    kept = {part: at for part, at in parts.items() if part not in few}
    if not kept:
        raise InputError(f"no part is on two images or more ({'; '.join(said)})")
    size = (images.shape[2], images.shape[3])
    side = max(1, round(task.square * min(size)))
    boxes = np.concatenate(
        [
            _at_points(np.stack(list(kept.values())), side, size),
            _at_random(len(images), task.draws, side, size, task.seed),
        ]
    )
    color = net.inputs.mean_color()
    reader = _Signs(net, images, wanted, color)
    found = [reader.compare(hidden) for hidden in watch.each("squares", boxes)]
    differ, opposite, chance, changed = (np.stack(each) for each in zip(*found, strict=True))
    return Correspondence(
        draw=figure.draw,
        names=tuple(names) if names is not None else tuple(str(i) for i in range(len(images))),
        parts=tuple(kept),
        layers=wanted,
        features=np.array(reader.features),
        differ=differ,
        opposite=opposite,
        chance=chance,
        changed=changed,
        boxes=boxes,
        images=images.cpu().numpy(),
        color=color.numpy(),
        notes=(*said, *notes),
        provenance=decided(task),
    )


class _Signs:
    """Reads the network with boxes of the images hidden, and compares the signs of what that changes."""

    def __init__(self, net: Network, images: Tensor, layers: tuple[str, ...], color: Tensor) -> None:
        self._net, self._images, self._layers, self._color = net, images, layers, color
        self._originals = [self._read(image[None]) for image in images]
        self.features = [each.size for each in self._originals[0]]

    def compare(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """boxes (N, 4), NaN for an image where nothing is hidden -> three (L, N, N) and (L, N), NaN there."""
        n, there = len(self._images), np.flatnonzero(np.isfinite(boxes).all(1))
        signs = [self._signs(int(i), boxes[i]) for i in there]
        found = [np.full((len(self._layers), n, n), np.nan) for _ in range(3)]
        changed = np.full((len(self._layers), n), np.nan)
        for layer in range(len(self._layers)):
            rows = np.stack([each[layer] for each in signs])
            for matrix, values in zip(found, (*unlike(rows), by_chance(rows)), strict=True):
                matrix[layer][np.ix_(there, there)] = values
            changed[layer, there] = (rows != 0).mean(1)
        return found[0], found[1], found[2], changed

    def _signs(self, i: int, box: np.ndarray) -> list[np.ndarray]:
        top, left, bottom, right = map(int, box)
        hidden = self._images[i : i + 1].clone()
        hidden[0, :, top:bottom, left:right] = self._color.to(hidden).view(-1, 1, 1)
        pairs = zip(self._originals[i], self._read(hidden), strict=True)
        return [np.sign(original - without).astype(np.int8) for original, without in pairs]

    def _read(self, image: Tensor) -> list[np.ndarray]:
        """Each layer's output, flat."""
        outputs = self._net.activations(image, self._layers)
        for name, output in outputs.items():
            if not bool(torch.isfinite(output).all()):
                raise NetworkError(f"{self._net.name} gives {name} that is not finite")
        return [outputs[name].flatten().cpu().numpy() for name in self._layers]


def _check(images: Tensor, parts: Mapping[str, np.ndarray]) -> None:
    if not parts or len(images) < 2:
        raise InputError(f"{len(parts)} parts on {len(images)} images (accepted: 1 part or more, 2 images or more)")
    if RANDOM in parts:
        raise InputError(f"a part is named {RANDOM!r}, which is the control's name")
    for part, at in parts.items():
        if at.shape != (len(images), 2):
            raise InputError(f"{part}: points of shape {at.shape} for {len(images)} images (accepted: (N, 2))")
        there = at[np.isfinite(at).all(1)]
        if ((there < 0) | (there > np.array(images.shape[2:]))).any():
            raise InputError(f"{part}: a point outside of the image ({images.shape[2]} x {images.shape[3]} px)")


def _at_points(places: np.ndarray, side: int, size: tuple[int, int]) -> np.ndarray:
    """(P, N, 4): squares around (P, N, 2), cut off at the edges; one that has nothing left keeps the nearest pixel."""
    start = np.floor(places - side / 2 + 0.5)
    high = np.array(size)
    low = np.clip(start, 0, high - 1)
    return np.concatenate([low, np.maximum(np.clip(start + side, 0, high), low + 1)], axis=-1)


def _at_random(count: int, draws: int, side: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """(draws, count, 4): squares anywhere inside the image."""
    rng = np.random.default_rng(seed)
    low = np.stack([rng.integers(0, size[axis] - side + 1, (draws, count)) for axis in (0, 1)], axis=-1)
    return np.concatenate([low, low + side], axis=-1).astype(np.float64)
