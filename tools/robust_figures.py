"""The pictures of `docs/robust.md`: lenslet beside lenslet-robust, on photographs that come with Netloupe.

python tools/robust_figures.py [--only NAME ...] [--weights FILE]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import netloupe
from netloupe import Network
from netloupe.core.files import write_atomically
from netloupe.data.images import to_float
from netloupe.render.colors import diverging
from netloupe.render.pictures import Picture, captioned, encode, from_pixels, grid, resized, stacked
from netloupe.render.sheet import Sheet

OUT = Path(__file__).resolve().parent.parent / "docs" / "images"
CLASSES = (
    "goldfish", "black stork", "koala", "Persian cat", "monarch", "lion", "orange", "teapot", "sombrero",
    "king penguin",
)  # fmt: skip
PHOTOS = ("cat", "coffee", "astronaut", "rocket")
STEP = 0.5 / (3 * 64 * 64) ** 0.5  # root mean square of a step of Euclidean length 0.5
SIDE = 128  # px of a picture on the sheets

Nets = dict[str, Network]


def photos(net: Network) -> Tensor:
    source = netloupe.open_source("photos")
    chosen = [source.open(source.names.index(f"{name}/full")) for name in PHOTOS]
    side = net.inputs.size[0]
    squares = [np.asarray(image.convert("RGB").resize((side, side))) for image in chosen]
    return to_float(np.stack(squares))


def shown(image: Tensor | np.ndarray) -> Picture:
    return resized(from_pixels(np.asarray(image)), (SIDE, SIDE), smooth=False)


def row(title: str, pictures: Sequence[Picture], names: Sequence[str]) -> Sheet:
    tiles = [captioned(picture, name) for picture, name in zip(pictures, names, strict=True)]
    return Sheet("", len(tiles) * (SIDE + 6), gap=4, margin=6).say(title).add(grid(tiles, len(tiles), gap=6))


def save(name: str, rows: Sequence[Sheet]) -> None:
    write_atomically(OUT / f"robust-{name}.jpg", encode(stacked([one.picture() for one in rows]), "JPEG", 90))


def classes(nets: Nets) -> None:
    rows = []
    for name, net in nets.items():
        found = netloupe.visualize(net, [f"class:{one}" for one in CLASSES], preset="none", steps=60, lr=STEP, size=64)
        rows.append(row(f"{name}: 60 steps up the gradient in pixels", [shown(x) for x in found.images], CLASSES))
    save("classes", rows)


def gradients(nets: Nets) -> None:
    images = photos(nets["lenslet"])
    rows = [row("photographs, 64 px", [shown(image) for image in images], PHOTOS)]
    for name, net in nets.items():
        tiles, names = [], []
        for image in images:
            label, _ = net.predict(image[None], top=1)[0][0]
            gradient = netloupe.gradient(net, image[None], netloupe.objectives.logit(label))[0].sum(0).numpy()
            gradient = gradient / np.quantile(np.abs(gradient), 0.995)
            tiles.append(resized(diverging(gradient.clip(-1, 1)), (SIDE, SIDE), smooth=False))
            names.append(label)
        rows.append(row(f"{name}: gradient of its first class's logit, channels added up", tiles, names))
    save("gradients", rows)


def fooling(nets: Nets) -> None:
    image = photos(nets["lenslet"])[:1]
    rows, sizes = [], (0.5, 1.0, 2.0, 4.0, 8.0)
    for name, net in nets.items():
        for target in ("koala", "goldfish"):
            tiles, names = [shown(image[0])], ["the photo"]
            for size in sizes:
                found = netloupe.fool(net, image, target, method="pgd", norm="l2", epsilon=size, steps=60, sure=0.999)
                now = torch.as_tensor(found.images)
                tiles.append(shown(now[0]))
                chance = float(net.probabilities(now)[0, net.head.classes("this").index(target)])
                names.append(f"L2 {size:g}: {chance:.0%}")
            rows.append(row(f"{name}: changed towards {target}, its probability", tiles, names))
    save("fooling", rows)


def inversion(nets: Nets) -> None:
    images = photos(nets["lenslet"])
    rows = [row("photographs, 64 px", [shown(image) for image in images], PHOTOS)]
    for name, net in nets.items():
        found = netloupe.invert(net, images, "relu7", steps=300)
        made = torch.as_tensor(found.images).reshape(-1, 3, 64, 64)
        rows.append(row(f"{name}: made from what relu7 keeps", [shown(x) for x in made], PHOTOS))
    save("inversion", rows)


def dreams(nets: Nets) -> None:
    source = netloupe.open_source("photos")
    photo = source.open(source.names.index("china/full")).convert("RGB")
    image = to_float(np.asarray(photo.resize((256, 256)))[None])
    tiles, names = [from_pixels(image[0].numpy())], ["the photo"]
    for name, net in nets.items():
        for layer in ("relu3", "relu7"):
            found = netloupe.dream(net, image, layer, side=256)
            tiles.append(from_pixels(torch.as_tensor(found.images)[0].numpy()))
            names.append(f"{name}, {layer}")
    captions = [captioned(picture, name) for picture, name in zip(tiles, names, strict=True)]
    write_atomically(OUT / "robust-dreams.jpg", encode(grid(captions, 5, gap=6), "JPEG", 90))


FIGURES: dict[str, Callable[[Nets], None]] = {
    "classes": classes, "gradients": gradients, "fooling": fooling, "inversion": inversion, "dreams": dreams,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(FIGURES), choices=list(FIGURES))
    parser.add_argument("--weights", help="of lenslet-robust, where it is not the embedded one")
    options = parser.parse_args()
    plain = netloupe.load()
    robust = netloupe.load("lenslet-robust", weights=options.weights, labels=plain.labels)
    nets = {"lenslet": plain, "lenslet-robust": robust}
    for name in options.only:
        FIGURES[name](nets)


if __name__ == "__main__":
    main()
