"""How strongly each channel responds to each of some images, by which channels are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np
from torch import Tensor

from netloupe.core.numbers import evenly
from netloupe.sweep.accumulator import Columns, State, to_arrays, to_state
from netloupe.sweep.maps import Maps
from netloupe.sweep.vectors import Rows

SAMPLED = 512  # images of which the peaks of all channels are kept


class PeaksByImage(NamedTuple):
    """ids: (n,) int64, ascending. peaks: (n, C) float32, the highest over positions of each channel in each image."""

    ids: np.ndarray
    peaks: np.ndarray


@final
class SampledPeaks(Rows):
    """The peak of every channel in images evenly spread over a data set, the first and the last among them.

    Which they are, the number of images alone says, so it is the same however they come; a broken one is left out.
    """

    names = ("ids", "peaks")

    def __init__(self, images: int, most: int = SAMPLED) -> None:
        """images: of the data set. most: of them, whose peaks are kept."""
        super().__init__()
        self.images, self.most = images, most
        self._chosen = np.array(evenly(range(images), most))
        self._columns = Columns()
        self._ids = np.zeros(0, np.int64)  # of the chosen ones in the current batch

    def settings(self) -> dict[str, Any]:
        return {"images": self.images, "most": self.most}

    def reads(self, layers: Sequence[str], labeled: bool) -> Sequence[str]:
        return layers

    def update(self, layer: str, maps: Maps) -> None:
        chosen = np.isin(maps.ids, self._chosen)
        self._ids = maps.ids[chosen]
        self._columns.put(layer, maps.peak[chosen])

    def end_batch(self) -> None:
        self.add(self._ids, self._columns.take())

    def merge(self, other: SampledPeaks) -> None:
        super().merge(other)
        self._columns.join(other._columns)

    def result(self) -> dict[str, PeaksByImage]:
        """Layer -> PeaksByImage; empty before the first of the images."""
        if not (rows := self.joined()):
            return {}
        ids, peaks = rows
        return {layer: PeaksByImage(ids.copy(), peaks[:, span].copy()) for layer, span in self._columns.spans.items()}

    def state(self) -> State:
        return {**super().state(), **to_state(self._columns.state())}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._columns.load(to_arrays(state))
        super().load({name: state[name] for name in self.names if name in state})
