"""Fool it: the photo changed until it is taken for what is wanted, and how sure the network is on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.core.network import Network
from netloupe.render.pictures import from_pixels
from netloupe.studio.desk import Job, uri
from netloupe.studio.photos import Seen
from netloupe.studio.section import Section, Settings, named
from netloupe.synthesis.fool import fool, magnified
from netloupe.synthesis.tasks import Fool

_SETTINGS = ("target", "epsilon", "method")


def _task(net: Network, settings: Settings) -> Fool:
    found = named(settings, *_SETTINGS)
    if isinstance(found.get("target"), int):
        found["target"] = _called(net, found["target"])
    return Fool.of(found)


def _called(net: Network, index: int) -> str:
    """A class as the command line has it, so that manifests are the same: by its name, if that says which it is."""
    labels = net.head.classes("fool", 2).labels
    name = labels[index] if 0 <= index < len(labels) else ""
    return name if name and not name.isdecimal() and list(labels).count(name) == 1 else str(index)


def _fool(net: Network, seen: Seen, settings: Settings, job: Job) -> dict[str, Any]:
    task = _task(net, settings)
    classes = net.head.classes("fool", 2)
    before = net.probabilities(seen.pixels)[0]
    pair = [classes.index(task.target[0]), int(before.argmax())]
    original = seen.pixels[0].numpy()

    @torch.no_grad()
    def told(image: np.ndarray) -> dict[str, Any]:
        change, times = magnified(image - original)
        probable = net.probabilities(torch.from_numpy(image)[None])[0]
        return {"change": uri(from_pixels(change)), "times": times, "bars": [float(probable[one]) for one in pair]}

    def beside(name: str, image: Tensor) -> dict[str, Any]:
        return told(image.detach().cpu().numpy())

    job.beside = beside
    found = fool(net, seen.pixels, task.target, epsilon=task.epsilon, method=task.method, watch=job)
    return {
        "src": uri(from_pixels(found.images[0])),
        "names": [classes.label(one) for one in pair],
        "start": [float(before[one]) for one in pair],
        "fooled": bool(found.fooled[0]),
        **told(found.images[0]),
        **found.summary()["images"][0],
    }


SECTION = Section("Fool it", Fool, _fool, kept=_task)
