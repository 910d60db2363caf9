"""What a diagnosis says of a network: each figure with its limit, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from netloupe.studies.diagnosis.record import DEAD, FOLDED, MIDDLE, SMALLEST, SPARE, Diagnosis
from netloupe.studies.diagnosis.spectra import HIGH, LOW

_TITLES = {
    "dead": "dead channels",
    "weights": "channels alike in their weights",
    "responses": "channels alike in their responses",
    "frequencies": "few middle frequencies in the filters",
    "aliasing": "aliasing",
}
_FAULTS = "dead and duplicate channels, missing frequencies and aliasing"
_NAMED = 6  # channels, groups or layers that a sentence names


def tell(d: Diagnosis) -> dict[str, Any]:
    """The findings and the verdict on them, as the summary has them."""
    found = findings(d)
    return {"findings": found, "verdict": verdict(found)}


def findings(d: Diagnosis) -> list[dict[str, Any]]:
    """[{kind, layer, value, limit, found, sentence}]: dead, weights and responses of the layers that have any, the
    first filters' frequencies, and the aliasing of each stride; `found` where the limit is passed."""
    return [*_dead(d), *_alike(d, "weights"), *_alike(d, "responses"), _frequencies(d), *_aliasing(d)]


def verdict(found: Sequence[dict[str, Any]]) -> str:
    """Which faults passed their limits, and where."""
    parts = []
    for kind, title in _TITLES.items():
        layers = [one["layer"] for one in found if one["kind"] == kind and one["found"]]
        if layers:
            parts.append(f"{title} in {_listed(layers)}")
    if not parts:
        return f"Of {_FAULTS} nothing is past its limit."
    return f"Of {_FAULTS}, past the limit: {'; '.join(parts)}."


def _dead(d: Diagnosis) -> Iterator[dict[str, Any]]:
    for name, layer in d.layers.items():
        if not layer.dead.any():
            continue
        channels = [str(c) for c in np.flatnonzero(layer.dead)]
        verb = "responds" if len(channels) == 1 else "respond"
        sentence = (
            f"{name}: {len(channels)} of {layer.channels} channels ({layer.dead_share:.1%}) {verb} to none of "
            f"{d.images} images ({_listed(channels)}); the limit is {DEAD:.0%}."
        )
        yield _finding("dead", name, layer.dead_share, DEAD, sentence, layer.dead_share >= DEAD)
    if not any(layer.dead.any() for layer in d.layers.values()):
        sentence = f"No channel of the {len(d.layers)} convolutions is dead over {d.images} images."
        yield _finding("dead", None, 0.0, DEAD, sentence, False)


def _alike(d: Diagnosis, how: str) -> Iterator[dict[str, Any]]:
    measured = "filters have" if how == "weights" else "responses have"
    for name, layer in d.layers.items():
        groups, spare = layer.groups(how), layer.spare(how)
        if groups:
            sentence = (
                f"{name}: {sum(map(len, groups))} of {layer.channels} channels fall into {len(groups)} "
                f"group{'s' if len(groups) > 1 else ''} whose {measured} cosines of {d.threshold} or more in size "
                f"({_listed(['+'.join(map(str, group)) for group in groups])}), so {spare:.1%} could be spared; "
                f"the limit is {SPARE:.0%}."
            )
            yield _finding(how, name, spare, SPARE, sentence, spare >= SPARE)
    if not any(layer.groups(how) for layer in d.layers.values()):
        whose = "filters" if how == "weights" else "responses"
        sentence = f"No two channels of a layer have {whose} with a cosine of {d.threshold} or more in size."
        yield _finding(how, None, 0.0, SPARE, sentence, False)


def _frequencies(d: Diagnosis) -> dict[str, Any]:
    bands = d.spectra.bands
    known = bands[bands >= 0]
    height, width = d.weights.shape[2:]
    if not len(known):
        return _finding("frequencies", d.first, None, MIDDLE, f"{d.first}: all filters are zero.", False)
    low, middle, high = ((known == i).mean() for i in range(3))
    power = d.spectra.shares[bands >= 0].mean(0)
    figures = (
        f"{d.first}: {low:.0%} of {len(known)} filters are strongest at low frequencies (below {LOW} cycles per px), "
        f"{middle:.0%} at middle ones (up to {HIGH}), {high:.0%} at high ones, with {power[0]:.0%}, {power[1]:.0%} and "
        f"{power[2]:.0%} of their power there"
    )
    if min(height, width) < SMALLEST:
        reason = f"; filters of {height}x{width} px are too small to tell these bands apart, so this is not judged."
        return _finding("frequencies", d.first, float(middle), MIDDLE, figures + reason, False)
    sentence = f"{figures}; too little is less than {MIDDLE:.0%} at middle ones by both."
    return _finding("frequencies", d.first, float(middle), MIDDLE, sentence, max(middle, power[1]) < MIDDLE)


def _aliasing(d: Diagnosis) -> Iterator[dict[str, Any]]:
    for name, each in d.aliasing.items():
        y, x = each.stride
        stride = str(y) if y == x else f"{y}x{x}"
        if not np.isfinite(each.mean):
            sentence = f"{name}: nothing varies before its stride of {stride}."
            yield _finding("aliasing", name, None, FOLDED, sentence, False)
            continue
        sentence = (
            f"{name}: a stride of {stride} folds {each.mean:.0%} of its maps' variation onto lower frequencies "
            f"(white noise: {each.rest:.0%}); the limit is {FOLDED:.0%}."
        )
        yield _finding("aliasing", name, each.mean, FOLDED, sentence, each.mean > FOLDED)
    if not d.aliasing:
        yield _finding("aliasing", None, 0.0, FOLDED, "No convolution or pooling module has a stride.", False)


def _finding(
    kind: str, layer: str | None, value: float | None, limit: float, sentence: str, found: bool
) -> dict[str, Any]:
    return {"kind": kind, "layer": layer, "value": value, "limit": limit, "found": bool(found), "sentence": sentence}


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
