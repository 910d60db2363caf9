"""The way back through a network, and why there may be none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from netloupe.core.errors import LESS, NetworkError, first_line, lacks_memory

HIDDEN = "(or a part that runs without gradients hides how, as checkpointing with use_reentrant=True does)"
"""Beside the word that something does not depend on the image, which a pass can't tell from this."""


def gradients(
    title: str,
    scores: Sequence[Tensor],
    at: Sequence[Tensor],
    starts: Sequence[Tensor] | None = None,
    *,
    keep: bool = False,
) -> Sequence[Tensor | None]:
    """The gradients of `scores`, weighted by `starts`, by each of `at`; None where they don't depend on it.

    scores: of several elements only with `starts`. title: of the network. keep: the way back is taken again.
    Raises NetworkError where PyTorch can't go back.
    """
    if not all(score.requires_grad for score in scores):
        return [None] * len(at)
    try:
        return torch.autograd.grad(list(scores), list(at), starts, retain_graph=keep, allow_unused=True)
    except RuntimeError as error:
        if lacks_memory(error):
            reason = LESS
        elif "heckpoint" in str(error) or "differentiated Tensors" in str(error):
            reason = "it recomputes parts on the way back; turn checkpointing off, or give a module without it"
        else:
            reason = first_line(error)
        raise NetworkError(f"{title} can't be differentiated: {reason}") from error
