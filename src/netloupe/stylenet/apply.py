"""A style on many inputs: images, whole sources of them, videos and cameras, each written to a file of its own."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from netloupe.core.errors import InputError
from netloupe.core.files import write_atomically
from netloupe.core.lock import holding
from netloupe.core.perform import Images, function_of, perform
from netloupe.core.task import Networks
from netloupe.core.watch import SILENT, Watch
from netloupe.data.bands import eight_bits
from netloupe.data.images import SUFFIXES, ImageFiles, fit, plain, to_float
from netloupe.data.open import open_source
from netloupe.data.sources import Skipped, SourceImage
from netloupe.render.pictures import Picture, encode, from_pixels, resized
from netloupe.render.result import Result
from netloupe.stylenet.model import Style, StyleModel, load_styles
from netloupe.stylenet.tasks import Apply
from netloupe.stylenet.video import VIDEO_SUFFIXES, Writer, camera, frames, pyav, record

_LONGEST = 60  # characters of a stem


@dataclass(frozen=True)
class Applied:
    """files: (input, what was written for it). skipped: inputs that can't be used. silent: videos whose sound was left
    out, and why."""

    files: tuple[tuple[str, Path], ...]
    skipped: tuple[Skipped, ...]
    silent: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Painted(Result):
    """An image (H, W, 3) that was painted. name: stem of its file. styles: the share of each."""

    picture: Picture
    name: str
    network: str
    styles: Mapping[str, float]

    def pictures(self) -> dict[str, Picture]:
        return {self.name: self.picture}

    def arrays(self) -> dict[str, np.ndarray]:
        return {}

    def summary(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "network": self.network,
            "style": dict(self.styles),
            "size": list(self.picture.shape[:2]),
        }


def load(task: Apply, networks: Networks, inputs: Mapping[str, Any]) -> StyleModel:
    """The style network of a file, or the one that comes with the package."""
    del task, inputs
    for name in networks.given:
        if name != "weights":
            raise InputError(f"--{name} is of no style network (accepted: --weights)")
    return load_styles(networks.file(), networks.device)


def run(task: Apply, net: StyleModel, inputs: Mapping[str, Any], watch: Watch) -> Painted:
    """One image, painted."""
    del watch
    picture = painted(task, net, eight_bits(fit(inputs["images"].open(), None)))
    return Painted(picture, task.name or "painted", net.name, net.shares(task.style))


def painted(task: Apply, model: StyleModel, picture: Picture) -> Picture:
    """(H, W, 3) painted, reduced first where that is wanted."""
    height, width = picture.shape[:2]
    share = 1.0 if task.side is None else min(1.0, task.side / min(height, width))
    reduced = np.array(resized(picture, (round(height * share), round(width * share))))
    return from_pixels(model(to_float(reduced)[None], task.style)[0].cpu().numpy())


@dataclass(frozen=True)
class _Item:
    """One thing to be painted. paint(target): write it, and say why its sound is left out, if it is."""

    name: str
    suffix: str
    paint: Callable[[Path], str | None] = field(repr=False)
    path: Path | None = None

    @property
    def stem(self) -> str:
        """A name for the file to be written that is safe whatever the input is called."""
        whole = Path(self.name)
        text = whole.stem if whole.suffix.lower() in (*SUFFIXES, *VIDEO_SUFFIXES) else self.name
        return re.sub(r"[^\w.-]+", "-", text)[:_LONGEST].strip("-._") or "image"


@function_of(Apply)
def apply_styles(
    model: StyleModel,
    style: Style,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    seconds: float = 10.0,
    watch: Watch = SILENT,
    on_skip: Callable[[Skipped], None] = lambda _skipped: None,
    **settings: Any,
) -> Applied:
    """Paint images, videos and cameras in a style, into the folder `out`.

    inputs: sources of images (see `open_source`), video files, "camera" or "camera:1". Images become PNG and videos
    MP4, named by the stem of the input, with a number where another file of this run or an input has that name. A
    camera is recorded for `seconds` first and painted then, so that none of its frames is lost.
    Each PNG says how it is made again.

    An input that is broken or too small is skipped, and handed to `on_skip`. Raises InputError where that holds of all,
    for one that is not there, and for arguments that can't be used; UnknownName for a style; StoreError on a full disk.
    """
    task = Apply.of({"style": {style: 1.0} if isinstance(style, str) else style, **settings})
    return apply_task(task, model, inputs, out, seconds=seconds, watch=watch, on_skip=on_skip)


@holding("out", "stylenet apply")
def apply_task(
    task: Apply,
    model: StyleModel,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    seconds: float,
    watch: Watch,
    on_skip: Callable[[Skipped], None],
) -> Applied:
    """As `apply_styles` says."""
    model.blend(task.style)
    items = list(_items(_Painter(model, task, seconds, watch), inputs))
    targets = _targets(items, Path(out), task.name)
    files, skipped, silent = [], [], []
    for number, (item, target) in enumerate(watch.each("inputs", list(zip(items, targets, strict=True)))):
        try:
            reason = item.paint(target)
        except InputError as error:
            if len(items) == 1:
                raise
            skipped.append(Skipped(number, item.name, str(error)))
            on_skip(skipped[-1])
            continue
        files.append((item.name, target))
        silent += [] if reason is None else [(item.name, reason)]
    if not files:
        raise InputError(f"none of {len(items)} inputs can be painted, such as {skipped[0].reason}")
    return Applied(tuple(files), tuple(skipped), tuple(silent))


@dataclass(frozen=True)
class _Painter:
    """A model, and how it paints."""

    model: StyleModel
    task: Apply
    seconds: float
    watch: Watch

    def image(self, image: Images, target: Path) -> None:
        found = perform(replace(self.task, name=target.stem), self.model, {"images": image})
        write_atomically(target, encode(found.picture, about=found.provenance))

    def video(self, path: Path, target: Path, rate: Fraction | None = None) -> str | None:
        """Gives the reason if the sound is left out."""
        with frames(path) as video, Writer(target, rate if rate is not None else video.rate, sound=path) as writer:
            part = self.watch.part(plain(path.name), video.count or 0)
            for number, picture in enumerate(video, 1):
                writer.write(painted(self.task, self.model, picture))
                part.total = max(part.total, number)
                part.advance()
        return writer.silent

    def camera(self, which: int | str, target: Path) -> str | None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "camera.mp4"
            with camera(which) as seen:
                rate = record(seen, self.seconds, path)
            return self.video(path, target, rate)


def _items(painter: _Painter, inputs: Sequence[str | Path]) -> Iterator[_Item]:
    """Raises InputError for an input that is not there."""
    if not inputs:
        raise InputError("no input (accepted: images, folders, videos, camera)")
    for given in map(str, inputs):
        path, which = Path(given), given.removeprefix("camera").removeprefix(":")
        if given == "camera" or given.startswith("camera:"):
            pyav()
            number = int(which or 0) if which.isdecimal() or not which else which
            yield _Item(f"camera{which}", ".mp4", partial(painter.camera, number))
        elif path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir():
            pyav()
            if not path.is_file():
                raise InputError(f"{plain(path)}: no such file")
            yield _Item(plain(path), ".mp4", partial(painter.video, path), path)
        else:
            source = open_source(given)
            root = path if path.is_dir() else path.parent if path.suffix.lower() in (".txt", ".lst", ".csv") else Path()
            single = path.is_file() and path.suffix.lower() in SUFFIXES
            for i, name in enumerate(source.names):
                image: Images = ImageFiles((path,)) if single else SourceImage(source, i)
                yield _Item(name, ".png", partial(painter.image, image), root / name)


def _targets(items: Sequence[_Item], out: Path, called: str | None) -> list[Path]:
    """For each a file in `out` that no other has and that is no input, whatever the case of the letters."""

    @cache
    def real(folder: str) -> str:
        return os.path.realpath(folder)

    def key(path: Path) -> str:
        return os.path.join(real(str(path.parent)), path.name).casefold()

    taken = {key(item.path) for item in items if item.path is not None}
    numbers: dict[str, int] = {}
    targets = []
    for item in items:
        stem = called or item.stem
        target = out / f"{stem}{item.suffix}"
        while key(target) in taken:
            numbers[key(out / stem)] = number = numbers.get(key(out / stem), 1) + 1
            target = out / f"{stem}-{number}{item.suffix}"
        taken.add(key(target))
        targets.append(target)
    return targets
