"""The table of `docs/networks.md`: families of timm, torchvision and transformers against every verb.

python tools/networks.py [--only NAME ...] [--verbs VERB ...] [--seconds N] [--publish]

Random weights and small inputs: it shows what runs, what refuses and in which words, and how long each takes; whether
results are right is for the tests. Whatever is no result and no line of Netloupe's own is a fault, and named so.
What was found lies in build/networks, so that a run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import netloupe
from netloupe import Network
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
        return Network(self.make().eval(), InputSpec((self.side, self.side)), head=self.head, name=self.name)


def timm_family(name: str, side: int, **settings: Any) -> Family:
    def make() -> nn.Module:
        import timm

        module: nn.Module = timm.create_model(name, pretrained=False, **settings)
        return module

    return Family("timm", name, make, side)


def vision_family(name: str, side: int, head: str | None = None, **settings: Any) -> Family:
    def make() -> nn.Module:
        from torchvision.models import get_model

        module: nn.Module = get_model(name, weights=None, **settings)
        return module

    return Family("torchvision", name, make, side, head)


def transformers_family(name: str, side: int, head: str | None = None, **settings: Any) -> Family:
    def make() -> nn.Module:
        import transformers

        kind = getattr(transformers, name)
        module: nn.Module = kind(kind.config_class(**settings))
        return module

    return Family("transformers", name, make, side, head)


SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96}
TIMM = [
    timm_family("resnet18", 64), timm_family("regnety_002", 64), timm_family("densenet121", 64),
    timm_family("efficientnet_b0", 64), timm_family("mobilenetv3_small_100", 64), timm_family("vgg11", 64),
    timm_family("ghostnet_100", 64), timm_family("repvgg_a0", 64), timm_family("resnest14d", 64),
    timm_family("inception_v3", 96), timm_family("dpn48b", 64), timm_family("hrnet_w18_small", 64),
    timm_family("convnext_atto", 64), timm_family("convnextv2_atto", 64), timm_family("edgenext_xx_small", 64),
    timm_family("poolformer_s12", 64), timm_family("efficientformer_l1", 224), timm_family("fastvit_t8", 64),
    timm_family("vit_tiny_patch16_224", 64, img_size=64),
    timm_family("deit_tiny_distilled_patch16_224", 64, img_size=64),
    timm_family("deit3_small_patch16_224", 64, img_size=64),
    timm_family("vit_small_patch14_reg4_dinov2", 56, img_size=56, num_classes=10),
    timm_family("vit_xsmall_patch16_clip_224", 64, img_size=64), timm_family("eva02_tiny_patch14_224", 56, img_size=56),
    timm_family("cait_xxs24_224", 64, img_size=64), timm_family("xcit_nano_12_p16_224", 64),
    timm_family("mixer_s32_224", 224), timm_family("resmlp_12_224", 224), timm_family("convit_tiny", 64, img_size=64),
    timm_family("swin_tiny_patch4_window7_224", 64, img_size=64, window_size=4),
    timm_family("swinv2_tiny_window8_256", 64, img_size=64, window_size=4), timm_family("twins_svt_small", 64),
    timm_family("pvt_v2_b0", 64), timm_family("mobilevit_s", 64), timm_family("coatnet_nano_rw_224", 64, img_size=64),
    timm_family("maxvit_nano_rw_256", 64, img_size=64), timm_family("levit_128s", 224), timm_family("davit_tiny", 64),
    timm_family("focalnet_tiny_srf", 64), timm_family("hiera_tiny_224", 224),
    timm_family("tiny_vit_5m_224", 64, img_size=64),
]  # fmt: skip
TORCHVISION = [
    vision_family("resnet18", 64), vision_family("convnext_tiny", 64), vision_family("swin_t", 64),
    vision_family("vit_b_32", 64, image_size=64), vision_family("squeezenet1_1", 64),
    vision_family("fcn_resnet50", 64, weights_backbone=None, num_classes=5),
    vision_family("deeplabv3_mobilenet_v3_large", 64, weights_backbone=None, num_classes=5),
    vision_family("lraspp_mobilenet_v3_large", 64, weights_backbone=None, num_classes=5),
]  # fmt: skip
TRANSFORMERS = [
    transformers_family("ViTForImageClassification", 64, image_size=64, patch_size=16, **SMALL),
    transformers_family("ViTModel", 64, image_size=64, patch_size=16, **SMALL),
    transformers_family("Dinov2Model", 56, image_size=56, patch_size=14, hidden_size=48, num_hidden_layers=3,
                        num_attention_heads=3),
    transformers_family("CLIPVisionModelWithProjection", 64, "vector", image_size=64, patch_size=16, projection_dim=24,
                        **SMALL),
    transformers_family("SiglipVisionModel", 64, image_size=64, patch_size=16, **SMALL),
    transformers_family("SwinForImageClassification", 64, image_size=64, window_size=2, embed_dim=24,
                        depths=[1, 1, 2, 1]),
    transformers_family("ConvNextForImageClassification", 64, hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 2, 1]),
    transformers_family("ResNetForImageClassification", 64, embedding_size=16, hidden_sizes=[16, 24, 32, 48],
                        depths=[1, 1, 1, 1]),
    transformers_family("SegformerForSemanticSegmentation", 64, "maps", hidden_sizes=[16, 24, 32, 48], num_labels=5),
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


VERBS: dict[str, Callable[[Network], object]] = {
    "layers": lambda net: [layer.receptive_field for layer in net.layers.values()],
    "activations": lambda net: netloupe.activation_maps(net, photos(net), top=2).pictures(),
    "filters": lambda net: netloupe.filters(net).pictures(),
    "patches": lambda net: netloupe.top_patches(net, source(net), [net.layers.last_map().name], k=2),
    "neighbors": lambda net: netloupe.neighbors(net, photos(net), source(net), k=1).pictures(),
    "map": lambda net: netloupe.embed(net, source(net)).pictures(),
    "tokens": lambda net: netloupe.tokens(net, photos(net)).pictures(),
    "attention": lambda net: [weights.shape for weights in netloupe.attention(net, photos(net)).values()],
    "explain": lambda net: netloupe.explain(net, photos(net)[0]).pictures(),
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
    """Raise Late if it takes longer."""

    def end(*_: Any) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tried(what: Callable[[], object], seconds: int) -> dict[str, Any]:
    """outcome: "works", "refuses" with its line, "slow" or "FAULT" with what was raised; seconds that it took."""
    start = time.monotonic()
    outcome, line = "works", ""
    try:
        with within(seconds), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            what()
    except NetloupeError as error:
        outcome, line = "refuses", str(error)
    except Late:
        outcome, line = "slow", f"over {seconds} s"
    except Exception as error:
        outcome, line = "FAULT", f"{type(error).__name__}: {error}"
    return {"outcome": outcome, "line": line[:300], "seconds": round(time.monotonic() - start, 2)}


def row(family: Family, verbs: list[str], seconds: int) -> dict[str, dict[str, Any]]:
    try:
        net = family.network()
    except Exception as error:
        return {"make": {"outcome": "absent", "line": f"{type(error).__name__}: {error}"[:300], "seconds": 0.0}}
    return {verb: tried(lambda verb=verb: VERBS[verb](net), seconds) for verb in verbs}  # type: ignore[misc]


MARKS = {"works": "yes", "refuses": "no", "slow": "slow", "FAULT": "FAULT"}
HEAD = """# Which networks work

Made by `python tools/networks.py --publish`, with random weights and small inputs: *yes* is a result, *no* one line
that says why it can't be had (below the table), in brackets the seconds of `layers`. Whether results are right is for
the tests; what a result of random weights shows means nothing. *slow* is over a
minute on a busy machine. Networks that are not in the table have not been tried with this version.
"""


def page(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The table in Markdown, and the refusals below it."""
    verbs = [verb for verb in VERBS if any(verb in each for each in found.values())]
    lines = [HEAD, "| network | library | " + " | ".join(verbs) + " |", "|---" * (len(verbs) + 2) + "|"]
    refusals: dict[str, list[str]] = {}
    for key, each in found.items():
        if "make" in each:
            continue
        library, name = key.split(":")
        cells = []
        for verb in verbs:
            one = each.get(verb)
            mark = "" if one is None else MARKS[one["outcome"]]
            cells.append(f"{mark} ({one['seconds']:.1f})" if one is not None and verb == "layers" else mark)
            if one is not None and one["outcome"] in ("refuses", "FAULT"):
                line = re.sub(rf"\b{re.escape(name)}\b", "the network", one["line"])
                refusals.setdefault(f"`{verb}`: {line}", []).append(name)
        lines.append(f"| {name} | {library} | " + " | ".join(cells) + " |")
    lines += ["", "## What is said where it is no", ""]
    lines += [f"- {line} ({', '.join(names)})" for line, names in refusals.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="these networks")
    parser.add_argument("--verbs", nargs="*", default=list(VERBS), choices=list(VERBS))
    parser.add_argument("--seconds", type=int, default=60, help="at most for one verb")
    parser.add_argument("--publish", action="store_true", help="write docs/networks.md")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    from torchvision_operators import define_operators

    define_operators()
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
        found[f"{family.library}:{family.name}"] = known
        faults = [
            f"{verb} {one['outcome']} {one['line'][:110]}" for verb, one in known.items() if one["outcome"] != "works"
        ]
        sys.stderr.write(f"{family.library}:{family.name}: " + ("; ".join(faults) or "all work") + "\n")
    if options.publish:
        PAGE.write_text(page(found))


if __name__ == "__main__":
    main()
