"""The facets of a unit: an image for each kind of photograph that excites it, climbed before one's eyes."""

from __future__ import annotations

from typing import Any

from netloupe.core.network import Network
from netloupe.core.perform import perform
from netloupe.core.receptive_field import Box
from netloupe.data.sources import ImageSource
from netloupe.render.pictures import Picture, fitted, from_pixels, resized
from netloupe.studio.desk import Job, uri
from netloupe.studio.growing import SEEDS, STEPS, USUAL, answer, unit_of
from netloupe.studio.section import Section, Settings, named, whole
from netloupe.synthesis.facets import Facets
from netloupe.synthesis.tasks import FacetsTask

_MOST = {"count": 8, "images": 400, "pull": 16}
_SHOWN = 5  # photographs of a facet
_SIDE = 96  # px of them
_BETWEEN = 0.25  # s from one picture of a facet to the next


def faceted(net: Network, settings: Settings) -> FacetsTask:
    """The task of what a page sends: unit, preset, steps, seed, count, images, pull. Raises NetloupeError."""
    steps, seed = whole(settings, "steps", USUAL, 8, STEPS), whole(settings, "seed", 0, 0, SEEDS)
    told = named(settings, "preset", **_MOST)
    return FacetsTask.of({"units": [str(unit_of(net, settings))], "steps": steps, "seed": seed, **told})


def _facets(net: Network, source: ImageSource, settings: Settings, job: Job) -> dict[str, Any]:
    task, unit = faceted(net, settings), unit_of(net, settings)
    job.between = _BETWEEN
    job.beside = lambda name, image: {"facet": int(name.rpartition(" ")[2]), "value": answer(net, unit, image)}
    found: Facets = perform(task, net, {"data": source}, job)
    job.result = found
    return {"facets": [_told(found, i) for i in range(len(found.groups))], "of": source.title, "images": len(source)}


def _told(found: Facets, i: int) -> dict[str, Any]:
    group = found.groups[i]
    shown = zip(group.ids[:_SHOWN], group.boxes, strict=False)
    return {
        "src": uri(from_pixels(found.images[i])),
        "start": uri(from_pixels(found.starts[i])),
        "value": float(found.responses[i]),
        "best": group.best,
        "count": len(group.ids),
        "own": bool(found.own[i]),
        "photographs": [uri(_patch(from_pixels(found.read(j).numpy()), box)) for j, box in shown],
    }


def _patch(picture: Picture, box: Box) -> Picture:
    top, left, bottom, right = (max(0, round(side)) for side in box)
    part = picture[top:bottom, left:right]
    return resized(part, fitted(part.shape[:2], _SIDE))


def _settings(task: FacetsTask) -> Settings | None:
    if len(task.units) != 1:
        return None
    own = {name: getattr(task, name) for name in ("preset", "steps", "seed", "count", "images", "pull")}
    return {"unit": str(task.units[0]), **own}


FACETS = Section("Its facets", FacetsTask, _facets, photo=False, source=True, kept=faceted, back=_settings)
