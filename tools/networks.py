"""The table of `docs/networks.md`: families of timm, torchvision and transformers against every verb.

python tools/networks.py [--only NAME ...] [--verbs [VERB ...]] [--seconds N] [--publish]

Random weights, small inputs and few blocks: it shows what runs, what refuses and in which words, and how long each
takes; whether results are right is for the tests. Whatever is no result and no line of Netloupe's own is a fault, and
named so. Seconds are those of one core, so that they hold on a busy machine. What was found lies in build/networks, so
that a run goes on where it was; `--verbs --publish` writes the page of that alone.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import re
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import netloupe
from netloupe import Network
from netloupe.analysis.methods import quick_methods
from netloupe.core.errors import NetloupeError
from netloupe.core.inputs import InputSpec

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / "build" / "networks"
PAGE = ROOT / "docs" / "networks.md"


@dataclass(frozen=True)
class Family:
    """A network of a family. make: without arguments. side: of its images, px. head: where it can't be told."""

    library: str
    name: str
    make: Callable[[], nn.Module]
    side: int
    head: str | None = None

    def network(self) -> Network:
        torch.manual_seed(0)
        module = settled(self.make(), self.side)
        return Network(module, InputSpec((self.side, self.side)), head=self.head, name=self.name)


def settled(module: nn.Module, side: int) -> nn.Module:
    """The module in eval mode, its batch normalizations with the statistics of noise, and no head of zeros.

    As they are made, random weights leave some networks that hardly depend on the image, and others that overflow.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear) and not part.weight.any():
            nn.init.normal_(part.weight, std=0.02)
    norms = [part for part in module.eval().modules() if isinstance(part, _BatchNorm)]
    for norm in norms:
        norm.train()
        norm.momentum = None  # the mean over all batches, so of one that batch's own
        norm.reset_running_stats()
    if norms:
        with torch.no_grad():
            module(torch.randn(8, 3, side, side, generator=torch.Generator().manual_seed(0)))
    return module.eval()


def timm_family(name: str, side: int, head: str | None = None, **settings: Any) -> Family:
    def make() -> nn.Module:
        import timm

        module: nn.Module = timm.create_model(name, pretrained=False, **settings)
        return module

    return Family("timm", name, make, side, head)


def vision_family(name: str, side: int, head: str | None = None, **settings: Any) -> Family:
    def make() -> nn.Module:
        from torchvision.models import get_model

        _with_suppression()
        module: nn.Module = get_model(name, weights=None, **settings)
        return module

    return Family("torchvision", name, make, side, head)


def _with_suppression() -> None:
    """Let detectors run where torchvision's compiled part was built for another PyTorch: what they call, in Python."""
    from torchvision import extension
    from torchvision.ops import boxes

    if not extension._has_ops():
        boxes.nms = _suppressed
        pooled = importlib.import_module("torchvision.ops.roi_align")
        pooled._roi_align = getattr(pooled._roi_align, "__wrapped__", pooled._roi_align)  # without a compiler


def _suppressed(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Which boxes (N, 4) of left, top, right, bottom are kept, best first: none that overlaps a better one by more."""
    order = scores.argsort(descending=True, stable=True)
    low, high = torch.max(boxes[:, None, :2], boxes[:, :2]), torch.min(boxes[:, None, 2:], boxes[:, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    alike = shared / (areas[:, None] + areas - shared) > threshold
    kept: list[int] = []
    for i in order.tolist():
        if not any(bool(alike[i, k]) for k in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


def transformers_family(name: str, side: int, head: str | None = None, **settings: Any) -> Family:
    def make() -> nn.Module:
        import transformers

        kind = getattr(transformers, name)
        module: nn.Module = kind(kind.config_class(**settings))
        return module

    return Family("transformers", name, make, side, head)


SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96}
STAGES = {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]}
ONES = (1, 1, 2, 1)
TIMM = [
    timm_family("resnet18", 64), timm_family("resnet50", 64, layers=ONES), timm_family("regnety_002", 64),
    timm_family("densenet121", 64), timm_family("vgg11", 64, num_classes=10), timm_family("inception_v3", 96),
    timm_family("efficientnet_b0", 64), timm_family("mobilenetv3_small_100", 64), timm_family("ghostnet_100", 64),
    timm_family("repvgg_a0", 64), timm_family("resnest14d", 64), timm_family("dpn48b", 64),
    timm_family("hrnet_w18_small", 64), timm_family("convnext_atto", 64), timm_family("convnextv2_atto", 64),
    timm_family("edgenext_xx_small", 64), timm_family("poolformer_s12", 64), timm_family("fastvit_t8", 64),
    timm_family("vit_tiny_patch16_224", 64, img_size=64, depth=4),
    timm_family("deit_tiny_distilled_patch16_224", 64, img_size=64, depth=4),
    timm_family("deit3_small_patch16_224", 64, img_size=64, depth=3),
    timm_family("vit_small_patch14_reg4_dinov2", 56, "vector", img_size=56, depth=3),
    timm_family("vit_base_patch32_clip_224", 64, img_size=64, depth=3),
    timm_family("vit_base_patch16_siglip_224", 64, "vector", img_size=64, depth=2),
    timm_family("beit_base_patch16_224", 64, img_size=64, depth=2),
    timm_family("eva02_tiny_patch14_224", 56, "vector", img_size=56, depth=4),
    timm_family("cait_xxs24_224", 64, img_size=64, depth=4), timm_family("pit_ti_224", 64, img_size=64),
    timm_family("xcit_nano_12_p16_224", 64, img_size=64, depth=4),
    timm_family("convit_tiny", 64, img_size=64, depth=4, local_up_to_layer=2),
    timm_family("mixer_s32_224", 64, img_size=64), timm_family("resmlp_12_224", 64, img_size=64),
    timm_family("swin_tiny_patch4_window7_224", 64, img_size=64, window_size=4, depths=(2, 1, 2, 1)),
    timm_family("swinv2_tiny_window8_256", 64, img_size=64, window_size=4, depths=(2, 1, 2, 1)),
    timm_family("twins_svt_small", 64, depths=(1, 1, 2, 1)), timm_family("pvt_v2_b0", 64, depths=ONES),
    timm_family("mobilevit_xxs", 64), timm_family("coatnet_nano_rw_224", 64, img_size=64),
    timm_family("maxvit_nano_rw_256", 64, img_size=64), timm_family("davit_tiny", 64, depths=ONES),
    timm_family("focalnet_tiny_srf", 64), timm_family("hiera_tiny_224", 64, img_size=64),
    timm_family("tiny_vit_5m_224", 64), timm_family("levit_128s", 224),
]  # fmt: skip
BOXES = {"min_size": 64, "max_size": 64, "num_classes": 5, "weights_backbone": None}
PIXELS = {"weights_backbone": None, "num_classes": 5}
TORCHVISION = [
    vision_family("resnet18", 64), vision_family("mobilenet_v2", 64),
    vision_family("googlenet", 64, init_weights=False, aux_logits=False),
    vision_family("squeezenet1_1", 64), vision_family("shufflenet_v2_x0_5", 64), vision_family("convnext_tiny", 64),
    vision_family("swin_t", 64), vision_family("swin_v2_t", 64), vision_family("vit_b_32", 64, image_size=64),
    vision_family("fcn_resnet50", 64, **PIXELS), vision_family("deeplabv3_mobilenet_v3_large", 64, **PIXELS),
    vision_family("lraspp_mobilenet_v3_large", 64, **PIXELS),
    vision_family("retinanet_resnet50_fpn", 64, score_thresh=0.0, topk_candidates=20, detections_per_img=5, **BOXES),
    vision_family("fasterrcnn_mobilenet_v3_large_fpn", 64, box_score_thresh=0.0, rpn_post_nms_top_n_test=20,
                  box_detections_per_img=5, **BOXES),
]  # fmt: skip
PATCHES = {"image_size": 64, "patch_size": 16, **SMALL}
TRANSFORMERS = [
    transformers_family("ViTForImageClassification", 64, **PATCHES),
    transformers_family("ViTModel", 64, **PATCHES),
    transformers_family("DeiTForImageClassification", 64, **PATCHES),
    transformers_family("BeitForImageClassification", 64, **PATCHES),
    transformers_family("Dinov2Model", 64, image_size=64, patch_size=16, **SMALL),
    transformers_family("Dinov2WithRegistersModel", 64, image_size=64, patch_size=16, num_register_tokens=4, **SMALL),
    transformers_family("DINOv3ViTModel", 64, image_size=64, patch_size=16, num_register_tokens=4,
                        **SMALL | {"num_attention_heads": 2, "hidden_size": 48}),
    transformers_family("CLIPVisionModel", 64, **PATCHES),
    transformers_family("CLIPVisionModelWithProjection", 64, projection_dim=24, **PATCHES),
    transformers_family("SiglipVisionModel", 64, **PATCHES),
    transformers_family("SwinForImageClassification", 64, image_size=64, window_size=2, embed_dim=24,
                        depths=[2, 1, 2, 1], num_heads=[1, 2, 3, 6]),
    transformers_family("Swinv2ForImageClassification", 64, image_size=64, window_size=2, embed_dim=24,
                        depths=[2, 1, 2, 1], num_heads=[1, 2, 3, 6]),
    transformers_family("ConvNextForImageClassification", 64, **STAGES),
    transformers_family("ConvNextV2ForImageClassification", 64, **STAGES),
    transformers_family("ResNetForImageClassification", 64, embedding_size=16, **STAGES),
    transformers_family("MobileViTForImageClassification", 64, image_size=64, hidden_sizes=[24, 32, 48],
                        neck_hidden_sizes=[8, 16, 16, 24, 32, 48, 64]),
    transformers_family("SegformerForSemanticSegmentation", 64, hidden_sizes=[16, 32, 48, 64],
                        num_attention_heads=[1, 2, 3, 4], decoder_hidden_size=32, num_labels=5),
    transformers_family("DPTForDepthEstimation", 64, neck_hidden_sizes=[16, 16, 32, 32], fusion_hidden_size=16,
                        **PATCHES | {"num_hidden_layers": 4}, backbone_out_indices=[0, 1, 2, 3]),
    transformers_family("YolosForObjectDetection", 64, num_detection_tokens=5, num_labels=5,
                        **PATCHES | {"image_size": [64, 64]}),
    transformers_family("DetrForObjectDetection", 64, num_queries=5, num_labels=5, d_model=32, encoder_layers=2,
                        decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64,
                        decoder_ffn_dim=64, backbone_config={"model_type": "resnet", "out_features": ["stage4"],
                                                             "embedding_size": 16, **STAGES}),
]  # fmt: skip
FAMILIES = [*TIMM, *TORCHVISION, *TRANSFORMERS]


def photos(net: Network, count: int = 2) -> Tensor:
    return torch.rand(count, 3, *net.inputs.size, generator=torch.Generator().manual_seed(0))


def source(net: Network) -> Any:
    return netloupe.open_source("photos").first(12)


def unit(net: Network) -> str:
    """The channel of the last map that answers most to the photos: of random weights some are dead."""
    name = net.layers.last_map().name
    return f"{name}:{int(net.activations(photos(net), [name])[name].amax((0, 2, 3)).argmax())}"


def explained(net: Network) -> object:
    """By every method, the costly ones with few passes."""
    quick = partial(quick_methods, samples=2, steps=2)
    with mock.patch("netloupe.analysis.explain.measure.pick_methods", quick):
        return netloupe.explain(net, photos(net)[0], steps=4).pictures()


VERBS: dict[str, Callable[[Network], object]] = {
    "layers": lambda net: [layer.receptive_field for layer in net.layers.values()],
    "activations": lambda net: netloupe.activation_maps(net, photos(net), top=2).pictures(),
    "filters": lambda net: netloupe.filters(net).pictures(),
    "patches": lambda net: netloupe.top_patches(net, source(net), [net.layers.last_map().name], k=2),
    "neighbors": lambda net: netloupe.neighbors(net, photos(net), source(net), k=1).pictures(),
    "map": lambda net: netloupe.embed(net, source(net)).pictures(),
    "tokens": lambda net: netloupe.tokens(net, photos(net)).pictures(),
    "attention": lambda net: [weights.shape for weights in netloupe.attention(net, photos(net)).values()],
    "explain": explained,
    "occlude": lambda net: netloupe.occlude(net, photos(net)[0], windows=[net.inputs.size[0] // 2],
                                            stride=net.inputs.size[0] // 2).pictures(),
    "visualize": lambda net: netloupe.visualize(net, unit(net), steps=12, size=net.inputs.size).pictures(),
    "fool": lambda net: netloupe.fool(net, photos(net)[:1], 0, steps=2).pictures(),
    "invert": lambda net: netloupe.invert(net, photos(net)[:1], net.layers.last_map().name, steps=2).pictures(),
    "dream": lambda net: netloupe.dream(net, photos(net)[:1], net.layers.last_map().name, steps=1,
                                        octaves=1).pictures(),
    "texture": lambda net: netloupe.texture(net, photos(net)[0], steps=2).pictures(),
    "style": lambda net: netloupe.style(net, photos(net)[0], [photos(net)[1]], steps=2).pictures(),
}  # fmt: skip


class Late(BaseException):
    """It takes too long; no `except Exception` on the way takes it for a failure of the network."""


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Raise Late if it takes the processor longer."""

    def end(*_: Any) -> None:
        raise Late

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def tried(what: Callable[[], object], seconds: int) -> dict[str, Any]:
    """outcome: "works", "refuses" with its line, "slow" or "FAULT" with what was raised; seconds of the processor."""
    start = time.process_time()
    outcome, line = "works", ""
    try:
        with within(seconds), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            what()
    except NetloupeError as error:
        outcome, line = "refuses", str(error)
    except Late:
        outcome, line = "slow", f"stopped after {seconds} s"
    except Exception as error:
        outcome, line = "FAULT", f"{type(error).__name__}: {error}"
    return {"outcome": outcome, "line": line[:300], "seconds": round(time.process_time() - start, 2)}


def row(family: Family, verbs: list[str], seconds: int) -> dict[str, dict[str, Any]]:
    try:
        net = family.network()
    except Exception as error:
        return {"make": {"outcome": "absent", "line": f"{type(error).__name__}: {error}"[:300], "seconds": 0.0}}
    return {verb: tried(lambda verb=verb: VERBS[verb](net), seconds) for verb in verbs}  # type: ignore[misc]


MARKS = {"refuses": "no", "slow": "slow", "FAULT": "FAULT"}
LIBRARIES = ("torch", "timm", "torchvision", "transformers")
HEAD = """# Which networks work

Made by `python tools/networks.py --publish`, with random weights, batch normalizations that have seen noise, small
inputs and few blocks, as that file says of each network. A number is a result, and how many seconds of one core it
took; *no* is one line that says why it can't be had, and *slow* a verb that was stopped, both with the number of what
is said below the table. `explain` is by every method, with few passes of those that take many; the first `map` of a
run bears the import of what lays it out. Whether results are right is for the tests; what a result of random weights
shows means nothing. Networks that are not in the table have not been tried with this version.
"""


def page(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The table in Markdown, and what is said where there is no result."""
    made = {key: each for key, each in found.items() if "make" not in each}
    verbs = [verb for verb in VERBS if any(verb in each for each in made.values())]
    said: dict[str, list[str]] = {}
    rows = []
    for key, each in made.items():
        library, name = key.split(":")
        cells = [_cell(verb, each.get(verb), name, said) for verb in verbs]
        rows.append(f"| {name} | {library} | " + " | ".join(cells) + " |")
    table = ["| network | library | " + " | ".join(verbs) + " |", "|---" * (len(verbs) + 2) + "|", *rows]
    lines = [f"{i}. {line} ({', '.join(names)})" for i, (line, names) in enumerate(said.items(), 1)]
    parts = [HEAD, summary(made), "", *table, "", "## What is said where there is no result", "", *lines]
    return "\n".join(parts) + "\n"


def _cell(verb: str, one: dict[str, Any] | None, name: str, said: dict[str, list[str]]) -> str:
    """What stands in the table for one verb of a network; what was said is added to `said`."""
    if one is None:
        return ""
    if one["outcome"] == "works":
        return f"{one['seconds']:.1f}"
    line = f"`{verb}`: " + re.sub(rf"\b{re.escape(name)}\b", "the network", one["line"])
    said.setdefault(line, []).append(name)
    return f"{MARKS[one['outcome']]} ({list(said).index(line) + 1})"


def summary(made: dict[str, dict[str, dict[str, Any]]]) -> str:
    """How many of each outcome, how long listing layers takes, and with which versions."""
    counts = Counter(one["outcome"] for each in made.values() for one in each.values())
    words = (("works", "results"), ("refuses", "refusals"), ("slow", "too slow"), ("FAULT", "faults"))
    outcomes = ", ".join(f"{counts[outcome]} {word}" for outcome, word in words)
    longest = max((each["layers"]["seconds"] for each in made.values() if "layers" in each), default=0.0)
    versions = ", ".join(f"{name} {_version(name)}" for name in LIBRARIES if _version(name))
    return f"{len(made)} networks: {outcomes}. `layers` takes at most {longest:.1f} s. With {versions}."


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="these networks")
    parser.add_argument("--verbs", nargs="*", default=list(VERBS), choices=list(VERBS))
    parser.add_argument("--seconds", type=int, default=60, help="of the processor at most for one verb")
    parser.add_argument("--publish", action="store_true", help="write docs/networks.md")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    from torchvision_operators import define_operators

    define_operators()
    torch.set_num_threads(1)
    STATE.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for family in FAMILIES:
        if options.only and family.name not in options.only:
            continue
        path = STATE / f"{family.library}-{family.name}.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        left = [verb for verb in options.verbs if verb not in known]
        if left:
            known |= row(family, left, options.seconds)
            path.write_text(json.dumps(known))
        if not known:
            continue
        found[f"{family.library}:{family.name}"] = known
        faults = [
            f"{verb} {one['outcome']} {one['line'][:110]}" for verb, one in known.items() if one["outcome"] != "works"
        ]
        sys.stderr.write(f"{family.library}:{family.name}: " + ("; ".join(faults) or "all work") + "\n")
    if options.publish:
        PAGE.write_text(page(found))


if __name__ == "__main__":
    main()
