"""Tiny style networks, photos, and a short training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from netloupe.core.network import Network
from netloupe.data.images import fit, to_float
from netloupe.data.photos import photos
from netloupe.data.sources import ImageSource
from netloupe.render.pictures import Picture
from netloupe.stylenet.model import StyleModel
from netloupe.stylenet.network import Norm, StyleNet
from netloupe.stylenet.video import Writer
from netloupe.synthesis.statistics import statistics
from netloupe.training.recipes import StylizerRecipe
from netloupe.training.stylizer import Judge, Progressed, train
from netloupe.zoo.load import load

RECIPE = StylizerRecipe(sizes=((32, 5), (40, 3)), batch=2, style_size=48, widths=(4, 8, 8), blocks=1)


def tiny(styles: int = 2, norm: Norm = "instance") -> StyleNet:
    """A network with random weights, whose styles differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = StyleNet(styles, (4, 8, 8), 1, norm)
        for parameter in network.own():
            torch.nn.init.normal_(parameter, float(parameter.detach().mean()), 0.5)
        return network.eval()


def tiny_model(*names: str) -> StyleModel:
    return StyleModel(tiny(len(names)), names, {"note": "for a test"}, "tiny")


def blends(*chosen: int, styles: int = 2) -> Tensor:
    """A row for each number of a style."""
    return torch.nn.functional.one_hot(torch.tensor(chosen), styles).float()


def photo(name: str, height: int, width: int) -> Image.Image:
    source = photos()
    return source.open(list(source.names).index(f"{name}/full")).convert("RGB").resize((width, height))


def some(count: int = 3, side: int = 40) -> Tensor:
    """(count, 3, side, side): photos."""
    return torch.stack([to_float(fit(photos().open(i), side)) for i in range(count)])


def few() -> ImageSource:
    return photos().first(6)


@cache
def lenslet() -> Network:
    return load()


def judge(styles: int = 2, recipe: StylizerRecipe = RECIPE) -> Judge:
    """With the statistics of as many photos."""
    pictures = some(styles, recipe.style_size)
    return Judge(lenslet(), recipe, statistics(lenslet(), pictures, recipe.layers, recipe.statistic))


def fitted(network: StyleNet, out: Path, recipe: StylizerRecipe = RECIPE, **options: Any) -> list[Progressed]:
    options = {"about": {"styles": network.styles}} | options
    return train(network, judge(network.styles, recipe), few(), out, **options)


def same(first: StyleNet, second: StyleNet) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def moving(height: int = 48, width: int = 64, count: int = 6) -> list[Picture]:
    """A photo that moves sideways."""
    picture = np.array(photo("coffee", height, width))
    return [np.ascontiguousarray(np.roll(picture, 3 * i, axis=1)) for i in range(count)]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def encode_video(pictures: Iterable[Picture], rate: Fraction | float) -> bytes:
    """The bytes of an MP4 that shows pictures of one size, (H, W, 3) uint8; written by `Writer`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        with Writer(path, rate) as writer:
            for picture in pictures:
                writer.write(picture)
        return path.read_bytes()
