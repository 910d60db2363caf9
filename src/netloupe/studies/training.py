"""Training a network's own architecture from random weights: the yardstick of the studies."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from netloupe.analysis.fidelity import randomized
from netloupe.core.errors import NetloupeError, NetworkError
from netloupe.core.head import Classes
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.watch import SILENT, Watch
from netloupe.training.classifier import fit
from netloupe.training.labeled import Images
from netloupe.training.recipes import ClassifierRecipe
from netloupe.zoo.architectures import Lenslet

EPOCHS = 24
BATCH = 32
STEPS = 200  # at least, of few images
_GROWTH = (5 / 8, 3 / 4, 7 / 8)  # sides of the images, as shares of the input's
_SHARES = (0.34, 0.39, 0.16)  # of the epochs for each; the rest are at the full side
_TOGETHER = 64  # images whose logits are read together
_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


def fresh(net: Network, classes: int, seed: int = 0) -> nn.Module:
    """The network's architecture with random weights and so many classes, ready to be trained.

    lenslet gets the batch norms with which it was trained. Of any other network every weight is drawn anew (see
    `randomized`), and the linear layer that gives the logits is made anew. Raises NetworkError where there is none.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(net.module, Lenslet):
            return Lenslet(classes, batch_norm=True, channels=net.module.channels)
        module = randomized(net, seed=seed).module.requires_grad_(True)
        name, old = _head(net)
        head: nn.Module
        if isinstance(old, nn.Linear):
            head = nn.Linear(old.in_features, classes, bias=old.bias is not None)
        else:
            head = nn.Conv2d(old.in_channels, classes, 1, bias=old.bias is not None)
        parent, _, last = name.rpartition(".")
        setattr(module.get_submodule(parent), last, head.to(net.device))
        return module


def _head(net: Network) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The module whose weights give the logits, and its name: linear, or a convolution of 1x1."""
    count = net.head.classes("training for other classes").count
    layer = net.layers.classifier()
    part = None if layer is None else layer.module
    linear = isinstance(part, nn.Linear) or (isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1))
    if layer is None or not linear or layer.channels != count:
        raise NetworkError(
            f"{net.name} has no linear layer that gives its {count} logits, to be made for other classes"
        )
    assert isinstance(part, nn.Linear | nn.Conv2d)
    return layer.path, part


def usual_epochs(count: int) -> int:
    """How often each of `count` images is seen: 24 times, of few images more, so that there are 200 steps."""
    return max(EPOCHS, -(-STEPS // max(1, count // BATCH)))


def usual_recipe(
    net: Network, module: nn.Module, count: int, *, epochs: int = EPOCHS, seed: int = 0
) -> ClassifierRecipe:
    """How `module`, made by `fresh` or changed after that, is trained on `count` images.

    SGD on one cycle and a last tenth of the epochs on nearly whole images, see `ClassifierRecipe`; batches of 32. A
    network without normalization gets a tenth of the rate. The images grow with the epochs if the network takes
    smaller ones.
    """
    side = min(net.inputs.size)
    normed = any(isinstance(part, _NORMS) for part in module.modules())
    spent = [round(share * epochs) for share in _SHARES]
    finish = epochs - sum(spent)
    sizes = [(round(side * growth), n) for growth, n in zip(_GROWTH, spent, strict=True) if n]
    if not sizes or not all(_takes(net, module, size) for size, _ in sizes):
        sizes = [(side, max(1, epochs - finish))]
    colors = net.inputs.channels == 3
    return ClassifierRecipe(
        sizes=tuple(sizes),
        size=side,
        batch=min(BATCH, count),
        rate=0.05 if normed else 0.005,
        decay=5e-4,
        finish=finish if epochs > 1 else 0,
        finish_rate=0.005 if normed else 0.0005,
        seed=seed,
        mean=ClassifierRecipe.mean if colors else (0.449,),
        std=ClassifierRecipe.std if colors else (0.226,),
    )


def _takes(net: Network, module: nn.Module, side: int) -> bool:
    module.eval()
    try:
        with torch.no_grad():
            module(torch.zeros(1, net.inputs.channels, side, side, device=net.device))
    except (NetloupeError, RuntimeError, ValueError, TypeError, AttributeError):
        return False
    return True


class _Picked(nn.Module):
    """A module that returns several things, as one that returns its logits."""

    def __init__(self, module: nn.Module, head: Classes) -> None:
        super().__init__()
        self.module, self._head = module, head

    def forward(self, x: Tensor) -> Tensor:
        return self._head.pick(self.module(x))


def fitted(
    net: Network,
    module: nn.Module,
    images: Images,
    classes: int,
    recipe: ClassifierRecipe,
    watch: Watch = SILENT,
) -> nn.Module:
    """`fit` for the architecture of `net`, on its device: `module` returns the logits where that of `net` does."""
    if net.head.output is None:
        return fit(module, images, classes, recipe, device=net.device, watch=watch)
    picked = _Picked(module, Classes(count=classes, output=net.head.output))
    fit(picked, images, classes, recipe, device=net.device, watch=watch)
    return module


def trained(
    net: Network,
    module: nn.Module,
    images: Images,
    classes: int,
    recipe: ClassifierRecipe,
    watch: Watch = SILENT,
) -> Network:
    """`module` trained on `images` and wrapped up, on the device of `net`; its inputs are of the recipe's size."""
    module = fitted(net, module, images, classes, recipe, watch)
    inputs = InputSpec((recipe.size, recipe.size), len(recipe.mean), mean=recipe.mean, std=recipe.std)
    return Network(module, inputs, output=net.output, name=f"{net.name}, from scratch")


def logits(net: Network, pixels: Tensor) -> Tensor:
    """(N, classes) on the CPU, of images (N, C, H, W) uint8."""
    with torch.no_grad():
        return torch.cat([net(part.float() / 255).cpu() for part in pixels.split(_TOGETHER)])
