"""Sources as people have them, written by the libraries that define their formats, here and in an object store."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from data_helpers import encoded, noise, write_images, write_parquet
from netloupe.core.errors import InputError, NetloupeWarning, StoreError, UnknownName
from netloupe.data import drives, listing
from netloupe.data.open import open_source, reopen, reopening
from netloupe.data.sources import ImageSource, read_batches
from source_helpers import object_store, package, store_settings


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def pictures(count: int) -> list[bytes]:
    return [encoded(noise(6, 8, seed=i)) for i in range(count)]


def check(source: ImageSource, count: int, names: list[str] | None = None) -> None:
    """All images are those of `pictures`, from any position on, after a pickle, and opened again elsewhere."""
    assert len(source) == count
    if names is not None:
        assert list(source.names) == names
    document = json.loads(json.dumps(reopening(source)))
    assert len(json.dumps(document)) < 600
    for one in (source, pickle.loads(pickle.dumps(source)), reopen(document)):
        for i in (count - 1, 0, count // 2):
            assert np.array_equal(np.asarray(one.open(i)), noise(6, 8, seed=i)), i
    for start in (0, 1, count - 1):
        batches = list(read_batches(source, (6, 8), batch_size=3, start=start))
        assert [i for batch in batches for i in batch.ids.tolist()] == list(range(start, count))
        assert all(
            np.array_equal(pixels, noise(6, 8, seed=int(i)))
            for batch in batches
            for i, pixels in zip(batch.ids, batch.pixels, strict=True)
        )


# Archives


def shards(folder: Path, count: int, per_shard: int, label: Any = lambda i: i % 3) -> list[str]:
    """Shards as webdataset writes them; their names."""
    wds = package("webdataset")
    folder.mkdir(exist_ok=True)
    with wds.ShardWriter(str(folder / "%03d.tar"), maxcount=per_shard, verbose=0) as sink:
        for i, picture in enumerate(pictures(count)):
            sample = {"__key__": f"n0/{i:04}", "png": picture, "json": {"i": i}}
            sink.write(sample if label is None else sample | {"cls": label(i)})
    return sorted(os.listdir(folder))


def test_archives_of_webdataset(tmp_path: Path) -> None:
    assert shards(tmp_path / "in", 8, 3) == ["000.tar", "001.tar", "002.tar"]
    names = [f"{i // 3:03}.tar#n0/{i:04}.png" for i in range(8)]
    for spec in ("in", "in/{000..002}.tar", "in/00{0,1,2}.tar", "in/*.tar"):
        source = open_source(tmp_path / spec)
        check(source, 8, names)
        assert source.labels == [i % 3 for i in range(8)]
        assert source.classes is None
    assert len(open_source(tmp_path / "in" / "001.tar")) == 3
    with pytest.raises(InputError, match=r"003\.tar': no such file \(one of 4 that .*\{000\.\.003\}\.tar' names\)"):
        open_source(tmp_path / "in/{000..003}.tar")
    wds = package("webdataset")
    theirs = [s["__key__"] for s in wds.WebDataset(str(tmp_path / "in/{000..002}.tar"), shardshuffle=False)]
    assert theirs == [name.partition("#")[2].removesuffix(".png") for name in names]


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def test_samples_in_archives(tmp_path: Path) -> None:
    """Class names; several images; what is no image; names that would lead out of any folder."""
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        add(tar, "a.mask.png", encoded(noise(2, 2)))
        add(tar, "a.png", pictures(3)[0])
        add(tar, "a.cls", b"owl\n")
        add(tar, "b.txt", b"no image")
        add(tar, "../../etc/c.d/e.PNG", pictures(3)[1])
        add(tar, "/abs/f.b.png", pictures(3)[2])
        add(tar, "/abs/f.cls", b"cat")
        add(tar, "._a.png", b"no image")
        link = tarfile.TarInfo("g.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        add(tar, f"{'long' * 60}/ä\n.png", b"no image")
    before = sorted(p.name for p in tmp_path.iterdir())
    source = open_source(tmp_path / "x.tar")
    assert source.names[:3] == ["x.tar#a.png", "x.tar#../../etc/c.d/e.PNG", "x.tar#/abs/f.b.png"]
    assert source.names[3].endswith(r"ä\n.png")
    assert (source.labels, source.classes) == ([1, None, 0, None], ["cat", "owl"])
    (batch,) = read_batches(source, (6, 8))
    assert batch.ids.tolist() == [0, 1, 2]
    assert all(np.array_equal(batch.pixels[i], noise(6, 8, seed=i)) for i in range(3))
    assert [one.reason for one in batch.skipped] == [f"{source.names[3]}: not an image"]
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_archives_that_are_damaged(tmp_path: Path) -> None:
    shards(tmp_path / "in", 4, 4, None)
    whole = (tmp_path / "in" / "000.tar").read_bytes()
    file = tmp_path / "x.tar"
    starts = [start for start in range(0, len(whole), 512) if whole[start : start + 8].startswith(b"n0/")]
    image = next(start for start in starts if b"0003.png" in whole[start : start + 20])
    for cut, kept in ((image + 600, 4), (image + 100, 3), (image, 3)):
        file.write_bytes(whole[:cut])
        with pytest.warns(NetloupeWarning, match=rf"x\.tar: ends early; the {kept} images before are taken"):
            source = open_source(file)
        (batch,) = read_batches(source, (6, 8))
        assert batch.ids.tolist() == [0, 1, 2]
        assert [s.reason for s in batch.skipped] == [
            f"{name}: cut short, for the archive ends early" for name in source.names[3:]
        ]
    file.write_bytes(b"no archive at all" * 100)
    with pytest.raises(InputError, match=r"x\.tar: no tar \("):
        open_source(file)
    with tarfile.open(file, "w:gz") as tar:
        add(tar, "a.png", pictures(1)[0])
    with pytest.raises(InputError, match=r"x\.tar: compressed, .*fix: unpack"):
        open_source(file)


def test_the_index_of_an_archive_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from netloupe.data import tars

    shards(tmp_path / "in", 4, 4, None)
    looked: list[str] = []
    index = tars._index
    monkeypatch.setattr(tars, "_index", lambda drive, path: looked.append(path) or index(drive, path))
    for _ in range(2):
        check(open_source(tmp_path / "in" / "000.tar"), 4)
    assert len(looked) == 1
    shards(tmp_path / "in", 4, 4)  # with labels now
    assert open_source(tmp_path / "in" / "000.tar").labels == [0, 1, 2, 0]
    assert len(looked) == 2


# Tables


def test_data_sets_that_datasets_saved(tmp_path: Path) -> None:
    datasets = package("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "owl", "dog"]),
            "n": datasets.Value("int64"),
        }
    )
    rows = {
        "image": [{"bytes": one, "path": None} for one in pictures(9)],
        "label": [i % 3 for i in range(9)],
        "n": [*range(9)],
    }
    whole = datasets.Dataset.from_dict(rows, features=features)
    whole.save_to_disk(tmp_path / "saved", num_shards=2)
    source = open_source(tmp_path / "saved")
    check(source, 9)
    assert (source.labels, source.classes) == ([i % 3 for i in range(9)], ["cat", "owl", "dog"])
    whole.select([2, 0, 1, 5]).save_to_disk(tmp_path / "some")  # datasets writes a selection out in its order
    some = open_source(tmp_path / "some")
    assert some.labels == [2, 0, 1, 2]
    assert np.array_equal(np.asarray(some.open(0)), noise(6, 8, seed=2))
    splits = datasets.DatasetDict({"train": whole, "test": whole.select(range(2))})
    splits.save_to_disk(tmp_path / "both")
    with pytest.raises(InputError, match=r"splits train, test \(accepted: .*both/train, .*both/test\)"):
        open_source(tmp_path / "both")
    check(open_source(tmp_path / "both" / "train"), 9)
    whole.to_parquet(tmp_path / "x.parquet")
    check(open_source(tmp_path / "x.parquet"), 9, [f"x.parquet#{i}" for i in range(9)])
    (tmp_path / "saved" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(InputError, match="state.json names 'data-00001-of-00002.arrow', which is not there"):
        open_source(tmp_path / "saved")


def test_lance(tmp_path: Path) -> None:
    lancedb = package("lancedb")
    rows = pa.table({"label": [i % 3 for i in range(9)], "image": pictures(9)})
    table = lancedb.connect(tmp_path).create_table("x", rows.slice(0, 4))
    table.add(rows.slice(4))
    source = open_source(tmp_path / "x.lance")
    check(source, 9, [f"x.lance#{i}" for i in range(9)])
    assert source.labels == [i % 3 for i in range(9)]
    document = reopening(source)
    table.delete("label = 1")
    again = open_source(tmp_path / "x.lance")
    assert again.labels == [0, 2, 0, 2, 0, 2]
    assert np.array_equal(np.asarray(again.open(3)), noise(6, 8, seed=5))
    with pytest.raises(InputError, match="holds other images than it did"):
        reopen(document)
    (tmp_path / "y.lance").mkdir()
    with pytest.raises(InputError, match=r"y\.lance: can't be read as Lance"):
        open_source(tmp_path / "y.lance")


def test_lance_by_its_own_library(tmp_path: Path) -> None:
    lance = package("lance")
    images = [{"bytes": one, "path": "x.png"} for one in pictures(700)]
    lance.write_dataset(pa.table({"image": images}), tmp_path / "x.lance", max_rows_per_file=300)
    check(open_source(tmp_path / "x.lance"), 700)


def test_columns_that_lie_within_others_or_name_files(tmp_path: Path) -> None:
    images = pictures(5)
    write_images(tmp_path, ["other.png"])
    for i, image in enumerate(images):
        (tmp_path / f"{i}.png").write_bytes(image)
    nested = [{"id": i, "image": {"bytes": one, "path": ""}, "label": i % 2} for i, one in enumerate(images)]
    nested[1]["image"] = {"bytes": None, "path": "1.png"}
    columns: dict[str, dict[str, Any]] = {
        "nested": {"sample": nested, "label": [9] * 5},
        "deep": {"a": [{"b": one} for one in nested]},
        "paths": {"text": ["x"] * 5, "file_name": [f"{i}.png" for i in range(5)]},
        "absolute": {"image": [str(tmp_path / f"{i}.png") for i in range(5)], "label": ["a"] * 5},
        "address": {"image": [f"file://{tmp_path}/{i}.png" for i in range(5)]},
    }
    for name, column in columns.items():
        source = open_source(write_parquet(tmp_path / f"{name}.parquet", column, row_group=2))
        check(source, 5)
        if name in ("nested", "deep"):
            assert source.labels == [0, 1, 0, 1, 0]
    kind = pa.struct([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])
    gone = pa.array([None, {"image": None}, {"image": {"bytes": None, "path": "no.png"}}], kind)
    source = open_source(write_parquet(tmp_path / "gone.parquet", {"sample": gone}))
    (batch,) = read_batches(source, 4)
    reasons = ["no image in this row", "no image in this row", "no image in this row, and no file 'no.png'"]
    assert [one.reason for one in batch.skipped] == [f"gone.parquet#{i}: {text}" for i, text in enumerate(reasons)]


# Folders


def test_a_large_folder_is_listed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MANY", 5)
    folder = tmp_path / "in"
    write_images(folder, [f"{name}/{i}.png" for name in ("b", "a") for i in range(4)])
    link = tmp_path / "elsewhere"
    write_images(link, ["c.png"])
    (folder / "z").symlink_to(link)
    for place in (folder, folder / "a", folder / "b", link):
        os.utime(place, ns=(1, 10**18))  # long ago
    walked: list[str] = []
    walk = listing._walk
    monkeypatch.setattr(listing, "_walk", lambda *given: walked.append(given[1]) or walk(*given))
    first = open_source(folder)
    count = len(walked)
    assert count > 0
    assert open_source(folder).names == first.names
    assert len(walked) == count
    write_images(link, ["d.png"])
    assert open_source(folder).names == [*first.names, "z/d.png"]
    assert len(walked) > count
    count = len(walked)
    assert len(open_source(folder)) == 10  # changed just now, and may again at the same time: never kept
    assert len(walked) > count


def test_a_list_that_was_damaged_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    monkeypatch.setattr(listing, "MANY", 0)
    write_images(tmp_path / "in", ["a.png"])
    os.utime(tmp_path / "in", ns=(1, 10**18))
    assert open_source(tmp_path / "in").names == ["a.png"]
    (file,) = (own_cache / "netloupe").iterdir()
    for content in (b"", b"{}", b"[1]", file.read_bytes()[:40], file.read_bytes().replace(b'"key"', b'"kez"')):
        file.write_bytes(content)
        assert open_source(tmp_path / "in").names == ["a.png"]


# Elsewhere


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    drives._system.cache_clear()
    with object_store(monkeypatch) as client:
        client.create_bucket(Bucket="photos")
        yield client
    drives._system.cache_clear()


def upload(client: Any, folder: Path, prefix: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.put_object(
                Bucket="photos", Key=f"{prefix}/{path.relative_to(folder).as_posix()}", Body=path.read_bytes()
            )


def test_an_object_store(tmp_path: Path, bucket: Any) -> None:
    (tmp_path / "folder" / "owl").mkdir(parents=True)
    for i, image in enumerate(pictures(5)):
        (tmp_path / "folder" / "owl" / f"{i}.png").write_bytes(image)
    (tmp_path / "folder" / "owl" / ".hidden.png").write_bytes(b"")
    (tmp_path / "folder" / "list.txt").write_text("".join(f"owl/{i}.png\n" for i in range(5)))
    shards(tmp_path / "tars", 5, 2)
    (tmp_path / "tables").mkdir()
    for i in range(2):
        chosen = slice(3 * i, 3 * i + 3)
        write_parquet(
            tmp_path / "tables" / f"{i}.parquet", {"image": pictures(5)[chosen], "label": [*range(5)][chosen]}
        )
    for name in ("folder", "tars", "tables"):
        upload(bucket, tmp_path / name, name)
    source = open_source("s3://photos/folder")
    check(source, 5, [f"owl/{i}.png" for i in range(5)])
    assert (source.labels, source.classes) == ([0] * 5, ["owl"])
    check(open_source("s3://photos/folder/*/*.png"), 5)
    check(open_source("s3://photos/folder/**/*.png"), 5)
    check(open_source("s3://photos/folder/owl/{0..4}.png"), 5)
    check(open_source("s3://photos/folder/list.txt"), 5)
    names = [f"{i // 2:03}.tar#n0/{i:04}.png" for i in range(5)]
    for spec in ("s3://photos/tars/{000..002}.tar", "s3://photos/tars/"):
        tars = open_source(spec)
        check(tars, 5, names)
        assert tars.labels == [0, 1, 2, 0, 1]
    check(open_source("s3://photos/tables/*.parquet"), 5)
    check(open_source("s3://photos/tables"), 5)
    assert reopening(tars)["open"] == "s3://photos/tars/"
    assert tars.record()["source"] == "s3://photos/tars/"


def test_data_sets_in_an_object_store(tmp_path: Path, bucket: Any) -> None:
    datasets = package("datasets")
    rows = {"image": [{"bytes": one, "path": None} for one in pictures(5)]}
    whole = datasets.Dataset.from_dict(rows, features=datasets.Features({"image": datasets.Image()}))
    whole.save_to_disk(tmp_path / "saved")
    upload(bucket, tmp_path / "saved", "saved")
    check(open_source("s3://photos/saved"), 5)


def test_an_object_that_changes_or_goes(bucket: Any) -> None:
    def put(key: str, image: bytes) -> None:
        bucket.put_object(Bucket="photos", Key=key, Body=image)

    images = pictures(3)
    for i in range(3):
        put(f"in/{i}.png", images[i])
    source = open_source("s3://photos/in")
    bucket.delete_object(Bucket="photos", Key="in/1.png")
    put("in/2.png", b"no image")
    (batch,) = read_batches(source, (6, 8))
    assert batch.ids.tolist() == [0]
    assert [one.reason for one in batch.skipped] == ["s3://photos/in/1.png: no such file", "2.png: not an image"]


def test_stores_that_do_not_answer_stop_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that can't be reached is not a broken one: a sweep must not go on without it."""
    drives._system.cache_clear()
    monkeypatch.setattr(drives, "_TRIES", 1)
    for name, value in store_settings("http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    start = time.monotonic()
    with pytest.raises(StoreError, match=r"^s3://photos/in: can't be reached \(") as caught:
        open_source("s3://photos/in")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 30
    drives._system.cache_clear()


def test_what_is_not_in_a_store(bucket: Any) -> None:
    bucket.put_object(Bucket="photos", Key="notes/a.md", Body=b"x")
    for spec in ("s3://nowhere/in", "s3://photos/in", "s3://photos/*.png", "s3://photos/in/*.png"):
        with pytest.raises(InputError, match=r"^no images at .*: no such file or folder \(accepted: "):
            open_source(spec)
    with pytest.raises(InputError, match="no images in 's3://photos/notes'"):
        open_source("s3://photos/notes")


def test_addresses_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT", raising=False)
    drives._system.cache_clear()
    for spec, kind, text in (
        ("s3a://x/y", UnknownName, r"no kind of address 's3a'; did you mean 's3'\? \(accepted: s3, gs, az, hf, file\)"),
        ("ssh://x/y", UnknownName, r"no kind of address 'ssh'"),
        ("s3://key:secret@x/y", InputError, r"^s3://\.\.\.@\.\.\.: an address with credentials"),
        ("s3:///y", InputError, r"no bucket \(accepted: s3://BUCKET/PATH\)"),
        ("az://x/y", InputError, r"az:// needs the name of the account \(fix: set AZURE_STORAGE_ACCOUNT_NAME\)"),
    ):
        with pytest.raises(kind, match=text) as caught:
            open_source(spec)
        assert "secret" not in str(caught.value)


def test_file_systems_of_fsspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = package("fsspec")
    from fsspec.implementations.memory import MemoryFileSystem

    drives._system.cache_clear()
    monkeypatch.setattr(fsspec, "filesystem", lambda scheme: MemoryFileSystem())
    held = MemoryFileSystem()
    for i, image in enumerate(pictures(4)):
        held.pipe(f"/datasets/me/owls/{i}.png", image)
    check(open_source("hf://datasets/me/owls"), 4)
    held.rm("/datasets", recursive=True)
    drives._system.cache_clear()

    def missing(scheme: str) -> Any:
        raise ImportError("Install huggingface_hub to access HfFileSystem")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(InputError, match=r"^hf:// needs fsspec and .*\(fix: pip install 'netloupe\[remote\]'\)$"):
        open_source("hf://datasets/me/owls")


def test_addresses_of_this_machine(tmp_path: Path) -> None:
    write_images(tmp_path / "a b", ["1.png"])
    source = open_source(f"file://{tmp_path}/a%20b")
    assert source.names == ["1.png"]
    assert source.record()["source"] == "a b"
    assert isinstance(source.open(0), Image.Image)
