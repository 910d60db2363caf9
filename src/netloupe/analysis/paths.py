"""Whether a synthesized image takes the way through the network that photographs take (Geirhos et al. 2024).

An image can excite a unit by other means than the photographs that excite it: at earlier layers it is then unlike them.
Images are compared layer by layer, by the rank correlation of what their channels do on average over positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.correlation import normed, ranked
from netloupe.core.moments import means
from netloupe.core.network import Network

LAYERS = 24  # compared at most, spread evenly over the network


@dataclass(frozen=True)
class Likeness:
    """How alike images are at each of L layers: mean Spearman correlations in [-1, 1], each (L,).

    synthesized: a synthesized image with the photographs that excite its unit most. same: those photographs with each
    other. other: those photographs with any others; NaN where there is no pair.
    """

    layers: tuple[str, ...]
    synthesized: np.ndarray
    same: np.ndarray
    other: np.ndarray

    @property
    def aside(self) -> int:
        """At how many layers before the last the synthesized image is less like the photographs than any others are."""
        return int((self.synthesized[:-1] < self.other[:-1]).sum())


def layers_before(net: Network, layer: str, among: Sequence[str]) -> list[str]:
    """At most `LAYERS` layers in order: of those `among` before `layer` that have several channels, and it itself."""
    fit = net.layers.only(among).before(layer).where(lambda one: one.channels > 1)
    return [*fit.evenly(LAYERS - 1), layer]


def profiles(net: Network, images: Tensor, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Layer -> (N, C): the ranks of the channels' means over positions, centered and of length 1.

    The dot product of two rows is their rank correlation; a row is NaN where all channels are equal.
    """
    parts: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}

    def keeper(layer: str) -> Callable[[Tensor], None]:
        def keep(maps: Tensor) -> None:
            parts[layer].append(means(maps.float()).cpu().numpy())

        return keep

    for first in range(0, len(images), 32):
        with torch.no_grad():
            net.run(images[first : first + 32], {layer: keeper(layer) for layer in layers})
    found = {}
    for layer, rows in parts.items():
        found[layer] = normed(ranked(np.concatenate(rows), axis=1), axis=1)
    return found


def likeness(
    synthesized: Mapping[str, np.ndarray],
    photographs: Mapping[str, np.ndarray],
    best: Sequence[int],
    rest: Sequence[int],
) -> Likeness:
    """Of one image, `synthesized` profiles (1, C), and rows of profiles of photographs: the best, and any others."""
    layers = tuple(synthesized)
    columns: dict[str, list[float]] = {"synthesized": [], "same": [], "other": []}
    others = [i for i in rest if i not in set(best)]
    for layer in layers:
        own, rows = photographs[layer][list(best)], photographs[layer]
        pairs = np.triu_indices(len(own), 1)
        columns["synthesized"].append(_mean(own @ synthesized[layer][0]))
        columns["same"].append(_mean((own @ own.T)[pairs]))
        columns["other"].append(_mean(own @ rows[others].T))
    return Likeness(layers, **{name: np.array(values) for name, values in columns.items()})


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
