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

from netloupe.core.command import command_line
from netloupe.core.errors import InputError, NetloupeError
from netloupe.core.files import write_atomically
from netloupe.core.network import Network
from netloupe.core.perform import perform
from netloupe.core.task import Task
from netloupe.core.watch import Watch
from netloupe.data.images import ImageFiles
from netloupe.remake import Record
from netloupe.render.page import filled
from netloupe.render.pictures import Picture, encode
from netloupe.render.result import Result
from netloupe.studio.refusal import Refused

PHOTO = "photo.png"

_ID = re.compile(r"[a-z][a-z-]*-[0-9a-f]{10}")
_SHOWN = 12  # pictures on a page


@dataclass(frozen=True)
class Kept:
    """The results in a folder, each in one of its own, by id. Several runs may look at the same.

    network: the options that say on the command line which network it is; None where that can't be said.
    """

    folder: Path
    network: Mapping[str, str] | None = None

    def keep(self, task: Task, net: Network, photo: Picture | None, watch: Watch, made: Result | None = None) -> str:
        """Run a task of a photo and keep what it gives; its id. made: what it gave, where that is known already."""
        png = None if photo is None else encode(photo)
        facts = [task.verb, task.as_json(), net.fingerprint(), None if png is None else hashlib.sha256(png).hexdigest()]
        told = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:10]
        name = f"{task.verb.replace(' ', '-')}-{told}"
        place = self.folder / name
        if (place / "manifest.json").is_file():
            return name
        given = {}
        if png is not None:
            write_atomically(place / PHOTO, png)
            given = {_images(task): ImageFiles.of([place / PHOTO])}
        try:
            (perform(task, net, given, watch) if made is None else made).save(place)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        return name

    def all(self) -> list[dict[str, Any]]:
        """What is kept, the latest first."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if _ID.fullmatch(path.name)]
        documents = [document for path in found if (document := self._listed(path)) is not None]
        return sorted(documents, key=lambda one: (one["made"], one["id"]), reverse=True)

    def _listed(self, path: Path) -> dict[str, Any] | None:
        try:
            return self.one(path.name)
        except NetloupeError:  # another's, or of another version
            return None

    def one(self, name: str) -> dict[str, Any]:
        """What a page tells of a result. Raises Refused for an id that is none."""
        place = self._place(name)
        record, manifest = Record.read(place), json.loads((place / "manifest.json").read_text())
        task = record.task
        names = [name for name in manifest["files"] if (place / name).is_file()]
        photo = PHOTO if (place / PHOTO).is_file() else None
        return {
            "id": name,
            "verb": task.verb,
            "title": task.title().rstrip("."),
            "made": _time(place / "manifest.json"),
            "network": record.told["network"]["name"],
            "settings": settings_of(task),
            "words": task.words(manifest["summary"]),
            "pictures": [name for name in names if name.endswith(".png")][:_SHOWN],
            "films": [name for name in names if name.endswith(".gif")],
            "files": [*([] if photo is None else [photo]), *names, "manifest.json"],
            "photo": photo,
            "commands": self._commands(task, place, record.told["network"]),
        }

    def _commands(self, task: Task, place: Path, told: Mapping[str, Any]) -> list[str]:
        """What makes the same bytes, run where the studio was started."""
        again = ["netloupe", "again", str(place), "-o", "again"]
        if isinstance((told["model"] or {}).get("model"), Mapping):  # a Python file is only run if it is named
            again += ["--model", (self.network or {}).get("model", "FILE.py:FACTORY")]
        seed = (told["model"] or {}).get("seed")  # the command line has one, of the network and of the task
        if self.network is None or getattr(task, "seed", seed) != seed:
            return [shlex.join(again)]
        photo = [str(place / PHOTO)] if (place / PHOTO).is_file() else []
        given = {_images(task): photo} if photo else {}
        return [shlex.join(command_line(task, given, self.network, "again")), shlex.join(again)]

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
        photo = None if told["photo"] is None else _uri(self._place(name) / PHOTO)
        rows = [(one["name"], one["value"], one["help"]) for one in told["settings"]]
        return filled("kept.html", **{**told, "pictures": pictures, "photo": photo, "rows": rows})

    def _place(self, name: str) -> Path:
        if not _ID.fullmatch(name) or not (self.folder / name / "manifest.json").is_file():
            raise Refused(f"nothing is kept as {name[:80]!r}", 404)
        return self.folder / name


def settings_of(task: Task) -> list[dict[str, Any]]:
    """The settings of a task for people: name, value in text, help, and whether it is the usual one."""
    found = []
    for one in task.settings():
        value = one.json(getattr(task, one.name))
        usual = not one.required and value == one.json(one.default)
        found.append({"name": one.name, "value": _text(value), "help": one.help, "usual": usual})
    return found


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return ", ".join(map(_text, value)) if isinstance(value, list) else str(value)


def _images(task: Task) -> str:
    """The input of a task that is a photo."""
    for one in task.inputs:
        if one.what == "images":
            return one.name
    raise InputError(f"{task.verb} takes no photo (accepted: techniques of a photo)")


def _time(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _uri(path: Path) -> str:
    return f"data:image/{path.suffix[1:]};base64,{base64.b64encode(path.read_bytes()).decode()}"
