"""lenslet, the embedded network: seven convolutions with ReLU and max pooling, made to be looked at.

The first layer has 7x7 filters with stride 1, because a strided first layer leaves a checkerboard
in every gradient picture. Nothing but convolution, ReLU and max pooling lies between the pixels and
the last feature map, so deconvolution with switches (Zeiler & Fergus 2013) applies to every layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
    """(N, channels, H, W) normalized images, H and W at least 16 -> (N, classes) logits.

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
        """The same function without batch norm: w' = w / sigma, b' = beta - mu / sigma."""
        plain = Lenslet(self.classes, channels=self.channels)
        state = self.state_dict()
        folded = {name: value for name, value in state.items() if name.startswith("fc.")}
        for i in range(1, len(PLAN) + 1):
            scale = state[f"norm{i}.weight"] / (state[f"norm{i}.running_var"] + EPSILON).sqrt()
            folded[f"conv{i}.weight"] = state[f"conv{i}.weight"] * scale[:, None, None, None]
            folded[f"conv{i}.bias"] = state[f"norm{i}.bias"] - state[f"norm{i}.running_mean"] * scale
        plain.load_state_dict(folded)
        return plain.eval()


def lenslet(classes: int = 200) -> Lenslet:
    """The network as it ships, with random weights."""
    return Lenslet(classes)
