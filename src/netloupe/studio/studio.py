"""A network with the photos that it is shown: what is known of it, quick looks, and jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from netloupe.analysis.attention.placed import attentions
from netloupe.core.errors import UnknownName, unknown
from netloupe.core.head import Classes
from netloupe.core.network import Network
from netloupe.core.task import Task
from netloupe.data.photos import credits, photograph
from netloupe.render.pictures import Picture
from netloupe.render.result import Result
from netloupe.studio.colors import colored_layers
from netloupe.studio.comparing import compare
from netloupe.studio.desk import Desk, Job, Order
from netloupe.studio.keeping import kept_layers
from netloupe.studio.kept import Kept
from netloupe.studio.looking import look
from netloupe.studio.made import told_of
from netloupe.studio.painting import styles
from netloupe.studio.photos import Photo, Photos, Seen, opened, seen_of
from netloupe.studio.refusal import Refused
from netloupe.studio.section import about
from netloupe.studio.sections import SECTIONS, methods, shown_layers

_SAMPLES = ("cat", "coffee", "motorcycle", "rocket", "china", "flower", "astronaut", "coins")


class Studio:
    """A network, its photos, and its desk. first: the photo to begin with. kept: where results are, if they are.

    others: networks by name that it can be compared with.
    """

    def __init__(
        self,
        net: Network,
        first: Photo | None = None,
        kept: Kept | None = None,
        others: Mapping[str, Network] | None = None,
    ) -> None:
        self.net, self.first, self.kept = net, first, kept
        self.others = dict(others or {})
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
            "keeps": self.kept is not None,
            "others": list(self.others),
            "keepable": [name for name, section in SECTIONS.items() if section.kept is not None],
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
        if name == "save":
            return self._saving(asked)
        if name == "compare":
            return self._comparing(asked)
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

    def _saving(self, asked: Mapping[str, Any]) -> Order:
        """To make whole what a section shows, and keep it. settings: the section, and those of it."""
        wanted = asked.get("settings")
        if not isinstance(wanted, Mapping) or wanted.get("section") == "save":
            raise Refused("nothing to keep (accepted: settings with a section and its settings)")
        inner = {**asked, **{key: wanted.get(key) for key in ("section", "settings")}}
        order, settings = self._order(inner), inner["settings"] or {}
        section, shown = SECTIONS[order.section], self.desk.known(order)
        if section.kept is None:
            raise Refused(f"what {section.title!r} shows can't be kept")
        task = section.kept(self.net, settings)
        seen = None if inner.get("photo") is None else self._seen(inner)
        made = None if shown is None else shown.result
        work = partial(self._keep, task, None if seen is None else np.asarray(seen.part), made)
        return Order("save", work, None, order.page, "Keeping", None)

    def _comparing(self, asked: Mapping[str, Any]) -> Order:
        """What this network and another make of a photo. settings: with, the other's name; class, of which."""
        settings = asked.get("settings")
        if not isinstance(settings, Mapping):
            raise Refused("settings are no object (accepted: names with values)")
        name = str(settings.get("with"))[:100]
        if name not in self.others:
            raise unknown("network", name, self.others)
        nets = {self.net.name if self.net.name != name else f"{name}, the first": self.net, name: self.others[name]}
        photo = self.photo(asked.get("photo"))
        seen = {each: photo.seen(self._crop(asked), net.inputs) for each, net in nets.items()}
        page = str(asked.get("page") or "")[:40]
        told = {key: asked.get(key) for key in ("photo", "crop", "settings")}
        work = partial(compare, nets, seen, settings)
        return Order("compare", work, None, page, "Compare", json.dumps(told, sort_keys=True) if page else None)

    def _keep(self, task: Task, photo: Picture | None, made: Result | None, job: Job) -> dict[str, Any]:
        return {"kept": self.keeper.keep(task, self.net, photo, job, made)}

    @property
    def keeper(self) -> Kept:
        """Where results are kept. Raises Refused where nothing is."""
        if self.kept is None:
            raise Refused("nothing is kept here (accepted: after a start with --keep FOLDER)", 404)
        return self.kept

    def put(self, data: bytes) -> dict[str, Any]:
        """A photo that was sent; of a PNG that netloupe wrote, how it was made too. Raises Refused."""
        return self.photos.add(data).document() | {"told": told_of(data, self.net.fingerprint())}

    def _crop(self, asked: Mapping[str, Any]) -> list[Any]:
        crop = asked.get("crop")
        if not isinstance(crop, list) or len(crop) != 4:
            raise Refused(f"crop {crop!r} (accepted: [top, left, bottom, right] px)")
        return crop

    def _seen(self, asked: Mapping[str, Any]) -> Seen:
        seen = self.photo(asked.get("photo")).seen(self._crop(asked), self.net.inputs)
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
