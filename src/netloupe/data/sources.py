"""Where images come from: a folder, a list of files, Parquet, or the embedded photos.

Every source is an `ImageSource`: a fixed order of images, each with an integer id (its place in
that order), a name that says where it lies, and perhaps a label. The order depends on nothing but
names, so ids are the same on every machine and in every run.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from netloupe.core.errors import InputError
from netloupe.data.images import Size, fit, open_image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class ImageSource:
    """Images in a fixed order; the id of an image is its place in it.

    `names`: where each lies (relative path, or "file.parquet#row"). `labels`: class indices, None
    where unknown. `classes`: class names by index, where the source has them. `opener(id)` decodes
    one image or raises InputError.
    """

    spec: str
    names: Sequence[str]
    opener: Callable[[int], Image.Image] = field(repr=False)
    labels: Sequence[int | None] | None = field(default=None, repr=False)
    classes: Sequence[str] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def open(self, image_id: int) -> Image.Image:
        """The decoded image, mode RGB or L. Raises InputError if it is broken or too large."""
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
        """The first `count` images (all of them for None)."""
        if count is None or count >= len(self):
            return self
        labels = None if self.labels is None else self.labels[:count]
        return ImageSource(self.spec, self.names[:count], self.opener, labels, self.classes)


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

    Every batch covers `batch_size` ids, so one with broken images is shorter by those.
    """

    def read(image_id: int) -> np.ndarray | Skipped:
        try:
            return fit(source.open(image_id), size, channels)
        except InputError as error:
            return Skipped(image_id, source.names[image_id], str(error))

    height, width = (size, size) if isinstance(size, int) else size
    spans = [range(i, min(i + batch_size, len(source))) for i in range(start, len(source), batch_size)]
    with ThreadPoolExecutor(workers) as pool:
        ahead = [[pool.submit(read, i) for i in span] for span in spans[:2]]
        for position, span in enumerate(spans):
            results = [future.result() for future in ahead.pop(0)]
            if position + 2 < len(spans):
                ahead.append([pool.submit(read, i) for i in spans[position + 2]])
            good = [(i, pixels) for i, pixels in zip(span, results, strict=True) if isinstance(pixels, np.ndarray)]
            stacked = (
                np.stack([pixels for _, pixels in good])
                if good
                else np.zeros((0, height, width, channels), dtype=np.uint8)
            )
            ids = np.array([i for i, _ in good], dtype=np.int64)
            yield PixelBatch(ids, stacked, tuple(r for r in results if isinstance(r, Skipped)))


def open_source(spec: str | Path) -> ImageSource:
    """The images that `spec` names.

    "photos": the embedded photos. A folder: its images, all levels deep; if every image lies in a
    subfolder, the first level names the classes. A folder without images but with Parquet, a
    Parquet file or a glob of them ("data/train-*.parquet"): rows with an image column. A text file
    (.txt, .lst, .csv): one path a line, relative to the file. An image: itself.
    """
    text = str(spec)
    if text == "photos":
        from netloupe.data.photos import photos

        return photos()
    path = Path(text)
    if any(character in path.name for character in "*?["):
        files = sorted(path.parent.glob(path.name))
        return from_parquet([f for f in files if f.suffix == ".parquet"], text)
    if not path.exists():
        raise InputError(f"no images at {text!r}: no such file or folder (accepted: a folder, list, Parquet, 'photos')")
    if path.is_dir():
        return _from_folder(path)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return from_parquet([path], text)
    if suffix in (".txt", ".lst", ".csv"):
        return _from_list(path)
    if suffix in SUFFIXES:
        return from_files([path], text)
    raise InputError(f"{text!r} is no source of images (accepted: a folder, .txt, .parquet, {', '.join(SUFFIXES)})")


def from_files(paths: Sequence[Path], spec: str = "files", *, root: Path | None = None) -> ImageSource:
    """The given image files, in the given order; names are relative to `root`."""
    names = [p.relative_to(root).as_posix() if root is not None else p.as_posix() for p in paths]
    return ImageSource(spec, names, lambda i: open_image(paths[i], names[i]))


def _from_folder(root: Path) -> ImageSource:
    try:
        files = [p for p in root.rglob("*") if p.is_file() and not p.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{root}: can't be read ({error.strerror})") from None
    images = sorted((p for p in files if p.suffix.lower() in SUFFIXES), key=lambda p: p.relative_to(root).as_posix())
    if not images:
        tables = sorted(p for p in files if p.suffix == ".parquet")
        if tables:
            return from_parquet(tables, str(root))
        raise InputError(f"no images in {str(root)!r} (accepted: {', '.join(SUFFIXES)}, .parquet)")
    source = from_files(images, str(root), root=root)
    tops = [p.relative_to(root).parts for p in images]
    if not all(len(parts) > 1 for parts in tops):
        return source
    classes = sorted({parts[0] for parts in tops})
    index = {name: i for i, name in enumerate(classes)}
    return ImageSource(source.spec, source.names, source.opener, [index[parts[0]] for parts in tops], classes)


def _from_list(path: Path) -> ImageSource:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read as a list of files ({error})") from None
    entries = [line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise InputError(f"{path}: the list names no image")
    files = [path.parent / entry for entry in entries]
    return ImageSource(str(path), entries, lambda i: open_image(files[i], entries[i]))


class _ParquetRows:
    """Image bytes of row groups, a few of them held at a time."""

    def __init__(self, files: Sequence[Path], column: str) -> None:
        self._files, self._column = files, column
        self._tables: dict[tuple[int, int], pa.ChunkedArray] = {}
        self._lock = threading.Lock()
        self.places: list[tuple[int, int, int]] = []  # file, row group, row in it
        for f, file in enumerate(files):
            metadata = pq.ParquetFile(file).metadata
            for g in range(metadata.num_row_groups):
                self.places += [(f, g, row) for row in range(metadata.row_group(g).num_rows)]

    def __call__(self, i: int) -> bytes | None:
        f, g, row = self.places[i]
        with self._lock:
            if (f, g) not in self._tables:
                while len(self._tables) >= 2:
                    self._tables.pop(next(iter(self._tables)))
                table = pq.ParquetFile(self._files[f]).read_row_group(g, columns=[self._column])
                self._tables[f, g] = table.column(self._column)
            value = self._tables[f, g][row].as_py()
        return value["bytes"] if isinstance(value, dict) else value


def from_parquet(files: Sequence[Path], spec: str) -> ImageSource:
    """Rows of Parquet files with an `image` column: encoded bytes, or a struct with `bytes` (as on the Hugging Face hub).

    Optional columns: `label` (class index), `name` (class name).
    """
    if not files:
        raise InputError(f"no Parquet file matches {spec!r}")
    labels: list[int | None] = []
    class_of: dict[int, str] = {}
    column = ""
    names: list[str] = []
    for file in files:
        try:
            schema = pq.read_schema(file)
            column = _image_column(schema, file)
            wanted = [c for c in ("label", "name") if c in schema.names]
            rows: dict[str, list[Any]] = pq.read_table(file, columns=wanted).to_pydict() if wanted else {}
            count = pq.ParquetFile(file).metadata.num_rows
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{file}: can't be read as Parquet ({str(error).splitlines()[0]})") from None
        names += [f"{file.name}#{row}" for row in range(count)]
        file_labels = rows.get("label") or [None] * count
        labels += [None if label is None else int(label) for label in file_labels]
        for label, name in zip(file_labels, rows.get("name") or [], strict=False):
            if label is not None and name is not None:
                class_of.setdefault(int(label), str(name))
    if not names:
        raise InputError(f"{spec!r} holds no rows")
    read = _ParquetRows(files, column)

    def opener(i: int) -> Image.Image:
        encoded = read(i)
        if encoded is None:
            raise InputError(f"{names[i]}: no image in this row")
        return open_image(encoded, names[i])

    classes = [class_of.get(i, str(i)) for i in range(max(class_of) + 1)] if class_of else None
    return ImageSource(spec, names, opener, labels if any(x is not None for x in labels) else None, classes)


def _image_column(schema: pa.Schema, file: Path) -> str:
    def holds_bytes(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    columns = [f.name for f in schema if holds_bytes(f.type)]
    if not columns:
        raise InputError(f"{file}: no column of image bytes (columns: {', '.join(schema.names)})")
    return "image" if "image" in columns else columns[0]
