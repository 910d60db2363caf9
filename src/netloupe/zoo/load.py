"""`load`: a network by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from netloupe.core.device import device_of
from netloupe.core.errors import InputError, NetworkError, UnknownName, first_line, short, unknown
from netloupe.core.files import file_digest, portable
from netloupe.core.given import checked
from netloupe.core.head import Head
from netloupe.core.inputs import InputSpec
from netloupe.core.layout import Layout
from netloupe.core.network import Network
from netloupe.core.numbers import SEEDS, whole
from netloupe.core.returned import Output
from netloupe.core.settings import FULL, NAMELESS
from netloupe.zoo.architectures import Lenslet, zfnet
from netloupe.zoo.files import build_from_file
from netloupe.zoo.folders import build_from_folder
from netloupe.zoo.labels import read_labels
from netloupe.zoo.libraries import Built, build_timm, build_torchvision
from netloupe.zoo.patchlet import Patchlet
from netloupe.zoo.state import Stored, file_and_entry, fill, read_state

WEIGHTS = Path(__file__).parent / "weights"
EMBEDDED = {"lenslet": "lenslet", "lenslet-robust": "lenslet", "patchlet": "patchlet"}
"""Networks that ship with their weights, and the architecture of each."""
RANDOM = "random"
BARE = (
    "zfnet comes without weights; train some (netloupe train -a zfnet) and give them as weights=FILE, "
    "or weights='random'"
)
FORMS = (*EMBEDDED, "zfnet", "torchvision:NAME", "timm:NAME", "hf:FOLDER", "path/to/file.py:FACTORY")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Inputs = InputSpec | Callable[[InputSpec], InputSpec]


@checked
def load(
    model: str = "lenslet",
    *,
    weights: str | Path | None = None,
    device: str | None = None,
    inputs: Inputs | None = None,
    labels: Sequence[str] | Path | None = None,
    output: Output | None = None,
    head: Head | str | None = None,
    layouts: Mapping[str, Layout | str] | None = None,
    classes: int | None = None,
    seed: int | None = None,
    precision: str = FULL,
) -> Network:
    """A network by name, which knows in its `origin` how it was loaded.

    model: "lenslet", "lenslet-robust" or "patchlet", the embedded networks; "zfnet", the architecture of Zeiler &
    Fergus (2013), without weights; "torchvision:NAME" or "timm:NAME"; "hf:path/to/folder", what transformers saved
    there; or "path/to/file.py:factory", a function without arguments that returns an `nn.Module`.
    weights: a file of safetensors or of `torch.save` (.pt, .pth, .ckpt, .bin) that holds a state_dict, under whatever
    key and prefix; "FILE#KEY" of several that fit, as EMA beside the others; "random" for random weights (drawn from
    PyTorch's global generator). Without it, embedded networks have their own, the libraries' networks their pretrained
    ones (torchvision also takes the name of others, such as "IMAGENET1K_V2"), and files what the factory gives.
    inputs: what the network wants as input. By default what the weights file or the library says, otherwise
    `InputSpec()`; a function is handed that default and returns the spec to use.
    labels: class names by index, or a file of them (see `read_labels`); by default from the weights file or library.
    output: where the answer is in what the module returns: a key, an index, or a function that takes it out.
    head: what the network answers, as one of `HEADS` or a head; by default found in what it returns.
    layouts: how layers' outputs lie, by pattern of names, where that can't be told (see `Network`).
    classes: the number of classes, where neither weights nor labels of the library shall decide it.
    seed: of random weights; without it the state of PyTorch's generator decides, and can't be told later.
    device: "cpu", "cuda", ..., or "auto" for a GPU if there is one.
    precision: what it computes in, "float32" (the type of its weights) or "bfloat16", which is up to three times as
    fast where the hardware multiplies in it; `netloupe.agreement` says how far its answers are from float32.

    Raises UnknownName for a network that is not there, NetworkError for a file, factory or weights that can't be
    used, InputError for the other arguments.
    """
    classes = None if classes is None else whole("classes", classes, 1)
    if seed is not None:
        torch.manual_seed(whole("seed", seed, 0, SEEDS))
    stored = None if weights is None or str(weights) == RANDOM else _stored(model, weights)
    built, spec = _build(model, weights, stored, inputs, classes)
    module, name = built.module.eval(), _name(model)
    if device is not None:
        module = module.to(device_of(device))
    if labels is None:
        known: Sequence[str] | None = None if isinstance(head, Head) or head in NAMELESS else built.labels
    elif not isinstance(labels, Iterable | Path):
        raise InputError(f"labels {labels!r} (accepted: names of the classes, or a file of them)")
    else:
        known = read_labels(labels) if isinstance(labels, str | Path) else list(labels)
    net = Network(module, spec, known, output=output, head=head, layouts=layouts, name=name, precision=precision)
    if labels is not None or (output is not None and head != "none"):
        with torch.no_grad():
            net(torch.zeros(1, spec.channels, *spec.size))  # the error for labels, or an output, that do not fit
    net.origin = (
        None
        if callable(output) or isinstance(head, Head)
        else {
            "model": _portable(model),
            "weights": _file_or_name(weights),
            "labels": _file_or_name(labels) if isinstance(labels, str | Path) else labels and list(labels),
            "output": output,
            "head": head,
            "layouts": {pattern: str(layout) for pattern, layout in net.layouts.items()} or None,
            "classes": classes,
            "seed": seed,
            **({} if precision == FULL else {"precision": precision}),
        }
    )
    return net


def _portable(model: str) -> dict[str, str] | str:
    """The name of a model; of a Python file with a factory how it is called, and its digest."""
    path, _, factory = model.rpartition(":")
    if path == "hf":
        return f"hf:{portable(factory)}"
    if not path.endswith(".py"):
        return model
    return {"name": f"{portable(path)}:{factory}", "sha256": file_digest(path)}


def _file_or_name(given: str | Path | None) -> dict[str, str] | str | None:
    """A file by name and digest, with the entry of it that is used; the name of something else as it is."""
    path, entry = (None, None) if given is None else file_and_entry(given)
    if path is None or not path.is_file():
        return None if given is None else str(given)
    return {"name": portable(path), "sha256": file_digest(path), **({} if entry is None else {"entry": entry})}


def _stored(model: str, weights: str | Path) -> Stored | None:
    """The weights file; None for the name of weights of torchvision's."""
    if model.startswith("torchvision:") and Path(weights).suffix == "" and not Path(weights).exists():
        return None
    return read_state(weights)


def _build(
    model: str, weights: str | Path | None, stored: Stored | None, inputs: Inputs | None, classes: int | None
) -> tuple[Built, InputSpec]:
    """The module with its weights, and its input spec."""
    library, _, name = model.partition(":")
    if model in EMBEDDED:
        if weights is None:
            stored = _embedded(model)
        base = InputSpec((64, 64), mean=IMAGENET_MEAN, std=IMAGENET_STD)
        build = _lenslet if EMBEDDED[model] == "lenslet" else _patchlet
        built = Built(build(stored, classes), base)
    elif model == "zfnet":
        if weights is None:
            raise NetworkError(BARE)
        base = InputSpec(mean=IMAGENET_MEAN, std=IMAGENET_STD)
        size = _spec(inputs, stored, base).size
        built = Built(_zfnet(stored, classes, size), base)
    elif library == "torchvision" and name:
        kept = None if stored is not None or str(weights) == RANDOM else str(weights or "")
        built = build_torchvision(name, kept, classes)
    elif library == "timm" and name:
        built = build_timm(name, weights is None, classes)
    elif library == "hf" and name:
        if classes is not None:
            raise InputError(f"{classes} classes (accepted for hf: as many as the folder says)")
        built = build_from_folder(Path(name), weights is None)
    else:
        path, factory = _file_and_factory(model)
        built = Built(build_from_file(path, factory, classes))
    if stored is not None:
        fill(built.module, stored, _name(model))
        if isinstance(built.module, Lenslet) and built.module.batch_norm:
            built = Built(built.module.folded(), built.inputs)
        built = Built(built.module, built.inputs, stored.labels if stored.labels is not None else built.labels)
    return built, _spec(inputs, stored, built.inputs)


def _spec(inputs: Inputs | None, stored: Stored | None, base: InputSpec | None) -> InputSpec:
    if isinstance(inputs, InputSpec):
        return inputs
    known = stored.inputs if stored is not None and stored.inputs is not None else base
    known = known if known is not None else InputSpec()
    return known if inputs is None else _made_of(inputs, known)


def _made_of(inputs: Callable[[InputSpec], InputSpec], known: InputSpec) -> InputSpec:
    accepted = "(accepted: an InputSpec, or a function that makes one of another)"
    try:
        made = inputs(known)
    except TypeError as error:
        raise InputError(f"inputs {short(inputs)} fails: {first_line(error)} {accepted}") from None
    if not isinstance(made, InputSpec):
        raise InputError(f"inputs {short(inputs)} gives {short(made)} {accepted}")
    return made


def _embedded(model: str) -> Stored:
    path = WEIGHTS / f"{model}.safetensors"
    if not path.is_file():
        raise NetworkError(f"this installation lacks the weights of {model}; install it again, or give weights=FILE")
    return read_state(path)


def _lenslet(stored: Stored | None, classes: int | None) -> Lenslet:
    norm = stored is not None and stored.tensor("norm1.weight") is not None
    found, channels = _shape(stored, "fc.weight", 200)
    return Lenslet(classes if classes is not None else found, batch_norm=norm, channels=channels)


def _patchlet(stored: Stored | None, classes: int | None) -> Patchlet:
    found = 200 if stored is None else stored.length("head.weight", 0, 200)
    channels = 3 if stored is None else stored.length("stem.conv1.weight", 1, 3)
    return Patchlet(classes if classes is not None else found, channels=channels)


def _zfnet(stored: Stored | None, classes: int | None, size: tuple[int, int]) -> nn.Module:
    found, channels = _shape(stored, "fc8.weight", 1000)
    return zfnet(classes if classes is not None else found, size, channels=channels)


def _shape(stored: Stored | None, last: str, classes: int) -> tuple[int, int]:
    """The classes and channels of the network in a file, `classes` and 3 without one; last: its last weights."""
    return (classes, 3) if stored is None else (stored.length(last, 0, classes), stored.length("conv1.weight", 1, 3))


def _file_and_factory(model: str) -> tuple[Path, str]:
    path, _, factory = model.rpartition(":")
    if path.endswith(".py") and factory:
        return Path(path), factory
    if model.rstrip(":").endswith(".py"):
        raise UnknownName(f"{model!r} names no factory (accepted: {model.rstrip(':')}:FACTORY)")
    if Path(model).suffix in (".safetensors", ".pt", ".pth"):
        raise UnknownName(f"{model!r} holds weights, not a network; name that too and give the file as weights")
    raise unknown("model", model, FORMS)


def _name(model: str) -> str:
    """How the network is called in titles and provenance: files without their folder."""
    path, mark, factory = model.rpartition(":")
    if mark and path.endswith(".py"):
        return f"{Path(path).name}:{factory}"
    return f"hf:{Path(factory).name}" if path == "hf" else model
