"""The same network trained from random weights on a fold's images alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from netloupe.core.network import Network
from netloupe.core.watch import Watch
from netloupe.data.sources import ImageSource, read_batches
from netloupe.studies.features import LayerFeatures
from netloupe.studies.folds import Fold, Folds, class_accuracy
from netloupe.studies.training import fresh, logits, trained, usual_epochs, usual_recipe
from netloupe.training.labeled import Images


class Scratch:
    """Trains the network of `net` anew for each fold that it is given.

    The images of both sources are read once, at the shorter side of the network's input. Raises NetworkError for a
    network that can't be made for other classes or does not take such images.
    """

    def __init__(
        self,
        net: Network,
        source: ImageSource,
        test: ImageSource | None,
        found: Sequence[LayerFeatures],
        epochs: int | None,
        seed: int,
        watch: Watch,
    ) -> None:
        self._net, self._epochs, self._seed, self._watch = net, epochs, seed, watch
        fresh(net, 2, seed)  # whether it can be made
        side = min(net.inputs.size)
        sources = [source] if test is None else [source, test]
        self._pixels = [read_pixels(one, side, net.inputs.channels) for one in sources]
        self._labels = [one.labels for one in found]

    def accuracy(self, folds: Folds, fold: Fold) -> tuple[float, float]:
        """Mean accuracy per class on the fold's test images, and on those it was trained on."""
        classes = len(folds.classes)
        train, truth = self._pixels[0][fold.train], np.searchsorted(folds.classes, self._labels[0][fold.train])
        test, asked = self._pixels[-1][fold.test], np.searchsorted(folds.classes, self._labels[-1][fold.test])
        module = fresh(self._net, classes, self._seed)
        epochs = usual_epochs(len(train)) if self._epochs is None else self._epochs
        recipe = usual_recipe(self._net, module, len(train), epochs=epochs, seed=self._seed)
        watch = self._watch.named(f"from scratch, {folds.per_class} per class")
        images = Images(train, torch.from_numpy(truth))
        net = trained(self._net, module, images, classes, recipe, watch)
        return class_accuracy(asked, predicted(net, test)), class_accuracy(truth, predicted(net, train))


def read_pixels(source: ImageSource, side: int, channels: int) -> Tensor:
    """(N, C, side, side) uint8 of the images of a source that can be read, in order."""
    batches = [batch.pixels for batch in read_batches(source, (side, side), channels)]
    return torch.from_numpy(np.concatenate(batches)).permute(0, 3, 1, 2).contiguous()


def predicted(net: Network, pixels: Tensor) -> np.ndarray:
    """(N,) the most probable class of each image of (N, C, H, W) uint8."""
    return logits(net, pixels).argmax(1).numpy()
