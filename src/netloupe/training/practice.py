"""A small network trained in under a minute, for studies of training itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netloupe.core.errors import InputError
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.watch import SILENT, Watch
from netloupe.data.labels import required
from netloupe.data.sources import ImageSource
from netloupe.training.labeled import Images, read_labeled
from netloupe.training.loop import Learner, stretches
from netloupe.training.recorder import EPOCHS, Recorder

SIZE = 24  # px
BATCH = 64
RATE, MOMENTUM, DECAY = 0.02, 0.9, 2e-3
START = 0.3  # of the size of weights that He et al. (2015) start from, so that training has to make the filters
HELD_OUT = 5  # every fifth image

PLAN = ((16, 5, True), (24, 3, True), (32, 3, True), (48, 3, False))  # channels, kernel, max pooling after it


@dataclass(frozen=True)
class Practice:
    """A network after its last epoch, and its top-1 accuracy on the held-out fifth of the images."""

    net: Network
    top1: float
    images: int


def small_network(classes: int, channels: int, seed: int = 0) -> nn.Sequential:
    """(N, channels, 24, 24) -> (N, classes): `conv1` to `conv4` with `reluN` and pooling, `mean` over space, `fc`.

    Weights start at 0.3 times the size of He et al. (2015).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = nn.Sequential()
        for i, (out, kernel, pool) in enumerate(PLAN, 1):
            convolution = nn.Conv2d(channels, out, kernel, padding=kernel // 2)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            convolution.weight.data *= START
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            found.add_module(f"conv{i}", convolution)
            found.add_module(f"relu{i}", nn.ReLU())
            if pool:
                found.add_module(f"pool{i}", nn.MaxPool2d(2))
            channels = out
        found.add_module("mean", nn.AdaptiveAvgPool2d(1))
        found.add_module("flat", nn.Flatten())
        found.add_module("fc", nn.Linear(channels, classes))
    return found


class _Learner(Learner[tuple[Tensor, Tensor]]):
    """Plain stochastic gradient descent at a constant rate; an epoch is a stretch, batches are images and labels."""

    def __init__(self, network: nn.Module, images: Tensor, labels: Tensor, epochs: int, seed: int) -> None:
        self.network, self.images, self.labels, self.device = network, images, labels, images.device
        self.optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
        self.stretch = -(-len(labels) // BATCH)
        self.steps = epochs * self.stretch
        self._generator = torch.Generator().manual_seed(seed)

    def rate(self, step: int) -> float:
        return RATE

    def batches(self, steps: range) -> Iterator[tuple[Tensor, Tensor]]:
        self.network.train()
        for chosen in torch.randperm(len(self.labels), generator=self._generator).to(self.device).split(BATCH):
            yield self.images[chosen], self.labels[chosen]

    def loss(self, step: int, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.network(images), labels)


def practice(
    source: ImageSource,
    folder: str | Path,
    *,
    epochs: int = EPOCHS[-1],
    recorded: tuple[int, ...] = EPOCHS,
    device: str = "cpu",
    seed: int = 0,
    watch: Watch = SILENT,
) -> Practice:
    """Train `small_network` on four fifths of a labeled source, its snapshots after the epochs `recorded` in `folder`.

    Plain stochastic gradient descent at a constant rate, so that layers settle by themselves and not by a schedule.
    The same seed gives the same snapshots on the same machine. Raises InputError for a source without labels or with
    fewer images than a batch, NetworkError if the loss diverges, StoreError for a folder that can't be written.
    """
    labels = required(source, "training")
    images = read_labeled(source, SIZE, watch, channels=source.channels)
    images.check(len(labels), "training")
    held = torch.arange(len(images.labels)) % HELD_OUT == HELD_OUT - 1
    if int((~held).sum()) < BATCH:
        raise InputError(f"{len(images.labels)} images with a label (accepted: {BATCH * HELD_OUT // 4 + 1} or more)")
    training, test = _part(images, ~held, device), _part(images, held, device)
    mean, std = _numbers(training.mean((0, 2, 3))), _numbers(training.std((0, 2, 3)))
    inputs = InputSpec((SIZE, SIZE), source.channels, mean, std)
    module = small_network(len(labels), source.channels, seed).to(device)
    recorder = Recorder(folder, module, recorded)
    recorder.epoch_done(0)
    learner = _Learner(module, inputs.normalize(training), images.labels[~held].to(device), epochs, seed)
    for epoch, _ in enumerate(stretches(learner, watch), 1):
        recorder.epoch_done(epoch)
    net = Network(module.eval(), inputs, labels, name="small network")
    with torch.no_grad():
        top1 = float((net(test).argmax(1).cpu() == images.labels[held]).double().mean())
    return Practice(net, top1, len(training))


def _part(images: Images, which: Tensor, device: str) -> Tensor:
    return images.pixels[which].to(device).float() / 255


def _numbers(values: Tensor) -> tuple[float, ...]:
    return tuple(round(max(float(value), 1e-3), 4) for value in values)
