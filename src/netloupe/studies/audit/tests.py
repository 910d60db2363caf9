"""The places that were proposed for a class, tested on the images that nobody looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from netloupe.core.watch import Watch
from netloupe.studies.audit.effects import Effects, contrast, holm
from netloupe.studies.audit.images import Pool
from netloupe.studies.audit.maps import Explained
from netloupe.studies.audit.places import Proposal, area, grown, in_boxes, propose
from netloupe.studies.audit.record import (
    Change,
    Groups,
    Place,
)

PROPOSALS = 3  # of a class
TRIED = 8  # images of the explored half, on which the place is chosen by its effect
ENOUGH = 0.9  # share of the largest effect there at which a smaller box is preferred
MOST = 40  # tested images of a class
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
