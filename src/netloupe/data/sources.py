"""Images in a fixed order, and reading them in batches.

Every source is an `ImageSource`: a fixed order of images, each with an integer id (its place in
that order), a name that says where it lies, and perhaps a label. The order depends on nothing but
names, so ids are the same on every machine and in every run. `data/open.py` opens them.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.core.errors import InputError, unknown
from netloupe.core.files import portable
from netloupe.core.identity import Stamped
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.perform import Images
from netloupe.core.sizes import Sizes
from netloupe.data.bands import Opened
from netloupe.data.images import Size, fit, height_width, shaped, to_float

ReadPixels = Callable[[int], Tensor]
"""Image id -> (C, H, W) float in [0, 1], as the network sees it."""

_KEPT = 1 << 29  # bytes of decoded images
_READING, _WAITING = 2, 16  # threads that read images from here, and from other machines


@dataclass(frozen=True)
class ImageSource:
    """Images in a fixed order; the id of an image is its place in it.

    `spec`: what it is, for people. `names`: where each lies (relative path, or "file.parquet#row"), always one line of
    valid Unicode. `labels`: class indices, None where unknown. `classes`: class names by index, where the source has
    them. `opener(id)` decodes one image or raises InputError; it may be called from several threads, and pickles for
    all that `open_source` opens; where it has a method `content(id)`, that gives the bytes of the file, `stamp(id)`
    what is another once the file is, `open(id, inputs)` opens the image for a network, and `take(id)` gives, once, what
    was made of an image beside what was opened; `slow` is true where that waits for other machines. `opened`: what
    `open_source` was given; None for a source made otherwise. `ids`: of a subset, the ids of its images in the whole,
    for which `opener` stays. `channels`: of what the images are, 3 or, if they are gray, 1; a network of either can be
    shown both. `inputs`: what the network takes that looks at them, where it was said by `read_for`. `photographs`: of
    which photograph each image is a piece, as a number from 0 on; None where each is one of its own.
    """

    spec: str
    names: Sequence[str]
    opener: Callable[[int], Opened] = field(repr=False)
    labels: Sequence[int | None] | None = field(default=None, repr=False)
    classes: Sequence[str] | None = field(default=None, repr=False)
    opened: str | None = field(default=None, repr=False)
    ids: Sequence[int] | None = field(default=None, repr=False)
    channels: int = 3
    inputs: InputSpec | None = field(default=None, repr=False)
    photographs: Sequence[int] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def title(self) -> str:
        """The spec for people who need not know where it lies, and the same wherever that is: of a path, its end."""
        return Path(self.spec).name or self.spec

    def read_for(self, inputs: InputSpec) -> ImageSource:
        """The same images, opened as a network that takes such inputs shall see them."""
        return replace(self, inputs=inputs)

    def open(self, image_id: int) -> Opened:
        """The decoded image. Raises InputError if it is broken, too large or not there."""
        if not 0 <= image_id < len(self):
            raise InputError(f"no image {image_id} in {self.spec!r} (accepted: 0 to {len(self) - 1})")
        i = image_id if self.ids is None else self.ids[image_id]
        if self.inputs is not None and hasattr(self.opener, "open"):
            found: Opened = self.opener.open(i, self.inputs)
            return found
        return self.opener(i)

    def beside(self, image_id: int) -> Mapping[str, bytes]:
        """What the opener made of an image that was opened, beside what it gave; nothing, as a rule."""
        take = getattr(self.opener, "take", None)
        found: Mapping[str, bytes] = {} if take is None else take(image_id if self.ids is None else self.ids[image_id])
        return found

    def label(self, image_id: int) -> int | None:
        """The class index of an image, or None where there is none."""
        return None if self.labels is None else self.labels[image_id]

    def fingerprint(self) -> str:
        """A hash of names and labels in order: equal exactly when ids mean the same."""
        digest = hashlib.sha256()
        for i, name in enumerate(self.names):
            digest.update(f"{name}\0{self.label(i)}\n".encode())
        return digest.hexdigest()[:16]

    def stamped(self) -> Stamped:
        """What a saved state is of: names, labels, and the files, each by its contents or by size and time of change.

        For this machine alone: a copy of a file may have another time. Of images that lie in no file, and of single
        files of other machines, it's the names.
        """
        stamp: Callable[[int], str] = getattr(self.opener, "stamp", lambda _: "")
        own = range(len(self)) if self.ids is None else self.ids
        return Stamped(self.names, [f"{self.label(i)} {stamp(place)}" for i, place in enumerate(own)])

    def record(self) -> dict[str, Any]:
        """What a manifest says of it: what was opened, never by an absolute path, and a hash of all its images."""
        digest = hashlib.sha256(self.fingerprint().encode())
        for i in range(len(self)):
            digest.update(hashlib.sha256(self.content(i)).digest())
        name = self.spec if self.opened is None else self.opened
        return {"source": portable(name), "images": len(self), "sha256": digest.hexdigest()}

    def content(self, image_id: int) -> bytes:
        """What is the same exactly when the image is: of a file its bytes, else its pixels; none of a broken one."""
        read = getattr(self.opener, "content", None)
        try:
            if read is not None:
                found: bytes = read(image_id if self.ids is None else self.ids[image_id])
                return found
            return self.open(image_id).tobytes()
        except (InputError, OSError):
            return b""

    def first(self, count: int | None) -> ImageSource:
        """The first `count` images (all of them for None). Raises InputError for a count below 1."""
        if count is not None and count < 1:
            raise InputError(f"the first {count} images (accepted: at least 1)")
        return self if count is None else self.subset(range(min(count, len(self))))

    def subset(self, ids: Sequence[int]) -> ImageSource:
        """The images of these ids, in this order; itself for all of them in theirs.

        Its spec says which: "photos[:300]", or how many and a hash. Raises InputError for no id, one that is not there
        or one that comes twice.
        """
        chosen = [int(i) for i in ids]
        if chosen == list(range(len(self))):
            return self
        if not chosen or len(set(chosen)) < len(chosen) or not 0 <= min(chosen) <= max(chosen) < len(self):
            raise InputError(
                f"{len(chosen)} images of {self.spec!r} (accepted: 1 or more ids from 0 to {len(self) - 1}, each once)"
            )
        which = f":{len(chosen)}"
        if chosen != list(range(len(chosen))):
            which = f"{len(chosen)} of {len(self)}: {hashlib.sha256(str(chosen).encode()).hexdigest()[:8]}"
        return replace(
            self,
            spec=f"{self.spec}[{which}]",
            names=[self.names[i] for i in chosen],
            labels=None if self.labels is None else [self.labels[i] for i in chosen],
            ids=chosen if self.ids is None else [self.ids[i] for i in chosen],
            photographs=None if self.photographs is None else [self.photographs[i] for i in chosen],
        )


def data_of(given: Any) -> ImageSource | Tensor:
    """What was given as a data set. Raises InputError for anything but a source or a tensor."""
    if not isinstance(given, ImageSource | Tensor):
        raise InputError(
            f"data {str(given)[:60]!r} (accepted: a source, as netloupe.open_source gives, or where one pass is "
            "enough a tensor (N, C, H, W))"
        )
    return given


def first_of(images: ImageSource | Tensor, count: int | None) -> ImageSource | Tensor:
    """The first `count` of a source or of (N, C, H, W), all of them for None."""
    images = data_of(images)
    return images[:count] if isinstance(images, Tensor) else images.first(count)


def read_for(images: ImageSource | Tensor, inputs: InputSpec) -> ImageSource | Tensor:
    """A source, opened as a network that takes such inputs shall see it; a tensor as it is."""
    return images if isinstance(images, Tensor) else images.read_for(inputs)


@dataclass(frozen=True)
class SourceImage(Images):
    """One image of a source, by its id."""

    source: ImageSource
    id: int

    @classmethod
    def named(cls, source: ImageSource, name: str) -> SourceImage:
        """By the name that its record says. Raises UnknownName for one that is not there."""
        names = [portable(each) for each in source.names]
        if name not in names:
            raise unknown(f"image of {source.title}", name, names)
        return cls(source, names.index(name))

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.source.names[self.id],)

    def read_for(self, inputs: InputSpec) -> SourceImage:
        return replace(self, source=self.source.read_for(inputs))

    def open(self, index: int = 0) -> Opened:
        """The decoded image."""
        del index
        return self.source.open(self.id)

    def fitted(self, net: Network, size: tuple[int, int] | None = None) -> Tensor:
        opened = self.read_for(net.inputs).open()
        return to_float(fit(opened, size or net.inputs.size, net.inputs.channels))[None]

    def shaped(self, net: Network, side: int | None = None, sizes: Sizes | None = None) -> list[Tensor]:
        return [shaped(self.read_for(net.inputs).open(), net, side, sizes)]

    def masks(self, size: tuple[int, int]) -> list[Tensor]:
        return [to_float(fit(self.open(), size, 1))[0]]

    def record(self) -> Any:
        content = hashlib.sha256(self.source.content(self.id)).hexdigest()
        opened = self.source.spec if self.source.opened is None else self.source.opened
        return [{"name": portable(self.names[0]), "source": portable(opened), "sha256": content}]


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

    def __str__(self) -> str:
        return f"skipped {self.name}: {self.reason}"


@dataclass(frozen=True)
class PixelBatch:
    """Images of one size: `ids` (n,) and `pixels` (n, H, W, C); `skipped` lists the broken ones.

    `pixels` are uint8, or float32 in [0, 1] where an image holds more than 8 bits a value.
    """

    ids: np.ndarray
    pixels: np.ndarray
    skipped: tuple[Skipped, ...] = ()


def read_batches(
    source: ImageSource,
    size: Size,
    channels: int = 3,
    *,
    batch_size: int = 64,
    start: int = 0,
    end: int | None = None,
    workers: int | None = None,
) -> Iterator[PixelBatch]:
    """Batches of decoded images in id order, from id `start` to before `end`, decoded ahead by `workers` threads.

    Without `workers` those are two, and sixteen where images come from other machines, for which they mostly wait.

    Every batch covers `batch_size` ids, so one with broken images is shorter by those. At most three
    batches are in memory. The threads end with the iterator, also when it is closed early. Raises
    InputError at once for a size, channels or count that can't be used.
    """
    height, width = height_width(size)
    if workers is None:
        workers = _WAITING if getattr(source.opener, "slow", False) else _READING
    counts = ("channels", channels, 1), ("batch_size", batch_size, 1), ("workers", workers, 1), ("start", start, 0)
    for what, value, least in counts:
        if value < least:
            raise InputError(f"{what} {value} (accepted: at least {least})")

    stop = len(source) if end is None else min(end, len(source))

    def read(image_id: int) -> np.ndarray | Skipped:
        try:
            return fit(source.open(image_id), size, channels)
        except InputError as error:
            return Skipped(image_id, source.names[image_id], str(error))

    def collect(first: int, results: Sequence[np.ndarray | Skipped]) -> PixelBatch:
        good = {first + i: pixels for i, pixels in enumerate(results) if not isinstance(pixels, Skipped)}
        floats = any(image.dtype != np.uint8 for image in good.values())
        pixels = np.empty((len(good), height, width, channels), dtype=np.float32 if floats else np.uint8)
        for row, image in enumerate(good.values()):
            pixels[row] = image if image.dtype == pixels.dtype else image / np.float32(255)
        skipped = tuple(result for result in results if isinstance(result, Skipped))
        return PixelBatch(np.array([*good], dtype=np.int64), pixels, skipped)

    def batches() -> Iterator[PixelBatch]:
        pool = ThreadPoolExecutor(workers)
        ahead: deque[tuple[int, list[Future[np.ndarray | Skipped]]]] = deque()
        try:
            for first in range(start, stop, batch_size):
                span = range(first, min(first + batch_size, stop))
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


def read_all(source: ImageSource, size: Size, channels: int = 3) -> tuple[list[int], Tensor, tuple[Skipped, ...]]:
    """The ids of the images that can be read, those (N, C, H, W) in [0, 1], and the others. InputError for none."""
    batches = list(read_batches(source, size, channels))
    skipped = tuple(one for batch in batches for one in batch.skipped)
    ids = [int(i) for batch in batches for i in batch.ids]
    if not ids:
        raise InputError(f"none of {len(source)} images of {source.spec!r} can be read: {skipped[0].reason}")
    return ids, torch.cat([to_float(batch.pixels) for batch in batches]), skipped
