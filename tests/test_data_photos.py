"""The embedded photos: names that tell the truth, a stable choice of crops, and no network."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import sklearn.datasets
from PIL import Image

from netloupe.core.errors import InputError
from netloupe.data import photos as module
from netloupe.data.open import open_source
from netloupe.data.photos import credits, photos
from netloupe.data.sources import read_batches

SAME_NAME = [
    "astronaut",
    "brick",
    "camera",
    "cat",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "moon",
    "page",
    "rocket",
    "text",
]


def test_whole_photographs_are_those_of_the_libraries() -> None:
    source = photos()
    whole = {name.removesuffix("/full"): i for i, name in enumerate(source.names) if name.endswith("/full")}
    assert sorted(whole) == sorted(name for name, _, _ in credits())
    assert list(whole.values()) == list(range(len(whole)))  # they come first
    for name in SAME_NAME:
        assert np.array_equal(np.asarray(source.open(whole[name])), getattr(skimage.data, name)()), name
    for name in ("china", "flower"):
        theirs = sklearn.datasets.load_sample_image(f"{name}.jpg")
        assert np.array_equal(np.asarray(source.open(whole[name])), theirs), name


def test_crops_are_what_their_names_say() -> None:
    source = photos()
    whole = {name.split("/")[0]: np.asarray(source.open(i)) for i, name in enumerate(source.names) if "/full" in name}
    crops = 0
    for i, name in enumerate(source.names):
        photo, part = name.split("/")
        if part == "full":
            continue
        match = re.fullmatch(r"s(\d+)@(\d+),(\d+)", part)
        assert match, name
        side, top, left = map(int, match.groups())
        pixels = np.asarray(source.open(i))
        assert pixels.shape[:2] == (side, side), name
        assert side >= 64
        assert np.array_equal(pixels, whole[photo][top : top + side, left : left + side]), name
        crops += 1
    assert crops > 1400


def test_the_choice_of_crops_is_stable() -> None:
    source = photos()
    assert len(source) == len(set(source.names)) == 1503
    assert source.fingerprint() == "d98047d759b4f4d0"
    assert source.labels is None
    assert source.names[:2] == ["astronaut/full", "brick/full"]
    counts = Counter(name.split("/")[0] for name in source.names)
    assert len(counts) == 18
    assert max(counts.values()) == 100
    assert min(counts.values()) == 26  # page and text are too small for the smallest crops


def test_no_crop_is_blank_and_none_is_near_the_threshold() -> None:
    gray = {photo: module._decoded(photo).convert("L") for photo in module._PHOTOS}
    chosen = set(photos().names)
    left_out = 0
    for place in module._crops({photo: image.size for photo, image in gray.items()}):
        deviation = np.asarray(place.cut(gray[place.photo])).std()
        assert abs(deviation - module._BLANK) > 0.1, f"{place.name()}: another decoder might choose otherwise"
        assert (place.name() in chosen) == (deviation > module._BLANK), place.name()
        left_out += place.name() not in chosen
    assert left_out == 149


def test_any_first_part_is_varied() -> None:
    assert len({name.split("/")[0] for name in photos().names[18:36]}) >= 16


def test_the_source_can_be_read_by_threads_and_in_batches() -> None:
    source = open_source("photos")
    assert source is photos()
    batches = list(read_batches(source.first(100), 64, batch_size=32))
    assert [len(batch.ids) for batch in batches] == [32, 32, 32, 4]
    assert not any(batch.skipped for batch in batches)
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda i: source.open(i).size, range(len(source))))
    assert sizes == [source.open(i).size for i in range(len(source))]


def test_a_caller_can_not_spoil_the_photographs() -> None:
    before = np.asarray(photos().open(0)).copy()
    photos().open(0).paste((0, 0, 0), (0, 0, 100, 100))
    assert np.array_equal(np.asarray(photos().open(0)), before)


def test_credits_tell_title_and_origin() -> None:
    listed = credits()
    assert len(listed) == 18
    assert all(name and title and origin for name, title, origin in listed)
    assert ("camera", "Photographer with a camera", "Lav Varshney, CC0 (from scikit-image)") in listed
    assert sum("(from scikit-learn)" in origin for _, _, origin in listed) == 2


@pytest.fixture
def uncached() -> Iterator[None]:
    for function in (photos, module._decoded):
        function.cache_clear()
    yield
    for function in (photos, module._decoded):
        function.cache_clear()


@pytest.mark.usefixtures("uncached")
def test_a_lacking_photograph_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "skimage" / "data").mkdir(parents=True)
    (tmp_path / "skimage" / "__init__.py").touch()
    Image.new("RGB", (512, 512)).save(tmp_path / "skimage" / "data" / "astronaut.png")
    monkeypatch.delitem(sys.modules, "skimage")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"^the installed scikit-image lacks the photograph brick\.png"):
        photos()


@pytest.mark.usefixtures("uncached")
def test_a_lacking_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"^the embedded photos come with scikit-image, which is not installed$"):
        photos()


def test_the_libraries_are_not_imported() -> None:
    code = "import sys; from netloupe.data.photos import photos; photos(); sys.exit('skimage' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
