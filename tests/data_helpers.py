"""Images made for tests, written in many formats, and the place of the real data."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


def shared() -> Path:
    """The folder of real data sets; the test is skipped where there is none."""
    folder = Path(os.environ.get("NETLOUPE_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data at {folder} (fix: set NETLOUPE_SHARED)")
    return folder


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """(height, width, channels) uint8 of random pixels; (height, width) for one channel."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, format, **options)
    return stream.getvalue()


def write_images(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    """PNG files of 20 x 30 random pixels under these names, written in this order; the pixels by name."""
    pixels = {name: noise(20, 30, seed=sum(map(ord, name))) for name in names}
    for name, image in pixels.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(image))
    return pixels


def write_parquet(
    file: Path, columns: dict[str, Any], *, row_group: int = 4, metadata: dict[str, str] | None = None
) -> Path:
    """A Parquet file of these columns (lists or Arrow arrays)."""
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(metadata), file, row_group_size=row_group)
    return file
