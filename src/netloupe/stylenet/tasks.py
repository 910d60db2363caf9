"""Painting in the styles of a network as a task."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from netloupe.core.errors import InputError
from netloupe.core.settings import setting
from netloupe.core.table import by
from netloupe.core.task import Input, Task


@dataclass(frozen=True, kw_only=True)
class Apply(Task):
    """Paint images and videos in a style, or in a blend of several.

    Every PNG is made again by netloupe again; videos are not.
    """

    verb: ClassVar = "stylenet apply"
    runs: ClassVar = "stylenet.apply:run"
    loads: ClassVar = "stylenet.apply:load"
    inputs: ClassVar = (
        Input("images", "images", "Images, folders, videos, or camera; camera:1 is another.", metavar="INPUT...",
              many=True, required=True),
    )  # fmt: skip

    head: ClassVar = ("file", "size", "styles")

    style: dict[str, float] = setting(
        help="A style; several are blended by weight.", flags=("--style", "-s"), metavar="NAME[=WEIGHT]"
    )
    side: int | None = setting(None, "The shorter side at most; else the size is kept.", low=1, metavar="PX")
    name: str | None = setting(None, "How the file is called; by default as the image.", metavar="STEM")

    def check(self) -> None:
        if self.name is not None and not re.fullmatch(r"[\w-][\w.-]*", self.name):
            raise InputError(f"name {self.name!r} (accepted: letters, digits, dots, - and _)")

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        styles = ", ".join(f"{name} {share:.0%}" for name, share in found["style"].items())
        return [(found["name"], by(found["size"]), styles)]
