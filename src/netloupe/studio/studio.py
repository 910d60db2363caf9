"""A network with the photos that it is shown: what is known of it, quick looks, and jobs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, cached_property, partial
from typing import Any

from netloupe.analysis.attention.placed import attentions
from netloupe.core.errors import UnknownName, unknown
from netloupe.core.head import Classes
from netloupe.core.network import Network
from netloupe.data.open import open_source
from netloupe.data.photos import credits, photograph
from netloupe.data.sources import ImageSource
from netloupe.studio.colors import colored_layers
from netloupe.studio.comparing import compare
from netloupe.studio.desk import Desk, Job, Order
from netloupe.studio.keeping import kept_layers
from netloupe.studio.kept import Kept
from netloupe.studio.looking import look
from netloupe.studio.made import told_of
from netloupe.studio.painting import styles
from netloupe.studio.photos import Photo, Photos, Seen, Shot, opened, seen_of
from netloupe.studio.refusal import Refused
from netloupe.studio.section import Section, about
from netloupe.studio.sections import SECTIONS, methods, shown_layers
from netloupe.studio.sheets import sheet, sheet_form, sheet_of
from netloupe.studio.wanted import Wanted, photo_of

_SAMPLES = ("cat", "coffee", "motorcycle", "rocket", "china", "flower", "astronaut", "coins")


def _photos() -> ImageSource:
    return open_source("photos")


class Studio:
    """A network, its photos, and its desk. first: the photo to begin with. kept: where results are, if they are.

    others: networks by name that it can be compared with. source: opens the images of its own, by default the embedded.
    """

    def __init__(
        self,
        net: Network,
        first: Photo | None = None,
        kept: Kept | None = None,
        others: Mapping[str, Network] | None = None,
        source: Callable[[], ImageSource] = _photos,
    ) -> None:
        self.net, self.first, self.kept = net, first, kept
        self.others = dict(others or {})
        self._source = source
        self._cells: dict[str, Any] = {}  # of contact sheets, by what decides them
        if kept is not None:
            kept.clear()
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
            "keepable": [*(name for name, section in SECTIONS.items() if section.kept is not None), "sheet"],
            "sheets": {name: form["names"] for name, form in _sheets().items()},
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
        if not isinstance(settings, Mapping):
            raise Refused("settings are no object (accepted: names with values)")
        if isinstance(name, str) and name in _OTHERS:
            return _OTHERS[name](self, asked, settings)
        about(self.net, settings)
        section = _section(name)
        seen = self._shown(section, asked)
        return Order(
            str(name),
            partial(section.run, self.net, seen, settings),
            None if settings.get("whole") is True else section.until,
            _page(asked),
            section.title,
            _asked(asked),
        )

    def _shown(self, section: Section, asked: Mapping[str, Any]) -> Seen | ImageSource | None:
        """What a section is of: the photo that was sent, or the studio's own images."""
        if section.source:
            return self.source
        return self._seen(asked) if section.photo or asked.get("photo") is not None else None

    @cached_property
    def source(self) -> ImageSource:
        """The images of its own. Raises InputError where they can't be opened."""
        return self._source()

    def _saving(self, asked: Mapping[str, Any], settings: Mapping[str, Any]) -> Order:
        """To make whole what a section shows, and keep it. settings: the section, and those of it."""
        if settings.get("section") in ("save", "compare"):
            raise Refused("nothing to keep (accepted: settings with a section and its settings)")
        inner = {**asked, **{key: settings.get(key) for key in ("section", "settings")}}
        wanted = self._wanted(inner)
        return Order("save", partial(self._keep, wanted), None, _page(asked), "Keeping", None)

    def _wanted(self, asked: Mapping[str, Any]) -> Wanted:
        """What a section shows, or a contact sheet or a result that is kept, as a task with all that it takes."""
        name, settings = asked.get("section"), asked.get("settings") or {}
        if not isinstance(settings, Mapping):
            raise Refused("settings are no object (accepted: names with values)")
        if name == "kept":
            found = self.keeper.wanted(str(settings.get("id")), self.net)
            return replace(found, cells=self._cells)
        if name == "sheet":
            inner = settings.get("of")
            if not isinstance(inner, Mapping) or inner.get("section") == "sheet":
                raise Refused("nothing to make a contact sheet of (accepted: of, a section with its settings)")
            return sheet_of(self._wanted({**asked, **inner}), settings.get("axes"))
        section = _section(name)
        if section.kept is None:
            raise Refused(f"what {section.title!r} shows can't be kept")
        about(self.net, settings)
        task = section.kept(self.net, settings)
        given = self._given(section, self._shown(section, asked))
        shown = self.desk.known(self._order(asked))
        made = None if shown is None else shown.result
        return Wanted(task, section.network(self.net), given, made=made, cells=self._cells)

    def _given(self, section: Section, shown: Seen | ImageSource | None) -> dict[str, Any]:
        """By the names of the task's inputs."""
        if shown is None:
            return {}
        if isinstance(shown, ImageSource):
            if shown.ids is not None:
                raise Refused(f"what is made of {shown.title} alone can't be made again (accepted: of all images)")
            return {"data": shown}
        given: dict[str, Any] = {one.name: one.default for one in section.task.inputs if one.default in one.names}
        given[photo_of(section.task)] = Shot(shown.part)
        if shown.like is not None:
            given["styles"] = Shot(shown.like.image)
        missing = [one.name for one in section.task.inputs if one.required and one.name not in given]
        if missing:
            raise Refused(f"no {' and no '.join(missing)} for {section.title!r} (accepted: all that it needs)")
        return {one.name: given[one.name] for one in section.task.inputs if one.name in given}

    def _sheeting(self, asked: Mapping[str, Any], settings: Mapping[str, Any]) -> Order:
        """A contact sheet. settings: of, the section and its settings, or what is kept; axes, see `sheet_of`."""
        work = partial(sheet, self._wanted(asked))
        return Order("sheet", work, None, _page(asked), "Contact sheet", _asked(asked))

    def _comparing(self, asked: Mapping[str, Any], settings: Mapping[str, Any]) -> Order:
        """What this network and another make of a photo. settings: with, the other's name; class, of which."""
        name = str(settings.get("with"))[:100]
        if name not in self.others:
            raise unknown("network", name, self.others)
        nets = {self.net.name if self.net.name != name else f"{name}, the first": self.net, name: self.others[name]}
        photo = self.photo(asked.get("photo"))
        seen = {each: photo.seen(self._crop(asked), net.inputs) for each, net in nets.items()}
        return Order("compare", partial(compare, nets, seen, settings), None, _page(asked), "Compare", _asked(asked))

    def _keep(self, wanted: Wanted, job: Job) -> dict[str, Any]:
        return {"kept": self.keeper.keep(wanted, job)}

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


_OTHERS = {"save": Studio._saving, "compare": Studio._comparing, "sheet": Studio._sheeting}
"""What is no section: asked for with what was asked and its settings."""


def _section(name: object) -> Section:
    if not isinstance(name, str) or name not in SECTIONS:
        raise unknown("section", str(name)[:40], SECTIONS)
    return SECTIONS[name]


def _page(asked: Mapping[str, Any]) -> str:
    return str(asked.get("page") or "")[:40]


def _asked(asked: Mapping[str, Any]) -> str | None:
    """All that was asked for, in text, by which a page finds its job again; None of what no page asked."""
    told = {key: asked.get(key) for key in ("photo", "crop", "like", "settings")}
    return json.dumps(told, sort_keys=True) if asked.get("page") is not None else None


def _sheets() -> dict[str, Any]:
    """The forms of contact sheets, by section."""
    forms = {name: sheet_form(one.task) for name, one in SECTIONS.items() if one.kept is not None}
    return {name: form for name, form in forms.items() if form is not None}


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
