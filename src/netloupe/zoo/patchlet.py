"""Patchlet: a small transformer."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netloupe.core.errors import InputError

PATCH = 8  # px
GRID = 8  # patches along a side of the images that the positions were learned for
REGISTERS = 4
WIDTH, DEPTH, HEADS = 192, 6, 6
STEM = (32, 64, 128)  # channels of its strided convolutions


class Attention(nn.Module):
    """Self-attention of several heads: (N, T, width) -> (N, T, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        count, tokens, width = x.shape
        qkv = self.qkv(x).view(count, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(x.transpose(1, 2).reshape(count, tokens, width))
        return out


class Block(nn.Module):
    """A pre-norm block: attention and a perceptron of one hidden layer, each added to what it read."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(fc1=nn.Linear(width, 4 * width), act=nn.GELU(), fc2=nn.Linear(4 * width, width))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Patchlet(nn.Module):
    """A small vision transformer (Dosovitskiy et al. 2021) with a convolutional stem (Xiao et al. 2021).

    (N, channels, H, W) normalized images, H and W multiples of 8 from 32 px on -> (N, classes) logits, read from the
    class token. Tokens are the class token, four registers (Darcet et al. 2024), then the patches row by row: one for
    each 8x8 px, from three strided 3x3 convolutions, so that a patch sees 15x15 px. Positions are learned for 8x8
    patches and interpolated for others.

    Layers `stem`, `blocks.0` to `blocks.5` with `norm1`, `attn.qkv`, `attn.proj`, `norm2`, `mlp.fc1`, `mlp.act` and
    `mlp.fc2` each, `norm`, `head`.
    """

    def __init__(self, classes: int = 200, *, channels: int = 3) -> None:
        super().__init__()
        stem = OrderedDict[str, nn.Module]()
        for i, out in enumerate(STEM, 1):
            stem[f"conv{i}"] = nn.Conv2d(channels, out, 3, stride=2, padding=1)
            stem[f"relu{i}"] = nn.ReLU()
            channels = out
        stem["proj"] = nn.Conv2d(channels, WIDTH, 1)
        self.stem = nn.Sequential(stem)
        self.cls_token = nn.Parameter(torch.zeros(WIDTH))
        self.registers = nn.Parameter(torch.empty(REGISTERS, WIDTH))
        self.positions = nn.Parameter(torch.empty(1, WIDTH, GRID, GRID))
        self.blocks = nn.Sequential(*(Block(WIDTH, HEADS) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, classes)
        for parameter in (self.registers, self.positions):
            nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if height % PATCH or width % PATCH or min(height, width) < 4 * PATCH:
            raise InputError(f"images of {height}x{width} px (accepted: multiples of {PATCH} px from {4 * PATCH} on)")
        x = self.stem(x)
        positions: Tensor = self.positions
        if x.shape[2:] != positions.shape[2:]:
            positions = F.interpolate(positions, x.shape[2:], mode="bicubic", align_corners=False)
        x = (x + positions).flatten(2).transpose(1, 2)
        prefix = torch.cat([self.cls_token[None], self.registers]).expand(len(x), -1, -1)
        x = self.norm(self.blocks(torch.cat([prefix, x], 1)))
        logits: Tensor = self.head(x[:, 0])
        return logits
