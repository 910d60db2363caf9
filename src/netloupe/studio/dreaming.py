"""Dream: the photo with what a layer, a channel or a class sees in it made stronger."""

from __future__ import annotations

from typing import Any

from netloupe.core.network import Network
from netloupe.data.images import shaped
from netloupe.render.pictures import from_pixels
from netloupe.studio.desk import Job, uri
from netloupe.studio.photos import Seen
from netloupe.studio.section import Section, Settings, named
from netloupe.synthesis.dream import dream, response
from netloupe.synthesis.tasks import DreamTask

SIDE = 192  # px of the shorter side, unless the page wants another
_MOST = {"side": 512, "octaves": 8, "steps": 40, "lr": 0.1}


def _task(net: Network, settings: Settings) -> DreamTask:
    return DreamTask.of({"side": SIDE, **named(settings, "layer", **_MOST)})


def _dream(net: Network, seen: Seen, settings: Settings, job: Job) -> dict[str, Any]:
    task = _task(net, settings)
    pixels = shaped(seen.part, net, task.side, net.sizes(response(task.layer).layers))[None]
    found = dream(
        net, pixels, task.layer, side=task.side, octaves=task.octaves, steps=task.steps, lr=task.lr, watch=job
    )
    return {"src": uri(from_pixels(found.images[0])), "size": found.summary()["size"], **found.summary()["images"][0]}


SECTION = Section("Dream", DreamTask, _dream, kept=_task)
