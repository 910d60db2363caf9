"""Quick looks: what a network takes a part of a photo for, with some of it hidden, and what one unit answers."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.baselines import baseline_images
from netloupe.core.head import NoHead
from netloupe.core.network import Network
from netloupe.core.units import Unit
from netloupe.render.pictures import from_pixels
from netloupe.studio.desk import uri
from netloupe.studio.photos import Seen
from netloupe.studio.refusal import Refused
from netloupe.studio.section import Settings, about

_TOP = 5


def look(net: Network, seen: Seen, asked: Settings) -> dict[str, Any]:
    """What the network says, and where it is wanted: `seen`, what it sees; `about`, the score of an objective;
    `unit`, what one answers. hidden, mask: what is hidden first. Raises NetloupeError.
    """
    pixels = _masked(net, seen.pixels, asked)
    wanted, unit = about(net, asked), asked.get("unit")
    with torch.no_grad():
        said = [] if isinstance(net.head, NoHead) else net.said(net(pixels), _TOP)[0]
        value = None if wanted is None else float(net.read(pixels, wanted)[0])
        answered = None if unit is None else _answer(net, pixels, unit)
    shown = uri(from_pixels(pixels[0].cpu().numpy())) if asked.get("seen") is True else None
    return {
        "top": [one.document() | {"said": str(one)} for one in said],
        "seen": shown,
        "about": value,
        "unit": answered,
    }


def _masked(net: Network, pixels: Tensor, asked: Settings) -> Tensor:
    """With the window `hidden` (top, left, bottom, right), px of the input, or the pixels of `mask` as `occlusion`
    hides them.
    """
    hidden = asked.get("hidden"), asked.get("mask")
    if hidden == (None, None):
        return pixels
    size = net.inputs.size
    where = _window(hidden[0], size) if hidden[0] is not None else _mask(hidden[1], size)
    return torch.where(torch.from_numpy(where).to(pixels.device), baseline_images(net, pixels, "mean"), pixels)


def _window(box: Any, size: tuple[int, int]) -> np.ndarray:
    sides = box if isinstance(box, list) else []
    if len(sides) != 4 or not all(isinstance(side, int) and 0 <= side <= 1 << 16 for side in sides):
        raise Refused(f"hidden {box!r} (accepted: [top, left, bottom, right] px of the input)")
    top, left, bottom, right = sides
    where = np.zeros(size, bool)
    where[top:bottom, left:right] = True
    return where


def _mask(packed: Any, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of the bits of its pixels, row by row, the highest bit of a byte first, in base64."""
    count = size[0] * size[1]
    try:
        raw = np.frombuffer(base64.b64decode(packed if isinstance(packed, str) else "!", validate=True), np.uint8)
    except (binascii.Error, ValueError):
        raw = np.zeros(0, np.uint8)
    if len(raw) != -(-count // 8):
        raise Refused(f"mask of {len(raw)} bytes (accepted: {-(-count // 8)} in base64, a bit for each pixel)")
    return np.unpackbits(raw)[:count].reshape(size).astype(bool)


def _answer(net: Network, pixels: Tensor, address: Any) -> dict[str, Any]:
    """A channel's peak: its value, and the box (top, left, bottom, right) of the input that is shown for it."""
    name, channel = Unit.parse(address).channel_of(net.layers)
    layer = net.layers[name]
    values = net.activations(pixels, [name])[name][0, channel]
    y, x = divmod(int(values.flatten().argmax()), values.shape[1]) if values.ndim == 2 else (0, 0)
    return {"value": float(values.max()), "position": [y, x], "box": list(layer.patch(y, x, net.inputs.size))}
