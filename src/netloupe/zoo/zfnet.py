"""ZFNet, the network of Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks" (2013).

The eight layers of its Figure 3 (arXiv 1311.2901). At 224 px the maps are, as there, 110 px after the first
convolution, 55 after pooling, 26 after the second, then 13, and 6 after the last pooling: the convolutions are padded
by 1, 0, 1, 1 and 1 px and the pooling windows may hang over the right and lower border (`ceil_mode`).

Where the paper is silent or was departed from:

- "Contrast normalized across feature maps" is the normalization of Krizhevsky et al. (2012), whose architecture the
  paper modifies: b = a / (2 + 1e-4 * sum of a^2 over 5 neighboring maps)^0.75. PyTorch's alpha multiplies the mean
  instead of the sum, hence 5e-4.
- Weights start from He et al. (2015) and not from a deviation of 0.01 everywhere, so that training needs no
  renormalization of the filters; the last layer alone starts from 0.01. Biases start from 0, as there.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from netloupe.core.errors import InputError


class ZFNet(nn.Sequential):
    """(N, channels, H, W) normalized images, H and W as given to `zfnet` -> (N, classes) logits.

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
