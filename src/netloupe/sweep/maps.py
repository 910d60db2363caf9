"""What accumulators get to see of one layer's output for one batch, while the pass runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from netloupe.core.layout import as_maps, has_positions


class Maps:
    """One layer's output for one batch of n images, valid only until the `update` that got it returns.

    ids: (n,) int64. labels: (n,) int64, -1 for none. photographs: (n,) int64, equal for pieces of one photograph, by
    default each one of its own. output: (b, C, H, W) or (b, C), b >= n.
    rows: (n,) the rows of `output` that hold the images; the others are filling. None: all of them.

    Summaries are computed when first asked for, and once, whoever asks.
    """

    def __init__(
        self,
        output: Tensor,
        ids: np.ndarray,
        labels: np.ndarray,
        rows: np.ndarray | None = None,
        photographs: np.ndarray | None = None,
    ) -> None:
        self.output = output
        self.ids = ids
        self.labels = labels
        self.photographs = ids if photographs is None else photographs
        self._rows = rows

    @property
    def answer(self) -> Tensor:
        """(n, ...): what the network answers to the images, as its head picks it."""
        return self.output if self._rows is None else self.output[torch.from_numpy(self._rows).to(self.output.device)]

    def _over_positions(self, summary: Callable[[Tensor], Tensor]) -> np.ndarray:
        """(n, C), or more columns: a summary of the maps (b, C, H, W); without positions the values themselves."""
        found = summary(self.output) if has_positions(self.output) else self.output.clone()
        values: np.ndarray = found.float().cpu().numpy()
        return values if self._rows is None else values[self._rows]

    @cached_property
    def peak(self) -> np.ndarray:
        """(n, C) float32: the highest value over positions."""
        return self._over_positions(_highest)

    @cached_property
    def mean(self) -> np.ndarray:
        """(n, C) float32: the mean over positions."""
        return self._over_positions(lambda maps: maps.mean((2, 3)))

    def pooled(self, grid: int) -> np.ndarray:
        """(n, C * grid * grid) float32: the means over the cells of a grid, channel by channel.

        (n, C) for a layer without positions. Cells of a map whose sides the grid does not divide overlap by up to one
        position.
        """
        return self._over_positions(lambda maps: F.adaptive_avg_pool2d(maps, grid).flatten(1))

    @cached_property
    def low(self) -> np.ndarray:
        """(n, C) float32: the lowest value over positions."""
        return self._over_positions(lambda maps: maps.amin((2, 3)))

    def of(self, channels: np.ndarray) -> np.ndarray:
        """(n, m, H, W) float32: the maps of m channels of each image, given (n, m)."""
        rows = np.arange(len(channels)) if self._rows is None else self._rows
        maps: np.ndarray = (
            self.output[torch.from_numpy(rows)[:, None], torch.from_numpy(channels)].float().cpu().numpy()
        )
        return maps

    def sampled(self, shares: np.ndarray) -> np.ndarray:
        """(n, p, C) float32: the values at p places of each image, given (n, p, 2) as shares of the map in [0, 1)."""
        output = as_maps(self.output)
        rows = np.arange(len(shares)) if self._rows is None else self._rows
        y, x = (torch.from_numpy((shares[..., i] * output.shape[2 + i]).astype(np.int64)) for i in (0, 1))
        values: np.ndarray = output[torch.from_numpy(rows)[:, None], :, y, x].float().cpu().numpy()
        return values

    @property
    def width(self) -> int:
        """W; 1 in a layer without positions."""
        return int(self.output.shape[3]) if has_positions(self.output) else 1

    def places(self, which: np.ndarray) -> np.ndarray:
        """(m,) int64: where the peak lies, as y * W + x, for m pairs given as image * C + channel, images 0 to n - 1.

        The first in scan order of equals; 0 in a layer without positions.
        """
        if not has_positions(self.output) or len(which) == 0:
            return np.zeros(len(which), dtype=np.int64)
        count = self.output.shape[1]
        if self._rows is not None:
            which = self._rows[which // count] * count + which % count
        on_cpu = self.output.device.type == "cpu" and self.output.dtype == torch.float32
        if on_cpu and self.output.is_contiguous():  # few are asked for, layer by layer: calls cost more than numbers
            chosen = self.output.detach().numpy().reshape(len(self.output) * count, -1)[which]
        else:
            pairs = tuple(torch.from_numpy(index) for index in np.divmod(which, count))
            chosen = self.output[pairs].float().cpu().numpy().reshape(len(which), -1)
        found: np.ndarray = chosen.argmax(1)
        return found


def _highest(maps: Tensor) -> Tensor:
    """(b, C): the highest value over positions of (b, C, H, W), NaN where one is; the fastest way for how they lie."""
    last = maps.device.type == "cpu" and maps.is_contiguous(memory_format=torch.channels_last)
    if last and maps.dtype == torch.bfloat16:  # of which `amax` goes through one by one
        return F.max_pool2d(maps, maps.shape[2:]).flatten(1)
    return maps.amax((2, 3))
