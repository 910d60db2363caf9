"""The weights of every attention of a network, by layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from netloupe.core.attention import AttentionReader, Queries
from netloupe.core.given import checked
from netloupe.core.network import Network, readable


class Attention(Mapping[str, Tensor]):
    """Name -> weights of each attention, float32 on the network's device, in the order of execution.

    (N, heads, Q, K) of Q queries and K keys, which are the tokens, those before the patches too: so mostly
    (N, heads, T, T). Of attention inside windows (N, windows, heads, Q, K), as the network lays them. Each row adds up
    to 1. Nothing is kept: each time a layer is looked up a pass goes as deep as that layer; `each` hears of all in one.
    """

    def __init__(self, net: Network, images: Tensor, layers: Iterable[str] | None, queries: Queries) -> None:
        self.net, self.images, self.queries = net, images, queries
        self.layers = net.attention_layers([layers] if isinstance(layers, str) else layers)

    def each(self, reader: AttentionReader) -> None:
        """One pass that hands each layer's name and weights to the reader as they are produced."""

        def read(name: str, weights: Tensor) -> None:
            reader(name, readable(weights))

        with torch.no_grad():
            self.net.attend(self.images, read, self.layers, queries=self.queries)

    def __getitem__(self, layer: str) -> Tensor:
        found: list[Tensor] = []
        with torch.no_grad():
            self.net.attend(self.images, lambda _, weights: found.append(weights), [layer], queries=self.queries)
        return readable(found[0])

    def __contains__(self, layer: object) -> bool:
        return layer in self.layers

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        return f"Attention({', '.join(self)})"


@checked
def attention(
    net: Network, images: Tensor, layers: Iterable[str] | None = None, *, queries: Queries = None
) -> Attention:
    """Where each token of images (N, C, H, W) in [0, 1] looks: a mapping from layer to weights, see `Attention`.

    layers: names of attentions, each the innermost module in which it is computed (`net.attentions` lists them with
    their shapes); all by default. queries: of which tokens alone, as [0] of the class token where that comes first;
    then the others are never computed where the network's attention is fused.

    Raises UnknownName for an attention that is not there, NetworkError for a network without any.
    """
    net.inputs.check(images)
    net.inputs.check_range(images)
    return Attention(net, images, layers, queries)
