"""The architectures that Netloupe brings itself: lenslet and ZFNet."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from netloupe.core.errors import InputError

PLAN: tuple[tuple[int, int, bool], ...] = (  # channels, kernel, max pooling after it
    (32, 7, True),
    (96, 3, True),
    (192, 3, False),
    (192, 3, True),
    (320, 3, False),
    (320, 3, True),
    (512, 3, False),
)

EPSILON = 1e-5  # of the batch norms


class Lenslet(nn.Module):
    """The embedded network: seven convolutions with ReLU and max pooling, made to be looked at.

    (N, channels, H, W) normalized images, H and W at least 16 -> (N, classes) logits. The first layer has 7x7 filters
    with stride 1, because a strided first layer leaves a checkerboard in every gradient picture. Nothing but
    convolution, ReLU and max pooling lies between the pixels and the last feature map, so deconvolution with switches
    (Zeiler & Fergus 2013) applies to every layer.

    Layers `conv1`..`conv7`, each with its `reluN`, `poolN` after convolutions 1, 2, 4 and 6,
    then `mean` over space and the linear classifier `fc`.

    With `batch_norm` (as it is trained) a batch norm of scale one stands between convolution and
    ReLU, after the pooling where there is one, since that costs a quarter of the time there.
    Its scale being positive, it commutes with max pooling, so `folded()` turns it into the plain
    network (as it ships) with exactly the same function.
    """

    def __init__(self, classes: int = 200, *, batch_norm: bool = False, channels: int = 3) -> None:
        super().__init__()
        self.classes = classes
        self.channels = channels
        self.batch_norm = batch_norm
        for i, (out, kernel, pool) in enumerate(PLAN, 1):
            self.add_module(f"conv{i}", nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=not batch_norm))
            if batch_norm:
                norm = nn.BatchNorm2d(out, eps=EPSILON)
                norm.weight.requires_grad_(False)
                self.add_module(f"norm{i}", norm)
            self.add_module(f"relu{i}", nn.ReLU())
            if pool:
                self.add_module(f"pool{i}", nn.MaxPool2d(2))
            channels = out
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        for i, (_, _, pool) in enumerate(PLAN, 1):
            x = self.get_submodule(f"conv{i}")(x)
            if self.batch_norm:
                if pool:
                    x = self.get_submodule(f"pool{i}")(x)
                x = self.get_submodule(f"relu{i}")(self.get_submodule(f"norm{i}")(x))
            else:
                x = self.get_submodule(f"relu{i}")(x)
                if pool:
                    x = self.get_submodule(f"pool{i}")(x)
        logits: Tensor = self.fc(self.mean(x).flatten(1))
        return logits

    @torch.no_grad()
    def folded(self) -> Lenslet:
        """The same function without batch norm: w' = w / sigma, b' = beta - mu / sigma; itself where there is none."""
        if not self.batch_norm:
            return self
        plain = Lenslet(self.classes, channels=self.channels)
        state = self.state_dict()
        folded = {name: value for name, value in state.items() if name.startswith("fc.")}
        for i in range(1, len(PLAN) + 1):
            scale = state[f"norm{i}.weight"] / (state[f"norm{i}.running_var"] + EPSILON).sqrt()
            folded[f"conv{i}.weight"] = state[f"conv{i}.weight"] * scale[:, None, None, None]
            folded[f"conv{i}.bias"] = state[f"norm{i}.bias"] - state[f"norm{i}.running_mean"] * scale
        plain.load_state_dict(folded)
        return plain.eval()


class ZFNet(nn.Sequential):
    """The network of Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks" (2013).

    The eight layers of its Figure 3 (arXiv 1311.2901). At 224 px the maps are, as there, 110 px after the first
    convolution, 55 after pooling, 26 after the second, then 13, and 6 after the last pooling: the convolutions are
    padded by 1, 0, 1, 1 and 1 px and the pooling windows may hang over the right and lower border (`ceil_mode`).

    Where the paper is silent or was departed from:

    - "Contrast normalized across feature maps" is the normalization of Krizhevsky et al. (2012), whose architecture
      the paper modifies: b = a / (2 + 1e-4 * sum of a^2 over 5 neighboring maps)^0.75. PyTorch's alpha multiplies the
      mean instead of the sum, hence 5e-4.
    - Weights start from He et al. (2015) and not from a deviation of 0.01 everywhere, so that training needs no
      renormalization of the filters; the last layer alone starts from 0.01. Biases start from 0, as there.

    (N, channels, H, W) normalized images, H and W as given to `zfnet` -> (N, classes) logits.

    Layers `conv1`, `relu1`, `pool1`, `norm1`, the same with 2, `conv3`..`conv5` with their `relu`, `pool5`, then
    `flatten`, `fc6`, `relu6`, `drop6`, `fc7`, `relu7`, `drop7` and `fc8`.
    """


def zfnet(classes: int = 1000, size: int | tuple[int, int] = 224, *, channels: int = 3) -> ZFNet:
    """The network with random weights for images of `size` px, (height, width) or the side of a square.

    Raises InputError if nothing would be left of so small an image after the last pooling.
    """
    height, width = (size, size) if isinstance(size, int) else size
    features = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(channels, 96, 7, stride=2, padding=1),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(3, stride=2, ceil_mode=True),
        norm1=nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0),
        conv2=nn.Conv2d(96, 256, 5, stride=2),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(3, stride=2, ceil_mode=True),
        norm2=nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0),
        conv3=nn.Conv2d(256, 384, 3, padding=1),
        relu3=nn.ReLU(),
        conv4=nn.Conv2d(384, 384, 3, padding=1),
        relu4=nn.ReLU(),
        conv5=nn.Conv2d(384, 256, 3, padding=1),
        relu5=nn.ReLU(),
        pool5=nn.MaxPool2d(3, stride=2, ceil_mode=True),
        flatten=nn.Flatten(),
    )
    try:
        with torch.no_grad():
            length = nn.Sequential(features)(torch.zeros(1, channels, height, width)).shape[1]
    except RuntimeError:
        length = 0
    if length == 0:
        raise InputError(f"images of {height}x{width} px are too small for zfnet (accepted: 47 px or more)")
    net = ZFNet(
        OrderedDict[str, nn.Module](
            **features,
            fc6=nn.Linear(length, 4096),
            relu6=nn.ReLU(),
            drop6=nn.Dropout(0.5),
            fc7=nn.Linear(4096, 4096),
            relu7=nn.ReLU(),
            drop7=nn.Dropout(0.5),
            fc8=nn.Linear(4096, classes),
        )
    )
    for name, module in net.named_children():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
            if name == "fc8":
                nn.init.normal_(module.weight, std=0.01)
    return net
