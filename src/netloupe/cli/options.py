"""Options that several verbs share."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from netloupe.core.errors import InputError, StoreError
from netloupe.core.settings import HEADS, TRUTH, Setting, setting_of
from netloupe.core.task import PHOTOS

if TYPE_CHECKING:
    from netloupe.core.inputs import InputSpec
    from netloupe.core.network import Network
    from netloupe.sweep.engine import Engine


def _folder(text: str) -> Path:
    if text == "":
        raise InputError("--out is empty (accepted: a folder; . for this one)")
    return Path(text)


def writable(folder: Path | None) -> Path | None:
    """The folder, if it could be made and written to; nothing is made yet. Raises StoreError."""
    if folder is not None:
        nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not nearest.is_dir():
            raise StoreError(f"{folder}: can't be written ({nearest} is a file)")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise StoreError(f"{folder}: can't be written (no permission)")
    return folder


def out_folder(help: str) -> Any:
    """The option of the folder that is written."""
    return typer.Option("--out", "-o", metavar="FOLDER", parser=_folder, callback=writable, help=help)


Data = Annotated[str, typer.Option("--data", metavar="SOURCE", help=PHOTOS.help)]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda or cuda:1.")]
Out = Annotated[Path | None, out_folder("Write pictures, arrays and a manifest there.")]
Port = Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port to listen on.")]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host", metavar="NAME", help="Answer by this name too, as a proxy's; may be given several times."
    ),
]
Keep = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", callback=writable, help="Results of the studio can be kept there; else nothing is written."
    ),
]
Also = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Another network for the studio to compare, or weights of the same; several times.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Layers = Annotated[
    list[str] | None, typer.Option("--layer", "-l", metavar="NAME", help="A layer; may be given several times.")
]
Sweep = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="NAME=V,V,...",
        help="One sheet of several values, as in lr=0.01,0.05,0.1; twice for two settings.",
    ),
]


@dataclass(frozen=True)
class EngineOptions:
    """Which processes go through the images."""

    engine: Annotated[
        Literal["local", "ray"], typer.Option(metavar="local|ray", help="What goes through the images.")
    ] = "local"
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="With --engine ray: a cluster that runs, or auto.")
    ] = None
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With --engine ray: how many processes hold the network.")
    ] = None

    def made(self) -> Engine | None:
        """The engine, None for this process. Raises InputError for options of another, or without Ray."""
        if self.engine == "ray":
            from netloupe.sweep.ray import RayEngine

            return RayEngine(self.address, self.workers).checked()
        if self.address is not None or self.workers is not None:
            raise InputError("--address and --workers are of a cluster (fix: --engine ray)")
        return None


@dataclass(frozen=True)
class NetworkOptions:
    """Which network to look at, and on which device. `size` to `layout` replace what its makers say of it."""

    model: Annotated[
        str,
        typer.Option(metavar="NAME", help="lenslet, zfnet, torchvision:NAME, timm:NAME, hf:FOLDER or FILE.py:FACTORY."),
    ] = "lenslet"
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Weights, as .safetensors, .pt, .pth or .ckpt; FILE#KEY of several; or random."
        ),
    ] = None
    device: Device = "auto"
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, metavar="N", help="Seed of all that is drawn at random.")
    ] = 0
    size: Annotated[str | None, typer.Option(metavar="HxW", help="Input size in px, as in 224 or 224x320.")] = None
    mean: Annotated[str | None, typer.Option(metavar="R,G,B", help="Mean that the input has taken off.")] = None
    std: Annotated[str | None, typer.Option(metavar="R,G,B", help="Standard deviation that it is divided by.")] = None
    range: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="What pixels in [0, 1] are mapped to before, as in 0,255.")
    ] = None
    channels: Annotated[int | None, typer.Option(metavar="N", help="Input channels: 3, 1 for gray, or others.")] = None
    values: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="Black and white in files of more than 8 bits a value, as in 0,4095."),
    ] = None
    picture: Annotated[
        str | None, typer.Option(metavar="R,G,B", help="Channels, from 0, that make a picture, as in 3,2,1.")
    ] = None
    classes: Annotated[int | None, typer.Option(metavar="N", help="Number of classes to make the network for.")] = None
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of the classes: .txt, one a line, or .json.")
    ] = None
    output: Annotated[str | None, typer.Option(metavar="KEY", help="Where a dict or tuple holds the answer.")] = None
    head: Annotated[
        str | None,
        typer.Option(metavar="KIND", help=f"What it answers: {', '.join(HEADS)}; else what its output tells."),
    ] = None
    layout: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYERS=LAYOUT", help="How layers lie, as 'blocks.*=tokens:prefix=1,grid=14x14'."),
    ] = None

    precision: Annotated[
        Literal["float32", "bfloat16"],
        typer.Option(metavar="float32|bfloat16", help="What it computes in; bfloat16 is faster, and rounds."),
    ] = "float32"

    @property
    def given(self) -> list[str]:
        """The names of the options that say which network it is, of those that were given."""
        own = [f for f in fields(NetworkOptions) if f.name not in ("device", "seed")]
        return [f.name for f in own if getattr(self, f.name) != f.default]

    @property
    def said(self) -> dict[str, str] | None:
        """Those by name, as they were given; None where that does not say all, or one was given several times."""
        found = {name: getattr(self, name) for name in self.given}
        return (
            None
            if "layout" in found or self.weights == "random"
            else {name: str(value) for name, value in found.items()}
        )

    def file(self) -> str | None:
        """The file of weights."""
        return self.weights

    def inputs(self, base: InputSpec) -> InputSpec:
        """What its makers say the network takes, with what was given in its place."""
        from netloupe.zoo.specs import parse_inputs

        return parse_inputs(
            self.size, self.mean, self.std, self.channels, self.range, self.values, self.picture, base=base
        )

    def load(self, weights: Path | None = None) -> Network:
        """The network, on its device; weights: in place of its own."""
        from netloupe.core.layout import stated
        from netloupe.zoo.load import load

        output = self.output
        return load(
            self.model,
            weights=self.weights if weights is None else weights,
            device=self.device,
            inputs=self.inputs,
            labels=self.labels,
            classes=self.classes,
            head=self.head,
            layouts=stated(self.layout or []),
            output=int(output) if output is not None and output.isdecimal() else output,
            seed=self.seed,
            precision=self.precision,
        )


def recipe(kind: type) -> dict[str, Setting]:
    """The settings of a training recipe, by name, none of which must be given: what is not is as the recipe has it."""
    found = [setting_of(one) for one in fields(kind) if "setting" in one.metadata]
    return {one.name: replace(one, default=None) for one in found}


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """For typer: a parameter that is a dataclass stands for one option per field.

    One that is Annotated[dict, RECIPE] stands for the settings of a recipe, and is handed those that were given.
    """
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    groups: dict[str, Any] = {p.name: p.annotation for p in parameters if is_dataclass(p.annotation)}
    last = {p.name: get_args(p.annotation)[-1] for p in parameters if get_origin(p.annotation) is Annotated}
    recipes = {name: recipe(kind) for name, kind in last.items() if isinstance(kind, type)}
    expanded = [p for p in parameters if p.name not in groups and p.name not in recipes]
    for group in groups.values():
        hints = hints_of(group)
        expanded += [parameter(f.name, hints[f.name], f.default) for f in fields(group)]
    expanded += [p for settings in recipes.values() for one in settings.values() for p in setting_parameters(one)]

    @functools.wraps(function)
    def call(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{f.name: given.pop(f.name) for f in fields(group)})
        for name, settings in recipes.items():
            texts = {key: given.pop(key) for key in settings}
            given[name] = {key: settings[key].read(text) for key, text in texts.items() if text not in (None, [])}
        function(**given)

    call.__signature__ = inspect.Signature(expanded)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in expanded}
    return call


@functools.cache
def hints_of(options: type[Any]) -> dict[str, Any]:
    """The annotations of a dataclass of options, which take long to evaluate."""
    return get_type_hints(options, include_extras=True)


def parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def setting_parameters(one: Setting) -> list[inspect.Parameter]:
    if one.target:
        return _target_parameters(one)
    notes = "; ".join(part for part in (f"default: {one.usual}" if one.usual else "", one.limits()) if part)
    metavar = one.metavar or (_choice(one) if one.choices else one.kind.metavar)
    listed = f" One of {', '.join(one.choices)}." if one.choices and "|" not in metavar else ""
    help = f"{one.help}{listed}{f'  [{notes}]' if notes else ''}"
    if one.kind is TRUTH:
        return [parameter(one.name, Annotated[bool, typer.Option(*one.flags, help=help)], False)]
    several = one.many or one.weights
    kind: Any = list[str] if several else str
    default = inspect.Parameter.empty if one.required else None
    kind = kind if one.required else kind | None
    if one.argument:
        return [parameter(one.name, Annotated[kind, typer.Argument(metavar=metavar, help=help)], default)]
    return [parameter(one.name, Annotated[kind, typer.Option(*one.flags, metavar=metavar, help=help)], default)]


def _target_parameters(one: Setting) -> list[inspect.Parameter]:
    """What is read, by class, by address or as an objective: three options, of which one may be given."""
    ways = (
        ("class_", ("--class", "-c"), "NAME", f"{one.help} A class, by name or index."),
        ("unit", ("--unit", "-u"), "ADDRESS", "Or a unit, as conv5:17 or conv5:17@3,4."),
        ("objective", ("--objective",), "TEXT", "Or an objective, as 'logit(koala) - logit(lynx)'."),
    )
    return [
        parameter(f"{one.name}__{name}", Annotated[str | None, typer.Option(*flags, metavar=metavar, help=help)], None)
        for name, flags, metavar, help in ways
    ]


def _choice(one: Setting) -> str:
    text = "|".join(one.choices)
    return text if len(text) <= 14 else "NAME"
