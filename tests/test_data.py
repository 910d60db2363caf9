"""Sources and batches: stable ids, labels from folders, lists, patterns, and reading ahead."""

from __future__ import annotations

import json
import os
import pickle
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_helpers import encoded, noise, shared, write_images, write_parquet
from netloupe.core.errors import InputError
from netloupe.data.images import fit
from netloupe.data.open import open_source, reopen, reopening
from netloupe.data.sources import ImageSource, read_batches

NAMES = ["b.png", "a.png", "sub/c.png", "sub/a.png", "Z.png", "ä.png", "10.png", "9.png"]


def test_ids_do_not_depend_on_the_order_of_creation(tmp_path: Path) -> None:
    for run in range(3):
        pixels = write_images(tmp_path / str(run), random.Random(run).sample(NAMES, len(NAMES)))
        source = open_source(tmp_path / str(run))
        assert source.names == ["10.png", "9.png", "Z.png", "a.png", "b.png", "sub/a.png", "sub/c.png", "ä.png"]
        for i, name in enumerate(source.names):
            assert np.array_equal(np.asarray(source.open(i)), pixels[name])
    assert open_source(tmp_path / "0").fingerprint() == open_source(tmp_path / "1").fingerprint()


def test_the_fingerprint_tells_names_and_labels(tmp_path: Path) -> None:
    write_images(tmp_path, ["x/a.png", "x/b.png", "y/c.png"])
    source = open_source(tmp_path)
    relabeled = ImageSource(source.spec, source.names, source.opener, [0, 1, 1], source.classes)
    prints = [source.fingerprint(), relabeled.fingerprint(), source.first(2).fingerprint()]
    assert len(set(prints)) == 3


def test_first_level_folders_are_classes(tmp_path: Path) -> None:
    write_images(tmp_path, ["dog/1.png", "cat/deep/2.png", "cat/1.png"])
    source = open_source(tmp_path)
    assert source.classes == ["cat", "dog"]
    assert [(name, source.label(i)) for i, name in enumerate(source.names)] == [
        ("cat/1.png", 0), ("cat/deep/2.png", 0), ("dog/1.png", 1)]  # fmt: skip


def test_no_labels_when_only_some_images_lie_in_folders(tmp_path: Path) -> None:
    write_images(tmp_path, ["dog/1.png", "cat/1.png", "loose.png"])
    source = open_source(tmp_path)
    assert source.labels is None
    assert source.classes is None
    assert source.label(0) is None


def test_other_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png", ".b.png", ".cache/c.png", "._a.png"])
    (tmp_path / "notes.md").write_text("no image")
    (tmp_path / "UPPER.JPG").write_bytes(encoded(noise(4, 4), "JPEG"))
    assert open_source(tmp_path).names == ["UPPER.JPG", "a.png"]


def test_links_are_followed_but_never_in_a_circle(tmp_path: Path) -> None:
    write_images(tmp_path, ["data/a/1.png", "elsewhere/2.png"])
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "elsewhere" / "over").symlink_to(tmp_path / "data" / "a")
    (tmp_path / "data" / "self").symlink_to(tmp_path / "data" / "self")
    (tmp_path / "data" / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    source = open_source(tmp_path / "data")
    assert source.names[:2] == ["a/1.png", "a/gone.png"]
    assert "b/2.png" in source.names
    assert len(source) < 12
    with pytest.raises(InputError, match=r"^a/gone\.png: no such file$"):
        source.open(1)


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png"])
    os.mkfifo(tmp_path / "pipe.png")
    assert open_source(tmp_path).names == ["a.png"]


def test_an_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path, ["a.png", "locked/b.png"])
    scandir = os.scandir

    def refuse(folder: str) -> Any:
        if str(folder).endswith("locked"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"locked: can't be read \(Permission denied\)$"):
        open_source(tmp_path)


def test_odd_names_are_shown_on_one_line(tmp_path: Path) -> None:
    for name in (b"new\nline.png", b"bad\xff.png", "café ☕.png".encode()):
        (tmp_path / os.fsdecode(name)).write_bytes(encoded(noise(4, 4)))
    source = open_source(tmp_path)
    assert source.names == [r"bad\udcff.png", "café ☕.png", r"new\nline.png"]
    assert all(source.open(i).size == (4, 4) for i in range(3))
    assert len(source.fingerprint()) == 16


def test_lists_keep_their_order(tmp_path: Path) -> None:
    pixels = write_images(tmp_path, ["in/a.png", "in/b c.png", "out/ü.png"])
    lines = ["# comment", "b c.png", "", str(tmp_path / "out" / "ü.png"), "a.png ", "missing.png", "a.png"]
    (tmp_path / "in" / "list.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    source = open_source(tmp_path / "in" / "list.txt")
    assert source.names == ["b c.png", str(tmp_path / "out" / "ü.png"), "a.png", "missing.png", "a.png"]
    assert np.array_equal(np.asarray(source.open(0)), pixels["in/b c.png"])
    assert np.array_equal(np.asarray(source.open(1)), pixels["out/ü.png"])
    with pytest.raises(InputError, match=r"^missing\.png: no such file$"):
        source.open(3)


def test_lists_that_name_nothing(tmp_path: Path) -> None:
    file = tmp_path / "list.lst"
    file.write_text("# only a comment\n\n")
    with pytest.raises(InputError, match="the list names no image"):
        open_source(file)
    file.write_bytes(b"path,label\nx.png,3\n\xff\0\n")
    with pytest.raises(InputError, match="none of the listed files is there, such as 'path,label'"):
        open_source(file)


def test_patterns_and_single_images(tmp_path: Path) -> None:
    write_images(tmp_path, ["x/b1.png", "x/b2.png", "y/b3.png", "y/c.png", "odd[1].png"])
    assert [Path(n).name for n in open_source(f"{tmp_path}/*/b*.png").names] == ["b1.png", "b2.png", "b3.png"]
    assert len(open_source(tmp_path / "odd[1].png")) == 1
    (tmp_path / "z.txt").write_text("x")
    with pytest.raises(InputError, match="the pattern matches no image and no Parquet file"):
        open_source(f"{tmp_path}/z*")


@pytest.mark.parametrize("spec", ["", "nan", "nowhere/*.parquet", "a\0b", "x" * 5000, "no\nfile"])
def test_what_is_not_there_is_one_plain_line(spec: str) -> None:
    with pytest.raises(InputError, match=r"^no images at .*: no such file or folder \(accepted: ") as caught:
        open_source(spec)
    assert "\n" not in str(caught.value)


def test_folders_and_files_without_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^no images in "):
        open_source(tmp_path)
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(InputError, match="is no source of images"):
        open_source(tmp_path / "notes.md")


def test_first_and_open_know_their_bounds(tmp_path: Path) -> None:
    write_images(tmp_path, ["x/a.png", "x/b.png", "y/c.png"])
    source = open_source(tmp_path)
    two = source.first(2)
    assert (two.names, two.labels, two.classes) == (source.names[:2], [0, 0], ["x", "y"])
    assert source.first(None) is source
    assert source.first(99) is source
    for image_id in (-1, 2):
        with pytest.raises(InputError, match=rf"no image {image_id} in .*accepted: 0 to 1"):
            two.open(image_id)
    with pytest.raises(InputError, match="the first 0 images"):
        source.first(0)


def test_a_subset_says_which_images_it_has(tmp_path: Path) -> None:
    pixels = write_images(tmp_path, ["x/a.png", "x/b.png", "y/c.png", "y/d.png"])
    source = open_source(tmp_path)
    some = source.subset([3, 1])
    assert (some.names, some.labels, some.classes) == (["y/d.png", "x/b.png"], [1, 0], ["x", "y"])
    assert np.array_equal(np.asarray(some.open(0)), pixels["y/d.png"])
    again = some.subset([1])
    assert np.array_equal(np.asarray(again.open(0)), pixels["x/b.png"])
    assert source.first(2).spec == f"{source.spec}[:2]" == source.subset([0, 1]).spec
    specs = [s.spec for s in (source, source.first(2), some, source.subset([1, 3]), source.subset([2]), again)]
    assert len(set(specs)) == 6
    for wrong in ([], [4], [-1], [1, 1]):
        with pytest.raises(InputError, match=r"accepted: 1 or more ids from 0 to 3, each once"):
            source.subset(wrong)


def _same(a: ImageSource, b: ImageSource) -> bool:
    same = (a.spec, list(a.names), a.labels, a.classes) == (b.spec, list(b.names), b.labels, b.classes)
    return same and all(np.array_equal(np.asarray(a.open(i)), np.asarray(b.open(i))) for i in (0, len(a) - 1))


def test_every_kind_of_source_pickles_and_opens_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path, ["in/x/a.png", "in/x/b.png", "in/y/c.png"])
    (tmp_path / "list.txt").write_text("in/x/a.png\nin/y/c.png\n")
    write_parquet(tmp_path / "t.parquet", {"image": [encoded(noise(4, 5, seed=i)) for i in range(9)]})
    for spec in ("photos", "digits", "in", "in/*/*.png", "./in/x/../y/*.png", "list.txt", "t.parquet", "in/x/a.png"):
        whole = open_source(spec)
        for source in (whole, whole.subset([len(whole) - 1, 0]) if len(whole) > 1 else whole, whole.first(1)):
            document = json.loads(json.dumps(reopening(source)))
            assert len(json.dumps(document)) < 500
            assert _same(pickle.loads(pickle.dumps(source)), source)
            with monkeypatch.context() as elsewhere:
                elsewhere.chdir("/")
                again = reopen(document)
                pixels = np.asarray(again.open(0))
            assert np.array_equal(pixels, np.asarray(source.open(0)))
            assert _same(again, source)
    document = reopening(open_source("in"))
    (tmp_path / "in" / "y" / "c.png").unlink()
    with pytest.raises(InputError, match="'in' holds other images than it did"):
        reopen(document)
    with pytest.raises(InputError, match="can't be opened again"):
        reopening(ImageSource("memory", ["a"], lambda _: Image.new("L", (1, 1))))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 8, 100])
def test_batches_joined_equal_single_reads(tmp_path: Path, batch_size: int) -> None:
    write_images(tmp_path, [f"{i}.png" for i in range(8)])
    source = open_source(tmp_path)
    for start, workers, channels in ((0, 1, 3), (3, 4, 1), (8, 2, 3)):
        single = [fit(source.open(i), (6, 10), channels) for i in range(start, 8)]
        batches = list(read_batches(source, (6, 10), channels, batch_size=batch_size, start=start, workers=workers))
        assert [int(i) for batch in batches for i in batch.ids] == list(range(start, 8))
        assert all(np.array_equal(a, b) for a, b in zip((p for b in batches for p in b.pixels), single, strict=True))
        assert all(len(batch.ids) == batch_size for batch in batches[:-1])


def test_broken_images_are_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    write_images(tmp_path, ["0.png", "3.png"])
    (tmp_path / "1.jpg").write_bytes(b"no JPEG")
    (tmp_path / "2.jpg").write_bytes(b"")
    source = open_source(tmp_path)
    batch, *rest = read_batches(source, 8, batch_size=10)
    assert not rest
    assert batch.ids.tolist() == [0, 3]
    assert [(s.id, s.name, s.reason) for s in batch.skipped] == [
        (1, "1.jpg", "1.jpg: not an image"), (2, "2.jpg", "2.jpg: not an image")]  # fmt: skip
    broken = list(read_batches(source, (5, 8), 1, batch_size=1))[1]
    assert broken.pixels.shape == (0, 5, 8, 1)
    assert broken.pixels.dtype == np.uint8
    assert len(broken.skipped) == 1


def test_reading_is_lazy_and_ends_with_its_reader() -> None:
    opened: list[int] = []

    def opener(i: int) -> Image.Image:
        opened.append(i)
        time.sleep(0.002)
        return Image.new("RGB", (4, 4))

    source = ImageSource("many", [str(i) for i in range(10_000)], opener)
    before = threading.active_count()
    batches = read_batches(source, 4, batch_size=5, workers=3)
    assert opened == []
    next(batches)
    next(batches)
    time.sleep(0.2)
    assert max(opened) < 20  # two batches given out and two ahead
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    count = len(opened)
    time.sleep(0.05)
    assert len(opened) == count


def test_our_own_faults_are_not_swallowed() -> None:
    def opener(i: int) -> Image.Image:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(read_batches(ImageSource("x", ["a"], opener), 4))


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"workers": 0}, {"start": -1}, {"size": 0}, {"size": float("nan")}, {"channels": 0}]
)
def test_options_are_checked_at_once(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="accepted: "):
        read_batches(ImageSource("x", ["a"], lambda _: Image.new("L", (1, 1))), **{"size": 4, **options})


def test_a_source_serves_several_threads(tmp_path: Path) -> None:
    pixels = write_images(tmp_path, [f"{i}.png" for i in range(10)])
    source = open_source(tmp_path)
    order = random.Random(0).choices(range(10), k=100)
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda i: np.asarray(source.open(i)), order))
    assert all(np.array_equal(image, pixels[source.names[i]]) for i, image in zip(order, images, strict=True))


def test_a_folder_of_real_photos() -> None:
    source = open_source(shared() / "data" / "imagenet-samples")
    assert len(source) == 1000
    assert source.labels is None
    assert source.names == sorted(source.names)
    batches = list(read_batches(source.first(40), 64, batch_size=16))
    assert [len(batch.ids) for batch in batches] == [16, 16, 8]
    with Image.open(shared() / "data" / "imagenet-samples" / source.names[17]) as image:
        assert np.array_equal(batches[1].pixels[1], fit(image.convert("RGB"), 64))
