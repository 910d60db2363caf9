"""Netloupe, a loupe for vision networks.

>>> net = netloupe.load()
>>> net.predict(netloupe.load_images(["astronaut.png"], net.inputs.size))

Names are imported when they are first used, so that `import netloupe` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netloupe.analysis.activations import activation_maps
    from netloupe.analysis.attention.measure import attention_maps
    from netloupe.analysis.attention.weights import attention
    from netloupe.analysis.explain.measure import explain
    from netloupe.analysis.filters import filters
    from netloupe.analysis.gradients import (
        grad_cam,
        gradient,
        guided_grad_cam,
        integrated_gradients,
        saliency,
        smooth_grad,
    )
    from netloupe.analysis.layout.measure import embed
    from netloupe.analysis.neighbors import neighbors
    from netloupe.analysis.objects import locate_object
    from netloupe.analysis.occlude import occlude
    from netloupe.analysis.occlusion import occlusion
    from netloupe.analysis.patches import top_patches
    from netloupe.analysis.tokens import tokens
    from netloupe.core import objectives
    from netloupe.core.agreement import agreement
    from netloupe.core.errors import NetloupeError
    from netloupe.core.inputs import InputSpec
    from netloupe.core.network import Network
    from netloupe.core.perform import perform
    from netloupe.core.units import Unit
    from netloupe.data.images import load_image, load_images
    from netloupe.data.open import open_source
    from netloupe.data.photos import photos
    from netloupe.remake import again
    from netloupe.studies.audit.measure import audit
    from netloupe.studies.probe.measure import dense_probe
    from netloupe.sweep.engine import swept_by
    from netloupe.sweep.ray import RayEngine
    from netloupe.synthesis.dream import accentuate, dream
    from netloupe.synthesis.facets import facets
    from netloupe.synthesis.fool import fool
    from netloupe.synthesis.invert import invert
    from netloupe.synthesis.style import style
    from netloupe.synthesis.texture import texture
    from netloupe.synthesis.visualize import visualize
    from netloupe.zoo.load import load

    __version__: str

__all__ = [
    "InputSpec",
    "NetloupeError",
    "Network",
    "RayEngine",
    "Unit",
    "accentuate",
    "activation_maps",
    "again",
    "agreement",
    "attention",
    "attention_maps",
    "audit",
    "dense_probe",
    "dream",
    "embed",
    "explain",
    "facets",
    "filters",
    "fool",
    "grad_cam",
    "gradient",
    "guided_grad_cam",
    "integrated_gradients",
    "invert",
    "load",
    "load_image",
    "load_images",
    "locate_object",
    "neighbors",
    "objectives",
    "occlude",
    "occlusion",
    "open_source",
    "perform",
    "photos",
    "saliency",
    "smooth_grad",
    "style",
    "swept_by",
    "texture",
    "tokens",
    "top_patches",
    "visualize",
]

_MODULES = {
    "InputSpec": "core.inputs",
    "NetloupeError": "core.errors",
    "Network": "core.network",
    "RayEngine": "sweep.ray",
    "Unit": "core.units",
    "accentuate": "synthesis.dream",
    "again": "remake",
    "agreement": "core.agreement",
    "activation_maps": "analysis.activations",
    "attention": "analysis.attention.weights",
    "attention_maps": "analysis.attention.measure",
    "audit": "studies.audit.measure",
    "dense_probe": "studies.probe.measure",
    "dream": "synthesis.dream",
    "embed": "analysis.layout.measure",
    "explain": "analysis.explain.measure",
    "facets": "synthesis.facets",
    "filters": "analysis.filters",
    "fool": "synthesis.fool",
    "grad_cam": "analysis.gradients",
    "gradient": "analysis.gradients",
    "guided_grad_cam": "analysis.gradients",
    "integrated_gradients": "analysis.gradients",
    "invert": "synthesis.invert",
    "load": "zoo.load",
    "load_image": "data.images",
    "load_images": "data.images",
    "locate_object": "analysis.objects",
    "neighbors": "analysis.neighbors",
    "occlude": "analysis.occlude",
    "occlusion": "analysis.occlusion",
    "open_source": "data.open",
    "perform": "core.perform",
    "photos": "data.photos",
    "saliency": "analysis.gradients",
    "smooth_grad": "analysis.gradients",
    "style": "synthesis.style",
    "swept_by": "sweep.engine",
    "texture": "synthesis.texture",
    "tokens": "analysis.tokens",
    "top_patches": "analysis.patches",
    "visualize": "synthesis.visualize",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"netloupe.{_MODULES[name]}"), name)
    if name == "objectives":
        return import_module("netloupe.core.objectives")
    if name == "__version__":
        return import_module("importlib.metadata").version("netloupe")
    raise AttributeError(f"module 'netloupe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
