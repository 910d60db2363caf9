"""What opens what: folders, lists, tables, archives, the embedded photos or digits, here or in buckets.

A source can be opened again, by another process too, from the small document that `reopening` gives.
"""

from __future__ import annotations

import codecs
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, groupby, product
from pathlib import Path
from typing import Any

from netloupe.core.errors import InputError
from netloupe.core.given import checked
from netloupe.core.inputs import InputSpec
from netloupe.data.bands import Opened
from netloupe.data.drives import Drive, Local, drive_of
from netloupe.data.images import SUFFIXES, open_image, plain
from netloupe.data.photos import digits, photos
from netloupe.data.sources import ImageSource

ARRAYS = ".npy"
ARROW = ".arrow"
LANCE = ".lance"
LISTS = (".txt", ".lst", ".csv")
PARQUET = ".parquet"
TAR = ".tar"

_OURS = {"photos": photos, "digits": digits}
_MOST = 1_000_000  # files that braces may name
_KINDS = "a folder, list, Parquet, Lance, .tar, 'photos', 'digits'"


@checked
def open_source(spec: str | Path) -> ImageSource:
    """The images that `spec` names.

    "photos": the embedded photos. "digits": scikit-learn's handwritten digits. A folder: its images, all levels deep;
    if every image lies in a subfolder, the first level names the classes. A folder without image files: its .npy files.
    A folder with neither but with Parquet, a Parquet file or a glob of them ("data/train-*.parquet"): rows with an
    image column; so too a Lance data set (a folder NAME.lance), and what `datasets` saved to disk. Tar files
    ("shards/{000..640}.tar", a folder of them): samples as WebDataset has them. A text file (.txt, .lst, .csv): one
    path a line, relative to the file. An image or .npy file, or a glob of them: those. All of this on this machine, or
    at an address (see `drive_of`).
    """
    text = _plain_path(str(spec))
    return _OURS[text]() if text in _OURS else replace(_opened(text), opened=text)


def _plain_path(text: str) -> str:
    """A path of this machine in place of its address."""
    return drive_of(text)[1] if text.startswith("file://") else text


def _opened(text: str, root: str | None = None) -> ImageSource:
    """root: what the names of single files are relative to."""
    drive, path = drive_of(text)
    kind = drive.kind(path)
    if kind == "folder":
        here = isinstance(drive, Local)
        return _from_folder(
            drive, os.fspath(Path(path)) if here else path.rstrip("/"), os.fspath(Path(text)) if here else text
        )
    if kind is None:
        files = _named(drive, path)
        found = _of_files(drive, files, text, root)
        if found is not None:
            return found
        reason = "no such file or folder" if not files else "the pattern matches no image and no Parquet file"
        raise InputError(f"no images at {text!r}: {reason} (accepted: {_KINDS})")
    if posixpath.splitext(path)[1].lower() in LISTS:
        return _from_list(drive, path)
    found = _of_files(drive, [path], text, root)
    if found is None:
        others = (*LISTS, PARQUET, TAR, ARROW, ARRAYS, *SUFFIXES)
        raise InputError(f"{text!r} is no source of images (accepted: a folder, {', '.join(others)})")
    return found


def _named(drive: Drive, text: str) -> list[str]:
    """The files that a pattern or braces name. Raises InputError where one that braces name is not there."""
    several = list(_unfolded(text))
    if len(several) == 1:
        return drive.matching(text) if text else []
    found = []
    for one in several:
        there = drive.matching(one)
        if not there:
            some = f"one of {len(several):,} that {plain(text)!r} names"
            raise InputError(f"no images at {drive.address(one)!r}: no such file ({some})")
        found += there
    return found


_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


def _unfolded(text: str) -> Iterator[str]:
    """ "{000..002}" as 000, 001, 002, and "{a,b}" as a, b. Raises InputError for too many."""
    pieces: list[str | list[str]] = []
    last, many = 0, 1
    for found in _BRACES.finditer(text):
        begin, end, words = found.groups()
        if words is not None:
            choices = words.split(",")
        else:
            if abs(int(end) - int(begin)) >= _MOST:
                raise InputError(f"{plain(text)!r}: more than {_MOST:,} files (accepted: fewer)")
            step = 1 if int(end) >= int(begin) else -1
            width = len(begin) if begin.startswith("0") or len(begin) == len(end) else 0
            choices = [f"{n:0{width}}" for n in range(int(begin), int(end) + step, step)]
        pieces += [text[last : found.start()], choices]
        last, many = found.end(), many * len(choices)
    if many > _MOST:
        raise InputError(f"{plain(text)!r}: more than {_MOST:,} files (accepted: fewer)")
    pieces.append(text[last:])
    return map("".join, product(*([one] if isinstance(one, str) else one for one in pieces)))


def from_files(paths: Sequence[Path], spec: str = "files", *, root: Path | None = None) -> ImageSource:
    """The given image files, in the given order; names are relative to `root`."""
    names = [plain(p.relative_to(root).as_posix() if root is not None else p.as_posix()) for p in paths]
    return ImageSource(spec, names, _Files(Local(), "", [os.fspath(path) for path in paths], names))


@dataclass(frozen=True)
class _Files:
    """Opens image i of some files, whose paths start from a folder."""

    drive: Drive
    folder: str
    paths: Sequence[str]
    names: Sequence[str]

    def _path(self, i: int) -> str:
        return posixpath.join(self.folder, self.paths[i])

    def __call__(self, i: int) -> Opened:
        return open_image(self.drive.image(self._path(i)), self.names[i], guess=False)

    def open(self, i: int, inputs: InputSpec) -> Opened:
        return open_image(self.drive.image(self._path(i)), self.names[i], inputs, guess=False)

    def content(self, i: int) -> bytes:
        return self.drive.read(self._path(i))

    def stamp(self, i: int) -> str:
        return "" if self.slow else self.drive.stamp(self._path(i))  # each would be a request

    @property
    def slow(self) -> bool:
        return not isinstance(self.drive, Local)


def _of_files(drive: Drive, paths: Sequence[str], spec: str, root: str | None = None) -> ImageSource | None:
    """The images that some files are or hold: the first of these kinds that there is; None where there is none."""

    def of(*suffixes: str) -> list[str]:
        return [path for path in paths if path.lower().endswith(suffixes)]

    images = of(*SUFFIXES) or of(ARRAYS)
    if images:
        names = [
            plain(Path(path).relative_to(root).as_posix()) if root is not None else drive.address(path)
            for path in images
        ]
        return ImageSource(spec, names, _Files(drive, "", images, names))
    tables = of(PARQUET) or of(LANCE) or of(TAR) or of(ARROW)
    return _from_tables(drive, tables, spec) if tables else None


def _from_tables(drive: Drive, files: Sequence[str], spec: str) -> ImageSource:
    """Of files of one kind, which hold many images each."""
    above = posixpath.commonpath([posixpath.dirname(path) for path in files])
    names = [plain(posixpath.relpath(path, above or ".")) for path in files]
    if files[0].lower().endswith(TAR):
        from netloupe.data.tars import from_tars

        return from_tars(drive, files, names, spec)
    from netloupe.data.rows import from_tables  # Arrow takes long to import
    from netloupe.data.tables import Arrow, Lance, Parquet

    kind = next(
        kind for end, kind in ((PARQUET, Parquet), (LANCE, Lance), (ARROW, Arrow)) if files[0].lower().endswith(end)
    )
    return from_tables([kind(drive, path, name) for path, name in zip(files, names, strict=True)], spec)


def _from_folder(drive: Drive, root: str, spec: str) -> ImageSource:
    if root.lower().endswith(LANCE):
        return _from_tables(drive, [root], spec)
    files = drive.files(root)
    images = [name for name in files if name.lower().endswith(SUFFIXES)]
    images = images or [name for name in files if name.lower().endswith(ARRAYS)]
    if images:
        return _labeled_by_folder(drive, root, images, spec)
    from netloupe.data.tables import saved_data_set

    saved = saved_data_set(drive, root, files)
    found = _of_files(drive, [posixpath.join(root, name) for name in (files if saved is None else saved)], spec)
    if found is None:
        others = (PARQUET, TAR, ARROW)
        raise InputError(f"no images in {spec!r} (accepted: {', '.join((*SUFFIXES, *others))})")
    return found


def _labeled_by_folder(drive: Drive, root: str, images: Sequence[str], spec: str) -> ImageSource:
    """Of the images in a folder, which are of the classes that its folders name if all lie in one."""
    names = [plain(name) for name in images]
    source = ImageSource(spec, names, _Files(drive, root, images, names))
    if not all("/" in name for name in images):
        return source
    tops = [name.partition("/")[0] for name in images]
    folders = sorted(set(tops))
    index = {name: i for i, name in enumerate(folders)}
    return replace(source, labels=[index[top] for top in tops], classes=[plain(name) for name in folders])


def _from_list(drive: Drive, path: str) -> ImageSource:
    try:
        content = drive.read(path)
    except OSError as error:
        raise InputError(f"{drive.address(path)}: can't be read as a list of files ({error.strerror})") from None
    lines = [os.fsdecode(line).strip() for line in content.removeprefix(codecs.BOM_UTF8).split(b"\n")]
    entries = [line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise InputError(f"{drive.address(path)}: the list names no image")
    opener = _Files(drive, posixpath.dirname(path), entries, [plain(entry) for entry in entries])
    if not any(drive.kind(opener._path(i)) for i in range(len(entries))):
        text = f"none of the listed files is there, such as {entries[0][:200]!r} (one a line)"
        raise InputError(f"{drive.address(path)}: {text}")
    return ImageSource(drive.address(path), opener.names, opener)


def reopening(source: ImageSource) -> dict[str, Any]:
    """What `reopen` needs to open a source again, as plain JSON: what was opened, which ids, and a fingerprint.

    Raises InputError for a source that was not opened by `open_source`.
    """
    if source.opened is None:
        raise InputError(f"{source.spec!r} can't be opened again (accepted: what `open_source` opens)")
    return {
        "open": source.opened,
        "in": os.getcwd(),
        "spec": source.spec,
        "ids": None if source.ids is None else [[run[0], run[-1] + 1] for run in _runs(source.ids)],
        "fingerprint": source.fingerprint(),
    }


def reopen(document: Mapping[str, Any]) -> ImageSource:
    """The source of which `reopening` gave the document, wherever this process runs.

    Raises InputError if it holds other images by now.
    """
    text = document["open"]
    if text in _OURS:
        source = open_source(text)
    else:
        inside = not os.path.isabs(text) and isinstance(drive_of(text)[0], Local)
        where = os.path.join(document["in"], text) if inside else text
        source = replace(_opened(where, document["in"] if inside else None), opened=text)
    if document["ids"] is not None:
        source = source.subset([i for begin, end in document["ids"] for i in range(begin, end)])
    if source.fingerprint() != document["fingerprint"]:
        raise InputError(f"{document['spec']!r} holds other images than it did")
    return replace(source, spec=document["spec"])


def _runs(ids: Sequence[int]) -> Iterator[list[int]]:
    """The ids cut where one does not follow the one before it."""
    step = count()
    return (list(run) for _, run in groupby(ids, key=lambda i: i - next(step)))
