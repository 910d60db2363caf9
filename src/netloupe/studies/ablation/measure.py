"""What a network loses without a channel, or a whole layer: mean ablation, without training anew.

A channel's map is replaced by its mean over the images, position by position, so that the next layer gets what it
usually gets and nothing of this image. The removals of Zeiler & Fergus (2013, Table 3) are in `retraining`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.core.errors import InputError, NetworkError
from netloupe.core.layout import as_maps
from netloupe.core.network import Network
from netloupe.core.perform import decided, finished, function_of
from netloupe.core.receptive_field import Box
from netloupe.core.trace.after import Rest
from netloupe.core.watch import SILENT, Watch
from netloupe.data.labels import of_network
from netloupe.data.sources import ImageSource, read_all
from netloupe.studies.ablation import figure
from netloupe.studies.ablation.record import Ablation, LayerAblation
from netloupe.studies.ablation.task import AblationTask

_BATCH = 32


@function_of(AblationTask)
def ablation(
    net: Network,
    images: Tensor,
    labels: Sequence[int | None] | None = None,
    *,
    first: int | None = None,
    watch: Watch = SILENT,
    **settings: Any,
) -> Ablation:
    """Replace each channel of `layers` by its mean over images (N, C, H, W) in [0, 1], in turn, and all at once.

    labels: class indices, by which the loss is the cross-entropy; None takes the class that the network predicts.
    layers: by default see `Layers.stage_ends`. The network runs up to a layer once, then only what follows, where that
    can be cut out (see `Rest`).

    Raises UnknownName for a layer that is not there, InputError for images or labels that can't be used, NetworkError
    for logits that are not finite.
    """
    task = AblationTask.of({"first": first, **settings})
    images, labels = images[: task.first], None if labels is None else labels[: task.first]
    return finished(_measured(task, net, images, labels, watch), task, net, {"data": images})


def run(task: AblationTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Ablation:
    source: ImageSource = inputs["data"]
    ids, images, skipped = read_all(source, net.inputs.size, net.inputs.channels)
    labels = [source.label(i) for i in ids] if of_network(source, net.head.choices) else None
    return replace(_measured(task, net, images, labels, watch), skipped=skipped)


def _measured(
    task: AblationTask, net: Network, images: Tensor, labels: Sequence[int | None] | None, watch: Watch
) -> Ablation:
    net.inputs.check(images)
    net.inputs.check_range(images)
    if not len(images):
        raise InputError("0 images (accepted: 1 or more)")
    net.head.classes("ablation", 2)
    names = net.layers.each(task.layers or net.layers.stage_ends())
    task = replace(task, layers=tuple(names))
    parts = images.split(_BATCH)
    targets, clean = _clean(net, parts, labels)
    means = _means(net, parts, names)
    found = [_Layer(net, name, means[name], parts, targets).run(watch) for name in names]
    log_p = clean.gather(1, targets[:, None])[:, 0]
    return Ablation(
        draw=figure.draw,
        layers=tuple(found),
        clean_loss=-log_p.numpy(),
        clean_right=(clean.argmax(1) == targets).numpy(),
        labeled=labels is not None,
        images=images.cpu().numpy(),
        provenance=decided(task),
    )


def _log_probabilities(net: Network, logits: Tensor, what: str) -> Tensor:
    if not bool(logits.isfinite().all()):
        raise NetworkError(f"logits that are not finite {what}")
    return net.head.classes("ablation", 2).log_probabilities(logits.double()).cpu()


def _clean(net: Network, parts: Sequence[Tensor], labels: Sequence[int | None] | None) -> tuple[Tensor, Tensor]:
    """(N,) the class that each image is judged by, and (N, classes) the log probabilities, float64."""
    with torch.no_grad():
        clean = torch.cat([_log_probabilities(net, net(part), f"from {net.name}") for part in parts])
    if labels is None:
        return clean.argmax(1), clean
    if len(labels) != len(clean):
        raise InputError(f"{len(labels)} labels for {len(clean)} images (accepted: one for each)")
    wrong = [label for label in labels if label is None or not 0 <= label < clean.shape[1]]
    if wrong:
        raise InputError(f"label {wrong[0]} (accepted: 0 to {clean.shape[1] - 1} for every image, or no labels at all)")
    return torch.tensor([int(label) for label in labels if label is not None]), clean


def _means(net: Network, parts: Sequence[Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Layer -> the mean of its output over all images, (C, H, W) or (C,), float64."""
    sums: dict[str, Tensor] = {}
    count = 0
    for part in parts:
        for name, output in net.activations(part, names).items():
            total = output.double().sum(0)
            sums[name] = total + sums[name] if name in sums else total
        count += len(part)
    return {name: total / count for name, total in sums.items()}


class _Layer:
    """All that is done to one layer."""

    def __init__(self, net: Network, name: str, mean: Tensor, parts: Sequence[Tensor], targets: Tensor) -> None:
        self._net, self._name, self._parts, self._targets = net, name, parts, targets
        self._mean = mean
        channels, images = mean.shape[0], len(targets)
        self._rise, self._divergence = np.zeros((channels + 1, images)), np.zeros((channels + 1, images))
        self._right = np.zeros((channels + 1, images), bool)
        self._activity, self._change = torch.zeros(channels).double(), torch.zeros(channels).double()
        self._peaks = torch.full((channels,), -torch.inf)
        self._patches = np.zeros((channels, 5), np.int64)

    def run(self, watch: Watch) -> LayerAblation:
        rest = Rest(self._net, self._name)
        channels = self._mean.shape[0]
        steps = watch.part(self._name, (channels + 1) * len(self._targets))
        start = 0
        for part in self._parts:
            span = slice(start, start + len(part))
            output, logits = rest.record(part)
            clean = _log_probabilities(self._net, logits, f"from {self._net.name}")
            self._take_in(output, start)
            mean = self._mean.to(output.dtype)
            for c in range(channels + 1):  # the last is the whole layer
                changed = output.clone()
                if c < channels:
                    changed[:, c] = mean[c]
                else:
                    changed[:] = mean
                self._compare(c, span, clean, _log_probabilities(self._net, rest(changed), f"without {self._name}:{c}"))
                steps.at(start * (channels + 1) + (c + 1) * len(part))
            start += len(part)
        count = len(self._targets) * (self._mean[0].numel())
        return LayerAblation(
            self._name,
            self._rise[:-1],
            self._right[:-1],
            self._divergence[:-1],
            self._rise[-1],
            self._right[-1],
            self._divergence[-1],
            (self._activity / count).numpy(),
            (self._change / count).numpy(),
            self._patches,
            rest.whole,
        )

    def _compare(self, row: int, span: slice, clean: Tensor, now: Tensor) -> None:
        targets = self._targets[span, None]
        self._rise[row, span] = (clean.gather(1, targets) - now.gather(1, targets))[:, 0].numpy()
        self._right[row, span] = (now.argmax(1) == targets[:, 0]).numpy()
        self._divergence[row, span] = (clean.exp() * (clean - now)).sum(1).numpy()

    def _take_in(self, output: Tensor, start: int) -> None:
        """Sums of the activations, and where each channel is strongest."""
        maps = as_maps(output)
        flat = maps.double().cpu().flatten(2)
        self._activity += flat.sum((0, 2))
        self._change += (flat - self._mean.cpu().reshape(1, output.shape[1], -1)).abs().sum((0, 2))
        peaks, places = flat.transpose(0, 1).flatten(1).max(1)
        for c in (peaks > self._peaks).nonzero()[:, 0].tolist():
            self._peaks[c] = peaks[c]
            image, place = divmod(int(places[c]), flat.shape[2])
            self._patches[c] = (start + image, *self._box(*divmod(place, maps.shape[3])))

    def _box(self, y: int, x: int) -> Box:
        height, width = self._parts[0].shape[2:]
        return self._net.layers[self._name].patch(y, x, (height, width))
