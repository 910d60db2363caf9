"""What shifting, scaling and turning images does to features and answer (Zeiler & Fergus 2013, Figure 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from netloupe.core.errors import InputError, NetworkError
from netloupe.core.head import Classes
from netloupe.core.network import Network
from netloupe.core.perform import decided, function_of, perform
from netloupe.core.taps import LOGITS
from netloupe.core.watch import SILENT, Watch
from netloupe.data.labels import of_network
from netloupe.data.sources import ImageSource, Skipped
from netloupe.studies.invariance import figure
from netloupe.studies.invariance.record import Invariance, shown_places
from netloupe.studies.invariance.task import MOTIONS, InvarianceTask
from netloupe.studies.motions import Held, Motion

EXAMPLES = 5

_BLOCK = 16  # images a pass, always: the last bits of a convolution depend on how many there are


def motions(task: InvarianceTask) -> dict[str, tuple[np.ndarray, list[Motion]]]:
    """Motion -> its values and the motions: 2 steps + 1 shifts from -shift to shift, steps + 1 scales from 1 to scale,
    3 steps rotations around the circle. Each has one that leaves the image as it is."""
    shifts = task.shift * np.arange(-task.steps, task.steps + 1) / task.steps
    scales = 1 + (task.scale - 1) * np.arange(task.steps + 1) / task.steps
    angles = 360.0 * np.arange(3 * task.steps) / (3 * task.steps)
    return {
        "shift": (shifts, [Motion(shift=float(v)) for v in shifts]),
        "scale": (scales, [Motion(scale=float(v)) for v in scales]),
        "rotation": (angles, [Motion(rotation=float(v)) for v in angles]),
    }


@function_of(InvarianceTask)
def invariance(
    net: Network,
    source: ImageSource,
    layers: Sequence[str] | None = None,
    *,
    first: int | None = None,
    watch: Watch = SILENT,
    **settings: Any,
) -> Invariance:
    """Distances and probabilities of every image of a source, or the first of them, under `motions`.

    Below a `window` of 1 there is more of the photograph around it to move into view.
    The probability is of an image's label where the source is labeled with the network's classes, else of the most
    probable class of the untouched image; without classes there is none. An image that can't be read is left out and
    named. Raises UnknownName for a layer that is not there, InputError for ranges, images or examples that can't be
    used, and for images that are all alike; NetworkError for features that are not finite.
    """
    given = source.first(first)
    task = InvarianceTask.of({"layers": layers, "first": len(given), **settings})
    found: Invariance = perform(task, net, {"data": given}, watch)
    return found


def run(task: InvarianceTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Invariance:
    source: ImageSource = inputs["data"]
    usual = () if task.layers else (net.layers.first_features().name, net.layers.features().name)
    names = tuple(net.layers.each(task.layers or usual))
    given = motions(task)
    labeled = of_network(source, net.head.choices)
    wanted = list(range(min(EXAMPLES, len(source)))) if task.examples is None else list(dict.fromkeys(task.examples))
    for i in wanted:
        if i >= len(source):
            raise InputError(f"no image {i} among {len(source)} (accepted: 0 to {len(source) - 1})")
    reader = _Reader(net, names, given, task.fill)
    rows: dict[int, _Row] = {}
    skipped = []
    for i in watch.each("images", range(len(source))):
        try:
            image = source.open(i)
        except InputError as error:
            skipped.append(Skipped(i, source.names[i], str(error)))
        else:
            held = Held(image, net.inputs.size, net.inputs.channels, task.window)
            rows[i] = reader.row(held, source.label(i) if labeled else None, i in wanted)
    if len(rows) < 2:
        reason = f": {skipped[0].reason}" if skipped else ""
        raise InputError(f"{len(rows)} images of {source.spec!r} can be read (accepted: 2 or more){reason}")
    ids, found = list(rows), list(rows.values())
    shown = [i for i in wanted if i in rows]
    return Invariance(
        draw=figure.draw,
        layers=names,
        names=tuple(source.names[i] for i in ids),
        classes=tuple(net.head.label(row.index) for row in found if row.index is not None),
        labeled=labeled,
        steps={motion: values for motion, (values, _) in given.items()},
        distances={motion: np.stack([row.distances[motion] for row in found]) for motion in MOTIONS},
        unit=reader.unit(),
        probabilities=_together([row.probabilities for row in found]),
        filled={motion: np.stack([row.filled[motion] for row in found]) for motion in MOTIONS},
        examples=tuple(ids.index(i) for i in shown),
        strips={motion: _strips([rows[i].strips[motion] for i in shown]) for motion in MOTIONS},
        skipped=tuple(skipped),
        provenance=decided(replace(task, layers=names)),
    )


def _together(found: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray] | None:
    """Motion -> (N, S), of what all images have; None where there is nothing."""
    return {motion: np.stack([one[motion] for one in found]) for motion in found[0]} or None


@dataclass(frozen=True)
class _Row:
    """One image."""

    index: int | None  # of the class; None without classes, and then there are no probabilities
    distances: dict[str, np.ndarray]  # (L, S)
    probabilities: dict[str, np.ndarray]  # (S,)
    filled: dict[str, np.ndarray]
    strips: dict[str, np.ndarray]  # (up to 5, C, H, W), of an example


class _Reader:
    """Moves images and reads the network; sums up the untouched images' features as they pass."""

    def __init__(
        self,
        net: Network,
        layers: tuple[str, ...],
        given: Mapping[str, tuple[np.ndarray, list[Motion]]],
        fill: str,
    ) -> None:
        self._net, self._layers, self._given, self._fill = net, layers, given, fill
        self._classes = net.head.classes("a study of invariance", 2) if isinstance(net.head, Classes) else None
        self._count = 0
        self._sum: list[Tensor | float] = [0.0] * len(layers)
        self._squares = [0.0] * len(layers)

    def row(self, held: Held, label: int | None, shown: bool) -> _Row:
        distinct = list(dict.fromkeys([Motion(), *(one for _, some in self._given.values() for one in some)]))
        far, probabilities, images = self._read(held, distinct)
        at = {
            motion: [0 if one.nothing else distinct.index(one) for one in some]
            for motion, (_, some) in self._given.items()
        }
        index = None
        if probabilities is not None:
            index = int(probabilities[0].argmax()) if label is None else label
        return _Row(
            index,
            {motion: far[:, places] for motion, places in at.items()},
            {} if probabilities is None else {motion: probabilities[places, index] for motion, places in at.items()},
            {motion: held.filled(some) for motion, (_, some) in self._given.items()},
            {motion: images[np.array(places)[shown_places(motion, len(places))]] for motion, places in at.items()}
            if shown
            else {},
        )

    def _read(self, held: Held, some: list[Motion]) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Distances (L, M) to the first, probabilities (M, classes), None without classes, and images (M, C, H, W), in
        passes of one size."""
        originals: list[Tensor] = []
        parts = []
        for start in range(0, len(some), _BLOCK):
            part = some[start : start + _BLOCK]
            images = self._moved(held, part + [Motion()] * (_BLOCK - len(part)))
            outputs = self._outputs(images, len(part))
            if not originals:
                originals = [outputs[name][0].double() for name in self._layers]
                self._take(originals)
            far = [
                [float((row.double() - original).norm()) for row in outputs[name]]
                for name, original in zip(self._layers, originals, strict=True)
            ]
            parts.append(
                (
                    np.array(far),
                    np.zeros((len(part), 0))
                    if self._classes is None
                    else self._classes.probabilities(outputs[LOGITS].double()).numpy(),
                    images[: len(part)].numpy(),
                )
            )
        fars, probabilities, pictures = zip(*parts, strict=True)
        known = None if self._classes is None else np.concatenate(probabilities)
        return np.concatenate(fars, 1), known, np.concatenate(pictures)

    def _moved(self, held: Held, some: Sequence[Motion]) -> Tensor:
        return held.moved(some, self._fill, self._net.inputs.mean_color())

    def _outputs(self, images: Tensor, count: int) -> dict[str, Tensor]:
        """The layers' outputs and the logits of the first `count` images."""
        answer = [] if self._classes is None else [LOGITS]
        found = self._net.activations(images, [*self._layers, *answer])
        for name, output in found.items():
            if not bool(output[:count].isfinite().all()):
                raise NetworkError(f"{self._net.name} gives {name or 'logits'} that are not finite")
        return {name: output[:count].cpu() for name, output in found.items()}

    def _take(self, original: Sequence[Tensor]) -> None:
        self._count += 1
        for i, features in enumerate(original):
            self._sum[i] = self._sum[i] + features
            self._squares[i] += float(features.square().sum())

    def unit(self) -> np.ndarray:
        """(L,): root mean square over all pairs. Sum over ordered pairs of |f - g|^2 = 2 (N sum |f|^2 - |sum f|^2)."""
        n, found = self._count, []
        for name, total, squares in zip(self._layers, self._sum, self._squares, strict=True):
            assert isinstance(total, Tensor)
            spread = n * squares - float(total.square().sum())
            if spread <= 1e-9 * n * squares:
                raise InputError(f"all {n} images are alike at {name} (accepted: images that differ)")
            found.append(math.sqrt(2 * spread / (n * (n - 1))))
        return np.array(found)


def _strips(found: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack(found) if found else np.empty((0,))
