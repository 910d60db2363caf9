"""Which pixels matter, by what a network attends to: attribution methods for transformers.

All give (N, H, W), at least 0, at the images' size, bilinear from the grid of patches. They begin at the tokens that
the objective reads after the last attention: the queries by whose weights there its score changes. That is the class
token of a network that reads it; where the mean of all patches is read, the mean over those queries.
With A the weights (heads, T, T) of a block, G the gradient of the score with respect to them, and x+ = max(x, 0):

    last attention   mean over heads of A of the last block
    rollout          product over blocks, last first, of (mean over heads of A + I) / 2;  Abnar & Zuidema (2020)
    relevance        R <- R + (mean over heads of (G A)+) R, from R = I;  Chefer et al. (2021), eq. 5 and 6
    LeGrad           sum over blocks of the mean over heads and queries of G+;  Bousselham et al. (2024)

An attention that pools the tokens into others, last of all, has no residual path: its weights alone are multiplied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from netloupe.analysis.attention.places import places
from netloupe.analysis.gradients import check_scores
from netloupe.core.attention import AttentionReader, attending
from netloupe.core.backward import gradients
from netloupe.core.errors import NetworkError
from netloupe.core.network import Network, readable
from netloupe.core.objectives import Objective
from netloupe.core.taps import module_and_call, tapped


@torch.inference_mode(False)
@torch.enable_grad()
def rollout(net: Network, images: Tensor, objective: Objective | str) -> Tensor:
    """The share of each patch in the tokens that the objective reads, if attention with a residual path of one half
    were all that happens (Abnar & Zuidema 2020, eq. 1). The objective matters only by which tokens it reads.

    Raises NetworkError for a network without attention, or with attention of other tokens in other blocks.
    """
    rolled: list[Tensor] = []

    def roll(name: str, weights: Tensor) -> None:
        _check_whole("attention rollout", name, weights, rolled[-1] if rolled else None)
        shares = weights.detach().mean(1)
        if _square(weights):
            shares = (shares + torch.eye(shares.shape[-1]).to(shares)) / 2
            shares = shares / shares.sum(-1, keepdim=True)
        rolled[:] = [shares @ rolled[0] if rolled else shares]

    found = _Heard(roll)
    scores = found.read(net, images, objective)
    (slope,) = found.gradients(net, objective, scores, found.weights)
    rows = (_readers(slope)[:, None] @ rolled[0])[:, 0]
    return _over_images(net, found.first, rows, images)


@torch.inference_mode(False)
@torch.enable_grad()
def last_attention(net: Network, images: Tensor, objective: Objective | str) -> Tensor:
    """Where the tokens that the objective reads look in the last block, the mean over heads (as of Caron et al. 2021).

    Raises NetworkError for a network without attention over the whole image there.
    """
    found = _Heard(lambda *_: None)
    scores = found.read(net, images, objective)
    _check_whole("the last attention", found.names[-1], found.weights[0], None)
    (slope,) = found.gradients(net, objective, scores, found.weights)
    rows = (_readers(slope)[:, None] @ readable(found.weights[0].detach()).mean(1))[:, 0]
    return _over_images(net, found.names[-1], rows, images)


@torch.inference_mode(False)
@torch.enable_grad()
def relevance(net: Network, images: Tensor, objective: Objective | str) -> Tensor:
    """Gradient-weighted relevance of self-attention (Chefer, Gur & Wolf 2021, "Generic attention-model
    explainability", eq. 5 and 6), the row of R of the tokens that the objective reads, without what I put there.

    Blocks that the objective does not depend on have none. Raises NetworkError as `rollout`.
    """
    found = _Heard(lambda *_: None, keep=True)
    scores = found.read(net, images, objective)
    for name, weights, before in zip(found.names, found.weights, [None, *found.weights], strict=False):
        _check_whole("gradient-weighted relevance", name, weights, before)
    slopes = found.gradients(net, objective, scores, found.weights)
    start = _readers(slopes[-1])
    gained = torch.zeros_like(start)  # apart from the start, in whose rounding small relevance would be lost
    for weights, slope in zip(reversed(found.weights), reversed(slopes), strict=True):
        mixed = ((start + gained)[:, None] @ (slope * readable(weights.detach())).clamp(min=0).mean(1))[:, 0]
        if _square(weights):
            gained = gained + mixed
        else:
            start, gained = torch.zeros_like(mixed), mixed
    return _over_images(net, found.first, gained, images)


@torch.inference_mode(False)
@torch.enable_grad()
def legrad(net: Network, images: Tensor, objective: Objective | str) -> Tensor:
    """LeGrad (Bousselham et al. 2024): how much more weight on each patch, in any block, would raise the score.

        s_l = f(mean over tokens of Z_l),   E = sum over l of the mean over heads and queries of (d s_l / d A_l)+

    with Z_l the output of block l and f what the network does after its last block, which gets that mean in place of
    every token. The paper scales E to [0, 1] afterwards, here it is raw. A block is the outermost module around one
    attention alone. Raises NetworkError for a network without such blocks, all of the same tokens.
    """
    _look_over(net)
    found, blocks, fixed = _Heard(lambda *_: None, keep=True), _blocks(net), net.fixed(objective, images)
    outputs: dict[str, Any] = {}
    with tapped(net.module, {one: partial(outputs.__setitem__, one) for one in blocks.values()}, stop=False):
        found.read(net, images, fixed)
    for name, weights in zip(found.names, found.weights, strict=True):
        _check_whole("LeGrad", name, weights, found.weights[0])
        if not _square(weights):
            raise NetworkError(f"LeGrad needs self-attention in {net.name}, but {name!r} pools the tokens into others")
    last, total = blocks[found.names[-1]], torch.zeros(())
    for name, weights in zip(found.names, found.weights, strict=True):
        if name not in blocks or blocks[name] not in outputs:
            raise NetworkError(f"LeGrad needs blocks in {net.name}, but attention {name!r} stands in none of its own")
        alike = _mean_token(outputs[blocks[name]], weights, name)
        with tapped(net.module, {last: lambda _, alike=alike: alike}, stop=False):  # type: ignore[misc]
            score = net.read(images.detach(), fixed)
        (slope,) = found.gradients(net, objective, score, [weights])
        total = total.to(slope) + slope.clamp(min=0).mean((1, 2))
    return _over_images(net, found.first, total, images)


@dataclass
class _Heard:
    """One pass whose score can be differentiated by the weights of attention: of the last alone, or `keep` of all."""

    also: AttentionReader
    keep: bool = False
    names: list[str] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    first: str = ""

    def read(self, net: Network, images: Tensor, objective: Objective | str) -> Tensor:
        """The score of each image, (N,). Raises NetworkError where there is no attention before it."""
        net.inputs.check(images)
        net.inputs.check_range(images)
        _look_over(net)
        objective = net.fixed(objective, images)
        pixels = images.detach().to(net.device).requires_grad_()
        with attending(net.module, self._hear, len(images)):
            scores = net.read(pixels, objective)
        check_scores(net, objective, scores)
        if not self.weights:
            raise NetworkError(f"{net.name} has no attention before what {objective!r} reads")
        self.first = self.names[0]
        return scores

    def _hear(self, name: str, weights: Tensor) -> None:
        self.also(name, readable(weights))
        self.names.append(name)
        self.weights[:] = [*self.weights, weights] if self.keep else [weights]

    def gradients(
        self, net: Network, objective: Objective | str, scores: Tensor, weights: list[Tensor]
    ) -> list[Tensor]:
        """Of the scores with respect to weights; zero where they do not depend on them. Raises NetworkError where they
        depend on none."""
        found: Sequence[Tensor | None] = [None]
        if all(one.requires_grad for one in weights):
            found = gradients(net.name, [scores.sum()], weights, keep=True)
        if found[-1] is None or not bool(found[-1].any()):
            raise NetworkError(f"{objective!r} does not depend on attention {self.names[-1]!r} in {net.name}")
        return [readable(torch.zeros_like(w) if one is None else one) for one, w in zip(found, weights, strict=True)]


def _look_over(net: Network) -> None:
    """Find attentions and layers, each by a pass, before one that is listened to. Raises NetworkError without any."""
    net.attention_layers()
    _ = net.layers


def _readers(slope: Tensor) -> Tensor:
    """(N, Q), adding up to 1: equal shares of the queries by whose weights the score changes; slope: (N, h, Q, K)."""
    read = (slope != 0).any(-1).any(1).to(slope)
    return read / read.sum(-1, keepdim=True).clamp(min=1)


def _square(weights: Tensor) -> bool:
    return weights.shape[-2] == weights.shape[-1]


def _check_whole(what: str, name: str, weights: Tensor, before: Tensor | None) -> None:
    """Raise NetworkError unless these are weights over the tokens that the attention before gave."""
    if weights.ndim != 4:
        raise NetworkError(f"{what} needs attention over the whole image, but {name!r} looks inside windows")
    if before is not None and before.shape[-2] != weights.shape[-1]:
        given = f"{weights.shape[-1]} tokens, the one before {before.shape[-2]}"
        raise NetworkError(f"{what} needs the same tokens in every attention, but {name!r} has {given}")


def _blocks(net: Network) -> dict[str, str]:
    """Attention -> the outermost module around it alone; without those that the network's own forward does."""
    paths = {name: module_and_call(name)[0] for name in net.attentions}

    def around(path: str) -> int:
        return sum(other == path or other.startswith(f"{path}.") for other in paths.values())

    found = {}
    for name, path in paths.items():
        parts = path.split(".")
        parents = [".".join(parts[: i + 1]) for i in range(len(parts))]
        alone = [parent for parent in parents if parent and around(parent) == 1]
        if alone:
            found[name] = alone[0]
    return found


def _mean_token(output: Any, weights: Tensor, name: str) -> Any:
    """A block's output with the mean of all tokens in place of each."""
    if isinstance(output, tuple):
        return (_mean_token(output[0], weights, name), *output[1:])
    count, tokens = len(weights), weights.shape[-1]
    shape = tuple(output.shape) if isinstance(output, Tensor) else ()
    if len(shape) == 3 and {shape[:2]} <= {(count, tokens), (tokens, count)}:
        axis = 1 if shape[:2] == (count, tokens) else 0
        return output.mean(axis, keepdim=True).expand_as(output)
    raise NetworkError(f"LeGrad needs blocks that give tokens, but the one around attention {name!r} gives {shape}")


def _over_images(net: Network, layer: str, rows: Tensor, images: Tensor) -> Tensor:
    """(N, keys) -> (N, H, W)."""
    maps = places(net, layer, rows.shape[-1]).maps(rows)
    return F.interpolate(maps[:, None], images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
