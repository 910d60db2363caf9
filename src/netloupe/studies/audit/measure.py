"""Which classes a network recognizes by something beside the point: a mark at a fixed place, or the background.

After Lapuschkin et al. (2019, "Unmasking Clever Hans predictors"), who cluster attribution maps and look. Here maps
only propose: the places where a class's evidence lies and the other classes' does not are found on one half of its
images, and on the other half it is tested what hiding the place, and carrying it into other images, does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.methods import Method, quick_methods
from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.numbers import spread
from netloupe.core.perform import finished, function_of
from netloupe.core.watch import SILENT, Watch
from netloupe.data.sources import ImageSource
from netloupe.studies.audit import figure, page, words
from netloupe.studies.audit.effects import Effects
from netloupe.studies.audit.images import Pool, gather
from netloupe.studies.audit.maps import explain_classes, find_groups
from netloupe.studies.audit.places import GRID, excess
from netloupe.studies.audit.record import LEAST_EFFECT, Audit, Background, Place, Shown
from netloupe.studies.audit.shown import show_background, show_place
from netloupe.studies.audit.task import AuditTask
from netloupe.studies.audit.tests import backgrounds, try_places
from netloupe.studies.boxes import read_boxes

SHOWN = 6  # suspects with pictures


@function_of(AuditTask)
def audit(
    net: Network,
    source: ImageSource,
    *,
    boxes: Tensor | None = None,
    first: int | None = None,
    watch: Watch = SILENT,
    **settings: Any,
) -> Audit:
    """Look for classes that are recognized by a fixed place of the image, or by the background.

    source: images labeled with the network's classes; where there are no labels, or with `predicted`, the network's
    predictions stand for them. boxes: (N, 4) of the objects, by image id, as `read_boxes` gives them.
    The method runs at the settings of `quick_methods`, if it is a name.
    Raises UnknownName for a method that is not there, InputError for images, labels or boxes that can't be used,
    NetworkError where the method can't explain the network.
    """
    given = source.first(first).read_for(net.inputs)
    task = AuditTask.of({"first": len(given), **settings})
    return finished(measure(task, net, given, boxes, watch), task, net, {"data": given, "boxes": boxes})


def run(task: AuditTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Audit:
    quick_methods([task.method])  # one that is not there is named before images are read
    boxes = read_boxes(inputs["boxes"], inputs["data"], net.inputs.size) if "boxes" in inputs else None
    return measure(task, net, inputs["data"], boxes, watch)


def measure(task: AuditTask, net: Network, source: ImageSource, boxes: Tensor | None, watch: Watch) -> Audit:
    """What `audit` says, of all images of a source."""
    if boxes is not None and boxes.shape != (len(source), 4):
        raise InputError(f"boxes of shape {tuple(boxes.shape)} for {len(source)} images (accepted: (N, 4))")
    classes = net.head.classes("an audit", 2)
    (chosen,) = quick_methods([task.method])
    pool = gather(task, net, source, watch)
    found = explain_classes(net, pool, chosen, boxes, watch)
    groups = find_groups(pool, found.cells, found.rows, task.seed, watch)
    effects = Effects(net, pool, task.seed)
    places = try_places(effects, pool, found, groups, task.tested, LEAST_EFFECT, watch)
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
        source=source.title,
        method=chosen.name,
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
