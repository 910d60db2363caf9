"""Images that speak for a suspicion, and images that speak against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.methods import Method
from netloupe.core.errors import NetworkError
from netloupe.core.network import Network
from netloupe.studies.audit.effects import Effects, filled, hidden_sides, pasted
from netloupe.studies.audit.images import Pool
from netloupe.studies.audit.maps import explain
from netloupe.studies.audit.places import in_pixels
from netloupe.studies.audit.record import Background, Example, Place, Shown

EACH = 4  # images of a kind


def show_place(net: Network, effects: Effects, pool: Pool, method: Method, place: Place) -> Shown:
    box = in_pixels(place.proposal.box, pool.size)
    order = sorted(zip(place.rows, place.changes, strict=True), key=lambda pair: -pair[1].falls)
    rows = [row for row, _ in order]
    least = _least(pool, rows)
    given = [row for row, _ in sorted(zip(place.rows, place.changes, strict=True), key=lambda p: -p[1].rises)][:EACH]
    targets = [effects.partner(row) for row in given]

    def hide(images: Tensor) -> Tensor:
        return filled(images, box)

    def carry(images: Tensor) -> Tensor:
        return pasted(images, pool.images(given), box)

    make = _Maker(net, effects, pool, method, place.label)
    return Shown(place, make(rows[:EACH], hide), make(least, hide), make(targets, carry, maps=False))


def show_background(
    net: Network, effects: Effects, pool: Pool, method: Method, one: Background, boxes: Tensor, color: Tensor
) -> Shown:
    """`changed` is the image without its object."""
    make = _Maker(net, effects, pool, method, one.label)

    def without(rows: Sequence[int]) -> tuple[Example, ...]:
        at = boxes[torch.from_numpy(pool.ids[list(rows)])]
        return make(rows, lambda images: hidden_sides(images, at, color)[1])

    return Shown(one, without(one.rows[:EACH]), without(_least(pool, list(one.rows))), ())


def _least(pool: Pool, rows: list[int]) -> list[int]:
    """The last EACH of the rows that are not among the first EACH, wrongly classified ones before."""
    rest = rows[EACH:][::-1]
    wrong = [row for row in rest if not pool.right[row]]
    return [*wrong, *(row for row in rest if pool.right[row])][:EACH]


class _Maker:
    """Makes examples for one class."""

    def __init__(self, net: Network, effects: Effects, pool: Pool, method: Method, label: int) -> None:
        self._net, self._effects, self._pool, self._method, self._label = net, effects, pool, method, label

    def __call__(
        self, rows: Sequence[int], change: Callable[[Tensor], Tensor], *, maps: bool = True
    ) -> tuple[Example, ...]:
        if not len(rows):
            return ()
        labels = self._net.head.labels
        images = self._pool.images(rows)
        changed = change(images)
        before, after = (self._effects.probabilities(each) for each in (images, changed))
        found = (
            explain(self._net, self._pool, self._method, self._label, np.array(rows)) if maps else [None] * len(rows)
        )
        return tuple(
            Example(
                name=self._pool.name(row),
                truth=labels[int(self._pool.labels[row])],
                image=images[i].numpy(),
                changed=changed[i].numpy(),
                importance=None if one is None or isinstance(one, NetworkError) else one.detach().cpu().numpy(),
                before=float(before[i, self._label]),
                after=float(after[i, self._label]),
                taken=(labels[int(before[i].argmax())], labels[int(after[i].argmax())]),
            )
            for i, (row, one) in enumerate(zip(rows, found, strict=True))
        )
