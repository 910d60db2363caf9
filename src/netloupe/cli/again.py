"""`netloupe again` and `netloupe diff`: a result made again from itself, and what two results differ in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netloupe.cli.options import Json, Out
from netloupe.cli.output import show
from netloupe.core.errors import InputError
from netloupe.core.table import table

if TYPE_CHECKING:
    from netloupe.remake import Remade

_HELP = "A manifest.json, its folder, or any PNG that netloupe wrote."


def again(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=_HELP)],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a setting, as in steps=500; several times."),
    ] = None,
    images: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the images lie now.")] = None,
    data: Annotated[str | None, typer.Option(metavar="SOURCE", help="Images in place of the recorded source.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The network; a Python file is only run if named here.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(metavar="FILE", help="Where its weights lie now.")] = None,
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the names of classes lie now.")] = None,
    device: Annotated[str | None, typer.Option(metavar="DEVICE", help="Another device than the recorded one.")] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Make a result again from its manifest or a PNG.

    On the same machine the files have the same bytes. Says what differs where an image, the weights or a version
    changed.
    """
    from netloupe.cli.command import tell
    from netloupe.cli.watch import Bars
    from netloupe.remake import again as make

    with Bars() as watch:
        made = make(
            file, _settings(changes or []), images=images, data=data, model=model, weights=weights, labels=labels,
            device=device, watch=watch,
        )  # fmt: skip
    for text in made.differs:
        typer.echo(f"differs: {text}", err=True)
    assert made.result.task is not None
    compared = None if made.changed else _compared(file, made)  # before the files are written, maybe over those
    tell(made.result, made.result.task, out, as_json)
    if compared is not None:
        typer.echo(compared, err=True)


def _settings(texts: list[str]) -> dict[str, Any]:
    found = {}
    for text in texts:
        name, mark, value = text.partition("=")
        if not mark:
            raise InputError(f"--set {text!r} (accepted: NAME=VALUE, as in steps=500)")
        found[name] = value
    return found


def _compared(file: Path, made: Remade) -> str:
    """Whether the files beside `file` have the bytes that were made now."""
    folder = file if file.is_dir() else file.parent
    pairs = [(name, (folder / name).read_bytes() == content) for name, content in made.result.files()
             if (folder / name).is_file()]  # fmt: skip
    other = [name for name, same in pairs if not same]
    if not pairs:
        return f"no file of the result lies beside {file}, so nothing was compared"
    if other:
        return f"{len(other)} of {len(pairs)} files have other bytes than in {folder}: {', '.join(other[:8])}"
    return f"{len(pairs)} files, byte for byte as in {folder}"


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help=_HELP)],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
    as_json: Json = False,
) -> None:
    """Name the settings in which two results differ.

    And what else differs of how they were made: images, network, versions, threads.
    """
    from netloupe.remake import Record, differences

    found = [
        {"name": name, "a": first, "b": second}
        for name, first, second in differences(Record.read(a).told, Record.read(b).told)
    ]
    show(found, as_json, _text)


def _text(found: list[dict[str, Any]]) -> str:
    if not found:
        return "made in the same way"
    return table(("", "A", "B"), [(one["name"], _put(one["a"]), _put(one["b"])) for one in found])


def _put(value: Any) -> str:
    return "-" if value is None else str(value)
