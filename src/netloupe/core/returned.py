"""What a module returned: which entry of it is meant, and how it is told in words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from netloupe.core.errors import NetloupeError, NetworkError, first_line, unknown

Output = str | int | Callable[[Any], Any]
"""Where in what a module returns the answer is: the key or index of an entry, or a function that takes it out."""

_MAIN = ("logits", "out")  # of several tensors the one that is the answer, as the libraries name it
EMBEDDINGS = ("image_embeds", "pooler_output")  # the same of networks that give an embedding
_BOXES = ("boxes", "scores", "labels")
_QUERIES = ("logits", "pred_boxes")


def entry(result: Any, output: Output | None) -> Any:
    """The answer in what a module returned. Raises UnknownName or NetworkError where it is not there."""
    if output is None:
        return result
    if callable(output):
        try:
            return output(result)
        except NetloupeError:
            raise
        except Exception as error:  # whatever the user's function raises
            failed = f"output={called(output)} failed on what the network gives, {described(result)}"
            raise NetworkError(f"{failed}: {first_line(error)}") from error
    holds = entries(result)
    if output not in holds:
        raise unknown("output", output, [str(key) for key in holds])
    return holds[output]


def entries(result: Any) -> dict[str | int, Any]:
    """What a module's output holds, by key or index."""
    if isinstance(result, Mapping):
        return dict(result)
    if isinstance(result, tuple | list):
        named = result._asdict() if hasattr(result, "_asdict") else {}
        return {**named, **dict(enumerate(result))}
    if is_dataclass(result):
        return {field.name: getattr(result, field.name) for field in fields(result)}
    return {} if isinstance(result, Tensor) else dict(getattr(result, "__dict__", {}))


def main_entry(result: Any) -> str | int | None:
    """The key of the answer where it goes without saying: of the only tensor, or as the libraries name it."""
    holds = {key: one for key, one in entries(result).items() if isinstance(one, Tensor)}
    named = [key for key in (*_MAIN, *EMBEDDINGS) if key in holds]
    return next(iter(holds)) if len(holds) == 1 else named[0] if named else None


def holds_boxes(answer: Any) -> bool:
    """Whether it is one dict of boxes, scores and labels an image, as torchvision's detectors give it."""
    several = answer if isinstance(answer, list | tuple) and answer else [None]
    return all(isinstance(one, Mapping) and all(isinstance(one.get(key), Tensor) for key in _BOXES) for one in several)


def holds_queries(answer: Any) -> bool:
    """Whether it is class logits (N, Q, classes + 1) and boxes (N, Q, 4) of Q queries, as DETR's kind gives it."""
    found = [entries(answer).get(key) for key in _QUERIES]
    return all(isinstance(one, Tensor) and one.ndim == 3 for one in found)


def boxes_of(answer: Any) -> Tensor:
    """(N, D, 6) of one dict of boxes an image: top, left, bottom, right in px, score, label; label -1 fills up."""
    rows = []
    for one in answer:
        boxes, scores, labels = (one[key] for key in _BOXES)
        numbers = [boxes[:, i] for i in (1, 0, 3, 2)]
        rows.append(torch.stack([*numbers, scores, labels.to(scores)], 1) if len(boxes) else scores.new_zeros(0, 6))
    most = max(len(one) for one in rows)
    filled = [torch.cat([one, _no_box(one).expand(most - len(one), 6)]) for one in rows]
    return torch.stack(filled)


def boxes_of_queries(answer: Any, size: tuple[int, int]) -> Tensor:
    """`boxes_of` of DETR's kind, whose last class is no object; size: (height, width) of the images in px."""
    logits, places = (entries(answer)[key] for key in _QUERIES)
    scores, labels = logits.softmax(2)[:, :, :-1].max(2)
    x, y, width, height = places.unbind(2)
    corners = [y - height / 2, x - width / 2, y + height / 2, x + width / 2]
    corners = [corner * side for corner, side in zip(corners, (*size, *size), strict=True)]
    return torch.stack([*corners, scores, labels.to(scores)], 2)


def _no_box(like: Tensor) -> Tensor:
    return like.new_tensor([0.0, 0.0, 0.0, 0.0, 0.0, -1.0])


def described(answer: Any) -> str:
    """Its shape, or what it holds, as in "a dict of 'out': (N, 4, 32, 32)"."""
    if isinstance(answer, Tensor):
        return f"({', '.join(['N', *map(str, answer.shape[1:])])}{',' * (answer.ndim < 2)})"
    holds = [f"{key!r}: {described(one)}" for key, one in entries(answer).items() if isinstance(one, Tensor)]
    return f"a {type(answer).__name__}" + (f" of {', '.join(holds[:4])}{', ...' * (len(holds) > 4)}" if holds else "")


def entries_named(answer: Any) -> str:
    """The advice to name one of its entries; empty where it has none."""
    names = ", ".join(repr(key) for key in entries(answer))
    return f"; name the entry: output=... ({names})" if names else ""


def called(output: Output) -> str:
    """An output in words that two of the same function share: a function by name and a digest of its code."""
    if not callable(output):
        return repr(output)
    code = getattr(output, "__code__", None)
    told = repr((code.co_code, code.co_consts, code.co_names)) if code is not None else repr(type(output))
    digest = hashlib.sha256(told.encode()).hexdigest()[:8]
    return f"{getattr(output, '__name__', type(output).__name__)}-{digest}"
