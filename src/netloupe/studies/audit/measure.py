"""Which classes a network recognizes by something beside the point: a mark at a fixed place, or the background.

After Lapuschkin et al. (2019, "Unmasking Clever Hans predictors"), who cluster attribution maps and look. Here maps
only propose: the places where a class's evidence lies and the other classes' does not are found on one half of its
images, and on the other half it is tested what hiding the place, and carrying it into other images, does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.methods import Method
from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.numbers import spread
from netloupe.core.provenance import provenance
from netloupe.core.watch import SILENT, Watch
from netloupe.data.sources import ImageSource
from netloupe.studies.audit import figure, page, words
from netloupe.studies.audit.backgrounds import backgrounds
from netloupe.studies.audit.effects import Effects
from netloupe.studies.audit.groups import find_groups
from netloupe.studies.audit.images import LEAST, Pool, gather
from netloupe.studies.audit.maps import explain_classes
from netloupe.studies.audit.places import GRID, excess
from netloupe.studies.audit.record import (
    LEAST_EFFECT,
    Audit,
    Background,
    Place,
    Shown,
)
from netloupe.studies.audit.shown import show_background, show_place
from netloupe.studies.audit.tests import try_places
from netloupe.studies.methods import quick_methods

METHOD = "gradient"
TESTED = 20  # classes whose maps stand out most
SHOWN = 6  # suspects with pictures


def audit(
    net: Network,
    source: ImageSource,
    *,
    boxes: Tensor | None = None,
    method: str | Method = METHOD,
    per_class: int | None = None,
    tested: int = TESTED,
    predicted: bool = False,
    seed: int = 0,
    watch: Watch = SILENT,
) -> Audit:
    """Look for classes that are recognized by a fixed place of the image, or by the background.

    source: images labeled with the network's classes; where there are no labels, or with `predicted`, the network's
    predictions stand for them. boxes: (N, 4) of the objects, by image id, as `read_boxes` gives them.
    method: of attribution, at the settings of `quick_methods`. per_class: the first so many images of each class.
    tested: how many classes to test, those whose maps stand out most.
    Raises UnknownName for a method that is not there, InputError for images, labels or boxes that can't be used,
    NetworkError where the method can't explain the network.
    """
    for what, count, least in (("images per class", per_class, LEAST), ("classes to test", tested, 1)):
        if count is not None and count < least:
            raise InputError(f"{count} {what} (accepted: {least} or more)")
    if boxes is not None and boxes.shape != (len(source), 4):
        raise InputError(f"boxes of shape {tuple(boxes.shape)} for {len(source)} images (accepted: (N, 4))")
    classes = net.head.classes("an audit", 2)
    (chosen,) = quick_methods([method])
    pool = gather(net, source, predicted=predicted, per_class=per_class, seed=seed, watch=watch)
    found = explain_classes(net, pool, chosen, boxes, watch)
    groups = find_groups(pool, found.cells, found.rows, seed, watch)
    effects = Effects(net, pool, seed)
    places = try_places(effects, pool, found, groups, tested, LEAST_EFFECT, watch)
    by_boxes = None
    if boxes is not None:
        by_boxes = backgrounds(effects, pool, boxes, found.within, _mean_color(pool), LEAST_EFFECT, watch)
    maps, above = _by_class(pool, found.cells, found.rows)
    return Audit(
        draw=figure.draw,
        write=page.write,
        tell=words.tell,
        labels=tuple(classes.label(c) for c in pool.classes),
        images=len(pool.ids),
        places=tuple(places),
        backgrounds=None if by_boxes is None else tuple(by_boxes),
        maps=maps,
        excess=above,
        groups=tuple(groups),
        shown=tuple(_shown(net, effects, pool, chosen, places, by_boxes, boxes)),
        names=dict(enumerate(classes.labels)),
        counts=_counts(net, pool, found.blank, found.failed, by_boxes),
        size=net.inputs.size,
        provenance=provenance(
            net,
            "audit",
            source=source.spec,
            images=source.fingerprint(),
            method=chosen.name,
            per_class=per_class,
            tested=tested,
            labels="predictions" if pool.predicted else "labels",
            seed=seed,
        ),
    )


def _by_class(pool: Pool, cells: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(C, 8, 8) mean shares of the attribution, and how far they lie above the other classes'; NaN without maps."""
    labels = pool.labels[rows]
    maps, above = (np.full((len(pool.classes), GRID * GRID), np.nan) for _ in range(2))
    for i, label in enumerate(pool.classes):
        own = np.flatnonzero(labels == label)
        if len(own):
            maps[i], _, above[i] = excess(cells, labels, label, own)
    return maps.reshape(-1, GRID, GRID), above.reshape(-1, GRID, GRID)


def _mean_color(pool: Pool) -> Tensor:
    """(C,) of up to 256 images, evenly spread."""
    rows = spread(0, len(pool.ids) - 1, 256, down=True)
    return torch.stack([pool.images([row])[0].mean((1, 2)) for row in rows]).mean(0)


def _shown(
    net: Network,
    effects: Effects,
    pool: Pool,
    method: Method,
    places: list[Place],
    by_boxes: list[Background] | None,
    boxes: Tensor | None,
) -> list[Shown]:
    """Pictures of the suspects; without any, of the foremost class of each kind."""
    first: list[Place | Background] = [*places[:1], *(by_boxes or [])[:1]]
    suspects: list[Place | Background] = [one for one in places if one.suspect]
    suspects += [one for one in by_boxes or [] if one.suspect]
    found = []
    for one in sorted(suspects, key=lambda s: -s.low)[:SHOWN] or first:
        if isinstance(one, Place):
            found.append(show_place(net, effects, pool, method, one))
        else:
            assert boxes is not None
            found.append(show_background(net, effects, pool, method, one, boxes, _mean_color(pool)))
    return found


def _counts(
    net: Network, pool: Pool, blank: int, failed: list[str], by_boxes: list[Background] | None
) -> dict[str, Any]:
    """What was left out, and why."""
    return {
        "predicted": pool.predicted,
        "unlabeled": pool.unlabeled,
        "duplicates": pool.duplicates,
        "too_few": {net.head.labels[c]: n for c, n in pool.small},
        "unreadable": list(pool.unreadable),
        "blank_maps": blank,
        "failed_maps": failed,
        "without_boxes": None if by_boxes is None else len(pool.classes) - len(by_boxes),
    }
