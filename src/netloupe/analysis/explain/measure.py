"""Which pixels of an image made the network answer so: every method side by side, and how far to trust each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from netloupe.analysis.explain.evidence import ExplainedBy, curves_of, explained_by, mapped_by
from netloupe.analysis.explain.figure import draw, overlay_picture
from netloupe.analysis.explain.page import write
from netloupe.analysis.explain.record import Explanation
from netloupe.analysis.explain.target import Target, find_target
from netloupe.analysis.explain.task import Explain
from netloupe.analysis.fidelity import randomized
from netloupe.analysis.gradients import saliency
from netloupe.analysis.methods import Method, pick_methods
from netloupe.analysis.objects import LocatedObject, locate_object
from netloupe.core.errors import InputError, NetloupeError
from netloupe.core.head import Maps, NoHead
from netloupe.core.network import Network
from netloupe.core.objectives import Objective
from netloupe.core.perform import finished, function_of
from netloupe.core.watch import SILENT, Watch
from netloupe.data.images import ImageFiles, as_seen, fit, to_float
from netloupe.render.pictures import Picture, from_pixels


@function_of(Explain)
def explain(
    net: Network,
    image: Tensor,
    objective: Objective | str | None = None,
    methods: Iterable[str] | None = None,
    *,
    photo: Picture | None = None,
    watch: Watch = SILENT,
    **settings: Any,
) -> Explanation:
    """Explain an objective of one image (C, H, W) or (1, C, H, W) in [0, 1] by several methods.

    objective: an objective, or an address as "class:koala" or "conv5:17"; by default the logit of the most probable
    class, or of another head what `usual` says. photo: (height, width, 3) of the same part in higher resolution, shown
    instead of the image.

    Raises UnknownName for a method, class or unit that is not there, InputError or NetworkError where a method named
    can't explain the network, and where none can.
    """
    image = image if image.ndim == 4 else image[None]
    given = {
        "objective": objective,
        "methods": list(methods) if isinstance(methods, Iterable) and not isinstance(methods, str) else methods,
    }
    task = Explain.of(given | settings)
    return finished(_explained(task, net, image, photo, watch), task, net, {"image": image})


def run(task: Explain, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Explanation:
    given = inputs["image"]
    if not isinstance(given, ImageFiles):
        return _explained(task, net, given.fitted(net), None, watch)
    opened = given.open()
    image = to_float(fit(opened, net.inputs.size, net.inputs.channels))[None]
    return _explained(task, net, image, as_seen(opened, net.inputs.size), watch)


def _explained(task: Explain, net: Network, image: Tensor, photo: Picture | None, watch: Watch) -> Explanation:
    if len(image) != 1:
        raise InputError(f"{len(image)} images (accepted: one)")
    chosen = pick_methods(task.methods)
    answer = None
    if not isinstance(net.head, NoHead):
        with torch.no_grad():
            answer = net(image)
    target = find_target(net, image, task.objective, answer)
    pixels = image[0].detach().cpu().numpy()
    photo = from_pixels(pixels) if photo is None else photo
    found: dict[Method, Tensor] = {}
    skipped: dict[str, str] = {}
    quickest = sorted(chosen, key=lambda method: method.passes)
    for method in watch.each("maps", quickest):
        try:
            found[method] = method.attribution(net, image, target.objective)
        except NetloupeError as error:
            if task.methods is not None or (method is quickest[-1] and not found):
                raise
            skipped[method.name] = str(error)
        else:
            if watch.pictures:
                watch.picture(method.name, to_float(overlay_picture(mapped_by(method, found[method]), photo)))
    random = randomized(net, seed=task.seed)
    maps: dict[str, ExplainedBy] = {}
    for method in watch.each("methods", [one for one in chosen if one in found]):
        maps[method.name] = explained_by(method, found[method], net, random, image, target, task.steps)
    located, reason = _located(net, image, target, photo)
    return Explanation(
        pixels,
        photo,
        target,
        () if answer is None or net.head.count == 1 else tuple(net.said(answer)[0]),
        answer[0].argmax(0).cpu().numpy() if answer is not None and isinstance(net.head, Maps) else None,
        maps,
        skipped,
        located,
        reason,
        curves_of(net, image, target, torch.zeros_like(image[:, 0]), task.steps),
        draw=draw,
        write=write,
    )


def _located(net: Network, image: Tensor, target: Target, photo: Picture) -> tuple[LocatedObject | None, str]:
    """The object in the photo, or None and why."""
    try:
        return locate_object(to_float(photo), saliency(net, image, target.objective)[0]), ""
    except NetloupeError as error:
        return None, str(error)
