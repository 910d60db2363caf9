"""A small vision transformer written three ways with the same weights, and slow oracles of what is read from it."""

from __future__ import annotations

import functools
import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network

Spelling = Literal["fused", "eager", "einsum", "module", "averaged"]
SPELLINGS: tuple[Spelling, ...] = ("fused", "eager", "einsum", "module", "averaged")
WIDTH, HEADS, SIDE, PATCH, CLASSES = 12, 3, 12, 4, 5


class Attention(nn.Module):
    """Of `HEADS` heads; `qkv` and `proj` bear the weights however they are used."""

    def __init__(self, spelling: Spelling) -> None:
        super().__init__()
        self.spelling = spelling
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        scale = (c // HEADS) ** -0.5
        if self.spelling == "fused":
            mixed = F.scaled_dot_product_attention(q, k, v)
        elif self.spelling == "eager":
            scores = (q * scale) @ k.transpose(-2, -1)
            mixed = self.drop(scores.softmax(dim=-1)) @ v
        else:
            scores = torch.einsum("bhid,bhjd->bhij", q, k) * scale
            mixed = torch.einsum("bhij,bhjd->bhid", F.softmax(scores, dim=3), v)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, t, c))
        return out


class Block(nn.Module):
    def __init__(self, spelling: Spelling) -> None:
        super().__init__()
        self.averaged = spelling == "averaged"
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        module = spelling in ("module", "averaged")
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True) if module else Attention(spelling)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 16), nn.GELU(), nn.Linear(16, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        if isinstance(self.attn, nn.MultiheadAttention):
            y = self.attn(y, y, y, need_weights=self.averaged)[0]
        else:
            y = self.attn(y)
        x = x + y
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ViT(nn.Module):
    """Patches, `prefix` tokens before them, blocks, and the mean of the prefix tokens read; of all without any."""

    def __init__(self, spelling: Spelling, prefix: int = 1, depth: int = 3) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.prefix = nn.Parameter(torch.randn(1, prefix, WIDTH))
        self.position = nn.Parameter(torch.randn(1, prefix + (SIDE // PATCH) ** 2, WIDTH))
        self.blocks = nn.Sequential(*(Block(spelling) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.prefix.expand(len(x), -1, -1), x], 1) + self.position
        x = self.norm(self.blocks(x))
        read = x[:, :1] if self.prefix.shape[1] else x
        logits: Tensor = self.head(read.mean(1))
        return logits


def fresh(spelling: Spelling = "fused", prefix: int = 1, depth: int = 3, seed: int = 0) -> Network:
    """In float64, the same weights whatever the spelling, drawn large so that heads differ."""
    torch.manual_seed(seed)
    module = ViT("fused", prefix, depth)
    for name, parameter in module.named_parameters():
        if name.endswith(("qkv.weight", "proj.weight")):
            nn.init.normal_(parameter, std=0.7)
    if spelling != "fused":
        weights = module.state_dict()
        module = ViT(spelling, prefix, depth)
        if spelling in ("module", "averaged"):
            weights = {_of_module(name): value for name, value in weights.items()}
        module.load_state_dict(weights)
    return Network(module.double().eval(), InputSpec(size=(SIDE, SIDE)))


vit = functools.cache(fresh)
"""The same for all tests, which leave it as it is."""


def _of_module(name: str) -> str:
    return (
        name.replace("qkv.weight", "in_proj_weight").replace("qkv.bias", "in_proj_bias").replace(".proj.", ".out_proj.")
    )


def images(count: int = 2, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def weights_by_hand(module: ViT, image: Tensor) -> list[Tensor]:
    """(heads, T, T) of each block of a ViT written fused, for one image, by plain loops."""
    x = module.patch(image[None]).flatten(2).transpose(1, 2)
    x = torch.cat([module.prefix, x], 1) + module.position
    found = []
    for block in module.blocks:
        assert isinstance(block, Block)
        q, k, _ = (part.tolist() for part in block.attn.qkv(block.norm1(x))[0].chunk(3, dim=-1))
        tokens, size = len(q), WIDTH // HEADS
        weights = torch.zeros(HEADS, tokens, tokens, dtype=x.dtype)
        for h in range(HEADS):
            for i in range(tokens):
                at = slice(h * size, (h + 1) * size)
                scores = [sum(a * b for a, b in zip(q[i][at], k[j][at], strict=True)) for j in range(tokens)]
                scores = [score / math.sqrt(size) for score in scores]
                total = sum(math.exp(score) for score in scores)
                for j in range(tokens):
                    weights[h, i, j] = math.exp(scores[j]) / total
        found.append(weights)
        x = block(x)
    return found


def pass_by_hand(module: ViT, image: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """(weights (heads, T, T) of each block, its output (T, C), logits) of one image, written out, head by head."""
    x = torch.cat([module.prefix[0], module.patch(image[None])[0].flatten(1).T]) + module.position[0]
    size = WIDTH // HEADS
    weights, outputs = [], []
    for block in module.blocks:
        assert isinstance(block, Block)
        q, k, v = block.attn.qkv(block.norm1(x)).split(WIDTH, dim=-1)
        scores = [q[:, h * size : (h + 1) * size] @ k[:, h * size : (h + 1) * size].T / size**0.5 for h in range(HEADS)]
        weights.append(torch.stack([torch.exp(s) / torch.exp(s).sum(1, keepdim=True) for s in scores]))
        mixed = torch.cat([weights[-1][h] @ v[:, h * size : (h + 1) * size] for h in range(HEADS)], 1)
        x = x + block.attn.proj(mixed)
        x = x + block.mlp(block.norm2(x))
        outputs.append(x)
    read = x[:1] if module.prefix.shape[1] else x
    return weights, outputs, module.head(module.norm(read).mean(0))


def read_by_hand(module: ViT) -> list[int]:
    """The tokens that the head reads."""
    return [0] if module.prefix.shape[1] else list(range((SIDE // PATCH) ** 2))


def rollout_by_hand(module: ViT, image: Tensor) -> list[float]:
    """A share for each patch."""
    weights = weights_by_hand(module, image)
    count = weights[0].shape[-1]
    rolled = [[float(i == j) for j in range(count)] for i in range(count)]
    for one in weights:
        step = [
            [0.5 * sum(float(one[h, i, j]) for h in range(HEADS)) / HEADS + 0.5 * (i == j) for j in range(count)]
            for i in range(count)
        ]
        step = [[value / sum(row) for value in row] for row in step]
        rolled = [[sum(step[i][m] * rolled[m][j] for m in range(count)) for j in range(count)] for i in range(count)]
    read = read_by_hand(module)
    return [sum(rolled[i][j] for i in read) / len(read) for j in range(module.prefix.shape[1], count)]


def relevance_by_hand(module: ViT, image: Tensor, index: int) -> list[float]:
    weights, _, logits = pass_by_hand(module, image)
    slopes = torch.autograd.grad(logits[index], weights)
    count = weights[0].shape[-1]
    found = torch.eye(count, dtype=torch.float64)
    for one, slope in zip(weights, slopes, strict=True):
        mean = torch.zeros(count, count, dtype=torch.float64)
        for h in range(HEADS):
            for i in range(count):
                for j in range(count):
                    mean[i, j] += max(0.0, float(slope[h, i, j]) * float(one[h, i, j].detach())) / HEADS
        found = found + mean @ found
    read = read_by_hand(module)
    rows = [found[i] - torch.eye(count, dtype=torch.float64)[i] for i in read]
    mean = torch.stack(rows).mean(0)
    return [float(value) for value in mean[module.prefix.shape[1] :]]


def legrad_by_hand(module: ViT, image: Tensor, index: int) -> list[float]:
    weights, outputs, _ = pass_by_hand(module, image)
    count = weights[0].shape[-1]
    total = [0.0] * count
    for one, output in zip(weights, outputs, strict=True):
        score = module.head(module.norm(output.mean(0)))[index]
        slope = torch.autograd.grad(score, one, retain_graph=True)[0].tolist()
        for h in range(HEADS):
            for i in range(count):
                for j in range(count):
                    total[j] += max(0.0, slope[h][i][j]) / (HEADS * count)
    return total[module.prefix.shape[1] :]
