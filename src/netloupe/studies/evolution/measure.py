"""How a network's features evolve while it is trained (Zeiler & Fergus 2013, section 4 and Figure 4).

At a series of epochs: which image excites a channel most, that response projected to the pixels, and how like the
channel's responses are to those that it will end with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from netloupe.analysis.correlation import ranked
from netloupe.analysis.unproject import no_rectifier, project, rectifies
from netloupe.core.device import device_of
from netloupe.core.errors import InputError, NetworkError, StoreError
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.perform import finished, function_of
from netloupe.core.receptive_field import Box
from netloupe.core.task import Networks
from netloupe.core.units import Unit
from netloupe.core.watch import SILENT, Watch
from netloupe.data.images import as_seen
from netloupe.data.labels import required
from netloupe.data.sources import ImageSource, Skipped, pixel_reader, read_for
from netloupe.render.pictures import Picture, from_pixels
from netloupe.studies.evolution import figure
from netloupe.studies.evolution.record import Evolution, LayerEvolution
from netloupe.studies.evolution.task import EvolutionTask
from netloupe.studies.responses import Responses, likeness, places_for
from netloupe.sweep.engine import check_any_read, sweep
from netloupe.sweep.top import Strongest, Top
from netloupe.training.practice import SIZE, practice, small_network
from netloupe.training.recorder import EPOCHS, networks, snapshots

LAYERS = 8  # shown where none are named
_TOGETHER = 8  # images that are projected together


@function_of(EvolutionTask)
def evolution(
    snapshots: Mapping[int, Callable[[], Network]],
    images: ImageSource | Tensor,
    layers: Sequence[str] | None = None,
    units: Sequence[str | Unit] | None = None,
    *,
    watch: Watch = SILENT,
    **settings: Any,
) -> Evolution:
    """Channels of a network at the epochs of its snapshots, over a data set.

    snapshots: {epoch: what gives the network as it then was}, as `training.recorder.networks` makes it; one network is
    held at a time. images: a source, or a tensor (N, C, H, W) in [0, 1].
    layers: by default the convolutions, 8 of them evenly spread from first to last where there are more. Each shows
    `channels` of its channels, chosen at the last snapshot: those whose strongest response is highest, or, as in the
    paper, random ones by `seed`. units: the channels to show instead, as in "conv3:17"; then only their layers count.

    Raises InputError for fewer than two snapshots or images that can't be used, UnknownName for a layer or channel
    that is not there, NetworkError for a network without ReLU and for snapshots of different networks.
    """
    task = EvolutionTask.of({"layers": layers, "units": units, **settings})
    if len(snapshots) < 2:
        raise InputError(f"{len(snapshots)} snapshots (accepted: 2 or more)")
    last = snapshots[max(snapshots)]()
    images = read_for(images, last.inputs)
    return finished(_measured(task, last, snapshots, images, watch), task, last, {"data": images})


def network(task: EvolutionTask, loaded: Networks, inputs: Mapping[str, Any]) -> Network:
    """The network at the last snapshot in FOLDER; without one the small network, as it is before its training."""
    folder: Path | None = inputs.get("folder")
    if folder is None:
        for name in loaded.given:
            raise InputError(f"--{name} is about the network of a FOLDER of snapshots, and none was given")
        source: ImageSource = inputs["data"]
        labels = required(source, "training")
        module = small_network(len(labels), source.channels, task.seed).to(device_of(loaded.device))
        return Network(module.eval(), InputSpec((SIZE, SIZE), source.channels), labels, name="small network")
    if "weights" in loaded.given:
        raise InputError(
            f"--weights was given beside {folder}, whose snapshots are the weights (accepted: one of them)"
        )
    found = snapshots(folder)
    if not found:
        raise StoreError(f"{folder}: no snapshots there (accepted: epoch-*.safetensors, as a Recorder writes them)")
    net = loaded.load(weights=found[max(found)])
    assert net.origin is not None
    net.origin = {**net.origin, "weights": None}
    return net


def run(task: EvolutionTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Evolution:
    source: ImageSource = inputs["data"]
    if "folder" in inputs:
        return _measured(task, net, networks(inputs["folder"], net), source, watch)
    _named_channels(net, task)  # mistakes show now
    with TemporaryDirectory() as folder:
        done = practice(source, folder, device=str(net.device), seed=task.seed, watch=watch)
        found = _measured(task, done.net, networks(folder, done.net), source, watch)
        kept = {f"snapshots/{path.name}": path.read_bytes() for path in snapshots(folder).values()}
    note = (
        f"No FOLDER was given, so a small network was trained on {done.images} images of {source.title} for "
        f"{EPOCHS[-1]} epochs; it names {done.top1:.1%} of the held-out images rightly."
    )
    return replace(found, kept=kept, note=note)


def _measured(
    task: EvolutionTask,
    last: Network,
    snapshots: Mapping[int, Callable[[], Network]],
    images: ImageSource | Tensor,
    watch: Watch,
) -> Evolution:
    """last: the network at the last of the snapshots."""
    epochs = sorted(snapshots)
    if len(epochs) < 2:
        raise InputError(f"{len(epochs)} snapshots (accepted: 2 or more)")
    part = watch.part("snapshots", len(epochs))
    named = _named_channels(last, task)
    if not rectifies(last):
        raise no_rectifier(last, task.rule)  # type: ignore[arg-type]
    study = _Study(task, last, images, list(named))
    study.take(epochs[-1], last)
    shown = {n: chosen or study.choose(n) for n, chosen in named.items()}
    study.project(epochs[-1], last, shown)
    part.advance()
    for epoch in reversed(epochs[:-1]):
        net = snapshots[epoch]()
        study.take(epoch, net)
        study.project(epoch, net, shown)
        part.advance()
    found = {name: study.result(name, shown[name], epochs) for name in named}
    return Evolution(tuple(epochs), found, study.size, study.count, study.photo, study.skipped, draw=figure.draw)


def _named_channels(net: Network, task: EvolutionTask) -> dict[str, tuple[int, ...]]:
    """{layer: channels to show}, no channels where they are still to be chosen. Raises as `evolution` does."""
    return _channels_of(net, task.units) if task.units else dict.fromkeys(_layers_of(net, task.layers), ())


class _Study:
    """What is kept while the snapshots are gone through, the last one first."""

    def __init__(self, task: EvolutionTask, last: Network, images: ImageSource | Tensor, layers: Sequence[str]) -> None:
        self.task, self.images, self.layers = task, images, layers
        self.places = places_for(len(images), sum(last.layer(name).channels for name in layers))
        self.size = last.inputs.size
        if isinstance(images, Tensor):
            self.size = int(images.shape[2]), int(images.shape[3])
            self.read: Callable[[int], Tensor] = images.detach().cpu().__getitem__
        else:
            self.read = pixel_reader(images, self.size, last.inputs.channels)
        self._shapes = {name: last.layer(name).shape for name in layers}
        self._final: dict[str, np.ndarray] = {}
        self._filters = {name: _filters(last, name) for name in layers}
        self._tops: dict[int, dict[str, Top]] = {}
        self._likeness: dict[int, dict[str, np.ndarray]] = {}
        self._weights: dict[int, dict[str, np.ndarray | None]] = {}
        self._projections: dict[int, dict[str, tuple[np.ndarray, tuple[Box, ...]]]] = {}
        self.count = 0
        self.skipped: tuple[Skipped, ...] = ()

    def photo(self, image: int) -> Picture:
        if isinstance(self.images, Tensor):
            return as_seen(Image.fromarray(from_pixels(self.read(image).numpy())), self.size)
        return as_seen(self.images.open(image), self.size)

    def take(self, epoch: int, net: Network) -> None:
        """One pass over the data; the first call is the last epoch, to which the others are compared."""
        for name, shape in self._shapes.items():
            if name not in net.layers or net.layers[name].shape != shape:
                raise NetworkError(f"the snapshot of epoch {epoch} has no layer {name!r} of shape {shape}")
        top, responses = Strongest(1), Responses(self.places, self.task.seed)
        feeds = {"top": top, "responses": responses}
        report = sweep(net, self.images, feeds, layers=self.layers, batch_size=self.task.batch_size)
        check_any_read(report, self.images)
        self.count, self.skipped = report.images, report.skipped
        found = {name: ranked(each.values).astype(np.float32) for name, each in responses.result().items()}
        self._final = self._final or found
        self._tops[epoch] = top.result()
        self._likeness[epoch] = {name: _likeness(found[name], self._final[name]) for name in self.layers}
        self._weights[epoch] = {name: _cosines(_filters(net, name), self._filters[name]) for name in self.layers}

    def choose(self, layer: str) -> tuple[int, ...]:
        (tops,) = self._tops.values()
        values = tops[layer].values[:, 0].numpy()
        count = self.task.channels
        if self.task.choose == "random":
            order = np.random.default_rng(self.task.seed).permutation(len(values))[:count]
            return tuple(sorted(int(c) for c in order))
        return tuple(int(c) for c in np.argsort(-values, kind="stable")[:count])

    def project(self, epoch: int, net: Network, shown: Mapping[str, Sequence[int]]) -> None:
        """The strongest response of each channel shown, to the pixels."""
        self._projections[epoch] = {}
        for layer, channels in shown.items():
            top, crop = self._tops[epoch][layer], net.layer(layer).patch
            at = [tuple(int(v) for v in top.positions[c, 0]) for c in channels]
            found = np.zeros((len(channels), net.inputs.channels, *self.size), dtype=np.float32)
            for part in _parts([k for k, c in enumerate(channels) if float(top.values[c, 0]) > 0]):
                pixels = torch.stack([self.read(int(top.images[channels[k], 0])) for k in part])
                which, places = [channels[k] for k in part], [at[k] for k in part]
                done = project(net, pixels, layer, which, places, self.task.rule)  # type: ignore[arg-type]
                found[part] = done.cpu().numpy()
            boxes = tuple(crop(y, x, self.size) for y, x in at)
            self._projections[epoch][layer] = found, boxes

    def result(self, layer: str, channels: Sequence[int], epochs: Sequence[int]) -> LayerEvolution:
        tops = [self._tops[epoch][layer] for epoch in epochs]
        weights = [self._weights[epoch][layer] for epoch in epochs]
        drawn = [self._projections[epoch][layer] for epoch in epochs]
        return LayerEvolution(
            likeness=np.stack([self._likeness[epoch][layer] for epoch in epochs]),
            weights=None if weights[0] is None else np.stack([each for each in weights if each is not None]),
            values=np.stack([top.values[:, 0].numpy() for top in tops]),
            images=np.stack([top.images[:, 0].numpy() for top in tops]),
            positions=np.stack([top.positions[:, 0].numpy() for top in tops]),
            channels=tuple(channels),
            projections=np.stack([pixels for pixels, _ in drawn], axis=1),
            boxes=tuple(tuple(boxes[k] for _, boxes in drawn) for k in range(len(channels))),
        )


def _layers_of(net: Network, given: Sequence[str] | None) -> list[str]:
    if given:
        return list(dict.fromkeys(net.layer(name).name for name in given))
    found = net.layers.convolutions().evenly(LAYERS)
    if not found:
        raise InputError(f"{net.name} has no two-dimensional convolution; name the layers to follow")
    return list(found)


def _channels_of(net: Network, units: Sequence[str | Unit]) -> dict[str, tuple[int, ...]]:
    """{layer: channels}, in the order of execution."""
    found: dict[str, list[int]] = {}
    for given in units:
        unit = given if isinstance(given, Unit) else Unit.parse(given)
        layer, channel = unit.channel_of(net.layers)
        found.setdefault(layer, []).append(channel)
    return {name: tuple(dict.fromkeys(found[name])) for name in net.layers if name in found}


def _likeness(ranks: np.ndarray, final: np.ndarray) -> np.ndarray:
    """(C,): see `LayerEvolution.likeness`."""
    found = likeness(ranks, final)
    changing = np.ptp(final, axis=0) > 0
    return np.where(changing, np.nan_to_num(found), np.nan)


def _filters(net: Network, layer: str) -> np.ndarray | None:
    """(C, ...) float64: the weights of each channel of a layer; None where it has none of its own."""
    weight = net.layer(layer).weight()
    if weight is None or weight.ndim < 2 or len(weight) != net.layer(layer).channels:
        return None
    return weight.flatten(1).double().cpu().numpy()


def _cosines(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    if one is None or other is None:
        return None
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(1) / np.where(lengths > 0, lengths, 1))


def _parts(items: Sequence[int]) -> Iterator[list[int]]:
    """Parts of a size that `batch_size` has no say in, since the last bits of a projection depend on it."""
    for first in range(0, len(items), _TOGETHER):
        yield list(items[first : first + _TOGETHER])
