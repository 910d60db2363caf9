"""Paint: the photo in the styles of the network that comes with the package, or like another picture."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from netloupe.core.network import Network
from netloupe.data.images import shaped
from netloupe.render.pictures import from_pixels
from netloupe.studio.desk import Job, uri
from netloupe.studio.photos import Seen
from netloupe.studio.refusal import Refused
from netloupe.studio.section import Section, Settings, named
from netloupe.stylenet.apply import painted
from netloupe.stylenet.model import StyleModel, load_styles
from netloupe.stylenet.tasks import Apply
from netloupe.synthesis.style import style, taken
from netloupe.synthesis.tasks import Style

PAINTED = 384  # px of the shorter side at most, unless the page wants another
LIKE, STEPS = 160, 60  # px of the shorter side, and steps at each size
_MOST = 512


@cache
def styles() -> StyleModel:
    """The network of styles that comes with the package."""
    return load_styles()


def _painting(net: Network, settings: Settings) -> Apply:
    return Apply.of({"side": PAINTED, "name": "painted", **named(settings, "style", side=_MOST)})


def _paint(net: Network, seen: Seen, settings: Settings, job: Job) -> dict[str, Any]:
    task = _painting(net, settings)
    found = painted(task, styles(), np.asarray(seen.part))
    return {"src": uri(found), "size": list(found.shape[:2]), "shares": styles().shares(task.style)}


def _likeness(net: Network, settings: Settings) -> Style:
    alone = {"shares": [1.0]}  # as the command line says of one picture
    return Style.of({"side": LIKE, "steps": STEPS, **alone, **named(settings, side=256, steps=300)})


def _like(net: Network, seen: Seen, settings: Settings, job: Job) -> dict[str, Any]:
    if seen.like is None:
        raise Refused("no picture to paint it like (accepted: like, a photo that was sent)")
    task = _likeness(net, settings)
    pixels, like = shaped(seen.part, net, task.side, taken(task, net))[None], shaped(seen.like.image, net, None)
    found = style(net, pixels, [like], side=task.side, steps=task.steps, watch=job)
    return {"src": uri(from_pixels(found.images[0])), **found.summary()["images"][0]}


PAINT = Section("Paint", Apply, _paint, kept=_painting, network=lambda net: styles())
LIKENESS = Section("Paint like a picture", Style, _like, kept=_likeness)
