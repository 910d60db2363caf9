"""Whether a class is read off its object or off what lies around it, where the objects' boxes are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from netloupe.core.watch import Watch
from netloupe.studies.audit.effects import BATCH, Effects, above_zero, holm
from netloupe.studies.audit.images import Pool
from netloupe.studies.audit.record import (
    Background,
)

CLEAR = 0.05, 0.95  # shares of the image that a box may cover, so that there is something to hide on both sides
MOST = 24  # images of a class that are tested
FEWEST = 4


def hidden_sides(images: Tensor, boxes: Tensor, color: Tensor) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) with only their objects, and without; boxes (N, 4) in px, color (C,)."""
    mask = inside(boxes, (images.shape[2], images.shape[3]))[:, None]
    blank = color.view(1, -1, 1, 1).expand_as(images)
    return torch.where(mask, images, blank), torch.where(mask, blank, images)


def inside(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W) bool: the pixels whose middle lies in each box (top, left, bottom, right)."""
    top, left, bottom, right = boxes.view(-1, 4, 1, 1).unbind(1)
    y, x = torch.arange(size[0]).view(1, -1, 1) + 0.5, torch.arange(size[1]).view(1, 1, -1) + 0.5
    return (y >= top) & (y < bottom) & (x >= left) & (x < right)


def backgrounds(
    effects: Effects,
    pool: Pool,
    boxes: Tensor,
    within: Mapping[int, float],
    color: Tensor,
    least: float,
    watch: Watch,
) -> list[Background]:
    """Every class with enough boxes, the surest reliance on the background first.

    boxes: (N, 4) by the source's ids. within: the share of attribution in the box, by row, where a map was made.
    """
    shares = _covered(boxes[torch.from_numpy(pool.ids)], pool.size)
    found = []
    for label in watch.each("objects and backgrounds", pool.classes):
        usable = (pool.labels == label) & (shares >= CLEAR[0]) & (shares <= CLEAR[1])
        rows = np.flatnonzero(usable)
        if len(rows) >= FEWEST:
            found.append(_background(effects, pool, boxes, within, shares, color, label, rows))
    adjusted = holm([one.p for one in found])
    judged = [
        replace(one, p=p, suspect=p <= 0.05 and one.effect >= least) for one, p in zip(found, adjusted, strict=True)
    ]
    return sorted(judged, key=lambda one: (not one.suspect, -one.low))


def _covered(boxes: Tensor, size: tuple[int, int]) -> np.ndarray:
    """(n,): the share of the image in each box, NaN without one."""
    found: np.ndarray = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / (size[0] * size[1])).numpy()
    return found


def _background(
    effects: Effects,
    pool: Pool,
    boxes: Tensor,
    within: Mapping[int, float],
    shares: np.ndarray,
    color: Tensor,
    label: int,
    rows: np.ndarray,
) -> Background:
    mapped = [row for row in rows.tolist() if row in within]
    tested = rows[:MOST]
    only: list[np.ndarray] = []
    without: list[np.ndarray] = []
    for start in range(0, len(tested), BATCH):
        part = tested[start : start + BATCH]
        sides = hidden_sides(pool.images(part), boxes[torch.from_numpy(pool.ids[part])], color)
        for kept, side in zip((only, without), sides, strict=True):
            kept.append(effects.probabilities(side)[:, label])
    on_object, on_background = np.concatenate(only), np.concatenate(without)
    low, p = above_zero(on_background - on_object)
    order = np.argsort(-(on_background - on_object), kind="stable")
    return Background(
        label=label,
        images=len(tested),
        inside=float(np.mean([within[row] for row in mapped])) if mapped else float("nan"),
        area=float(shares[mapped].mean()) if mapped else float("nan"),
        plain=float(effects.plain(tested)[:, label].mean()),
        object_only=float(on_object.mean()),
        background_only=float(on_background.mean()),
        effect=float((on_background - on_object).mean()),
        low=low,
        p=p,
        suspect=False,
        rows=tuple(int(row) for row in tested[order]),
    )
