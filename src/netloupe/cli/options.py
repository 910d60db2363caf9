"""Options that several verbs share."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from netloupe.core.errors import InputError, StoreError

if TYPE_CHECKING:
    from netloupe.core.network import Network


def writable(folder: Path | None) -> Path | None:
    """The folder, if it could be made and written to; nothing is made yet. Raises StoreError."""
    if folder is not None:
        nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not nearest.is_dir():
            raise StoreError(f"{folder}: can't be written ({nearest} is a file)")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise StoreError(f"{folder}: can't be written (no permission)")
    return folder


Data = Annotated[
    str,
    typer.Option("--data", metavar="SOURCE", help="Images: a folder, list, Parquet (also a glob), photos or digits."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="FOLDER", callback=writable, help="Write pictures, arrays and a manifest there."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Layer = Annotated[str | None, typer.Option("--layer", "-l", metavar="NAME", help="The layer; see netloupe layers.")]
Layers = Annotated[
    list[str] | None, typer.Option("--layer", "-l", metavar="NAME", help="A layer; may be given several times.")
]
Address = Annotated[
    str | None, typer.Option("--unit", "-u", metavar="ADDRESS", help="A unit, as in conv5:17 or conv5:17@3,4.")
]
Sweep = Annotated[
    str | None,
    typer.Option("--sweep", metavar="NAME=V,V,...", help="One sheet of several values, as in lr=0.01,0.05,0.1."),
]


@dataclass(frozen=True)
class NetworkOptions:
    """Which network to look at, and on which device. `size` to `head` replace what its makers say of it."""

    model: Annotated[
        str, typer.Option(metavar="NAME", help="lenslet, zfnet, torchvision:NAME, timm:NAME or FILE.py:FACTORY.")
    ] = "lenslet"
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="Weights as .safetensors, .pt or .pth; or random.")
    ] = None
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda or cuda:1.")] = "auto"
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, metavar="N", help="Seed of all that is drawn at random.")
    ] = 0
    size: Annotated[str | None, typer.Option(metavar="HxW", help="Input size in px, as in 224 or 224x320.")] = None
    mean: Annotated[str | None, typer.Option(metavar="R,G,B", help="Mean that the input has taken off.")] = None
    std: Annotated[str | None, typer.Option(metavar="R,G,B", help="Standard deviation that it is divided by.")] = None
    range: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="What pixels in [0, 1] are mapped to before, as in 0,255.")
    ] = None
    channels: Annotated[int | None, typer.Option(metavar="N", help="Input channels: 3, or 1 for gray.")] = None
    classes: Annotated[int | None, typer.Option(metavar="N", help="Number of classes to make the network for.")] = None
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of the classes: .txt, one a line, or .json.")
    ] = None
    output: Annotated[str | None, typer.Option(metavar="KEY", help="Where a dict or tuple holds the logits.")] = None
    head: Annotated[
        Literal["none"] | None, typer.Option(metavar="none", help="none: what it gives is no class logits.")
    ] = None

    @property
    def given(self) -> list[str]:
        """The names of the options that say which network it is, of those that were given."""
        return [f.name for f in fields(self) if f.name not in ("device", "seed") and getattr(self, f.name) != f.default]

    def file(self) -> str | None:
        """The file of weights."""
        return self.weights

    def load(self, weights: Path | None = None) -> Network:
        """The network, on its device; weights: in place of its own."""
        from netloupe.zoo.load import load
        from netloupe.zoo.specs import parse_inputs

        output = self.output
        return load(
            self.model,
            weights=self.weights if weights is None else weights,
            device=self.device,
            inputs=lambda base: parse_inputs(self.size, self.mean, self.std, self.channels, self.range, base=base),
            labels=self.labels,
            classes=self.classes,
            head=self.head,
            output=int(output) if output is not None and output.isdecimal() else output,
            seed=self.seed,
        )


def weighted(texts: list[str], what: str, usual: float = 1.0) -> dict[str, float]:
    """Names with weights, of NAME or NAME=WEIGHT each. Raises InputError for a name that comes twice."""
    found: dict[str, float] = {}
    for text in texts:
        name, mark, number = text.rpartition("=")
        try:
            name, weight = (name, float(number)) if mark and name else (text, usual)
        except ValueError:
            name, weight = text, usual
        if name in found:
            raise InputError(f"{what} {name!r} was given twice (accepted: once each)")
        found[name] = weight
    return found


def parse_sizes(text: str, accepted: str) -> tuple[tuple[int, int], ...]:
    """The sides of images and the times at each, of "40:7,48:7"."""
    try:
        pairs = [part.split(":") for part in text.split(",")]
        return tuple((int(side), int(times)) for side, times in pairs)
    except ValueError:
        raise InputError(f"sizes {text!r} (accepted: {accepted})") from None


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """For typer: a parameter that is a dataclass stands for one option per field."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    groups: dict[str, Any] = {p.name: p.annotation for p in parameters if is_dataclass(p.annotation)}
    expanded = [p for p in parameters if p.name not in groups]
    for group in groups.values():
        hints = get_type_hints(group, include_extras=True)
        expanded += [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
            for f in fields(group)
        ]

    @functools.wraps(function)
    def call(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{f.name: given.pop(f.name) for f in fields(group)})
        function(**given)

    call.__signature__ = inspect.Signature(expanded)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in expanded}
    return call
