"""Parquet: the same images as in a folder, labels and class names, null and broken rows, bounded memory."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_helpers import encoded, noise, shared, write_images, write_parquet
from netloupe.core.errors import InputError
from netloupe.data.open import open_source
from netloupe.data.rows import _Cells
from netloupe.data.sources import read_batches


def rows(count: int, seed: int = 0) -> list[bytes]:
    return [encoded(noise(4, 5, seed=seed + i)) for i in range(count)]


def as_structs(images: list[bytes]) -> list[dict[str, object]]:
    return [{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(images)]


@pytest.mark.parametrize("kind", ["bytes", "large", "struct"])
def test_parquet_gives_the_images_of_a_folder(tmp_path: Path, kind: str) -> None:
    write_images(tmp_path / "folder", [f"{i:02}.png" for i in range(11)])
    folder = open_source(tmp_path / "folder")
    images = [(tmp_path / "folder" / name).read_bytes() for name in folder.names]
    column = {"bytes": images, "large": pa.array(images, pa.large_binary()), "struct": as_structs(images)}[kind]
    source = open_source(write_parquet(tmp_path / "x.parquet", {"other": list(range(11)), "image": column}))
    assert source.names == [f"x.parquet#{i}" for i in range(11)]
    assert source.labels is None
    pairs = zip(*(read_batches(images, 16, batch_size=4) for images in (source, folder)), strict=True)
    for ours, theirs in pairs:
        assert np.array_equal(ours.ids, theirs.ids)
        assert np.array_equal(ours.pixels, theirs.pixels)
        assert ours.pixels.std() > 10


def test_rows_come_in_order_across_files_and_columns(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write_parquet(tmp_path / "a" / "x.parquet", {"image": rows(5)}, row_group=2)
    write_parquet(tmp_path / "b" / "x.parquet", {"photo": rows(3, seed=5)}, row_group=2)
    source = open_source(tmp_path)
    assert source.names == [f"a/x.parquet#{i}" for i in range(5)] + [f"b/x.parquet#{i}" for i in range(3)]
    for i in (7, 0, 4, 5, 2, 6, 1, 3):
        assert np.array_equal(np.asarray(source.open(i)), noise(4, 5, seed=i))
    assert open_source(f"{tmp_path}/*/x.parquet").names == source.names


def test_labels_and_class_names(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    write_parquet(file, {"image": rows(4), "label": [2, None, 0, -1], "class": ["owl", "cat", None, "dog"],
                         "name": ["1.png", "2.png", "3.png", "4.png"]})  # fmt: skip
    source = open_source(file)
    assert source.labels == [2, None, 0, None]
    assert source.classes == ["0", "1", "owl"]
    write_parquet(file, {"image": rows(4), "label": [1.0, float("nan"), 3.0, None]})
    source = open_source(file)
    assert source.labels == [1, None, 3, None]
    assert source.classes is None
    for names in ({"label": ["owl", "cat", None, "owl"]}, {"class": ["owl", "cat", None, "owl"]}):
        source = open_source(write_parquet(file, {"image": rows(4), **names}))
        assert source.labels == [1, 0, None, 1]
        assert source.classes == ["cat", "owl"]


def test_class_names_of_the_hub(tmp_path: Path) -> None:
    features = {"label": {"names": ["cat", "owl"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    columns = {"image": as_structs(rows(2)), "label": [1, 0]}
    source = open_source(write_parquet(tmp_path / "x.parquet", columns, metadata=metadata))
    assert (source.labels, source.classes) == ([1, 0], ["cat", "owl"])
    source = open_source(write_parquet(tmp_path / "y.parquet", columns, metadata={"huggingface": "not JSON"}))
    assert (source.labels, source.classes) == ([1, 0], None)


@pytest.mark.parametrize("label", [0.5, float("inf"), 10**9])
def test_labels_that_are_no_class_are_refused(tmp_path: Path, label: float) -> None:
    file = write_parquet(tmp_path / "x.parquet", {"image": rows(1), "label": [label]})
    with pytest.raises(InputError, match=r"label .* \(accepted: class names, or indices below 100,000\)"):
        open_source(file)


def test_null_and_broken_rows_are_skipped(tmp_path: Path) -> None:
    images = [*rows(2), None, b"", b"no image", *rows(1)]
    broken = [None, {"bytes": None, "path": "x.png"}, {"bytes": b"no image", "path": None}]
    hub = [*as_structs(rows(2)), *broken, *as_structs(rows(1))]
    reasons = []
    for column in (images, hub):
        source = open_source(write_parquet(tmp_path / "x.parquet", {"image": column}))
        (batch,) = read_batches(source, 4)
        assert batch.ids.tolist() == [0, 1, 5]
        reasons.append([skipped.reason for skipped in batch.skipped])
    null, text = "no image in this row", "not an image"
    assert reasons[0] == [f"x.parquet#2: {null}", f"x.parquet#3: {text}", f"x.parquet#4: {text}"]
    assert reasons[1] == [f"x.parquet#2: {null}", f"x.parquet#3: {null}, and no file 'x.png'", f"x.parquet#4: {text}"]


def test_files_that_can_not_be_used(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    file.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(InputError, match=r"x\.parquet: can't be read as Parquet"):
        open_source(file)
    write_parquet(file, {"text": ["a"], "label": [1]})
    with pytest.raises(InputError, match=r"no column of image bytes or arrays \(columns: text, label\)"):
        open_source(file)
    write_parquet(file, {"image": pa.array([], pa.binary())})
    with pytest.raises(InputError, match="holds no rows"):
        open_source(file)


def test_a_damaged_row_group_costs_only_its_rows(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "x.parquet", {"image": [encoded(noise(40, 40, seed=i)) for i in range(8)]})
    data = bytearray(file.read_bytes())
    data[4:40] = bytes(36)  # the header of the first page
    file.write_bytes(data)
    (batch,) = read_batches(open_source(file), 4)
    assert batch.ids.tolist() == [4, 5, 6, 7]
    assert [skipped.id for skipped in batch.skipped] == [0, 1, 2, 3]
    assert all("can't be read as Parquet" in skipped.reason for skipped in batch.skipped)


def test_memory_holds_a_row_group_or_two(tmp_path: Path) -> None:
    image = encoded(noise(100, 100))  # about 30 kB, so a row group is 0.6 MB and the file 24 MB
    images = [image[:-12] + bytes([i % 256, i // 256]) + image[-12:] for i in range(800)]
    file = write_parquet(tmp_path / "x.parquet", {"image": images}, row_group=20)
    before = pa.total_allocated_bytes()
    source = open_source(file)
    peak = 0
    for i in range(len(source)):
        source.open(i)
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert 0 < peak < 4e6


def test_parquet_serves_several_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(write_parquet(tmp_path / "x.parquet", {"image": rows(40)}, row_group=3))
    inside: list[int] = []
    read = _Cells._read

    def slow_read(self: _Cells, group: int) -> pa.ChunkedArray:
        inside.append(group)
        assert len(inside) == 1, "two threads change what is held"
        time.sleep(0.001)
        inside.clear()
        return read(self, group)

    monkeypatch.setattr(_Cells, "_read", slow_read)
    order = np.random.default_rng(0).integers(0, 40, 200).tolist()
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda i: np.asarray(source.open(i)), order))
    assert all(np.array_equal(image, noise(4, 5, seed=i)) for i, image in zip(order, images, strict=True))


def test_real_parquet() -> None:
    folder = shared() / "data" / "tiny-imagenet"
    source = open_source(folder / "val-00000-of-00001.parquet")
    assert len(source) == 10_000
    assert source.classes is None  # its names are file names
    assert source.labels is not None
    assert np.bincount(np.array(source.labels)).tolist() == [50] * 200
    before = pa.total_allocated_bytes()
    peak = count = 0
    for batch in read_batches(source, 64, batch_size=250):
        count += len(batch.ids)
        peak = max(peak, pa.total_allocated_bytes() - before)
        assert not batch.skipped
        assert batch.pixels.shape[1:] == (64, 64, 3)
    assert count == 10_000
    assert peak < 8e6  # a row group is 2 MB, the file 13
    shards = open_source(f"{folder}/train-*.parquet")
    assert len(shards) == 80_000
    assert shards.names[10_000] == "train-00001-of-00010.parquet#0"
