"""Results that are kept: each a folder that `netloupe again` reads, with the photo that it is of.

Nothing else of what a browser sends is ever written.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from netloupe.core.command import command_line, typed
from netloupe.core.errors import NetloupeError, StoreError
from netloupe.core.files import write_atomically
from netloupe.core.folders import beside, new_folder
from netloupe.core.lock import held
from netloupe.core.network import Network
from netloupe.core.task import Task
from netloupe.core.watch import Watch
from netloupe.data.images import ImageFiles
from netloupe.remake import Record
from netloupe.render.page import filled
from netloupe.studio.photos import Shot
from netloupe.studio.refusal import Refused
from netloupe.studio.sheets import sheet_form
from netloupe.studio.wanted import Wanted
from netloupe.synthesis.contact import axes_json, axes_read

PHOTO, LIKE = "photo.png", "like.png"

_CALLED = {PHOTO: "the photo", LIKE: "the picture that it is like"}
_ID = re.compile(r"[a-z][a-z-]*-[0-9a-f]{10}")
_LEFT = re.compile(rf"\.({_ID.pattern})\.(?:new|lock)")
_VERB = "studio"
_SHOWN = 12  # pictures on a page


@dataclass(frozen=True)
class Kept:
    """The results in a folder, each in one of its own, by id. Several runs may look at the same.

    network: the options that say on the command line which network it is; None where that can't be said.
    """

    folder: Path
    network: Mapping[str, str] | None = None

    def keep(self, wanted: Wanted, watch: Watch) -> str:
        """Make what is wanted and keep it, whole or not at all; its id."""
        name = _name_of(wanted)
        place = self.folder / name
        with held(place, _VERB):
            if not (place / "manifest.json").is_file():
                with new_folder(place) as made:
                    given = {one: _laid(value, _file(one), made, place) for one, value in wanted.given.items()}
                    for file, content in wanted.run(given, watch).files():
                        write_atomically(made / file, content)
        return name

    def clear(self) -> None:
        """Remove what runs have left that were killed while they kept something; other runs may be at it."""
        found = {match[1] for path in self.folder.glob(".*") if (match := _LEFT.fullmatch(path.name))}
        for name in found:
            try:
                with held(self.folder / name, _VERB):  # which takes the lock's file along
                    shutil.rmtree(beside(self.folder / name, "new"), ignore_errors=True)
            except StoreError:
                continue

    def wanted(self, name: str, net: Network) -> Wanted:
        """What made a result, to be made in other ways. Raises Refused where that can't be done here."""
        place = self._place(name)
        record = Record.read(place)
        task = record.task
        if not task.sweeps or record.told["network"]["hash"] != net.fingerprint():
            why = "it is of another network" if task.sweeps else f"{task.verb} makes no images"
            raise Refused(f"no contact sheet of that: {why} (accepted: images that this network made)")
        given = {one: _again(told, place / _file(one)) for one, told in record.told["inputs"].items()}
        return Wanted(task, net, given, axes_read(task, record.told.get("sweep") or {}))

    def all(self) -> list[dict[str, Any]]:
        """What is kept, the latest first."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if _ID.fullmatch(path.name)]
        documents = [document for path in found if (document := self._listed(path)) is not None]
        return sorted(documents, key=lambda one: (one["made"], one["id"]), reverse=True)

    def _listed(self, path: Path) -> dict[str, Any] | None:
        try:
            return {key: value for key, value in self.one(path.name).items() if key != "sheet"}
        except NetloupeError:  # another's, or of another version
            return None

    def one(self, name: str) -> dict[str, Any]:
        """What a page tells of a result. Raises Refused for an id that is none."""
        place = self._place(name)
        record, manifest = Record.read(place), json.loads((place / "manifest.json").read_text())
        task = record.task
        names = [name for name in manifest["files"] if (place / name).is_file()]
        photos = [file for file in (PHOTO, LIKE) if (place / file).is_file()]
        return {
            "id": name,
            "verb": task.verb,
            "title": task.title().rstrip("."),
            "made": _time(place / "manifest.json"),
            "network": record.told["network"]["name"],
            "settings": settings_of(task, record.told.get("sweep") or {}),
            "sweep": record.told.get("sweep"),
            "sheet": sheet_form(task),
            "words": task.words(manifest["summary"]),
            "pictures": [name for name in names if name.endswith(".png")][:_SHOWN],
            "films": [name for name in names if name.endswith(".gif")],
            "files": [*photos, *names, "manifest.json"],
            "photos": photos,
            "commands": [typed(line) for line in self._commands(task, place, record)],
        }

    def _commands(self, task: Task, place: Path, record: Record) -> list[str]:
        """What makes the same bytes, run where the studio was started."""
        told, options = record.told["network"], self.network if task.loads is None else {}
        again = ["netloupe", "again", str(place), "-o", "again"]
        given = {one.name: self._text(place, one.name, record) for one in task.inputs}
        if isinstance((told["model"] or {}).get("model"), Mapping):  # a Python file is only run if it is named
            again += ["--model", (self.network or {}).get("model", "FILE.py:FACTORY")]
        for name in ("weights", "labels"):  # of an absolute path a manifest holds the name alone
            file = (told["model"] or {}).get(name)
            if name in (options or {}) and isinstance(file, Mapping) and not Path(file["name"]).is_file():
                again += [f"--{name}", (options or {})[name]]
        seed = (told["model"] or {}).get("seed")  # the command line has one, of the network and of the task
        if options is None or getattr(task, "seed", seed) != seed:
            return [shlex.join(again)]
        own = command_line(task, given, options, "again", record.told.get("sweep"))
        return [shlex.join(own), shlex.join(again)]

    def _text(self, place: Path, name: str, record: Record) -> list[str]:
        """What stands on the command line for an input."""
        told = record.told["inputs"].get(name)
        if isinstance(told, Mapping) and "source" in told:
            return [str(told["source"])]
        return [str(place / _file(name))] if isinstance(told, list) and (place / _file(name)).is_file() else []

    def file(self, name: str, file: str) -> bytes:
        """A file of a result. Raises Refused for one that it does not have."""
        if file not in self.one(name)["files"]:
            raise Refused(f"no {file[:80]!r} is kept there", 404)
        return (self._place(name) / file).read_bytes()

    def page(self, name: str) -> str:
        """A result as one HTML file that needs nothing else."""
        told = self.one(name)
        shown = [*told["films"], *told["pictures"]][:_SHOWN]
        pictures = [(file, _uri(self._place(name) / file)) for file in shown]
        photos = [(_CALLED[file], _uri(self._place(name) / file)) for file in told["photos"]]
        rows = [(one["name"], one["value"], one["help"]) for one in told["settings"]]
        return filled("kept.html", **{**told, "pictures": pictures, "photos": photos, "rows": rows})

    def _place(self, name: str) -> Path:
        if not _ID.fullmatch(name) or not (self.folder / name / "manifest.json").is_file():
            raise Refused(f"nothing is kept as {name[:80]!r}", 404)
        return self.folder / name


def settings_of(task: Task, axes: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """The settings of a task for people: name, value in text, help, and whether it is the usual one.

    axes: those that a contact sheet goes through, with all their values.
    """
    found = []
    for one in task.settings():
        value = (axes or {}).get(one.name, one.json(getattr(task, one.name)))
        usual = not one.required and value == one.json(one.default)
        found.append({"name": one.name, "value": _text(value), "help": one.help, "usual": usual})
    return found


def _name_of(wanted: Wanted) -> str:
    """The id of a result: what is the same is kept once."""
    axes = axes_json(wanted.task, wanted.axes)
    told = hashlib.sha256(json.dumps([wanted.mark, list(axes.items())]).encode()).hexdigest()[:10]
    return f"{wanted.task.verb.replace(' ', '-')}-{told}"


def _file(name: str) -> str:
    """Where the picture lies that an input was given."""
    return LIKE if name == "styles" else PHOTO


def _again(told: Any, path: Path) -> Any:
    """What an input was given: a name, or the picture that lies there."""
    if isinstance(told, str):
        return told
    if not path.is_file():
        raise Refused(f"no {path.name} is kept there", 404)
    return Shot(Image.open(path).convert("RGB"))


def _laid(value: Any, file: str, made: Path, place: Path) -> Any:
    """A picture as a file in the folder that is made, named as it will lie at `place`; all else as it is."""
    if not isinstance(value, Shot):
        return value
    write_atomically(made / file, value.png)
    return ImageFiles.of([made / file], [str(place / file)])


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(_text, value)) if isinstance(value, list) else str(value)


def _time(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _uri(path: Path) -> str:
    return f"data:image/{path.suffix[1:]};base64,{base64.b64encode(path.read_bytes()).decode()}"
