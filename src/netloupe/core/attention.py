"""The weights of attention in a pass, however the network spells it.

    weights = softmax(scores), scores = q @ k^T · scale + mask,   output = weights @ v

A function mode around the pass sees three spellings: `F.scaled_dot_product_attention`, which gives no weights, so that
they are computed from what it is given; `F.multi_head_attention_forward`, whose body runs with the mode; and what is
written out: a softmax over the last dimension of a product of two tensors that is then multiplied on, found by
following the tensors. The network is not changed. What the mode can't see: TorchScript, and kernels of other packages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

from netloupe.core.errors import NetworkError
from netloupe.core.precision import fully
from netloupe.core.taps import Stop, ending

AttentionReader = Callable[[str, Tensor], None]
"""Takes an attention's name and its weights as they are produced: (N, heads, Q, K) of Q queries and K keys, of windows
(N, windows, heads, Q, K). Each row adds up to 1 over the keys."""

Queries = slice | list[int] | None
"""Of which queries weights are computed; of all for None."""


@contextmanager
def attending(
    module: nn.Module,
    reader: AttentionReader,
    images: int,
    layers: Collection[str] | None = None,
    queries: Queries = None,
    *,
    stop: bool = False,
) -> Iterator[set[str]]:
    """Hand the weights of attention in passes of a batch of `images` images to a reader; of all layers for None.

    An attention is named by the innermost module that was running when it was called, `name~2` its second call there;
    what the network's own forward does by itself is `~1`, `~2`, ... With gradients, and unless only some queries are
    asked for, what the reader gets is on the way to the output, so it can be differentiated by; without, the pass gives
    bitwise what it gives unread. Gives the names of `layers` not reached yet; with `stop` the pass ends, by `Stop`, at
    the last of them. Fused paths that call no function must be off, as inside `taps.evaluating`.
    """
    waiting, stack = set(layers or ()), [""]
    calls: dict[str, int] = {}
    finished: list[Stop] = []

    def called() -> str | None:
        """The name of the attention that is called now; None where it is not asked for."""
        calls[stack[-1]] = calls.get(stack[-1], 0) + 1
        name = _address(stack[-1], calls[stack[-1]])
        return name if layers is None or name in layers else None

    def end(error: Exception | None = None) -> Stop:
        finished.append(Stop(error))
        return finished[-1]

    def hand(name: str, weights: Tensor) -> None:
        try:
            with fully(weights.device):
                reader(name, weights)
        except Exception as error:
            raise end(error) from error
        waiting.discard(name)
        if stop and not waiting:
            raise end()

    handles: list[RemovableHandle] = []
    with ending(finished, handles):
        for name, part in module.named_modules():
            if name and not isinstance(part, torch.jit.ScriptModule):
                handles += _followed(part, name, stack)
        with _Attending(images, called, hand, queries):
            yield waiting


def _address(module: str, call: int) -> str:
    return module if module and call == 1 else f"{module}~{call}"


def _followed(part: nn.Module, name: str, stack: list[str]) -> list[Any]:
    """Hooks that keep the names of the running modules in a stack."""

    def leave(*_: Any) -> None:
        stack.pop()

    enter = part.register_forward_pre_hook(lambda *_: stack.append(name))
    return [enter, part.register_forward_hook(leave, always_call=True)]


def weights_of(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    grouped: bool = False,
    queries: Queries = None,
) -> Tensor:
    """(..., Q, K) the weights of fused attention; the arguments are those of `F.scaled_dot_product_attention`."""
    count, keys = query.shape[-2], key.shape[-2]
    rows = slice(None) if queries is None else queries
    key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3) if grouped else key
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = query[..., rows, :] @ (key * scale).transpose(-2, -1)
    if causal:
        mask = torch.ones(count, keys, dtype=torch.bool, device=query.device).tril()
    if mask is not None:
        mask = mask.expand(*mask.shape[:-2], count, keys)[..., rows, :]
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    exact = scores if scores.dtype == torch.float64 else scores.float()
    weights = exact.softmax(-1)
    if mask is not None:  # a query that may attend to nothing
        weights = weights.masked_fill((exact == -torch.inf).all(-1, keepdim=True), 0)
    return weights.to(query.dtype)


def by_image(weights: Tensor, images: int) -> Tensor | None:
    """(N, heads, Q, K) or (N, windows, heads, Q, K), a view of weights whose batch holds heads or windows too.

    None for shapes that can't be parted so. The batch counts images first, then windows, then heads.
    """
    *lead, q, k = weights.shape
    if not lead or lead[0] % images:
        return weights[None, None] if not lead and images == 1 else None
    if len(lead) == 1:
        return weights.view(images, lead[0] // images, q, k)
    if len(lead) == 2:
        return weights if lead[0] == images else weights.reshape(images, lead[0] // images, lead[1], q, k)
    return weights if len(lead) == 3 and lead[0] == images else weights.reshape(images, -1, lead[-1], q, k)


@dataclass
class _Softmax:
    """A softmax of scores: its result as weights by image, until these were read."""

    weights: Tensor | None
    shape: tuple[int, ...]


class _Attending(TorchFunctionMode):
    """Sees every function of a pass; `marks` has what is known of tensors: scores, or the softmax they come from."""

    def __init__(
        self, images: int, called: Callable[[], str | None], hand: Callable[[str, Tensor], None], queries: Queries
    ) -> None:
        super().__init__()
        self.images, self.called, self.hand, self.queries = images, called, hand, queries
        self.marks: Any = WeakIdKeyDictionary()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._fused(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            with self:
                return _multi_head_body(*args, **kwargs)
        if func in _PRODUCTS:
            return self._product(func, args, kwargs)
        result = func(*args, **kwargs)
        if self.marks and isinstance(result, Tensor):
            known = self._mark_among((*args, *kwargs.values()))
            if known is _SCORES and func in _SOFTMAXES and _over_last(result, *args[1:], **kwargs):
                return self._softmax(result)
            if known is not None and (_name(func) in _HANDING_ON or func in _TURNED):
                self.marks[result] = known
        return result

    def _fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        name = self.called()
        differentiable = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
        eager = name is not None and self.queries is None and differentiable
        output = None
        if not eager:
            more: dict[str, Any] = {"scale": scale} | ({"enable_gqa": True} if enable_gqa else {})
            output = F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, **more)
        if name is None:
            assert output is not None
            return output
        weights = weights_of(query, key, attn_mask, is_causal, scale, enable_gqa, self.queries)
        shape, weights = weights.shape, self._parted(name, by_image(weights, self.images), tuple(weights.shape))
        self.hand(name, weights)
        if output is not None:
            return output
        dropped = F.dropout(weights, dropout_p) if dropout_p else weights
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3) if enable_gqa else value
        return dropped.reshape(shape) @ value

    def _softmax(self, result: Tensor) -> Tensor:
        """A softmax of scores, such that its view by image lies on the way to what is computed from it."""
        parted = by_image(result, self.images)
        known = _Softmax(result if parted is None else parted, tuple(result.shape))
        result = result if parted is None else parted.reshape(result.shape)
        self.marks[result] = known
        return result

    def _product(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        pair = _tensors((*args, *kwargs.values()))[-2:]
        if len(pair) < 2 or min(pair[0].ndim, pair[1].ndim) < 3:
            return result
        known = [self.marks.get(one) for one in pair]
        softmax = next((one for one in known if isinstance(one, _Softmax)), None)
        if softmax is None:
            self.marks[result] = _SCORES
        elif softmax.weights is not None:
            weights, softmax.weights = softmax.weights, None
            name = self.called()
            if name is not None:
                parted = self._parted(name, by_image(weights, self.images), softmax.shape)
                self.hand(name, parted if self.queries is None else parted[..., self.queries, :])
        return result

    def _parted(self, name: str, weights: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        if weights is None:
            raise NetworkError(f"attention {name!r} has weights of shape {shape}, which are not those of each image")
        return weights

    def _mark_among(self, given: tuple[Any, ...]) -> Any:
        return next((self.marks[one] for one in _tensors(given) if one in self.marks), None)


_SCORES = object()
_PRODUCTS = {
    *(torch.matmul, Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__),
    *(torch.bmm, Tensor.bmm, torch.baddbmm, Tensor.baddbmm, torch.einsum),
}
_SOFTMAXES = {F.softmax, torch.softmax, Tensor.softmax, torch.special.softmax}

# what makes scores of scores and weights of weights: scaled, masked, biased, mixed across heads, or laid out otherwise
_HANDING_ON = {
    *("add", "sub", "mul", "div", "truediv", "masked_fill", "where", "clamp", "tanh", "nan_to_num", "dropout"),
    *("view", "reshape", "permute", "transpose", "swapaxes", "flatten", "unflatten", "squeeze", "unsqueeze", "expand"),
    *("contiguous", "clone", "to", "type", "type_as", "float", "half", "bfloat16", "double", "cat", "getitem"),
    *("linear", "conv2d", "repeat_interleave", "movedim"),
}
_TURNED = {vars(torch._C.TensorBase)[name].__get__ for name in ("mT", "T")}


def _name(func: Callable[..., Any]) -> str:
    """'add' of torch.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__ and Tensor.__radd__."""
    name = getattr(func, "__name__", "")
    plain = name.strip("_")
    return plain[1:] if name.startswith("__") and plain[1:] in _HANDING_ON and plain[:1] in "ir" else plain


def _tensors(given: tuple[Any, ...]) -> list[Tensor]:
    """The tensors among arguments, and in their lists."""
    found = []
    for one in given:
        if isinstance(one, Tensor):
            found.append(one)
        elif isinstance(one, list | tuple):
            found += [each for each in one if isinstance(each, Tensor)]
    return found


def _over_last(result: Tensor, dim: int | None = None, *_: Any, **__: Any) -> bool:
    return dim in (-1, result.ndim - 1)


def _without_override(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of PyTorch, written in Python, that does not ask for overrides of itself, only in what it calls."""
    assert isinstance(function, FunctionType)
    names = {**function.__globals__, "has_torch_function": lambda _: False}
    copied = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied


_multi_head_body = _without_override(F.multi_head_attention_forward)
