"""What opens what: a folder, a list of files, Parquet, the embedded photos, or digits, as an `ImageSource`.

A source can be opened again, by another process too, from the small document that `reopening` gives.
"""

from __future__ import annotations

import codecs
import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, groupby
from pathlib import Path
from typing import Any

from netloupe.core.errors import InputError
from netloupe.core.inputs import InputSpec
from netloupe.data.bands import Opened
from netloupe.data.images import open_image, plain
from netloupe.data.photos import digits, photos
from netloupe.data.sources import ImageSource

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
ARRAYS = ".npy"

_OURS = {"photos": photos, "digits": digits}


def open_source(spec: str | Path) -> ImageSource:
    """The images that `spec` names.

    "photos": the embedded photos. "digits": scikit-learn's handwritten digits. A folder: its images, all levels deep;
    if every image lies in a subfolder, the first level names the classes. A folder without image files: its .npy files.
    A folder with neither but with Parquet, a Parquet file or a glob of them ("data/train-*.parquet"): rows with an
    image column. A text file (.txt, .lst, .csv): one path a line, relative to the file. An image or .npy file, or a
    glob of them: those.
    """
    text = str(spec)
    return _OURS[text]() if text in _OURS else replace(_opened(text), opened=text)


def _opened(text: str, root: Path | None = None) -> ImageSource:
    """root: what the names of single files are relative to."""
    path = Path(text)
    if not text or not os.path.exists(path):
        matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
        images, tables = _images_and_tables(matches)
        if not images and not tables:
            reason = "no such file or folder" if not matches else "the pattern matches no image and no Parquet file"
            raise InputError(f"no images at {text!r}: {reason} (accepted: a folder, list, Parquet, 'photos', 'digits')")
        return from_files(images, text, root=root) if images else _from_parquet(tables, text)
    if path.is_dir():
        return _from_folder(path)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _from_parquet([path], text)
    if suffix in (".txt", ".lst", ".csv"):
        return _from_list(path)
    if suffix in (*SUFFIXES, ARRAYS):
        return from_files([path], text, root=root)
    raise InputError(
        f"{text!r} is no source of images (accepted: a folder, .txt, .parquet, .npy, {', '.join(SUFFIXES)})"
    )


def from_files(paths: Sequence[Path], spec: str = "files", *, root: Path | None = None) -> ImageSource:
    """The given image files, in the given order; names are relative to `root`."""
    names = [plain(p.relative_to(root).as_posix() if root is not None else p.as_posix()) for p in paths]
    return ImageSource(spec, names, _Files(paths, names))


@dataclass(frozen=True)
class _Files:
    """Opens image i of some files."""

    paths: Sequence[Path]
    names: Sequence[str]

    def __call__(self, i: int) -> Opened:
        return open_image(self.paths[i], self.names[i], guess=False)

    def open(self, i: int, inputs: InputSpec) -> Opened:
        return open_image(self.paths[i], self.names[i], inputs, guess=False)

    def content(self, i: int) -> bytes:
        return self.paths[i].read_bytes()


def _from_parquet(files: Sequence[Path], spec: str) -> ImageSource:
    from netloupe.data.parquet import from_parquet  # Arrow takes long to import

    return from_parquet(files, spec)


def _images_and_tables(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The images of a folder, which are its arrays where it has no image files, and its tables."""
    files = list(files)
    images = [p for p in files if p.suffix.lower() in SUFFIXES]
    arrays = [p for p in files if p.suffix.lower() == ARRAYS]
    return images or arrays, [p for p in files if p.suffix.lower() == ".parquet"]


def _files(folder: str, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """The files under a folder, hidden ones left out; links are followed, but never in a circle."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise InputError(f"{plain(folder)}: can't be read ({error.strerror})") from None
    for path in (os.path.join(folder, name) for name in entries):
        if os.path.isdir(path):
            yield from _files(path, above | {real})
        elif os.path.isfile(path) or not os.path.exists(path):  # a dangling link is a broken image, a pipe is none
            yield Path(path)


def _from_folder(root: Path) -> ImageSource:
    images, tables = _images_and_tables(sorted(_files(str(root)), key=lambda p: p.relative_to(root).as_posix()))
    if not images:
        if tables:
            return _from_parquet(tables, str(root))
        raise InputError(f"no images in {str(root)!r} (accepted: {', '.join(SUFFIXES)}, .parquet)")
    source = from_files(images, str(root), root=root)
    tops = [p.relative_to(root).parts for p in images]
    if not all(len(parts) > 1 for parts in tops):
        return source
    folders = sorted({parts[0] for parts in tops})
    index = {name: i for i, name in enumerate(folders)}
    labels = [index[parts[0]] for parts in tops]
    return replace(source, labels=labels, classes=[plain(name) for name in folders])


def _from_list(path: Path) -> ImageSource:
    try:
        lines = [os.fsdecode(line).strip() for line in path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")]
    except OSError as error:
        raise InputError(f"{plain(path)}: can't be read as a list of files ({error.strerror})") from None
    entries = [line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise InputError(f"{plain(path)}: the list names no image")
    files = [path.parent / entry for entry in entries]
    if not any(os.path.exists(file) for file in files):
        raise InputError(f"{plain(path)}: none of the listed files is there, such as {entries[0][:200]!r} (one a line)")
    names = [plain(entry) for entry in entries]
    return ImageSource(str(path), names, _Files(files, names))


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
        root = None if os.path.isabs(text) else Path(document["in"])
        source = replace(_opened(os.path.join(document["in"], text), root), opened=text)
    if document["ids"] is not None:
        source = source.subset([i for begin, end in document["ids"] for i in range(begin, end)])
    if source.fingerprint() != document["fingerprint"]:
        raise InputError(f"{document['spec']!r} holds other images than it did")
    return replace(source, spec=document["spec"])


def _runs(ids: Sequence[int]) -> Iterator[list[int]]:
    """The ids cut where one does not follow the one before it."""
    step = count()
    return (list(run) for _, run in groupby(ids, key=lambda i: i - next(step)))
