"""A cancelled run leaves nothing behind, in the network or in any random state, and the next one is the same."""

from __future__ import annotations

import importlib
import inspect
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode

from netloupe import objectives as obj
from netloupe.analysis.explain.measure import explain
from netloupe.analysis.layout.arrangement import arrange
from netloupe.analysis.layout.embedding import embed_vectors
from netloupe.analysis.layout.measure import embed
from netloupe.analysis.neighbors import neighbors
from netloupe.analysis.occlude import occlude
from netloupe.analysis.occlusion import occlusion
from netloupe.analysis.patches import project_patches, top_patches
from netloupe.core.errors import Cancelled
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.watch import SILENT, Watch
from netloupe.data.sources import ImageSource
from netloupe.studies.ablation.measure import ablation
from netloupe.studies.audit.measure import audit
from netloupe.studies.correspondence.measure import correspondence
from netloupe.studies.diagnosis.measure import diagnose
from netloupe.studies.generalization.measure import generalization
from netloupe.studies.invariance.measure import invariance
from netloupe.studies.trust.measure import trust
from netloupe.synthesis.dream import accentuate, dream
from netloupe.synthesis.facets import facets
from netloupe.synthesis.fool import fool
from netloupe.synthesis.invert import invert
from netloupe.synthesis.sampling import grown, quilted, swept
from netloupe.synthesis.style import style
from netloupe.synthesis.texture import texture
from netloupe.synthesis.visualize import visualize
from sweep_helpers import source_of
from watch_helpers import Recorder

SIDE = 16


@dataclass(frozen=True)
class Given:
    """What the techniques run on."""

    net: Network
    images: Tensor
    source: ImageSource


@cache
def given() -> Given:
    """A network with buffers, a dropout and modules in either mode; labeled images, some of them broken."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3, stride=2, padding=1), nn.ReLU(),
        nn.Dropout(0.5), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 3),
    )  # fmt: skip
    module.train()
    net = Network(module, InputSpec((SIDE, SIDE)), ["a", "b", "c"], name="small")
    assert net.layers  # probes once
    assert net.runs_channels_last  # too
    module[1].train()
    pixels = np.random.default_rng(0).integers(0, 256, (30, SIDE, SIDE, 3), dtype=np.uint8)
    images = torch.from_numpy(pixels[:3]).permute(0, 3, 1, 2).float() / 255
    return Given(net, images.contiguous(), source_of(pixels, [i % 3 for i in range(30)], broken=[7]))


def patches(on: Given, watch: Watch) -> Any:
    top = top_patches(on.net, on.source, ["0", "3"], 2, batch_size=8, watch=watch)
    return project_patches(on.net, top.only("3", 1), watch=watch)


def embedded(on: Given, watch: Watch) -> Any:
    return embed(on.net, on.source, "3", watch=watch)


def by_vectors(on: Given, watch: Watch) -> Any:
    return embed_vectors(np.random.default_rng(0).normal(size=(24, 6)), watch=watch).points


def arranged(on: Given, watch: Watch) -> Any:
    return arrange(np.random.default_rng(0).normal(size=(900, 2)), exact=False, watch=watch).cells


def corresponding(on: Given, watch: Watch) -> Any:
    parts = {name: np.full((3, 2), place) for name, place in (("eye", 5.0), ("nose", 9.0))}
    return correspondence(on.net, on.images, parts, ["3"], draws=2, watch=watch)


RUNS: Mapping[str, Callable[[Given, Watch], Any]] = {
    "patches": patches,
    "neighbors": lambda on, watch: neighbors(on.net, on.images, on.source, "3", 2, watch=watch),
    "embed": embedded,
    "embed vectors": by_vectors,
    "arrange": arranged,
    "explain": lambda on, watch: explain(on.net, on.images[0], steps=2, watch=watch),
    "occlusion": lambda on, watch: occlusion(on.net, on.images, "class:a", 4, 4, watch=watch),
    "occlusion in full passes": lambda on, watch: occlusion(
        on.net, on.images, "class:a", 4, 4, incremental=False, batch_size=5, watch=watch
    ),
    "occlusion panels": lambda on, watch: occlude(on.net, on.images[0], data=on.source, watch=watch),
    "visualize": lambda on, watch: visualize(on.net, ["0:1", "3:2", "class:a"], steps=4, batch_size=2, watch=watch),
    "fool": lambda on, watch: fool(on.net, on.images, "b", steps=6, watch=watch),
    "invert": lambda on, watch: invert(on.net, on.images, "3", steps=4, watch=watch),
    "dream": lambda on, watch: dream(on.net, on.images, "3", octaves=2, steps=3, frames=2, watch=watch),
    "accentuate": lambda on, watch: accentuate(on.net, on.images, obj.channel("3", 1), "0", steps=4, watch=watch),
    "style": lambda on, watch: style(
        on.net, on.images[:1], on.images[1], layers=["0"], content_layers=["3"], sizes=2, steps=3, watch=watch
    ),
    "texture": lambda on, watch: texture(on.net, on.images[0], layers=["0", "3"], sizes=1, steps=4, watch=watch),
    "grown": lambda on, watch: grown(on.images[0], (14, 14), window=5, watch=watch),
    "swept": lambda on, watch: swept(on.images[0], (14, 14), window=3, watch=watch),
    "quilted": lambda on, watch: quilted(on.images[0], (24, 24), watch=watch),
    "facets": lambda on, watch: facets(on.net, ["0:1"], on.source, 2, images=6, steps=4, watch=watch),
    "ablation": lambda on, watch: ablation(on.net, on.images, layers=["0", "3"], watch=watch),
    "correspondence": corresponding,
    "diagnosis": lambda on, watch: diagnose(on.net, on.source, watch=watch),
    "generalization": lambda on, watch: generalization(
        on.net, on.source, layers=["3"], per_class=[4], folds=2, epochs=1, watch=watch
    ),
    "invariance": lambda on, watch: invariance(on.net, on.source, ["3"], steps=3, watch=watch),
    "trust": lambda on, watch: trust(
        on.net, on.images, methods=["gradient", "grad_cam"], count=2, steps=2, watch=watch
    ),
    "audit": lambda on, watch: audit(on.net, on.source, watch=watch),
}
SHOWING = ("visualize", "invert", "dream", "accentuate", "style", "texture", "grown", "swept", "quilted")


def arrays(found: Any) -> dict[str, np.ndarray]:
    if isinstance(found, Tensor | np.ndarray):
        return {"": np.asarray(found)}
    return dict(found.arrays())


@cache
def undisturbed(name: str) -> tuple[dict[str, np.ndarray], list[tuple[str, int, int]]]:
    """What a run finds, and what its watch hears."""
    watch = Recorder()
    return arrays(RUNS[name](given(), watch)), watch.told


def state(net: Network) -> dict[str, Any]:
    """All that a run could leave changed, but for the parameters' gradients."""
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), len(m._backward_pre_hooks))
        for m in net.module.modules()
    ]
    return {
        "hooks": hooks,
        "modes": [m.training for m in net.module.modules()],
        "wanted gradients": [p.requires_grad for p in net.module.parameters()],
        "weights and buffers": {name: value.numpy().tobytes() for name, value in net.module.state_dict().items()},
        "random": (torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()),
        "torch": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_num_threads()),
        "function modes": len(_get_current_function_mode_stack()),
        "dispatch mode": _get_current_dispatch_mode(),
    }


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k], equal_nan=True) for k in one)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", RUNS)
def test_a_cancelled_run_leaves_nothing_behind(name: str) -> None:
    on = given()
    wanted, told = undisturbed(name)
    assert wanted
    before = state(on.net)
    for at in sorted({1, 2, max(1, len(told) // 2), len(told)}):
        watch = Recorder(at)
        with pytest.raises(Cancelled):
            RUNS[name](on, watch)
        assert watch.told == told[:at], "it went on"
        after = state(on.net)
        assert [key for key in before if before[key] != after[key]] == []
    assert same(arrays(RUNS[name](on, SILENT)), wanted)


@pytest.mark.parametrize("name", RUNS)
def test_every_part_begins_at_nothing_never_goes_back_and_ends(name: str) -> None:
    parts: dict[str, list[tuple[int, int]]] = {}
    for part, done, total in undisturbed(name)[1]:
        parts.setdefault(part, []).append((done, total))
    assert parts
    for part, steps in parts.items():
        again = sum(done == 0 for done, _ in steps)
        back = sum(now < before for (before, _), (now, _) in pairwise(steps))
        assert steps[0][0] == 0, part
        assert back <= again, part  # a second run of that name
        assert all(0 <= done <= total for done, total in steps), part
        if part not in (
            "grid",
            "spectra",
        ):  # which ends where it has settled, and which does not count the broken image
            assert steps[-1][0] == steps[-1][1], part


@pytest.mark.parametrize("name", SHOWING)
def test_watching_pictures_form_changes_nothing(name: str) -> None:
    watch = Recorder(pictures=True)
    longer = {
        "visualize": lambda w: visualize(given().net, ["0:1", "3:2"], steps=20, batch_size=1, watch=w),
        "invert": lambda w: invert(given().net, given().images, "3", steps=20, watch=w),
        "dream": lambda w: dream(given().net, given().images, "3", octaves=2, steps=9, watch=w),
        "accentuate": lambda w: accentuate(given().net, given().images, obj.channel("3", 1), "0", steps=20, watch=w),
        "style": lambda w: style(given().net, given().images[:1], given().images[1], steps=9, every=3, watch=w),
        "texture": lambda w: texture(given().net, given().images[0], sizes=1, steps=20, watch=w),
    }
    run = longer.get(name, lambda w: RUNS[name](given(), w))
    assert same(arrays(run(watch)), arrays(run(SILENT)))
    assert watch.shown
    for shown, image in watch.shown:
        assert shown.startswith("image ")
        assert image.ndim == 3
        assert bool((image >= 0).all() and (image <= 1).all())
    assert not torch.equal(watch.shown[0][1], watch.shown[-1][1])


VERBS = [
    "analysis.explain.measure:explain",
    "analysis.layout.measure:embed",
    "analysis.neighbors:neighbors",
    "analysis.occlude:occlude",
    "analysis.occlusion:occlusion",
    "analysis.patches:project_patches",
    "analysis.patches:top_patches",
    "atlas.build:build",
    "atlas.export:export",
    "stylenet.apply:apply_styles",
    "studies.ablation.measure:ablation",
    "studies.audit.measure:audit",
    "studies.correspondence.measure:correspondence",
    "studies.diagnosis.measure:diagnose",
    "studies.evolution.measure:evolution",
    "studies.generalization.measure:generalization",
    "studies.invariance.measure:invariance",
    "studies.retraining.measure:retraining",
    "studies.trust.measure:trust",
    "synthesis.dream:accentuate",
    "synthesis.dream:dream",
    "synthesis.facets:facets",
    "synthesis.fool:fool",
    "synthesis.invert:invert",
    "synthesis.style:style",
    "synthesis.texture:texture",
    "synthesis.visualize:visualize",
    "training.models:train_model",
    "training.styles:train_styles",
]


@pytest.mark.parametrize("name", VERBS)
def test_every_long_verb_takes_a_watch(name: str) -> None:
    module, function = name.split(":")
    taken = inspect.signature(getattr(importlib.import_module(f"netloupe.{module}"), function)).parameters["watch"]
    assert taken.default is SILENT
    assert taken.kind is inspect.Parameter.KEYWORD_ONLY


def test_nothing_else_is_told_of_progress() -> None:
    source = Path(__file__).parents[1] / "src" / "netloupe"
    assert [p for p in source.rglob("*.py") if "progress:" in p.read_text(encoding="utf-8")] == []
