"""From what the colors of a file mean to sRGB: ICC profiles and the gamma of PNG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from netloupe.core.errors import NetloupeWarning

_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_SAME = 2  # levels of 255 by which a profile may differ from sRGB and be it
_GAMMA = 1 / 2.2  # as PNGs write that of sRGB, rounded in several ways
_NEAR = 0.01


def in_srgb(image: Image.Image, about: Mapping[str, Any], name: str) -> Image.Image:
    """An image in mode RGB, L or CMYK as sRGB, in mode RGB or, if it was that, L.

    about: what the file says of its colors, as Pillow's `info`. A profile counts before gamma, as in PNG; nothing is
    taken for sRGB. A profile that can't be used is said by a warning.
    """
    profile = about.get("icc_profile")
    if profile:
        found = _converted(image, bytes(profile), name)
        if found is not None:
            return found
    elif _curved(about):
        return image.point([round(255 * v) for v in _linear_to_srgb(_ramp() ** (1 / about["gamma"]))] * _bands(image))
    return image if image.mode in ("RGB", "L") else image.convert("RGB")


def gray_in_srgb(values: np.ndarray, about: Mapping[str, Any], name: str) -> np.ndarray:
    """The same of gray values in [0, 1], of any shape and fineness."""
    profile = about.get("icc_profile")
    if profile:
        ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
        found = _converted(ramp, bytes(profile), name)
        curve = None if found is None else np.asarray(found)[0] / 255
    else:
        curve = _linear_to_srgb(_ramp() ** (1 / about["gamma"])) if _curved(about) else None
    return values if curve is None else np.interp(values, _ramp(), curve).astype(np.float32)


def _ramp() -> np.ndarray:
    return np.linspace(0, 1, 256)


def _bands(image: Image.Image) -> int:
    return len(image.getbands())


def _curved(about: Mapping[str, Any]) -> bool:
    """Whether the file states a gamma other than that of sRGB."""
    gamma = about.get("gamma")
    return isinstance(gamma, float) and gamma > 0 and "srgb" not in about and abs(gamma - _GAMMA) > _NEAR


def _linear_to_srgb(light: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _converted(image: Image.Image, profile: bytes, name: str) -> Image.Image | None:
    """The image in sRGB; None where the profile is that, or can't be used."""
    mode, transform = _transform(profile)
    if mode is None:
        text = "its color profile can't be read, so its colors are taken for sRGB"
        warnings.warn(f"{name}: {text}", NetloupeWarning, stacklevel=2)
        return None
    if transform is None:
        return None
    gray = image.mode == "L"
    given = image if image.mode == mode else image.convert(mode)
    made = ImageCms.applyTransform(given, transform)
    return made.convert("L") if gray and made is not None else made


@lru_cache(maxsize=64)
def _transform(profile: bytes) -> tuple[str | None, ImageCms.ImageCmsTransform | None]:
    """(mode of the images it is for, the step to sRGB); no mode for a profile that can't be used, no step for sRGB."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _SPACES.get(source.profile.xcolor_space.strip())
        if mode is None:
            return None, None
        step = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        return mode, None if mode == "RGB" and _changes_nothing(step) else step
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None, None


def _changes_nothing(step: ImageCms.ImageCmsTransform) -> bool:
    """Whether a step from RGB gives back the colors it is given, of all over the cube."""
    side = np.arange(0, 256, 15, dtype=np.uint8)
    cube = np.stack(np.meshgrid(side, side, side, indexing="ij"), -1).reshape(1, -1, 3)
    found = ImageCms.applyTransform(Image.fromarray(cube), step)
    return bool(np.abs(np.asarray(found).astype(int) - cube).max() <= _SAME)
