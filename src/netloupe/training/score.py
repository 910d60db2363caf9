"""How often a classifier is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from netloupe.training.labeled import Images


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
