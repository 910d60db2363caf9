"""A saved state is of the images themselves, not only of their names: one that was replaced is named."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlas_helpers import tiny_network, write_photos
from data_helpers import encoded, noise, write_images, write_parquet
from netloupe.atlas.build import build
from netloupe.core.errors import Cancelled, StoreError
from netloupe.core.identity import Identity
from netloupe.core.watch import SILENT
from netloupe.data.open import open_source
from netloupe.sweep.engine import sweep
from netloupe.sweep.peaks import Peaks
from netloupe.training.models import train_model
from netloupe.training.recipes import ClassifierRecipe, StylizerRecipe
from netloupe.training.styles import train_styles
from watch_helpers import Reacting


def told(before: Identity, spec: Path, tmp_path: Path) -> str | None:
    try:
        Identity(images=open_source(spec).stamped()).check(before, tmp_path, "sweep")
    except StoreError as error:
        return str(error)
    return None


@pytest.mark.parametrize("side", [20, 300], ids=["small", "large"])
def test_an_image_that_was_replaced_under_its_name(tmp_path: Path, side: int) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(encoded(noise(side, side, seed=ord(name))))
    assert ((tmp_path / "b.png").stat().st_size > 1 << 16) == (side == 300)
    before = Identity(images=open_source(tmp_path).stamped())
    assert told(before, tmp_path, tmp_path) is None
    other = encoded(noise(side, side, seed=7))
    other += bytes((tmp_path / "b.png").stat().st_size - len(other)) if side == 20 else b""
    (tmp_path / "b.png").write_bytes(other)
    assert "is of another sweep, b.png changed since; delete it" in str(told(before, tmp_path, tmp_path))
    (tmp_path / "c.png").unlink()
    (tmp_path / "c.png").symlink_to("nowhere")
    assert "b.png and 1 more changed since" in str(told(before, tmp_path, tmp_path))


def test_a_copy_of_small_files_is_the_same_and_of_large_ones_with_their_times(tmp_path: Path) -> None:
    write_images(tmp_path / "in", ["a.png", "b.png"])
    before = Identity(images=open_source(tmp_path / "in").stamped())
    shutil.copytree(tmp_path / "in", tmp_path / "copy", copy_function=shutil.copyfile)
    os.utime(tmp_path / "copy" / "a.png", (1, 1))
    assert told(before, tmp_path / "copy", tmp_path) is None
    (tmp_path / "in" / "a.png").write_bytes(encoded(noise(300, 300)))
    before = Identity(images=open_source(tmp_path / "in").stamped())
    shutil.copytree(tmp_path / "in", tmp_path / "kept")
    assert told(before, tmp_path / "kept", tmp_path) is None
    os.utime(tmp_path / "kept" / "a.png", (1, 1))
    assert "a.png changed since" in str(told(before, tmp_path / "kept", tmp_path))


def test_rows_of_parquet_and_labels(tmp_path: Path) -> None:
    def write(*seeds: int) -> None:
        images = [encoded(noise(90 + i % 2, 90, seed=i)) for i in seeds]
        write_parquet(file, {"image": images}, row_group=1)

    file = tmp_path / "t.parquet"
    write(1, 2, 3)
    before, found = Identity(images=open_source(file).stamped()), file.stat()
    assert found.st_size > 1 << 16
    assert before.differs(Identity(images=open_source(file).stamped())) is None
    assert before.differs(Identity(images=open_source(file).subset([2, 0]).stamped())) is not None
    write(2, 1, 3)  # a file of the same size, which its footer tells apart
    os.utime(file, ns=(found.st_mtime_ns, found.st_mtime_ns))
    assert file.stat().st_size == found.st_size
    assert "t.parquet#0 and 2 more changed since" in str(told(before, file, tmp_path))
    source = open_source("photos").first(3)
    relabeled = Identity(images=type(source)(source.spec, source.names, source.opener, [1, 2, 3]).stamped())
    assert "astronaut" in str(relabeled._told(relabeled.differs(Identity(images=source.stamped()))))  # type: ignore[arg-type]


def test_a_tar_that_was_written_anew(tmp_path: Path) -> None:
    def write(*seeds: int) -> None:
        with tarfile.open(tmp_path / "t.tar", "w") as file:
            for i in seeds:
                content = encoded(noise(20, 20, seed=i))
                member = tarfile.TarInfo(f"{len(file.getmembers())}.png")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))

    write(1, 2, 3)
    before = Identity(images=open_source(tmp_path / "t.tar").stamped())
    assert told(before, tmp_path / "t.tar", tmp_path) is None
    write(1, 4, 3)
    os.utime(tmp_path / "t.tar", (1, 1))
    assert "and 2 more changed since" in str(told(before, tmp_path / "t.tar", tmp_path))


def _built(data: Path, out: Path, watch: Any) -> object:
    return build(tiny_network(), open_source(data), out, layers=["conv1"], map_by=None, watch=watch)


def _swept(data: Path, out: Path, watch: Any) -> object:
    source = open_source(data)
    return sweep(tiny_network(), source, {"peaks": Peaks()}, state=out, save_every=0.0, watch=watch)


def _trained(data: Path, out: Path, watch: Any) -> object:
    recipe = ClassifierRecipe(batch=4, size=32, sizes=((32, 3),))
    return train_model("lenslet", data, data, out, recipe=recipe, watch=watch)


def _painted(data: Path, out: Path, watch: Any) -> object:
    styles = data.parent / "styles"
    if not styles.exists():
        write_photos(styles, 1, size=(64, 64))
    recipe = StylizerRecipe(batch=1, sizes=((32, 4),), style_size=32, widths=(4, 4, 4), blocks=1)
    return train_styles(styles, data, out, recipe=recipe, every=1, watch=watch)


@pytest.mark.parametrize("run", [_built, _swept, _trained, _painted])
def test_what_is_gone_on_with_says_which_image_changed(tmp_path: Path, run: Callable[..., object]) -> None:
    data = tmp_path / "data"
    write_photos(data / "a", 34 if run is _swept else 6)
    write_photos(data / "b", 4, seed=1)
    stops = {_built: ("neighbors", 1), _swept: ("images", 32), _trained: ("training", 3), _painted: ("training", 2)}

    def stop(*heard: object) -> None:
        if heard == stops[run]:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(data, tmp_path / "out", Reacting(stop))
    image = data / "a" / "p03.png"
    image.write_bytes(encoded(np.full((48, 64, 3), 9, np.uint8)))
    with pytest.raises(StoreError, match=r"is of another (atlas|sweep|training), a/p03.png changed since; delete it"):
        run(data, tmp_path / "out", SILENT)
