"""Where images come from: a folder, a list of files, Parquet, the embedded photos, or digits.

Every source is an `ImageSource`: a fixed order of images, each with an integer id (its place in
that order), a name that says where it lies, and perhaps a label. The order depends on nothing but
names, so ids are the same on every machine and in every run.
"""

from __future__ import annotations

import codecs
import glob
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.data.images import Size, fit, height_width, open_image, plain, to_float

ReadPixels = Callable[[int], Tensor]
"""Image id -> (C, H, W) float in [0, 1], as the network sees it."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

_KEPT = 1 << 29  # bytes of decoded images


@dataclass(frozen=True)
class ImageSource:
    """Images in a fixed order; the id of an image is its place in it.

    `names`: where each lies (relative path, or "file.parquet#row"), always one line of valid Unicode.
    `labels`: class indices, None where unknown. `classes`: class names by index, where the source has
    them. `opener(id)` decodes one image or raises InputError; it may be called from several threads.
    """

    spec: str
    names: Sequence[str]
    opener: Callable[[int], Image.Image] = field(repr=False)
    labels: Sequence[int | None] | None = field(default=None, repr=False)
    classes: Sequence[str] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def title(self) -> str:
        """The spec for people who need not know where it lies: of a path, the last two parts."""
        return "/".join(Path(self.spec).parts[-2:]).lstrip("/")

    def open(self, image_id: int) -> Image.Image:
        """The decoded image, mode RGB or L. Raises InputError if it is broken, too large or not there."""
        if not 0 <= image_id < len(self):
            raise InputError(f"no image {image_id} in {self.spec!r} (accepted: 0 to {len(self) - 1})")
        return self.opener(image_id)

    def label(self, image_id: int) -> int | None:
        """The class index of an image, or None where there is none."""
        return None if self.labels is None else self.labels[image_id]

    def fingerprint(self) -> str:
        """A hash of names and labels in order: equal exactly when ids mean the same."""
        digest = hashlib.sha256()
        for i, name in enumerate(self.names):
            digest.update(f"{name}\0{self.label(i)}\n".encode())
        return digest.hexdigest()[:16]

    def first(self, count: int | None) -> ImageSource:
        """The first `count` images (all of them for None). Raises InputError for a count below 1."""
        if count is not None and count < 1:
            raise InputError(f"the first {count} images (accepted: at least 1)")
        if count is None or count >= len(self):
            return self
        labels = None if self.labels is None else self.labels[:count]
        return ImageSource(self.spec, self.names[:count], self.opener, labels, self.classes)


def pixel_reader(source: ImageSource, size: tuple[int, int], channels: int) -> ReadPixels:
    """Reads images as the network sees them, the latest kept decoded (512 MiB of them)."""

    @lru_cache(maxsize=max(64, _KEPT // (size[0] * size[1] * channels)))
    def decoded(image_id: int) -> np.ndarray:
        return fit(source.open(image_id), size, channels)

    return lambda image_id: to_float(decoded(image_id))


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used, and why, in one line."""

    id: int
    name: str
    reason: str


@dataclass(frozen=True)
class PixelBatch:
    """Images of one size: `ids` (n,) and `pixels` (n, H, W, C) uint8; `skipped` lists the broken ones."""

    ids: np.ndarray
    pixels: np.ndarray
    skipped: tuple[Skipped, ...] = ()


def read_batches(
    source: ImageSource, size: Size, channels: int = 3, *, batch_size: int = 64, start: int = 0, workers: int = 2
) -> Iterator[PixelBatch]:
    """Batches of decoded images in id order, from id `start`, decoded ahead by `workers` threads.

    Every batch covers `batch_size` ids, so one with broken images is shorter by those. At most three
    batches are in memory. The threads end with the iterator, also when it is closed early. Raises
    InputError at once for a size, channels or count that can't be used.
    """
    height, width = height_width(size)
    if channels not in (1, 3):
        raise InputError(f"images with {channels!r} channels (accepted: 1 or 3)")
    for what, value, least in (("batch_size", batch_size, 1), ("workers", workers, 1), ("start", start, 0)):
        if value < least:
            raise InputError(f"{what} {value} (accepted: at least {least})")

    def read(image_id: int) -> np.ndarray | Skipped:
        try:
            return fit(source.open(image_id), size, channels)
        except InputError as error:
            return Skipped(image_id, source.names[image_id], str(error))

    def collect(first: int, results: Sequence[np.ndarray | Skipped]) -> PixelBatch:
        good = {first + i: pixels for i, pixels in enumerate(results) if not isinstance(pixels, Skipped)}
        pixels = np.empty((len(good), height, width, channels), dtype=np.uint8)
        for row, image in enumerate(good.values()):
            pixels[row] = image
        skipped = tuple(result for result in results if isinstance(result, Skipped))
        return PixelBatch(np.array([*good], dtype=np.int64), pixels, skipped)

    def batches() -> Iterator[PixelBatch]:
        pool = ThreadPoolExecutor(workers)
        ahead: deque[tuple[int, list[Future[np.ndarray | Skipped]]]] = deque()
        try:
            for first in range(start, len(source), batch_size):
                span = range(first, min(first + batch_size, len(source)))
                ahead.append((first, [pool.submit(read, i) for i in span]))
                if len(ahead) == 3:
                    begin, futures = ahead.popleft()
                    yield collect(begin, [future.result() for future in futures])
            while ahead:
                begin, futures = ahead.popleft()
                yield collect(begin, [future.result() for future in futures])
        finally:
            pool.shutdown(cancel_futures=True)

    return batches()


def open_source(spec: str | Path) -> ImageSource:
    """The images that `spec` names.

    "photos": the embedded photos. "digits": scikit-learn's handwritten digits. A folder: its images, all
    levels deep; if every image lies in a subfolder, the first level names the classes. A folder without
    images but with Parquet, a Parquet file or a glob of them ("data/train-*.parquet"): rows with an image
    column. A text file (.txt, .lst, .csv): one path a line, relative to the file. An image, or a glob of
    images: those.
    """
    text = str(spec)
    if text == "photos":
        from netloupe.data.photos import photos

        return photos()
    if text == "digits":
        from netloupe.data.digits import digits

        return digits()
    path = Path(text)
    if not text or not os.path.exists(path):
        matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
        images, tables = _images_and_tables(matches)
        if not images and not tables:
            reason = "no such file or folder" if not matches else "the pattern matches no image and no Parquet file"
            raise InputError(f"no images at {text!r}: {reason} (accepted: a folder, list, Parquet, 'photos', 'digits')")
        return from_files(images, text) if images else _from_parquet(tables, text)
    if path.is_dir():
        return _from_folder(path)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _from_parquet([path], text)
    if suffix in (".txt", ".lst", ".csv"):
        return _from_list(path)
    if suffix in SUFFIXES:
        return from_files([path], text)
    raise InputError(f"{text!r} is no source of images (accepted: a folder, .txt, .parquet, {', '.join(SUFFIXES)})")


def from_files(paths: Sequence[Path], spec: str = "files", *, root: Path | None = None) -> ImageSource:
    """The given image files, in the given order; names are relative to `root`."""
    names = [plain(p.relative_to(root).as_posix() if root is not None else p.as_posix()) for p in paths]
    return ImageSource(spec, names, lambda i: open_image(paths[i], names[i]))


def _from_parquet(files: Sequence[Path], spec: str) -> ImageSource:
    from netloupe.data.parquet import from_parquet  # Arrow takes long to import

    return from_parquet(files, spec)


def _images_and_tables(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    files = list(files)
    return [p for p in files if p.suffix.lower() in SUFFIXES], [p for p in files if p.suffix.lower() == ".parquet"]


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
    return ImageSource(source.spec, source.names, source.opener, labels, [plain(name) for name in folders])


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
    return ImageSource(str(path), names, lambda i: open_image(files[i], names[i]))
