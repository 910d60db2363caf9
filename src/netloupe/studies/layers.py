"""Which layers a study compares where nobody says: the first features, and the last map over the image."""

from __future__ import annotations

from collections.abc import Sequence

from netloupe.core.errors import InputError
from netloupe.core.network import Network


def first_features(net: Network) -> str:
    """The last layer before the second one with a kernel or matrix of weights: what that reads.

    Of lenslet `pool1`: convolved, rectified and pooled, like layer 1 of Zeiler & Fergus. The first layer of all where
    none before has weights.
    """
    modules = dict(net.module.named_modules())
    names = list(net.layers)
    weighted = [i for i, name in enumerate(names) if _has_weights(modules[name.partition("~")[0]])]
    if len(weighted) < 2:
        return names[weighted[0]] if weighted else names[0]
    return names[max(weighted[0], weighted[1] - 1)]


def last_map(net: Network) -> str:
    """The last map of more than one position before the last features; where these are one, what the last layer with
    weights before them reads.

    Of lenslet `relu7`, of AlexNet its last pooling. Raises InputError without one.
    """
    names = list(net.layers)
    end = names.index(net.feature_layer)
    if _is_map(net, names[end]):
        modules = dict(net.module.named_modules())
        end = max((i for i in range(end) if _has_weights(modules[names[i].partition("~")[0]])), default=0)
    maps = [name for name in names[:end] if _is_map(net, name)]
    if not maps:
        raise InputError(f"{net.name} has no map over the image before its last features; name the layers")
    return maps[-1]


def chosen(net: Network, given: Sequence[str] | None, usual: Sequence[str]) -> tuple[str, ...]:
    """The given layers or the usual ones, each once. Raises UnknownName for one that is not there."""
    names = tuple(dict.fromkeys(given if given else usual))
    for name in names:
        net.layer(name)
    return names


def _has_weights(module: object) -> bool:
    """Whether it bears, itself, weights of two dimensions or more; normalization has one."""
    weight = getattr(module, "weight", None)
    return weight is not None and getattr(weight, "ndim", 0) >= 2


def _is_map(net: Network, name: str) -> bool:
    layer = net.layers[name]
    return layer.spatial and layer.shape[1] * layer.shape[2] > 1
