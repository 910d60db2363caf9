"""Addresses of what can be looked at: one spelling for Python, the command line, URLs and stores."""

from __future__ import annotations

import re
from dataclasses import dataclass

from netloupe.core.errors import InputError, UnknownName
from netloupe.core.layers import Layers

_CHANNEL = re.compile(r"(?P<channel>[0-9]+)(@((?P<y>[0-9]+),(?P<x>[0-9]+)|(?P<token>[a-z]+[0-9]*)))?")


@dataclass(frozen=True)
class Unit:
    """`layer`, `layer:channel`, `layer:channel@y,x` (a neuron), or `class:name`.

    A layer is named as `named_modules()` names it; the second call of a reused module is `name~2`. A token that stands
    nowhere on the map is a layer of its own, `layer@cls`, whose channels are `layer:channel@cls`.
    """

    layer: str = ""
    channel: int | None = None
    position: tuple[int, int] | None = None
    class_name: str | None = None

    def __post_init__(self) -> None:
        if bool(self.layer) == (self.class_name is not None) or (self.position is not None and self.channel is None):
            raise InputError(f"{self!r} is no unit (accepted: a layer, its channel, a position of that; or a class)")

    @classmethod
    def parse(cls, text: str) -> Unit:
        """The unit that `text` names. Raises InputError for a spelling that is none."""
        if not isinstance(text, str):
            raise InputError(f"{text!r} is no unit (accepted: the text of one, as conv3:17)")
        text = text.strip()
        layer, colon, rest = text.partition(":")
        if not layer or (colon and not rest):
            raise InputError(f"{text!r} is no unit (accepted: layer, layer:channel, layer:channel@y,x, class:name)")
        if not colon:
            return cls(layer)
        if layer == "class":
            return cls(class_name=rest)
        match = _CHANNEL.fullmatch(rest)
        if match is None:
            raise InputError(
                f"{text!r} is no unit (accepted: layer:channel as in conv3:17, conv3:17@4,5 or norm:17@cls)"
            )
        position = (int(match["y"]), int(match["x"])) if match["y"] is not None else None
        token = f"@{match['token']}" if match["token"] is not None else ""
        return cls(f"{layer}{token}", int(match["channel"]), position)

    def channel_of(self, layers: Layers) -> tuple[str, int]:
        """(layer, channel) of the unit. Raises InputError if it is no channel, UnknownName if it is not there."""
        if self.channel is None or self.position is not None:
            raise InputError(f"{str(self)!r} is no channel (accepted: layer:channel as in conv3:17)")
        layer = layers.named(self.layer)
        check_place(layer.name, "channel", self.channel, range(layer.channels))
        return layer.name, self.channel

    def __str__(self) -> str:
        if self.class_name is not None:
            return f"class:{self.class_name}"
        if self.channel is None:
            return self.layer
        layer, at, token = self.layer.partition("@")
        position = "" if self.position is None else f"@{self.position[0]},{self.position[1]}"
        return f"{layer}:{self.channel}{position or at + token}"


def check_place(layer: str, what: str, value: int, accepted: range) -> None:
    """Raise UnknownName for a channel, row or column that a layer does not have."""
    if value not in accepted:
        raise UnknownName(f"no {what} {value} in layer {layer!r} (accepted: {accepted[0]} to {accepted[-1]})")
