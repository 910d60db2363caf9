"""Samples in tar files, as WebDataset has them: files that follow one another and have the same stem.

An index of where each image lies makes any of them reachable at once. Names inside an archive are but names: nothing
is ever written or opened under them.
"""

from __future__ import annotations

import io
import re
import tarfile
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from netloupe.core.errors import InputError, NetloupeWarning, first_line
from netloupe.core.inputs import InputSpec
from netloupe.data.bands import Opened
from netloupe.data.drives import Drive, Local
from netloupe.data.images import SUFFIXES, open_image, plain
from netloupe.data.labels import classes_of
from netloupe.data.listing import kept
from netloupe.data.sources import ImageSource

_TOGETHER = 8  # archives elsewhere that are looked through at once
_STEM = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)  # up to the first dot of the last part
_CLASS = "cls"
_LONGEST_CLASS = 4096  # bytes
_AHEAD = 1 << 16
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


def from_tars(drive: Drive, paths: Sequence[str], names: Sequence[str], spec: str) -> ImageSource:
    """The images of the samples in these archives, in the order in which they lie there.

    names: of each archive, for people; an image is called "shard.tar#stem.jpg". Of several images of a sample, the
    first with a plain ending (a.jpg before a.left.jpg) is taken. A member a.cls is the label of sample a: an index, or
    the name of a class. Where an archive ends early, the images before are taken, which a warning says. Raises
    InputError for what is no tar, or compressed.
    """
    with ThreadPoolExecutor(1 if isinstance(drive, Local) else _TOGETHER) as pool:
        found = list(pool.map(lambda path: _looked_through(drive, path), paths))
    for path, index in zip(paths, found, strict=True):
        if index["cut"]:
            text = f"ends early; the {len(index['images'])} images before are taken"
            warnings.warn(f"{drive.address(path)}: {text}", NetloupeWarning, stacklevel=2)
    called = [f"{name}#{plain(one[0])}" for name, index in zip(names, found, strict=True) for one in index["images"]]
    if not called:
        raise InputError(f"{spec!r}: no sample with an image (accepted: members {', '.join(SUFFIXES)})")
    spans = np.array([one[1:3] for index in found for one in index["images"]], np.int64)
    archives = np.repeat(np.arange(len(paths)), [len(index["images"]) for index in found])
    labels = _labels([one[3] for index in found for one in index["images"]])
    indices, classes = classes_of(labels, [None] * len(labels), spec)
    stamps = [index["stamp"] for index in found]
    return ImageSource(spec, called, _Members(drive, paths, stamps, called, archives, spans), indices, classes)


@dataclass(frozen=True, eq=False)
class _Members:
    """Opens image i: spans[i], first byte and size, of paths[archives[i]]."""

    drive: Drive
    paths: Sequence[str]
    stamps: Sequence[str]
    names: Sequence[str]
    archives: np.ndarray
    spans: np.ndarray

    def __call__(self, i: int) -> Opened:
        return open_image(self.content(i), self.names[i], guess=False)

    def open(self, i: int, inputs: InputSpec) -> Opened:
        return open_image(self.content(i), self.names[i], inputs, guess=False)

    def content(self, i: int) -> bytes:
        start, size = (int(n) for n in self.spans[i])
        archive = int(self.archives[i])
        found = self.drive.part(self.paths[archive], start, size, self.stamps[archive])
        if len(found) < size:
            raise InputError(f"{self.names[i]}: cut short, for the archive ends early")
        return found

    def stamp(self, i: int) -> str:
        return self.stamps[int(self.archives[i])]

    @property
    def slow(self) -> bool:
        return not isinstance(self.drive, Local)


def _looked_through(drive: Drive, path: str) -> dict[str, Any]:
    stamp = drive.stamp(path)
    found: dict[str, Any] = kept(f"tar {drive.address(path)}", stamp, lambda: _index(drive, path))
    return {**found, "stamp": stamp}


def _index(drive: Drive, path: str) -> dict[str, Any]:
    """images: of each sample [name, first byte, size, label or None]. cut: whether the archive has no proper end."""
    images: list[list[Any]] = []
    with drive.open(path) as raw, io.BufferedReader(raw, _AHEAD) as file:  # type: ignore[type-var]
        if file.peek(8).startswith(_COMPRESSED):
            text = "compressed, so that no part can be reached alone (fix: unpack it to .tar)"
            raise InputError(f"{drive.address(path)}: {text}")
        try:
            tar = tarfile.open(fileobj=file, mode="r:", errorlevel=0)  # noqa: SIM115 the file is closed here
        except tarfile.TarError as error:
            raise InputError(f"{drive.address(path)}: no tar ({first_line(error)})") from None
        for _, sample in groupby(_members(tar), key=lambda member: member[0]):
            images += _image_of(tar, list(sample))
        file.seek(tar.offset)
        return {"images": images, "cut": file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE)}


Member = tuple[str, str, tarfile.TarInfo]
"""Stem, ending, and where it lies."""


def _members(tar: tarfile.TarFile) -> Iterator[Member]:
    """The files in an archive, as far as it can be read."""
    while True:
        try:
            member = tar.next()
        except tarfile.TarError:
            return
        if member is None:
            return
        tar.members.clear()  # type: ignore[attr-defined]  # it keeps all that it has seen
        found = _STEM.fullmatch(member.name)
        if found and member.isreg():
            yield found[1], found[2].lower(), member


def _image_of(tar: tarfile.TarFile, sample: Sequence[Member]) -> list[list[Any]]:
    """The row of the index for a sample, if it has an image."""
    images = [(ending, member) for _, ending, member in sample if f".{ending.rpartition('.')[2]}" in SUFFIXES]
    if not images:
        return []
    _, image = min(images, key=lambda one: "." in one[0])  # the first of the plainest
    label = next((_text(tar, member) for _, ending, member in sample if ending == _CLASS), None)
    return [[image.name, image.offset_data, image.size, label]]


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    try:
        found = tar.extractfile(member)
        return "" if found is None else found.read(_LONGEST_CLASS).decode(errors="replace").strip()
    except tarfile.TarError:
        return ""


def _labels(found: Sequence[str | None]) -> list[object]:
    """Indices where all are whole numbers, else names; None where there is none."""
    given = [text for text in found if text]
    numbers = all(re.fullmatch(r"-?\d{1,9}", text) for text in given)
    return [None if not text else int(text) if numbers else plain(text) for text in found]
