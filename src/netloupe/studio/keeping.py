"""What a layer keeps: an image that it can't tell from the photo, as it forms."""

from __future__ import annotations

from typing import Any

from netloupe.core.network import Network
from netloupe.render.pictures import from_pixels
from netloupe.studio.desk import Job, uri
from netloupe.studio.photos import Seen
from netloupe.studio.section import Section, Settings, named
from netloupe.synthesis.invert import invert, inverted
from netloupe.synthesis.tasks import Invert

STEPS = 100  # of descent, unless the page wants others
_MOST = 600
_LAYERS = 20  # at most, spread evenly over the network


def kept_layers(net: Network) -> list[str]:
    """The layers that can be chosen."""
    return list(inverted(net).evenly(_LAYERS))


def _task(net: Network, settings: Settings) -> Invert:
    return Invert.of({"layer": kept_layers(net)[-1], "steps": STEPS, **named(settings, "layer", "quick", steps=_MOST)})


def _keep(net: Network, seen: Seen, settings: Settings, job: Job) -> dict[str, Any]:
    task = _task(net, settings)
    found = invert(net, seen.pixels, task.layer, steps=task.steps, quick=task.quick, watch=job)
    return {"src": uri(from_pixels(found.images[0])), **found.summary()["layers"][0]}


SECTION = Section("What a layer keeps", Invert, _keep, kept=_task)
