"""The attribution maps of the half of each class's images that is looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from netloupe.analysis.methods import Method
from netloupe.core.errors import NetworkError
from netloupe.core.network import Network
from netloupe.core.objectives import log_odds
from netloupe.core.watch import Watch
from netloupe.studies.audit.backgrounds import inside
from netloupe.studies.audit.images import Pool
from netloupe.studies.audit.places import shares

BATCH = 32


@dataclass(frozen=True)
class Explained:
    """Maps of m images. rows: (m,) of the pool. cells: (m, 64), `shares` of each map.

    within: by row, the share of the evidence in the object's box. blank: how many maps were nowhere positive and are
    left out. failed: images whose maps are not finite, with the reason.
    """

    rows: np.ndarray
    cells: np.ndarray
    within: dict[int, float]
    blank: int
    failed: list[str]


def explain_classes(net: Network, pool: Pool, method: Method, boxes: Tensor | None, watch: Watch) -> Explained:
    """Each explored image's map for its class.

    Raises NetworkError, as the method does, where it fails for every image of the first class.
    """
    done = watch.part("maps", int(pool.explored.sum()))
    kept: list[tuple[int, np.ndarray]] = []
    within: dict[int, float] = {}
    failed: list[str] = []
    for label in pool.classes:
        rows = pool.rows(label, explored=True)
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            for row, found in zip(part.tolist(), explain(net, pool, method, label, part), strict=True):
                if isinstance(found, NetworkError):
                    failed.append(f"{pool.name(row)}: {found}")
                    continue
                kept.append((row, shares(found[None])[0]))
                if boxes is not None:
                    within[row] = _within(found, boxes[int(pool.ids[row])])
            done.advance(len(part))
        if not kept and failed:
            raise NetworkError(f"{method.name}: {failed[0]}")
    rows = np.array([row for row, _ in kept])
    cells = np.stack([cells for _, cells in kept])
    finite = np.isfinite(cells).all(1)
    within = {row: share for row, share in within.items() if np.isfinite(share)}
    return Explained(rows[finite], cells[finite], within, int((~finite).sum()), failed)


def explain(
    net: Network, pool: Pool, method: Method, label: int, rows: np.ndarray
) -> list[Tensor] | list[Tensor | NetworkError]:
    """A map (H, W) for each row, or why there is none: one image whose map is not finite leaves the others theirs."""
    images, objective = pool.images(rows), log_odds(label)
    try:
        return list(method.importance(method.attribution(net, images, objective)))
    except NetworkError:
        found: list[Tensor | NetworkError] = []
        for image in images:
            try:
                found.append(method.importance(method.attribution(net, image[None], objective))[0])
            except NetworkError as error:
                found.append(error)
        return found


def _within(importance: Tensor, box: Tensor) -> float:
    """The share of the evidence in a box (4,); NaN without a box or evidence."""
    positive = importance.detach().double().cpu().clamp(min=0)
    held = inside(box[None], (positive.shape[0], positive.shape[1]))[0]
    return float(positive[held].sum() / positive.sum()) if bool(box.isfinite().all()) else float("nan")
