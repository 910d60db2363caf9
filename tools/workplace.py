"""What a campaign works on: a small network, few small images, and files that are none."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

import netloupe

NET = """
import torch
from torch import nn

def make(classes=4):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )
"""
"""Its layers are 0 to 7: the convolutions 0 and 3, of which 5 is the mean, and 7 the classes."""

FILES = (
    "data",
    "kinds",
    "masks",
    "styles",
    "empty",
    "photo.png",
    "text.png",
    "labels.json",
    "points.json",
    "classes.txt",
)


def preload() -> None:
    """Import what runs need, but for LanceDB, whose threads no fork takes along."""
    for path in sorted((Path(netloupe.__file__).parent).rglob("*.py")):
        name = ".".join(path.relative_to(Path(netloupe.__file__).parents[1]).with_suffix("").parts)
        if not name.endswith(("__main__", "__init__")) and ".atlas.server" not in name and ".studio" not in name:
            importlib.import_module(name)
    for name in ("scipy.stats", "skimage.transform", "sklearn.decomposition", "pyarrow.parquet"):
        importlib.import_module(name)


def prepare(place: Path) -> None:
    """Write it all into a folder."""
    (place / "net.py").write_text(NET)
    draw = np.random.default_rng(0)
    for name in ("data/a", "data/b", "kinds/a", "kinds/b", "masks", "styles", "empty"):
        (place / name).mkdir(parents=True)
    for i in range(12):
        small = draw.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((48, 48), Image.Resampling.BICUBIC)
        image.save(place / "data" / "ab"[i % 2] / f"p{i:02}.png")
        Image.fromarray(np.repeat([0, 1], 24 * 48).reshape(48, 48).astype(np.uint8)).save(
            place / "masks" / f"p{i:02}.png"
        )
    for i in range(40):
        Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
            place / "kinds" / "ab"[i % 2] / f"{i}.png"
        )
    for path in ("photo.png", "styles/waves.png"):
        image.resize((64, 64)).save(place / path)
    points = {f"p{i:02}.png": {"eye": [10 + i, 20], "nose": [30, 20 + i]} for i in range(4)}
    (place / "points.json").write_text(json.dumps(points))
    (place / "classes.txt").write_text("a\nb\n")
    (place / "text.png").write_text("no image")
    (place / "labels.json").write_text("[" * 5000)


def copied(place: Path, folder: Path) -> None:
    """The files, for a run that may harm them."""
    for name in FILES:
        source = place / name
        shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder / name)


def names(folder: Path) -> set[str]:
    """Of all that lies in a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
