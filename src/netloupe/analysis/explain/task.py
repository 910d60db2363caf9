"""Which pixels of an image made the network answer so: every method side by side, and how far to trust each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.explain.evidence import Curves, ExplainedBy, curves_of, explained_by
from netloupe.analysis.explain.figure import draw_figure
from netloupe.analysis.explain.page import write_page
from netloupe.analysis.explain.target import Target, find_target
from netloupe.analysis.fidelity import STEPS, randomized
from netloupe.analysis.gradients import saliency
from netloupe.analysis.methods import METHODS, pick_methods
from netloupe.analysis.objects import LocatedObject, locate_object
from netloupe.core.errors import InputError, NetloupeError, unknown
from netloupe.core.network import Network
from netloupe.core.objectives import Objective
from netloupe.core.provenance import provenance
from netloupe.core.watch import SILENT, Watch
from netloupe.data.images import to_float
from netloupe.render.pictures import Picture, from_pixels
from netloupe.render.result import Result


@dataclass(frozen=True)
class Prediction:
    """One class of the image, its probability in [0, 1]."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class Explanation(Result):
    """Every method's map of one image, of one objective.

    image: (C, H, W) in [0, 1]. photo: the same part of the photograph, for showing. predictions: the top five, if the
    network gives classes. maps: by method. skipped: method -> why it can't explain this network. object: by the
    gradient's saliency, in the photo's pixels; None with the reason in `no_object`. by_chance: the curves of pixels in
    a random order.
    """

    image: np.ndarray
    photo: Picture
    target: Target
    predictions: tuple[Prediction, ...]
    maps: Mapping[str, ExplainedBy]
    skipped: Mapping[str, str]
    object: LocatedObject | None
    no_object: str
    by_chance: Curves
    provenance: Mapping[str, Any]

    def __getitem__(self, method: str) -> ExplainedBy:
        """One method's map. Raises UnknownName for a method that is not among them."""
        if method not in self.maps:
            raise unknown("method", method, self.maps)
        return self.maps[method]

    def pictures(self) -> dict[str, Picture]:
        return {"explain": draw_figure(self)}

    def documents(self) -> dict[str, str]:
        return {"explain.html": write_page(self)}

    def arrays(self) -> dict[str, np.ndarray]:
        found = {name: one.attribution for name, one in self.maps.items()} | {"image": self.image}
        return found if self.object is None else found | {"object-mask": self.object.mask}

    def summary(self) -> dict[str, Any]:
        found = self.object
        return {
            "objective": repr(self.target.objective),
            "target": self.target.title,
            "rival": self.target.rival_title or None,
            "predictions": [vars(one) for one in self.predictions],
            "object": None if found is None else {"box": list(found.box), "of": list(found.mask.shape)},
            "by_chance": dict(zip(("deletion", "insertion"), self.by_chance.areas, strict=True)),
            "methods": {name: _figures(one) for name, one in self.maps.items()},
            "skipped": dict(self.skipped),
        }


def _figures(one: ExplainedBy) -> dict[str, Any]:
    gone, back = (None, None) if one.curves is None else one.curves.areas
    return {
        "zero": one.zero,
        "strength": one.strength,
        "peak": None if one.peak is None else list(one.peak),
        "class_likeness": one.class_likeness,
        "random_likeness": one.random_likeness,
        "deletion": gone,
        "insertion": back,
    }


def explain(
    net: Network,
    image: Tensor,
    objective: Objective | str | None = None,
    methods: Iterable[str] | None = None,
    *,
    photo: Picture | None = None,
    seed: int = 0,
    steps: int = STEPS,
    watch: Watch = SILENT,
) -> Explanation:
    """Explain an objective of one image (C, H, W) or (1, C, H, W) in [0, 1] by several methods.

    objective: an objective, or an address as "class:koala" or "conv5:17"; by default the logit of the most probable
    class. methods: names of `METHODS`; by default all that can explain this network. photo: (height, width, 3) of
    the same part in higher resolution, shown instead of the image. seed: of the random weights. steps: of the
    deletion and insertion curves.

    Raises UnknownName for a method, class or unit that is not there, InputError or NetworkError where a method named
    can't explain the network, and where none can.
    """
    image = image if image.ndim == 4 else image[None]
    if len(image) != 1:
        raise InputError(f"{len(image)} images (accepted: one)")
    chosen = pick_methods(methods)
    if not chosen:
        raise InputError(f"no method given (accepted: {', '.join(METHODS)})")
    target = find_target(net, image, objective)
    predictions = _predictions(net, image)
    random = randomized(net, seed=seed)
    maps: dict[str, ExplainedBy] = {}
    skipped: dict[str, str] = {}
    for method in watch.each("methods", chosen):
        try:
            maps[method.name] = explained_by(method, net, random, image, target, steps)
        except NetloupeError as error:
            if methods is not None or (method is chosen[-1] and not maps):
                raise
            skipped[method.name] = str(error)
    pixels = image[0].detach().cpu().numpy()
    photo = from_pixels(pixels) if photo is None else photo
    found, reason = _located(net, image, target, photo)
    return Explanation(
        pixels,
        photo,
        target,
        predictions,
        maps,
        skipped,
        found,
        reason,
        curves_of(net, image, target, torch.zeros_like(image[:, 0]), steps),
        provenance(
            net, "explain", objective=repr(target.objective), methods=[m.name for m in chosen], seed=seed, steps=steps
        ),
    )


def _predictions(net: Network, image: Tensor, top: int = 5) -> tuple[Prediction, ...]:
    """The most probable classes, best first; none of a network without a choice of classes."""
    if net.head.count < 2:
        return ()
    best = net.probabilities(image)[0].topk(min(top, net.head.count))
    labels = net.head.labels
    return tuple(Prediction(labels[i], i, p) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True))


def _located(net: Network, image: Tensor, target: Target, photo: Picture) -> tuple[LocatedObject | None, str]:
    """The object in the photo, or None and why."""
    try:
        return locate_object(to_float(photo), saliency(net, image, target.objective)[0]), ""
    except InputError as error:
        return None, str(error)
