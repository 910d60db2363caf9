"""The places that were proposed for a class, tested on the images that nobody looked at; and, where the objects' boxes
are known, whether a class is read off its object or off what lies around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from netloupe.core.watch import Watch
from netloupe.studies.audit.effects import BATCH, Effects, above_zero, contrast, hidden_sides, holm
from netloupe.studies.audit.images import Pool
from netloupe.studies.audit.maps import Explained
from netloupe.studies.audit.places import Proposal, area, grown, in_boxes, propose
from netloupe.studies.audit.record import Background, Change, Groups, Place

PROPOSALS = 3  # of a class
TRIED = 8  # images of the explored half, on which the place is chosen by its effect
ENOUGH = 0.9  # share of the largest effect there at which a smaller box is preferred
MOST = 40  # tested images of a class, by its places
MOST_BOXED = 24  # by the objects' boxes
FEWEST_BOXED = 4
CLEAR = 0.05, 0.95  # shares of the image that a box may cover, so that there is something to hide on both sides
LEAST_GROUP = 0.2  # share of the class's maps that a group needs to propose a place
ALPHA = 0.05


def try_places(
    effects: Effects,
    pool: Pool,
    found: Explained,
    groups: list[Groups],
    tested: int,
    least: float,
    watch: Watch,
) -> list[Place]:
    """The places of the `tested` classes whose maps stand out most; suspects first, each by its lower bound.

    A suspect has an effect of at least `least` with an adjusted p of at most ALPHA: in carrying, or in hiding where
    carrying does more than carrying other places (by its lower bound). Hiding alone shows that the network looks there,
    not that what lies there is the class's mark.
    """
    proposals = _proposals(pool, found, groups)
    stand_out = sorted(proposals, key=lambda label: -proposals[label][0].z)[:tested]
    places = [_place(effects, pool, label, proposals[label]) for label in watch.each("tests", stand_out)]
    ps = holm([one for place in places for one in (place.hiding.p, place.carrying.p)])
    judged = []
    for i, place in enumerate(places):
        by_hiding, by_carrying = ps[2 * i], ps[2 * i + 1]
        carries = by_carrying <= ALPHA and place.carrying.effect >= least
        hides = by_hiding <= ALPHA and place.hiding.effect >= least and place.carrying.beyond > 0
        judged.append(replace(place, p=min(by_hiding, by_carrying), suspect=carries or hides))
    return sorted(judged, key=lambda one: (not one.suspect, -one.low))


def _proposals(pool: Pool, found: Explained, groups: list[Groups]) -> dict[int, list[Proposal]]:
    """By class, from all of its maps and from each group of them that is large enough."""
    inside, labels = in_boxes(found.cells), pool.labels[found.rows]
    place = {int(row): i for i, row in enumerate(found.rows)}
    proposals = {}
    for one in groups:
        own = np.array([place[int(row)] for row in one.rows])
        parts = [own[one.maps == g] for g in range(one.maps.max() + 1)]
        parts = [part for part in parts if len(part) >= max(3, LEAST_GROUP * len(own)) and len(part) < len(own)]
        proposals[one.label] = propose(inside, labels, one.label, [own, *parts], PROPOSALS)
    return proposals


def _place(effects: Effects, pool: Pool, label: int, proposals: list[Proposal]) -> Place:
    looked_at = pool.rows(label, explored=True)[:TRIED]
    tried = [replace(one, box=box) for one in proposals for box in dict.fromkeys((one.box, grown(one.box)))]
    promises = [_promise(effects, looked_at, one) for one in tried]
    enough = [one for one, promise in zip(tried, promises, strict=True) if promise >= ENOUGH * max(promises)]
    proposal = min(enough or tried[:1], key=lambda one: area(one.box))
    rows = pool.rows(label, explored=False)[:MOST]
    own, far = effects.beyond(rows, proposal.box)
    rest = effects.others[pool.labels[effects.others] != label]
    there, away = effects.beyond(rest, proposal.box)
    hiding, carrying = (contrast(own[:, i], far[:, i], (there - away)[:, i]) for i in (0, 1))
    order = np.argsort(-(own[:, 0] if hiding.low >= carrying.low else own[:, 1]), kind="stable")
    return Place(
        label=label,
        proposal=proposal,
        images=len(rows),
        hiding=hiding,
        carrying=carrying,
        turned=float(own[:, 2].mean()),
        turned_elsewhere=float(far[:, 2].mean()),
        p=1.0,
        suspect=False,
        rows=tuple(int(row) for row in rows[order]),
        changes=tuple(Change(*map(float, own[i])) for i in order),
    )


def _promise(effects: Effects, rows: np.ndarray, proposal: Proposal) -> float:
    """The mean changes by hiding and by carrying, together, beyond another box of the size."""
    own, far = effects.beyond(rows, proposal.box, controls=1)
    return float((own - far).mean(0)[:2].sum())


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
        if len(rows) >= FEWEST_BOXED:
            found.append(_background(effects, pool, boxes, within, shares, color, label, rows))
    adjusted = holm([one.p for one in found])
    judged = [
        replace(one, p=p, suspect=p <= ALPHA and one.effect >= least) for one, p in zip(found, adjusted, strict=True)
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
    tested = rows[:MOST_BOXED]
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
