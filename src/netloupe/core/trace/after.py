"""The part of a network that follows a layer, to be run again and again with that layer's output changed."""

from __future__ import annotations

import torch
from torch import Tensor

from netloupe.core.errors import NetworkError
from netloupe.core.network import Network
from netloupe.core.taps import LOGITS, Reader, evaluating
from netloupe.core.trace.graph import Graph, Recorder
from netloupe.core.trace.mode import CantTell, following


class Rest:
    """The logits as a function of one layer's output, for a batch of images.

    `record` runs the network on images and writes down what follows the layer; a call then runs that alone, on an
    output in place of the layer's. So a layer can be changed many times at the cost of what follows. Where that can't
    be repeated from the record (a path that depends on the numbers, or logits other than those of the whole), every
    call runs the whole network, and `whole` says why, else None.

    Raises UnknownName for a layer that is not there. Not for gradients.
    """

    def __init__(self, net: Network, layer: str) -> None:
        self.net = net
        self.layer = net.layer(layer).name
        self.whole: str | None = None
        self._images: Tensor | None = None
        self._graph: Graph | None = None

    @torch.no_grad()
    def record(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's output and the logits (N, classes) of images (N, C, H, W) in [0, 1]; later calls are of these."""
        self._images, self._graph = images, None
        recorder = Recorder()
        found: list[Tensor] = []
        clean: list[Tensor] = []

        def begin(output: Tensor) -> Tensor:
            found.append(output.clone())
            return recorder.start(output.clone())  # apart from what reads the same tensor around the layer

        def end(logits: Tensor) -> None:
            clean.append(logits)
            recorder.read(LOGITS, logits)

        if self.whole is not None:
            self.net.run(images, {self.layer: lambda x: found.append(x.clone()), LOGITS: clean.append})
            return found[0], clean[0]
        try:
            with following(recorder.follow):
                self.net.run(images, {self.layer: begin, LOGITS: end})
            self._graph = recorder.graph()
            self._try(found[0])
        except CantTell as trouble:
            self.whole = str(trouble)
        return found[0], clean[0]

    def _try(self, output: Tensor) -> None:
        """Raise CantTell unless what follows gives the logits of the whole for another output."""
        try:
            expected = self._all(_other)
        except NetworkError as error:
            raise CantTell(f"it can't be tried: {error}") from error
        near = 1e-5 * float(expected.abs().max())
        if not torch.allclose(self(_other(output)), expected, rtol=1e-4, atol=near, equal_nan=True):
            raise CantTell("the part after the layer does not give the logits of the whole")

    @torch.no_grad()
    def __call__(self, output: Tensor) -> Tensor:
        """The logits (N, classes) of the recorded images with `output` for the layer's; it may be overwritten."""
        if self.whole is not None or self._graph is None:
            return self._all(lambda _: output)
        with evaluating(self.net.module):
            return self._graph.replay(output)[LOGITS]

    def _all(self, change: Reader) -> Tensor:
        assert self._images is not None, "record images first"
        logits: list[Tensor] = []
        self.net.run(self._images, {self.layer: change, LOGITS: logits.append})
        return logits[0]


def _other(output: Tensor) -> Tensor:
    """Made of a layer's output, but not like it."""
    other = output.flip(1)
    return other.div_(2) if other.is_floating_point() else other
