"""The diagnosis that led to smaller filters and strides (Zeiler & Fergus 2013, section 4.1 and Figure 6).

They looked at the first two layers of the network of Krizhevsky et al. (2012) and found filters of very high and very
low frequencies with little between, dead features, and aliasing caused by the stride of 4. Here each is measured, in
every layer where it can be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netloupe.analysis.correlation import normed
from netloupe.core.backward import gradients
from netloupe.core.errors import InputError
from netloupe.core.head import NoHead
from netloupe.core.layers import Layer
from netloupe.core.network import Network
from netloupe.core.perform import finished, function_of
from netloupe.core.taps import LOGITS
from netloupe.core.watch import SILENT, Watch
from netloupe.data.images import to_float
from netloupe.data.sources import ImageSource, first_of, read_batches, read_for
from netloupe.studies.diagnosis import figure, words
from netloupe.studies.diagnosis.record import Diagnosis, LayerDiagnosis
from netloupe.studies.diagnosis.spectra import Aliasing, aliasing, filter_spectra, strided
from netloupe.studies.diagnosis.task import DiagnosisTask
from netloupe.studies.responses import Responses, places_for
from netloupe.sweep.engine import check_any_read, sweep

SPECTRA = 32  # images whose maps are transformed
_BLOCK = 8  # images whose maps are transformed together


@function_of(DiagnosisTask)
def diagnose(net: Network, images: ImageSource | Tensor, *, watch: Watch = SILENT, **settings: Any) -> Diagnosis:
    """Dead and duplicate channels, the frequencies of the first filters, and aliasing, over a data set.

    images: a source, or a tensor (N, C, H, W) in [0, 1]; aliasing is measured on the first 32.
    Dead is a channel that is constant over all images and positions, or never above zero where the logits don't
    depend on it then, as before a ReLU however it is spelled; where a batch norm follows, its output counts.
    Two channels are alike whose filters (of the same inputs) or whose responses (less their mean, at up to 16 random
    places of each image, by `seed`) have a cosine of at least `threshold` in size; who is alike to one of a group is
    in it.
    Raises InputError for a network without a convolution that leaves a map, and images that can't be used.
    """
    task = DiagnosisTask.of(settings)
    images = read_for(first_of(images, task.first), net.inputs)
    return finished(_measured(task, net, images, watch), task, net, {"data": images})


def run(task: DiagnosisTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Diagnosis:
    return _measured(task, net, inputs["data"], watch)


def _measured(task: DiagnosisTask, net: Network, images: ImageSource | Tensor, watch: Watch) -> Diagnosis:
    named = net.layers.convolutions().once()
    if not named:
        raise InputError(f"{net.name} has no two-dimensional convolution, so no filters to diagnose")
    first = next(iter(named))
    read_at = {name: _read_at(net, name) for name in named}
    width = sum(net.layer(name).channels for name in read_at.values())
    responses = Responses(places_for(len(images), width), task.seed)
    layers = list(dict.fromkeys(read_at.values()))
    report = sweep(
        net,
        images,
        {"responses": responses},
        layers=layers,
        batch_size=task.batch_size,
        watch=watch,
    )
    check_any_read(report, images)
    found = responses.result()
    sample = next(_batches(net, images, _BLOCK))
    suspects = [n for n in layers if ((found[n].high <= 0) & (found[n].low < found[n].high)).any()]
    unread = _without_gradient(net, sample, suspects)
    diagnosed: dict[str, LayerDiagnosis] = {}
    for name, layer in watch.each("layers", named.items()):
        one = found[read_at[name]]
        silent = (one.high <= 0) & unread.get(read_at[name], np.zeros(len(one.high), dtype=bool))
        dead = silent | (one.low == one.high)
        weights = _comparable(layer)
        by_weights = () if weights is None else _groups(weights, ~dead, task.threshold)
        diagnosed[name] = LayerDiagnosis(
            dead, by_weights, _groups(normed(one.values).T, ~dead, task.threshold), weights is not None
        )
    folds, transformed = _aliasing(net, images, watch)
    weight = named[first].weight()
    assert weight is not None
    filters = weight.float().cpu().numpy()
    return Diagnosis(
        diagnosed,
        first,
        filters,
        filter_spectra(filters),
        folds,
        report.images,
        transformed,
        task.threshold,
        report.skipped,
        draw=figure.draw,
        tell=words.tell,
    )


def _read_at(net: Network, layer: str) -> str:
    """Where a convolution's responses are read: at the batch norm right after it, else at itself."""
    after = next(iter(net.layers.after(layer).values()), None)
    normed = after is not None and isinstance(after.module, nn.BatchNorm2d) and after.shape == net.layers[layer].shape
    return after.name if after is not None and normed else layer


def _without_gradient(net: Network, images: Tensor, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """{layer: (C,) whether nothing of the answer depends on a channel's present values, for any of the images}.

    Nothing of a network whose answer is not known.
    """
    if not layers or isinstance(net.head, NoHead):
        return {}
    with torch.inference_mode(False), torch.enable_grad():
        pixels = images.to(net.device).clone().requires_grad_()
        reading = net.reading(pixels, [*layers, LOGITS])
        outputs = [reading.outputs[name] for name in layers]
        logits = reading.outputs[LOGITS]
        weights = torch.rand(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits) + 0.5
        slopes = gradients(net.name, [(logits * weights).sum()], outputs)
    return {
        name: np.ones(output.shape[1], dtype=bool)
        if slope is None
        else (slope.abs().amax((0, 2, 3)) == 0).cpu().numpy()
        for name, output, slope in zip(layers, outputs, slopes, strict=True)
    }


def _comparable(layer: Layer) -> np.ndarray | None:
    """(C, groups * n) rows of length 1 whose products are the cosines of filters that read the same input.

    Filters of different groups read different channels, so theirs are 0. None where no two filters share an input.
    """
    module, weight = layer.module, layer.weight()
    assert isinstance(module, nn.Conv2d)
    assert weight is not None
    weights = weight.flatten(1).double().cpu().numpy()
    each = len(weights) // module.groups
    if each < 2:
        return None
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    rows = np.zeros((len(weights), module.groups, weights.shape[1]))
    rows[np.arange(len(weights)), np.arange(len(weights)) // each] = weights / np.where(lengths > 0, lengths, np.nan)
    return rows.reshape(len(weights), -1)


def _groups(rows: np.ndarray, alive: np.ndarray, threshold: float) -> tuple[tuple[int, ...], ...]:
    """The channels that are alike, directly or through others: groups of two and more, sorted.

    rows: (C, n) of length 1; rows with NaN are alike to none.
    """
    usable = np.flatnonzero(alive & np.isfinite(rows).all(1))
    cosines = np.abs(rows[usable] @ rows[usable].T)
    near = [np.flatnonzero(row >= threshold - 1e-9) for row in cosines]
    found, seen = [], np.zeros(len(usable), dtype=bool)
    for start in range(len(usable)):
        if seen[start]:
            continue
        waiting, group = [start], []
        seen[start] = True
        while waiting:
            i = waiting.pop()
            group.append(int(usable[i]))
            fresh = near[i][~seen[near[i]]]
            seen[fresh] = True
            waiting += fresh.tolist()
        if len(group) > 1:
            found.append(tuple(sorted(group)))
    return tuple(found)


def _aliasing(net: Network, images: ImageSource | Tensor, watch: Watch) -> tuple[dict[str, Aliasing], int]:
    """The aliasing of every layer with a stride, and on how many images it was measured."""
    layers, count = strided(net), 0

    def counted() -> Iterator[Tensor]:
        nonlocal count
        part = watch.part("spectra", min(SPECTRA, len(images)))
        for batch in _batches(net, images, _BLOCK):
            yield batch[: SPECTRA - count]
            count += len(batch[: SPECTRA - count])
            part.at(count)
            if count >= SPECTRA:
                return

    return (aliasing(net, counted(), layers), count) if layers else ({}, 0)


def _batches(net: Network, images: ImageSource | Tensor, size: int) -> Iterator[Tensor]:
    if isinstance(images, Tensor):
        yield from images.split(size)
        return
    for batch in read_batches(images, net.inputs.size, net.inputs.channels, batch_size=size):
        if len(batch.ids):
            yield to_float(batch.pixels)
