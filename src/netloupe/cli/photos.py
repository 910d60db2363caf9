"""`netloupe photos`: the photographs that come with the package."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

from netloupe.cli.options import Json, out_folder
from netloupe.cli.output import show
from netloupe.core.table import table


def photos(
    out: Annotated[
        Path | None,
        out_folder("Write the photos as PNG there."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the embedded photos and whom they are by."""
    from netloupe.data.photos import credits

    found = [{"name": name, "title": title, "origin": origin} for name, title, origin in credits()]
    if out is not None:
        for photo in found:
            photo["file"] = str(_write(photo["name"], out))
    show(found, as_json, _text)


def _write(name: str, folder: Path) -> Path:
    from netloupe.core.files import write_atomically
    from netloupe.data.photos import photos

    source = photos()
    buffer = io.BytesIO()
    image = source.open(list(source.names).index(f"{name}/full"))
    image.convert("L" if getattr(image, "mode", "L") == "L" else "RGB").save(buffer, "PNG")
    write_atomically(folder / f"{name}.png", buffer.getvalue())
    return folder / f"{name}.png"


def _text(found: list[dict[str, Any]]) -> str:
    return table(tuple(found[0]), (tuple(photo.values()) for photo in found))
