"""The embedded images: photos that scikit-image and scikit-learn carry in their wheels, crops of them, and digits.

So every command has images to show without a download. Left out are drawings, test patterns, masks,
microscope phase images, the second view of the motorcycle, and the clock, which is blurred to gray.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageStat

from netloupe.core.errors import InputError, unknown
from netloupe.data.images import open_image
from netloupe.data.sources import ImageSource

_FOLDERS = {"scikit-image": ("skimage", "data"), "scikit-learn": ("sklearn", "datasets/images")}
_GRIDS = (((3, 4), 3), ((1, 2), 4), ((1, 3), 5), ((1, 4), 7))  # crops n x n, of sides that are shares of the short side
_SMALLEST = 64  # pixels; crops with shorter sides are left out
_BLANK = 11.8  # crops whose gray values (0 to 255) deviate less are left out; no crop lies within 0.1 of it
_FULL_INK = 16  # the highest value in a digit
_SCALE = 4  # px a side for each pixel of a digit, by repetition: networks' inputs are larger, and it shall be seen


class _Photo(NamedTuple):
    name: str
    file: str
    title: str
    origin: str
    package: str = "scikit-image"


_PHOTOS = (
    _Photo("astronaut", "astronaut.png", "Eileen Collins, astronaut", "NASA Great Images, public domain"),
    _Photo("brick", "brick.png", "Brick wall", "CC0Textures, CC0"),
    _Photo("camera", "camera.png", "Photographer with a camera", "Lav Varshney, CC0"),
    _Photo("cat", "chelsea.png", "Chelsea the cat", "Stefan van der Walt, CC0"),
    _Photo("china", "china.jpg", "Temple in China", "danielbuechele on Flickr, CC BY 2.0", "scikit-learn"),
    _Photo("coffee", "coffee.png", "Cup of coffee, Pikolo Espresso Bar", "Rachel Michetti, CC0"),
    _Photo("coins", "coins.png", "Greek coins from Pompeii", "Brooklyn Museum, no known copyright restrictions"),
    _Photo("flower", "flower.jpg", "Dahlia", "vultilion on Flickr, CC BY 2.0", "scikit-learn"),
    _Photo("grass", "grass.png", "Grass", "linolafett on DeviantArt, CC0"),
    _Photo("gravel", "gravel.png", "Gravel", "CC0Textures, CC0"),
    _Photo("hubble", "hubble_deep_field.jpg", "Hubble eXtreme Deep Field", "NASA, public domain"),
    _Photo("moon", "moon.png", "Surface of the moon", "scikit-image, origin not stated"),
    _Photo("motorcycle", "motorcycle_left.png", "Motorcycle in a garage", "Middlebury 2014 stereo benchmark"),
    _Photo("page", "page.png", "Scanned page", "scikit-image, origin not stated"),
    _Photo("retina", "retina.jpg", "Retina of a healthy eye", "Mikael Häggström on Wikimedia Commons, CC0"),
    _Photo("rocket", "rocket.jpg", "Falcon 9 with DSCOVR before launch", "SpaceX, public domain"),
    _Photo("text", "text.png", "Handwriting", "Wikipedia, public domain"),
    _Photo("tissue", "ihc.png", "Stained glands of the colon", "CMMI, no known copyright restrictions"),
)


class _Place(NamedTuple):
    """A square of one photograph, or all of it (side None)."""

    photo: _Photo
    side: int | None = None
    top: int = 0
    left: int = 0

    def name(self) -> str:
        part = "full" if self.side is None else f"s{self.side}@{self.top},{self.left}"
        return f"{self.photo.name}/{part}"

    def cut(self, image: Image.Image) -> Image.Image:
        side = self.side
        return image.copy() if side is None else image.crop((self.left, self.top, self.left + side, self.top + side))


@cache
def photos() -> ImageSource:
    """The embedded photos: first each whole, then square crops of each, large to small.

    Pixels are as the files hold them, without color profiles, so that they stay what they were in version 0.1.

    A name is "astronaut/full" or "astronaut/s128@64,96": a crop of 128 pixels a side with its top at
    64 and its left at 96. Photographs take turns, so any first part of the source is varied. No labels.
    Raises InputError if a package lacks a photograph.
    """
    gray = {photo: _decoded(photo).convert("L") for photo in _PHOTOS}
    crops = _crops({photo: image.size for photo, image in gray.items()})
    places = [_Place(photo) for photo in _PHOTOS]
    places += [crop for crop in crops if ImageStat.Stat(crop.cut(gray[crop.photo])).stddev[0] >= _BLANK]
    return ImageSource(
        "photos",
        [place.name() for place in places],
        partial(_opened, places),
        opened="photos",
        photographs=[_PHOTOS.index(place.photo) for place in places],
    )


def _opened(places: Sequence[_Place], i: int) -> Image.Image:
    return places[i].cut(_decoded(places[i].photo))


def photograph(name: str) -> Image.Image:
    """One of them by its name, whole. Raises UnknownName."""
    named = {photo.name: photo for photo in _PHOTOS}
    if name not in named:
        raise unknown("photo", name, named)
    return _decoded(named[name]).copy()


def credits() -> list[tuple[str, str, str]]:
    """(name, title, origin) of every photograph; origin names the author or archive and the license."""
    return [(photo.name, photo.title, f"{photo.origin} (from {photo.package})") for photo in _PHOTOS]


def _crops(sizes: Mapping[_Photo, tuple[int, int]]) -> Iterator[_Place]:
    """All crops of photographs of the given (width, height), blank ones too: for each share an even grid."""
    for (part, whole), count in _GRIDS:
        for row, column in product(range(count), repeat=2):
            for photo, (width, height) in sizes.items():
                side = min(width, height) * part // whole
                if side >= _SMALLEST:
                    top, left = row * (height - side) // (count - 1), column * (width - side) // (count - 1)
                    yield _Place(photo, side, top, left)


@cache
def _decoded(photo: _Photo) -> Image.Image:
    package, folder = _FOLDERS[photo.package]
    spec = find_spec(package)  # finds the package without the cost of importing it
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"the embedded photos come with {photo.package}, which is not installed")
    path = Path(spec.submodule_search_locations[0]) / folder / photo.file
    if not path.is_file():
        raise InputError(f"the installed {photo.package} lacks the photograph {photo.file} ({folder})")
    found = open_image(path, photo.file, srgb=False)
    assert isinstance(found, Image.Image)
    return found


@cache
def digits() -> ImageSource:
    """The digits of the UCI ML hand-written digits data set (E. Alpaydin, C. Kaynak, CC BY 4.0), white on black.

    Gray images of 32x32 px, each pixel of the original repeated 4x4 times. Labels 0 to 9, of the same names.
    """
    from sklearn.datasets import load_digits

    labels = [int(label) for label in load_digits().target]
    names = [f"digits/{i:04}-{label}" for i, label in enumerate(labels)]
    return ImageSource("digits", names, _digit, labels, [str(i) for i in range(10)], "digits", channels=1)


def _digit(i: int) -> Image.Image:
    return Image.fromarray(_digit_pixels()[i])


@cache
def _digit_pixels() -> np.ndarray:
    """(1797, 32, 32) uint8."""
    from sklearn.datasets import load_digits

    images: np.ndarray = load_digits().images
    return np.rint(images * (255 / _FULL_INK)).astype(np.uint8).repeat(_SCALE, 1).repeat(_SCALE, 2)
