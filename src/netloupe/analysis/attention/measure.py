"""Where the tokens of a network look: maps of one image, and over many how far, how widely and how differently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.attention.figure import draw
from netloupe.analysis.attention.placed import Placed, placed
from netloupe.analysis.attention.record import AttentionMaps, Looks
from netloupe.analysis.attention.task import AttentionTask
from netloupe.analysis.attention.weights import attention
from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.perform import function_of, perform
from netloupe.core.watch import SILENT, Watch
from netloupe.data.images import ImageFiles, as_seen, to_float
from netloupe.data.sources import ImageSource, read_batches
from netloupe.render.pictures import from_pixels

BATCH = 8
"""Images in a pass that measures."""


@function_of(AttentionTask)
def attention_maps(
    net: Network,
    image: Tensor,
    layers: Iterable[str] | None = None,
    *,
    data: ImageSource | None = None,
    watch: Watch = SILENT,
    **settings: Any,
) -> AttentionMaps:
    """Where the tokens of one image (C, H, W) or (1, C, H, W) in [0, 1] look, by layer and attention head.

    data: images over which distance, entropy and likeness of heads are measured; without, over the one.

    Raises UnknownName for an attention that is not there, InputError for a head or place that is not there and for a
    layer named whose tokens can't be placed, NetworkError for a network without attention.
    """
    image = image if image.ndim == 4 else image[None]
    task = AttentionTask.of({"layers": None if layers is None else list(layers), **settings})
    found: AttentionMaps = perform(task, net, {"image": image, "data": data}, watch)
    return found


def run(task: AttentionTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> AttentionMaps:
    given = inputs["image"]
    image = given.fitted(net)
    if len(image) != 1:
        raise InputError(f"{len(image)} images (accepted: one)")
    weights = attention(net, image, task.layers)
    placed, skipped = _placed(net, weights.layers, task)
    weights = attention(net, image, list(placed))
    maps: dict[str, Tensor] = {}
    weights.each(lambda name, one: maps.__setitem__(name, placed[name].seen(one, task.origin)[0].cpu()))
    measures = {name: Measures(one, net.inputs.size) for name, one in placed.items()}
    source = inputs["data"].first(task.first) if task.first and "data" in inputs else None
    count = _over(net, image, source, measures, watch)
    first = next(iter(placed.values()))
    pixels = image[0].detach().cpu().numpy()
    photo = as_seen(given.open(), net.inputs.size) if isinstance(given, ImageFiles) else from_pixels(pixels)
    return AttentionMaps(
        pixels,
        photo,
        {name: measures[name].looks(maps[name]) for name in placed},
        first.origin(task.origin),
        None if task.origin is None else first.box(task.origin, net.inputs.size),
        count,
        None if task.attention_head is None else (task.attention_head,),
        skipped,
        draw=draw,
    )


def _placed(net: Network, names: list[str], task: AttentionTask) -> tuple[dict[str, Placed], dict[str, str]]:
    """The attentions that can be shown, and why others can't. InputError for one named, or if none is left."""
    found, skipped = placed(net, names)
    for name, one in list(found.items()):
        try:
            _check(name, one, task)
        except InputError as error:
            del found[name]
            skipped[name] = error
    wrong = [skipped[name] for name in names if name in skipped]
    if wrong and (task.layers is not None or not found):
        raise wrong[0]
    return found, {name: str(skipped[name]) for name in names if name in skipped}


def _check(name: str, one: Placed, task: AttentionTask) -> None:
    """Raises InputError where it has no such head or place."""
    height, width = one.places.grid
    if task.attention_head is not None and task.attention_head >= one.heads:
        raise InputError(f"attention head {task.attention_head} of {name!r} (accepted: 0 to {one.heads - 1})")
    if task.origin is not None:
        if not one.square:
            raise InputError(f"attention {name!r} has {one.queries} queries that stand nowhere (accepted: no --from)")
        if task.origin[0] >= height or task.origin[1] >= width:
            raise InputError(f"position {task.origin} (accepted: row 0 to {height - 1}, column 0 to {width - 1})")


class Measures:
    """Sums over the patches of images, for the means of one attention."""

    def __init__(self, of: Placed, size: tuple[int, int]) -> None:
        self.of, self.count = of, 0
        h, w = of.places.grid
        y = (torch.arange(h) + 0.5) * size[0] / h
        x = (torch.arange(w) + 0.5) * size[1] / w
        at = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).view(-1, 2)
        self.between = torch.cdist(at, at).double()
        self.distance = torch.zeros(of.heads, dtype=torch.float64)
        self.entropy = torch.zeros(of.heads, dtype=torch.float64)
        self.products = torch.zeros(of.heads, of.heads, dtype=torch.float64)

    def add(self, weights: Tensor) -> None:
        """(N, heads, T, T)."""
        start, patches = self.of.places.prefix, len(self.between)
        rows = weights[:, :, start : start + patches].double().cpu()
        self.entropy += -torch.xlogy(rows, rows).sum(-1).mean(-1).sum(0) / torch.log(torch.tensor(2.0))
        among = rows[..., start : start + patches]
        shares = among / among.sum(-1, keepdim=True).clamp(min=1e-12)
        self.distance += (shares * self.between).sum(-1).mean(-1).sum(0)
        spread = (rows - rows.mean(-1, keepdim=True)).flatten(2)
        self.products += torch.einsum("nhx,ngx->hg", spread, spread)
        self.count += len(weights)

    def means(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | tuple[None, None, None]:
        """Distance and entropy (heads,), likeness (heads, heads), see `Looks`."""
        if not self.of.square:
            return None, None, None
        sizes = self.products.diagonal().clamp(min=1e-30).sqrt()
        likeness = self.products / sizes[:, None] / sizes
        distance, entropy = ((one / self.count).numpy() for one in (self.distance, self.entropy))
        return distance, entropy, likeness.numpy()

    def looks(self, maps: Tensor) -> Looks:
        distance, entropy, likeness = self.means()
        return Looks(maps.numpy(), self.of.keys, distance, entropy, likeness)


def measure(net: Network, images: Tensor, measures: Mapping[str, Measures]) -> None:
    """Add images (N, C, H, W) in [0, 1] to the sums of these attentions."""

    def add(name: str, weights: Tensor) -> None:
        if measures[name].of.square:
            measures[name].add(weights)

    attention(net, images, list(measures)).each(add)


def _over(
    net: Network, image: Tensor, source: ImageSource | None, measures: Mapping[str, Measures], watch: Watch
) -> int:
    """How many images were measured: those of the source, else the one."""
    if source is None:
        measure(net, image, measures)
        return 1
    part, count = watch.part("images", len(source)), 0
    for batch in read_batches(source, net.inputs.size, net.inputs.channels, batch_size=BATCH):
        if len(batch.ids):
            measure(net, to_float(batch.pixels), measures)
        count += len(batch.ids)
        part.advance(len(batch.ids) + len(batch.skipped))
    if not count:
        raise InputError(f"none of {len(source)} images of {source.spec!r} can be read")
    return count
