"""Texture and style: speed beside neural-style, how near textures come, and the network that ships.

    pip install --no-deps torchvision==0.28.0 neural-style==0.5.7

The peer climbs the same objective from the same photo with the same optimizer and number of steps, on VGG-19 with
random weights, which don't change how long a step takes. Its time of a step is the difference between a long and a
short run, so that loading does not count; so is ours. Both results are scored by one function, in float32.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import publish, table, time_interleaved
from PIL import Image
from torch import Tensor, nn

import netloupe
from netloupe import InputSpec, Network
from netloupe.core.moments import gram
from netloupe.data.images import fit, to_float
from netloupe.stylenet.model import StyleModel, load_styles
from netloupe.synthesis.octaves import scaled
from netloupe.synthesis.optimizers import Adam
from netloupe.synthesis.statistics import Statistics
from netloupe.synthesis.statistics import statistics as measure
from netloupe.synthesis.style import style
from netloupe.synthesis.texture import texture
from netloupe.training.recipes import StylizerRecipe
from netloupe.training.stylizer import Judge

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from torchvision_operators import define_operators

SIZE, SHORT, LONG = 256, 4, 24
STYLE_LAYERS = {"features.1": 64, "features.6": 128, "features.11": 256, "features.20": 512, "features.29": 512}
CONTENT_LAYER = "features.22"  # relu4_2
CONTENT_WEIGHT, STYLE_WEIGHT = 5.0, 100.0  # the peer's own
MEAN = (123.68, 116.779, 103.939)
PHOTOS = ("cat", "astronaut", "china", "coffee", "rocket")
TEXTURES = ("brick", "grass", "gravel")


def photo(name: str, size: Any) -> Tensor:
    source = netloupe.photos()
    return to_float(fit(source.open(list(source.names).index(f"{name}/full")).convert("RGB"), size))


# --- beside the peer


def vgg() -> nn.Module:
    define_operators()
    import torchvision.models

    torch.manual_seed(0)
    return torchvision.models.vgg19(weights=None).eval()


def as_network(module: nn.Module) -> Network:
    """With colors in our order, and pixels as the peer scales them."""
    own = vgg()
    own.load_state_dict(module.state_dict())
    with torch.no_grad():
        own.features[0].weight.copy_(module.features[0].weight[:, [2, 1, 0]])
    return Network(own, InputSpec((224, 224), mean=MEAN, std=(1.0,), range=(0.0, 256.0)), name="vgg19")


class Peer:
    """neural-style, run by its own `main` in this process."""

    def __init__(self, folder: Path, module: nn.Module, content: Tensor, painted: Tensor) -> None:
        self.folder = folder
        state = {name: value for name, value in module.state_dict().items() if name.startswith("features")}
        torch.save(state, folder / "vgg19.pth")
        for name, image in (("content", content), ("style", painted)):
            Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(folder / f"{name}.png")
        arguments = [
            "neural-style", "-content_image", str(folder / "content.png"), "-style_image", str(folder / "style.png"),
            "-model_file", str(folder / "vgg19.pth"), "-disable_check", "-gpu", "c", "-backend", "mkl", "-init",
            "image", "-optimizer", "adam", "-learning_rate", "1", "-tv_weight", "0", "-image_size", str(SIZE),
            "-print_iter", "0", "-save_iter", "0", "-output_image", str(folder / "out.png"),
        ]  # fmt: skip
        kept, sys.argv = sys.argv, arguments
        try:
            from neural_style import neural_style as peer
        finally:
            sys.argv = kept
        self.peer, self.result = peer, torch.zeros(0)
        finish = peer.deprocess

        def deprocess(tensor: Tensor) -> Any:
            self.result = tensor.detach().clone()
            return finish(tensor)

        peer.deprocess = deprocess

    def run(self, steps: int) -> None:
        self.peer.params.num_iterations = steps
        with contextlib.redirect_stdout(io.StringIO()):
            self.peer.main()

    def image(self) -> Tensor:
        """(1, 3, H, W) in [0, 1], not cut off."""
        mean = torch.tensor(MEAN[::-1]).view(3, 1, 1)
        return ((self.result + mean) / 256).flip(1)


def beside_peer(rounds: int) -> tuple[list[dict[str, str]], dict[str, Any]]:
    module = vgg()
    net = as_network(module)
    content, painted = photo("cat", (SIZE, SIZE)), photo("tissue", (SIZE, SIZE))
    content, painted = ((image * 255).round() / 255 for image in (content, painted))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        features = net.activations(content[None], [CONTENT_LAYER])[CONTENT_LAYER]
        looks = {name: gram(maps) for name, maps in net.activations(painted[None], list(STYLE_LAYERS)).items()}
        peer = Peer(Path(folder), module, content, painted)
        weights = {
            name: STYLE_WEIGHT * float(looks[name].square().sum()) / channels**4
            for name, channels in STYLE_LAYERS.items()
        }
        content_weight = CONTENT_WEIGHT * float(features.square().mean())
        results: dict[str, Tensor] = {}

        def ours(steps: int) -> None:
            found = style(
                net, content[None], painted, layers=weights, style_weight=sum(weights.values()),
                content_layers=[CONTENT_LAYER], content_weight=content_weight, sizes=1, steps=steps,
                optimizer=Adam(1 / 256),
            )  # fmt: skip
            results["netloupe"] = torch.from_numpy(found.images)

        def theirs(steps: int) -> None:
            with torch.enable_grad():
                peer.run(steps)
            results["neural-style"] = peer.image()

        ways = {
            f"{name} {steps}": (lambda run=run, steps=steps: run(steps))
            for name, run in (("netloupe", ours), ("neural-style", theirs))
            for steps in (SHORT, LONG)
        }
        ours(1)
        theirs(1)
        times = time_interleaved(ways, rounds=rounds, warm=False)
        ours(LONG)
        theirs(LONG)

        def loss(image: Tensor) -> float:
            maps = net.reading(image.clamp(-1, 2), [*STYLE_LAYERS, CONTENT_LAYER])
            total = CONTENT_WEIGHT * float((maps.layer(CONTENT_LAYER) - features).square().mean())
            for name, channels in STYLE_LAYERS.items():
                total += STYLE_WEIGHT * float((gram(maps.layer(name)) - looks[name]).square().sum()) / channels**4
            return total

        losses = {name: loss(image) for name, image in results.items()}
        losses["start"] = loss(content[None])
    steps = {
        name: [
            (long - short) / (LONG - SHORT)
            for long, short in zip(times[f"{name} {LONG}"].rounds, times[f"{name} {SHORT}"].rounds, strict=True)
        ]
        for name in ("netloupe", "neural-style")
    }
    faster = [theirs / ours for ours, theirs in zip(steps["netloupe"], steps["neural-style"], strict=True)]
    rows = [
        {
            "": name,
            "steps/s": f"{1 / statistics.median(each):.2f} ({1 / max(each):.2f} to {1 / min(each):.2f})",
            f"loss after {LONG} steps, of that at the start": f"{losses[name] / losses['start']:.4f}",
            "speed": f"{statistics.median(faster):.1f} ({min(faster):.1f} to {max(faster):.1f})"
            if name == "netloupe"
            else "1",
        }
        for name, each in steps.items()
    ]
    return rows, {"seconds_per_step": steps, "losses": losses}


# --- textures


def textures() -> tuple[list[dict[str, str]], dict[str, Any]]:
    net = netloupe.load()
    rows, numbers = [], {}
    for name in TEXTURES:
        sample = photo(name, 128)
        row = {"": name}
        for method in ("gram", "covariance", "efros-leung", "wei-levoy", "quilting"):
            start = time.perf_counter()
            found = (
                texture(net, sample, method=method)
                if method in ("gram", "covariance")
                else texture(net, sample[:, :64, :64], method=method, size=(128, 128))
            )
            seconds = time.perf_counter() - start
            one = found.summary()["images"][0]
            numbers[f"{name} {method}"] = {**one, "seconds": seconds}
            share = (
                f"{one['distance'] / one['before']:.2%} of the start, " if one["before"] else f"{one['distance']:.1%}, "
            )
            row[method] = f"{share}{seconds:.0f} s"
        rows.append(row)
        print(row, flush=True)
    return rows, numbers


# --- the network that ships


def shipped(steps: int, rounds: int) -> tuple[list[dict[str, str]], dict[str, Any], str]:
    model = load_styles()
    frame = photo("cat", (SIZE, SIZE))[None]
    times = time_interleaved({"one": lambda: model(frame, model.styles[0])}, rounds=rounds)["one"]
    speed = f"{times.rate(1)} images/s of {SIZE}x{SIZE} px"
    if torch.cuda.is_available():
        fast = load_styles(device="cuda")
        large = torch.rand(1, 3, 720, 1280, device="cuda")
        wide = time_interleaved({"one": lambda: fast(large, fast.styles[0])}, rounds=20)["one"]
        speed += f"; on the GPU {wide.rate(1)} frames/s of 1280x720 px"
    rows, ratios = [], []
    net = netloupe.load()
    recipe = StylizerRecipe(**{k: tuple(map(tuple, v)) if k == "sizes" else tuple(v) if isinstance(v, list) else v
                       for k, v in model.card["recipe"].items()})  # fmt: skip
    for i, name in enumerate(PHOTOS):
        rows.append(compared(net, model, recipe, name, model.styles[i % len(model.styles)], steps))
        ratios.append(float(rows[-1]["ratio"]))
        print(rows[-1], flush=True)
    return rows, {"seconds": times.rounds, "ratios": ratios}, speed


def compared(
    net: Network, model: StyleModel, recipe: StylizerRecipe, name: str, chosen: str, steps: int
) -> dict[str, str]:
    """The style loss of the network's picture, beside that of as many steps of optimization of the same losses."""
    content, painting = photo(name, (SIZE, SIZE))[None], painting_of(chosen)
    image = scaled(painting[None], recipe.style_size / min(painting.shape[1:]))
    targets: Statistics = measure(net, image, recipe.layers, recipe.statistic)
    judge = Judge(net, recipe, targets)
    climbed = style(
        net, content, image[0], style_scale=recipe.style_size / SIZE, layers=list(recipe.layers),
        content_layers=[recipe.content_layer], content_weight=recipe.content, statistic=recipe.statistic,
        smoothness=recipe.smoothness, sizes=1, steps=steps,
    )  # fmt: skip
    losses = {}
    for way, result in (("network", model(content, chosen)), ("steps", torch.from_numpy(climbed.images))):
        with torch.no_grad():
            away, look = judge(result, content, torch.zeros(1, dtype=torch.long))
        losses[way] = float(look), float(away)
    ratio = losses["network"][0] / losses["steps"][0]
    return {
        "photo": name,
        "style": chosen,
        "style loss, network": f"{losses['network'][0]:.4f}",
        f"style loss, {steps} steps": f"{losses['steps'][0]:.4f}",
        "ratio": f"{ratio:.2f}",
        "content loss, network": f"{losses['network'][1]:.3f}",
        f"content loss, {steps} steps": f"{losses['steps'][1]:.3f}",
    }


def painting_of(name: str) -> Tensor:
    folder = Path(arguments.styles)
    return netloupe.load_image(next(path for path in sorted(folder.iterdir()) if path.stem == name))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--styles", required=True, help="the folder of paintings that the shipped network was trained on"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    first, peer_numbers = beside_peer(arguments.rounds)
    print(table(first), flush=True)
    second, texture_numbers = textures()
    third, shipped_numbers, speed = shipped(arguments.steps, 20)
    publish(
        "style",
        "Texture and style",
        f"Adam on VGG-19 with random weights, {SIZE}x{SIZE} px, relu1_1 to relu5_1 and relu4_2, from the photo; wanted "
        "are 1.5 times the peer's steps a second, and a loss at most 1 % higher.",
        first,
        {"peer": peer_numbers, "textures": texture_numbers, "network": shipped_numbers},
        (
            "Textures of 128x128 px on lenslet: how far the statistics are from the sample's, and the time. gram and "
            "covariance climb from noise (wanted: at most 1 % of its distance, by gram); the others sample 64x64 px of "
            "it (wanted: under a minute), and their distance is that of Gram matrices.",
            second,
        ),
        (
            f"The style network that ships: {speed} (wanted: 10 on two cores). Its style loss beside that of "
            f"{arguments.steps} steps of optimization of the same losses from the photo (wanted: at most 1.5 times), "
            "on photos that it was not trained on, one style each.",
            third,
        ),
    )
