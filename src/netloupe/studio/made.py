"""What a PNG that netloupe wrote says of how it was made, for the page to take its settings up again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from netloupe.core.errors import NetloupeError
from netloupe.remake import Record
from netloupe.render.pictures import about
from netloupe.studio.kept import settings_of
from netloupe.studio.sections import SECTIONS

_PNG = b"\x89PNG\r\n\x1a\n"


def told_of(data: bytes, network: str) -> dict[str, Any] | None:
    """Of the bytes of an image file; None of one that does not say how it was made.

    network: the hash of the one that looks. section, settings: where the page shows the like, and what is chosen there.
    """
    if not data.startswith(_PNG):
        return None
    try:
        told = about(data)
        if told is None:
            return None
        record = Record.of(Path("the picture"), told)
        task = record.task
    except NetloupeError as error:
        return {"problem": str(error)}
    back = [(name, one.back(task)) for name, one in SECTIONS.items() if type(task) is one.task]
    section, settings = next(((name, found) for name, found in back if found is not None), (None, None))
    return {
        "verb": task.verb,
        "title": task.title().rstrip("."),
        "network": record.told["network"]["name"],
        "own": record.told["network"]["hash"] == network,
        "changed": [one for one in settings_of(task) if not one["usual"]],
        "section": section,
        "settings": settings,
    }
