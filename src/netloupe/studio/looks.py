"""Where the tokens of a network look in a photo, for the studio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from netloupe.analysis.attention.measure import attention_maps
from netloupe.analysis.attention.record import Looks
from netloupe.analysis.attention.task import AttentionTask
from netloupe.core.network import Network
from netloupe.render.colors import heat
from netloupe.studio.desk import Job, uri
from netloupe.studio.photos import Seen


def looked(net: Network, settings: Mapping[str, Any]) -> AttentionTask:
    """settings: as `looks` takes them."""
    return AttentionTask.of({"origin": settings.get("origin"), "first": 0})


def looks(net: Network, seen: Seen, settings: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """settings: origin, [row, column] of the patch to look from; None for the first token, or all in the mean."""
    found = attention_maps(net, seen.pixels, origin=looked(net, settings).origin, watch=job)
    return {
        "from": found.origin,
        "place": settings.get("origin"),
        "layers": [_told(name, one) for name, one in found.looks.items()],
        "skipped": dict(found.skipped),
    }


def _told(name: str, one: Looks) -> dict[str, Any]:
    """The maps of an attention's heads beside each other, each up to its own highest."""
    sheet = np.concatenate([heat(values) for values in one.maps], axis=1)
    return {
        "layer": name,
        "grid": list(one.maps.shape[1:]),
        "asks": one.distance is not None,
        "peaks": one.maps.max((1, 2)).tolist(),
        "shares": one.maps.sum((1, 2)).tolist(),
        "sheet": uri(sheet),
    }
