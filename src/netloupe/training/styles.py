"""A whole training run: from pictures of styles and a source of photos to a weights file with its card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.files import write_atomically
from netloupe.core.lock import holding
from netloupe.core.network import Network
from netloupe.core.watch import SILENT, Watch
from netloupe.data.images import SUFFIXES, fit, height_width, open_image, plain, to_float
from netloupe.data.open import open_source
from netloupe.data.sources import ImageSource
from netloupe.render.pictures import encode
from netloupe.stylenet.model import StyleModel, architecture, load_styles, save_styles
from netloupe.stylenet.network import StyleNet
from netloupe.synthesis.statistics import Statistics, statistics
from netloupe.training.card import style_card, style_page
from netloupe.training.recipes import SMALLEST, StylizerRecipe
from netloupe.training.stylizer import Judge, sheet, train
from netloupe.zoo.load import load

_SAMPLES, _SAMPLE_SIDE = 3, 192  # photos that are painted on the way, px


@dataclass(frozen=True)
class StylePicture:
    """A picture whose style is to be learned.

    size: (height, width) as it was. pixels: (1, 3, H, W) in [0, 1], scaled. digest: a hash of the picture as it was.
    """

    name: str
    size: tuple[int, int]
    pixels: Tensor
    digest: str


@holding("out", "stylenet train")
def train_styles(
    styles_folder: str | Path,
    images_spec: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    recipe: StylizerRecipe | None = None,
    extend: str | Path | None = None,
    start: str | Path | None = None,
    net: Network | None = None,
    device: str | None = None,
    every: int = 250,
    watch: Watch = SILENT,
) -> Path:
    """Train a style network; returns the path of the weights file, `NAME.safetensors` in `out`, for `load_styles`.

    styles_folder: pictures, each a style of the name of its file. images_spec: photos, see `open_source`.
    out: receives the card as `card.json` and `card.md`, `NAME.jpg` with photos in all styles, and what `train` writes
    after `every` steps. A run that was killed goes on from its checkpoint there; one that is finished only writes.
    extend: a weights file to which the styles are added; it keeps its architecture, and its styles as they are.
    start: a weights file as which training begins, of the same architecture: styles that it has by name as they are
    there, others as the mean of its styles. All of it is trained.
    net: the network that judges, by default lenslet on `device`; training runs where it lies.
    name: by default "stylenet".

    Raises InputError for pictures, photos or arguments that can't be used, UnknownName for layers that the judge lacks,
    NetworkError and StoreError as `load_styles` and `train` do.
    """
    out, name = Path(out), name if name is not None else "stylenet"
    recipe = recipe if recipe is not None else StylizerRecipe()
    path = out / f"{name}.safetensors"
    given = extend if extend is not None else start
    base = None if given is None else load_styles(given)
    _check(name, path, extend, start, every, net, device)
    if base is not None:
        recipe = replace(recipe, **_architecture(base.network))
    photos, pictures = open_source(images_spec), read_styles(styles_folder, recipe.style_size)
    kept = () if base is None or extend is None else base.styles
    names = _names(pictures, kept)
    judge = net if net is not None else load(device=device)
    first = len(kept)
    network, samples = _network(names, recipe, base), _samples(photos)
    log = train(
        network,
        Judge(judge, recipe, _targets(judge, pictures, recipe, first)),
        photos,
        out,
        first=first,
        every=every,
        samples=samples,
        about=_about(pictures, extend, start),
        watch=watch,
    )
    model = StyleModel(network, names, {}, name)
    card = style_card(model, recipe, log, _data(photos, styles_folder, pictures), judge, base, kept=len(kept))
    write_styles(replace(model, card=card), path)
    painted = sheet(network, samples.to(judge.device), range(len(names)))
    write_atomically(path.with_suffix(".jpg"), encode(painted, "JPEG"))
    return path


def write_styles(model: StyleModel, path: Path) -> None:
    """Write the weights, and beside them the model's card as JSON and Markdown."""
    save_styles(model, path)
    write_atomically(path.with_name("card.json"), json.dumps(model.card, indent=1, ensure_ascii=False).encode())
    write_atomically(path.with_name("card.md"), style_page(model.card).encode())


def read_styles(folder: str | Path, size: int) -> list[StylePicture]:
    """The pictures of a folder by name, the shorter side brought to `size` px (bicubic, antialiased).

    Raises InputError for a folder without pictures, two of one name, and one that can't be read or is too small.
    """
    try:
        files = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
    except OSError as error:
        raise InputError(f"{plain(folder)}: no folder of style pictures ({error.strerror})") from None
    if not files:
        raise InputError(f"no style pictures in {plain(folder)!r} (accepted: {', '.join(SUFFIXES)})")
    names = [plain(path.stem) for path in files]
    for path, name in zip(files, names, strict=True):
        if names.count(name) > 1:
            raise InputError(f"{plain(folder)}: several pictures are named {name!r}, such as {plain(path.name)}")
    return [_read_style(path, name, size) for path, name in zip(files, names, strict=True)]


def _read_style(path: Path, name: str, size: int) -> StylePicture:
    image = open_image(path).convert("RGB")
    if min(image.size) < SMALLEST:
        raise InputError(f"{plain(path)}: {image.width}x{image.height} px (accepted: {SMALLEST} or more a side)")
    scale = size / min(image.size)
    scaled = height_width((round(image.height * scale), round(image.width * scale)))
    pixels = F.interpolate(to_float(np.asarray(image))[None], scaled, mode="bicubic", antialias=True).clamp(0, 1)
    return StylePicture(name, (image.height, image.width), pixels, _digest(image))


def _digest(image: Image.Image) -> str:
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()[:16]


def _check(
    name: str,
    path: Path,
    extend: str | Path | None,
    start: str | Path | None,
    every: int,
    net: Network | None,
    device: str | None,
) -> None:
    if not name or Path(name).name != name:
        raise InputError(f"name {name!r} (accepted: the name of a file, without folders)")
    if every < 1:
        raise InputError(f"a checkpoint every {every} steps (accepted: 1 or more)")
    if net is not None and device is not None:
        raise InputError(f"both a network and device {device!r} (accepted: one of them; training runs where it lies)")
    if extend is not None and start is not None:
        raise InputError(f"both extend {plain(extend)} and start {plain(start)} (accepted: one of them)")
    if any(given is not None and path.exists() and path.samefile(given) for given in (extend, start)):
        raise InputError(f"{path} would overwrite what it begins with; give another name or folder")


def _architecture(network: StyleNet) -> dict[str, Any]:
    """What of a recipe a network has settled already."""
    found = architecture(network)
    return {**found, "widths": tuple(found["widths"])}


def _names(pictures: Sequence[StylePicture], before: tuple[str, ...]) -> tuple[str, ...]:
    for picture in pictures:
        if picture.name in before:
            raise InputError(
                f"style {picture.name!r} is in the file to be extended already; name the picture otherwise"
            )
    return (*before, *(picture.name for picture in pictures))


def _network(names: Sequence[str], recipe: StylizerRecipe, base: StyleModel | None) -> StyleNet:
    """The network to be trained: what it begins with, or the random weights that belong to the recipe's seed."""
    if base is not None:
        return base.network.with_styles([base.styles.index(n) if n in base.styles else None for n in names])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return StyleNet(len(names), recipe.widths, recipe.blocks, recipe.norm)  # type: ignore[arg-type]


def _targets(judge: Network, pictures: Sequence[StylePicture], recipe: StylizerRecipe, first: int) -> Statistics:
    """The statistics of all styles; those before `first` are not trained, so nobody reads theirs, which are zeros."""
    found = [statistics(judge, p.pixels, recipe.layers, recipe.statistic).moments for p in pictures]
    moments = {}
    for layer, parts in found[0].items():
        stacked = (torch.cat([each[layer][i] for each in found]) for i in range(len(parts)))
        moments[layer] = tuple(torch.cat([m.new_zeros(first, *m.shape[1:]), m]) for m in stacked)
    return Statistics(recipe.statistic, moments)


def _samples(photos: ImageSource) -> Tensor:
    """The first photos that can be read, (N, 3, H, W), square."""

    def readable() -> Any:
        for i in range(len(photos)):
            try:
                yield to_float(fit(photos.open(i), _SAMPLE_SIDE))
            except InputError:
                continue

    found = list(islice(readable(), _SAMPLES))
    if not found:
        raise InputError(f"none of {len(photos)} images of {photos.spec!r} can be read")
    return torch.stack(found)


def _about(pictures: Sequence[StylePicture], extend: str | Path | None, start: str | Path | None) -> Mapping[str, Any]:
    """What a run that goes on must have in common with the one that was killed, beside what `train` compares."""
    about: dict[str, Any] = {"styles": [[picture.name, picture.digest] for picture in pictures]}
    for what, path in (("extends", extend), ("starts", start)):
        if path is not None:
            about[what] = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    return about


def _data(photos: ImageSource, folder: str | Path, pictures: Sequence[StylePicture]) -> dict[str, Any]:
    return {
        "photos": photos.title,
        "photos_count": len(photos),
        "styles": plain(Path(folder).resolve().name),
        "style_sizes": {picture.name: list(picture.size) for picture in pictures},
    }
