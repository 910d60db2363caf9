"""What the positions of a layer tell apart in a photo, in color, for the studio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from netloupe.analysis.tasks import TokensTask
from netloupe.analysis.tokens import tokens
from netloupe.core.layers import Layer
from netloupe.core.network import Network
from netloupe.render.colors import diverging
from netloupe.studio.desk import Job, uri
from netloupe.studio.photos import Seen

_LAYERS = 16  # to choose from, at most


def colored_layers(net: Network) -> dict[str, list[int]]:
    """The layers to choose from, in order, with the (height, width) of their positions: stage ends, else all maps."""
    ends = net.layers.stage_ends(_LAYERS).where(_fits)
    found = ends or net.layers.where(_fits).evenly(_LAYERS)
    return {name: list(layer.shape[1:]) for name, layer in found.items()}


def _fits(layer: Layer) -> bool:
    return layer.is_map and layer.channels >= 3


def colored(net: Network, settings: Mapping[str, Any]) -> TokensTask:
    """settings: layer; at, [row, column] of the position that all are compared with."""
    return TokensTask.of({"layer": settings.get("layer"), "at": settings.get("at")})


def colors(net: Network, seen: Seen, settings: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """settings: as `colored` takes them."""
    task = colored(net, settings)
    found = tokens(net, seen.pixels, task.layer, at=task.at, watch=job)
    return {
        "layer": found.layer,
        "grid": list(found.norms.shape[1:]),
        "colors": uri((found.colors[0] * 255).round().astype(np.uint8)),
        "explained": found.explained.tolist(),
        "outliers": int(found.outliers.sum()),
        "likeness": None if found.likeness is None else uri(diverging(found.likeness[0], 1.0)),
    }
