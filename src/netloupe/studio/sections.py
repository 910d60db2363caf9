"""What the studio does with a photo: each section is a technique of the library, and what is told of its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from netloupe.analysis.activations import activation_maps
from netloupe.analysis.attention.placed import attentions
from netloupe.analysis.attention.task import AttentionTask
from netloupe.analysis.explain.measure import explain
from netloupe.analysis.explain.target import find_target
from netloupe.analysis.explain.task import Explain
from netloupe.analysis.methods import METHODS
from netloupe.analysis.occlusion import occlusion
from netloupe.analysis.tasks import Activations, Occlude, TokensTask
from netloupe.core.network import Network
from netloupe.render.colors import enlarged, heat, overlay, strength
from netloupe.studio import dreaming, fooling, keeping, painting
from netloupe.studio.colors import colored, colors
from netloupe.studio.desk import Job, uri
from netloupe.studio.faceting import FACETS
from netloupe.studio.growing import GROW
from netloupe.studio.looks import looked, looks
from netloupe.studio.photos import Seen
from netloupe.studio.section import Section, Settings, about, whole

CHANNELS = 8  # of a layer
_LAYERS = 12  # at most, spread evenly over the network


def shown_layers(net: Network) -> list[str]:
    """The layers whose maps are shown: a transformer's blocks, else convolutions; where these hardly are, all maps."""
    found = net.layers.stage_ends(_LAYERS).maps() if attentions(net) else net.layers.convolutions()
    return list((found if len(found) > 1 else net.layers.maps()).evenly(_LAYERS))


def _layers(net: Network, seen: Seen, settings: Mapping[str, Any], job: Job) -> dict[str, Any]:
    found = activation_maps(net, seen.pixels, shown_layers(net), top=CHANNELS, watch=job)
    rows = []
    for layer, maps in found.maps.items():
        channels = found.strongest(layer, 0)
        peaks = [float(maps[0, c].max()) for c in channels]
        sheet = heat(np.concatenate(list(maps[0, channels]), axis=1), peaks[0])
        rows.append({"layer": layer, "channels": channels, "peaks": peaks, "sheet": uri(sheet)})
    return {"rows": rows}


def _pixels(net: Network, seen: Seen, settings: Mapping[str, Any], job: Job) -> dict[str, Any]:
    found = explain(net, seen.pixels, about(net, settings), photo=seen.shown, watch=job)
    figures = found.summary()["methods"]
    return {"figures": figures, "chance": found.summary()["by_chance"], "rival": found.target.rival_title or None}


def _hide(net: Network, seen: Seen, settings: Mapping[str, Any], job: Job) -> dict[str, Any]:
    window, stride = _window(net, settings)
    read = find_target(net, seen.pixels, about(net, settings)).curve
    found = occlusion(net, seen.pixels, read, window, stride, watch=job)
    rows, columns = found.windows.spans
    heat_of = found.heat()[0]
    cost = enlarged(heat_of, seen.shown.shape[:2])
    return {
        "clean": float(found.clean[0]),
        "scores": found.scores[0].tolist(),
        "rows": rows,
        "columns": columns,
        "heat": heat_of.tolist() if heat_of.size <= 64 * 64 else None,
        "overlay": uri(overlay(seen.shown, cost, signed=True)),
        "strongest": strength(cost),
        "method": found.method,
    }


def _window(net: Network, settings: Settings) -> tuple[int, int]:
    """Its side and the step from one to the next, px."""
    side = min(net.inputs.size)
    window = whole(settings, "window", max(2, round(side / 7)), 2, side)
    return window, whole(settings, "stride", max(1, window // 2), max(1, side // 56), window)


def _shown(net: Network, settings: Settings) -> Activations:
    return Activations.of({"layers": shown_layers(net), "top": CHANNELS})


def _explained(net: Network, settings: Settings) -> Explain:
    return Explain.of({"objective": settings.get("about")})


def _hidden(net: Network, settings: Settings) -> Occlude:
    window, stride = _window(net, settings)
    told = {"windows": [[window, window]], "stride": [stride, stride], "first": 0}
    return Occlude.of({"objective": settings.get("about"), **told})


def _about(task: Explain) -> Settings:
    return {"about": task.objective}


def _hiding(task: Occlude) -> Settings | None:
    """For the page, which hides by one square window."""
    sides = (task.windows or ((0, 0),))[0]
    return {"about": task.objective, "window": sides[0] or None}


SECTIONS: dict[str, Section] = {
    "layers": Section("Layer by layer", Activations, _layers, kept=_shown, back=lambda task: {}),
    "looks": Section("Where tokens look", AttentionTask, looks, kept=looked),
    "colors": Section("Positions in color", TokensTask, colors, kept=colored),
    "pixels": Section("Which pixels matter", Explain, _pixels, until="maps", kept=_explained, back=_about),
    "hide": Section("Hide parts", Occlude, _hide, kept=_hidden, back=_hiding),
    "rival": Section("Which pixels matter", Explain, _pixels, until="maps"),  # of another class, beside
    "fool": fooling.SECTION,
    "keep": keeping.SECTION,
    "dream": dreaming.SECTION,
    "paint": painting.PAINT,
    "like": painting.LIKENESS,
    "grow": GROW,
    "facets": FACETS,
}


def methods() -> list[dict[str, Any]]:
    """What the page tells of the attribution methods."""
    return [{"name": m.name, "title": m.title, "paper": m.paper, "signed": m.signed} for m in METHODS.values()]
