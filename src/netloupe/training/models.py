"""A whole training run: from an architecture and two sources of images to a weights file with its card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netloupe.core.device import device_of
from netloupe.core.errors import InputError, unknown
from netloupe.core.files import write_atomically
from netloupe.core.inputs import InputSpec
from netloupe.core.lock import holding
from netloupe.core.network import Network
from netloupe.core.watch import SILENT, Watch
from netloupe.data.labels import check_same, required
from netloupe.data.open import open_source
from netloupe.data.sources import ImageSource
from netloupe.training.card import classifier_card, classifier_page
from netloupe.training.classifier import train
from netloupe.training.labeled import Images, read_labeled
from netloupe.training.recipes import ClassifierRecipe
from netloupe.training.recorder import Recorder
from netloupe.zoo.architectures import Lenslet, zfnet
from netloupe.zoo.files import build_from_file
from netloupe.zoo.labels import read_labels
from netloupe.zoo.load import EMBEDDED, load
from netloupe.zoo.patchlet import Patchlet
from netloupe.zoo.state import header, save_weights

ARCHITECTURES = ("lenslet", "patchlet", "zfnet", "path/to/file.py:FACTORY")


def default_recipe(architecture: str) -> ClassifierRecipe:
    """The recipe that suits an architecture.

    patchlet is a transformer, which SGD trains badly; its small images come first.
    zfnet is without batch norm, so its rate is lower, and its first fully connected layer takes 47 to 78 px.
    The images of a file's network don't change their size, as it may not allow that.
    """
    if architecture == "lenslet":
        return ClassifierRecipe(finish=2)
    if architecture == "patchlet":
        return ClassifierRecipe(
            sizes=((32, 12), (48, 10)), batch=256, optimizer="muon", rate=2e-3, warmup=0.1, decay=0.05,
            teacher_side=40, finish=2, finish_rate=1e-4,
        )  # fmt: skip
    if architecture == "zfnet":
        return ClassifierRecipe(sizes=((48, 10), (56, 10), (64, 10)), rate=0.01)
    return ClassifierRecipe(sizes=((64, 19),))


@holding("out", "train")
def train_model(
    architecture: str,
    train_spec: str | Path,
    val_spec: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    recipe: ClassifierRecipe | None = None,
    device: str | None = None,
    data: str | None = None,
    labels: Sequence[str] | Path | None = None,
    snapshots: Iterable[int] | None = None,
    start: str | Path | None = None,
    teacher: str | None = None,
    watch: Watch = SILENT,
) -> Path:
    """Train a network on the labeled images of `train_spec`; returns the path of the weights file in `out`.

    architecture: "lenslet", "patchlet", "zfnet" or "path/to/file.py:factory"; the factory may have a parameter
    `classes` or `num_classes`, which is then given. train_spec, val_spec: see `open_source`; of the same classes.
    name: of the weights file and in the card, by default the architecture's or factory's. data: what the card calls
    the images, by default the last two parts of their paths. labels: class names by index, or a file of them (see
    `read_labels`), where the images' own don't do. Channels are as many as the recipe's mean has values.
    snapshots: the epochs after which the weights are also written to `snapshots` in `out`, as they are trained (see
    `Recorder`); the last is added.
    start: what the weights begin as instead of random ones: an embedded network of that architecture, or a file of
    weights. teacher: a network of the same classes by its name (see `zoo.load`), from which this one learns.

    A run that was interrupted goes on from its checkpoint in `out`; one that is finished only scores and writes.
    Raises UnknownName, InputError, NetworkError and StoreError as do `open_source` and `train`.
    """
    out = Path(out)
    recipe = recipe if recipe is not None else default_recipe(architecture)
    target = device_of(device if device is not None else "cpu")
    name = name if name is not None else architecture.rpartition(":")[2]
    sources = open_source(train_spec), open_source(val_spec)
    names = _class_names(*sources, read_labels(labels) if isinstance(labels, str | Path) else labels)
    network = _begun(architecture, start, names, recipe)
    taught = None if teacher is None else _teacher(teacher, names, device)
    training, validation = (read_labeled(source, recipe.size, watch, channels=len(recipe.mean)) for source in sources)
    recorder = None
    if snapshots is not None:
        epochs = {epoch for epoch in snapshots if epoch < recipe.epochs} | {recipe.epochs}
        recorder = Recorder(out / "snapshots", network, epochs, facts=header(tuple(names), _inputs(recipe), {}))
    trained = train(
        network,
        training,
        validation,
        len(names),
        out,
        recipe=recipe,
        device=target,
        recorder=recorder,
        teacher=taught,
        watch=watch,
    )
    about = _about(sources, (training, validation), data)
    kind = architecture if ":" not in architecture else f"{Path(architecture.rpartition(':')[0]).name}:{name}"
    origins = {"start": None if start is None else Path(start).name, "teacher": teacher}
    card = classifier_card(name, kind, trained, names, recipe, about | origins)
    return write_model(trained.network, out, name, names, card, recipe)


def write_model(
    network: nn.Module, out: Path, name: str, labels: Sequence[str], card: Mapping[str, Any], recipe: ClassifierRecipe
) -> Path:
    """Write `NAME.safetensors`, which `load` takes as weights, and `card.md` to `out`; returns the former's path."""
    path = out / f"{name}.safetensors"
    save_weights(network, path, header(tuple(labels), _inputs(recipe), card))
    write_atomically(out / "card.md", classifier_page(card).encode())
    return path


def _inputs(recipe: ClassifierRecipe) -> InputSpec:
    return InputSpec((recipe.size, recipe.size), len(recipe.mean), recipe.mean, recipe.std)


def _build(architecture: str, classes: int, recipe: ClassifierRecipe) -> nn.Module:
    """The network to be trained, with the random weights that belong to the recipe's seed."""
    channels = len(recipe.mean)
    path, _, factory = architecture.rpartition(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if architecture == "lenslet":
            return Lenslet(classes, batch_norm=True, channels=channels)
        if architecture == "patchlet":
            return Patchlet(classes, channels=channels)
        if architecture == "zfnet":
            return zfnet(classes, recipe.size, channels=channels)
        if path.endswith(".py") and factory:
            return build_from_file(Path(path), factory, classes, required=False)
    raise unknown("architecture", architecture, ARCHITECTURES)


def _begun(architecture: str, start: str | Path | None, names: Sequence[str], recipe: ClassifierRecipe) -> nn.Module:
    """The network with random weights, or those of an embedded network or of a file, in the form that ships."""
    if start is None:
        return _build(architecture, len(names), recipe)
    if str(start) in EMBEDDED:
        origin = load(str(start))
        wanted = type(_build(architecture, 1, recipe))
        if type(origin.module) is not wanted:
            raise InputError(f"{start} is a {type(origin.module).__name__} (accepted: a {wanted.__name__})")
    else:
        origin = load(architecture, weights=start)
    if origin.head.count != len(names):
        raise InputError(f"{start} has {origin.head.count} classes, but the images have {len(names)}")
    if origin.inputs.channels != len(recipe.mean):
        raise InputError(f"{start} takes {origin.inputs.channels} channels, but the recipe has {len(recipe.mean)}")
    return origin.module


def _teacher(teacher: str, names: Sequence[str], device: str | None) -> Network:
    found = load(teacher, device=device)
    labels = found.head.classes("a teacher").labels
    if list(labels) != list(names):
        raise InputError(f"teacher {teacher} has {len(labels)} classes, other than the {len(names)} of the images")
    return found


def _class_names(training: ImageSource, validation: ImageSource, given: Sequence[str] | None) -> list[str]:
    """The class names: those given, otherwise those of the sources, which must agree as far as the second has any."""
    names, _ = required(training, "training"), required(validation, "validation")
    if given is None:
        check_same(training, validation)
        return names
    largest = max(label for label in training.labels or () if label is not None)
    if largest >= len(given):
        raise InputError(f"{len(given)} labels for images of class {largest} in {training.spec!r}")
    return list(given)


def _about(sources: tuple[ImageSource, ImageSource], images: tuple[Images, Images], data: str | None) -> dict[str, Any]:
    (train, val), (training, validation) = sources, images
    return {
        "train": train.title if data is None else f"{data}, training part",
        "train_images": len(training.labels),
        "validation": val.title if data is None else f"{data}, validation part",
        "validation_images": len(validation.labels),
        "left_out": training.left_out + validation.left_out,
    }
