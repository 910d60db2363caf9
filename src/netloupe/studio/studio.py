"""A network with the photos that it is shown: what is known of it, quick looks, and jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

from netloupe.analysis.attention.placed import attentions
from netloupe.core.errors import UnknownName, unknown
from netloupe.core.head import Classes
from netloupe.core.network import Network
from netloupe.data.photos import credits, photograph
from netloupe.studio.colors import colored_layers
from netloupe.studio.desk import Desk, Job, Order
from netloupe.studio.keeping import kept_layers
from netloupe.studio.looking import look
from netloupe.studio.painting import styles
from netloupe.studio.photos import Photo, Photos, Seen, opened, seen_of
from netloupe.studio.refusal import Refused
from netloupe.studio.section import about
from netloupe.studio.sections import SECTIONS, methods, shown_layers

_SAMPLES = ("cat", "coffee", "motorcycle", "rocket", "china", "flower", "astronaut", "coins")


class Studio:
    """A network, its photos, and its desk. first: the photo to begin with."""

    def __init__(self, net: Network, first: Photo | None = None) -> None:
        self.net, self.first = net, first
        self.photos, self.desk = Photos(), Desk()

    def document(self) -> dict[str, Any]:
        """What the page needs to know before anything is done."""
        net = self.net
        return {
            "name": net.name,
            "input": {"size": list(net.inputs.size), "channels": net.inputs.channels},
            "cover": [round(255 * value) for value in net.inputs.mean_color().tolist()],
            "labels": list(net.head.labels) if isinstance(net.head, Classes) else [],
            "layers": {name: list(net.layers[name].shape) for name in shown_layers(net)},
            "attentions": attentions(net),
            "colored": colored_layers(net),
            "kept": kept_layers(net),
            "styles": list(styles().styles),
            "methods": methods(),
            "samples": [{"id": f"sample-{name}", "title": title} for name, title in _samples()],
            "photo": None if self.first is None else self.first.document(),
            "sections": {name: section.task.schema() for name, section in SECTIONS.items()},
        }

    def photo(self, wanted: object) -> Photo:
        """A photo that was sent, the first, or a sample. Raises Refused."""
        if self.first is not None and wanted == self.first.id:
            return self.first
        if isinstance(wanted, str) and wanted.startswith("sample-"):
            return _sample(wanted.removeprefix("sample-"))
        return self.photos.get(wanted)

    def look(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What the network says of a part of a photo; see `looking.look`."""
        return look(self.net, self._seen(asked), asked)

    def frame(self, data: bytes) -> dict[str, Any]:
        """What the network says of a frame of a camera, an image file's bytes, which is not kept. Raises Refused."""
        return look(self.net, seen_of(opened(data), self.net.inputs), {})

    def post(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """A job that does what is asked; {job, title}. known: only one that there is, or {job: None}."""
        order = self._order(asked)
        job = self.desk.known(order) if asked.get("known") is True else self.desk.post(order)
        return {"job": None, "title": order.title} if job is None else _told(job)

    def jobs(self, page: str) -> dict[str, Any]:
        """Those of a page that have not ended, in the order in which they are done."""
        return {"jobs": [_told(job) for job in self.desk.of(page)]}

    def _order(self, asked: Mapping[str, Any]) -> Order:
        name, settings = asked.get("section"), asked.get("settings") or {}
        if not isinstance(name, str) or name not in SECTIONS:
            raise unknown("section", str(name)[:40], SECTIONS)
        if not isinstance(settings, Mapping):
            raise Refused("settings are no object (accepted: names with values)")
        about(self.net, settings)
        section, page = SECTIONS[name], asked.get("page")
        seen = self._seen(asked) if section.photo or asked.get("photo") is not None else None
        told = {key: asked.get(key) for key in ("photo", "crop", "like", "settings")}
        return Order(
            name,
            partial(section.run, self.net, seen, settings),
            None if settings.get("whole") is True else section.until,
            "" if page is None else str(page)[:40],
            section.title,
            None if page is None else json.dumps(told, sort_keys=True),
        )

    def _seen(self, asked: Mapping[str, Any]) -> Seen:
        photo, crop = self.photo(asked.get("photo")), asked.get("crop")
        if not isinstance(crop, list) or len(crop) != 4:
            raise Refused(f"crop {crop!r} (accepted: [top, left, bottom, right] px)")
        seen = photo.seen(crop, self.net.inputs)
        return seen if asked.get("like") is None else replace(seen, like=self.photo(asked["like"]))


def _told(job: Job) -> dict[str, Any]:
    return {"job": job.number, "section": job.order.section, "title": job.order.title}


def _samples() -> list[tuple[str, str]]:
    titles = {name: title for name, title, _ in credits()}
    return [(name, titles[name]) for name in _SAMPLES]


@cache
def _sample(name: str) -> Photo:
    try:
        return Photo(f"sample-{name}", photograph(name).convert("RGB"))
    except UnknownName as error:
        raise Refused(str(error), 404) from None
