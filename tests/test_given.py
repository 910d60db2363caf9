"""Arguments of another kind than the signature names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import netloupe
from netloupe.core.errors import InputError, NetloupeError
from netloupe.core.given import checked
from netloupe.core.objectives import Objective

FUNCTIONS = [one for one in (getattr(netloupe, name) for name in netloupe.__all__) if inspect.isfunction(one)]
FUNCTIONS = [one for one in FUNCTIONS if one.__name__ != "swept_by"]  # an engine is whatever acts like one


@checked
def takes(
    net: Tensor, several: Sequence[str | Path] = (), number: float = 0.5, count: int | None = None,
    objective: Objective | str = "x", other: Mapping[str, Any] | None = None, *names: str, **settings: Any,
) -> str:  # fmt: skip
    """Its own."""
    return "took it"


IMAGE = torch.zeros(1)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"several": ["a", Path("b")]},
        {"several": "a"},
        {"several": (one for one in "ab")},
        {"number": np.float32(1), "count": np.int64(3)},
        {"number": torch.tensor(1), "count": None},
        {"number": float("inf")},
        {"objective": netloupe.objectives.logit(3)},
        {"other": 5},  # a kind that is not judged
        {"unknown": object()},
    ],
)
def test_what_is_accepted(given: dict[str, Any]) -> None:
    assert takes(torch.nn.Parameter(IMAGE), **given) == "took it"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"net": [1, 2]}, r"^net \[1, 2\] \(accepted: a tensor\)$"),
        ({"several": 5}, r"^several 5 \(accepted: a list of which each is text or a path\)$"),
        ({"several": ["a", None]}, r"^several \['a', None\] \(accepted: a list"),
        ({"number": 1j}, r"^number 1j \(accepted: a number\)$"),
        ({"number": float("nan")}, r"^number nan \(accepted: a number\)$"),
        ({"number": True}, r"^number True \(accepted: a number\)$"),
        ({"number": torch.zeros(0)}, r"^number tensor\(\[\]\) \(accepted: a number\)$"),
        ({"count": 2.5}, r"^count 2.5 \(accepted: a whole number\)$"),
        ({"objective": 3}, r"^objective 3 \(accepted: an objective, text\)$"),
    ],
)
def test_what_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        takes(**{"net": IMAGE, **given})


def test_what_python_refuses_it_still_refuses_and_the_function_stays_itself() -> None:
    with pytest.raises(TypeError, match=r"takes\(\) missing 1 required positional argument: 'net'"):
        takes()  # type: ignore[call-arg]
    assert (takes.__name__, takes.__doc__) == ("takes", "Its own.")


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda one: one.__name__)
def test_every_public_function_refuses_what_it_can_not_use_in_one_line(function: Callable[..., Any]) -> None:
    required = [one.name for one in inspect.signature(function).parameters.values() if one.default is one.empty]
    for value in (object(), None, 1j):
        if not required:
            return
        with pytest.raises(NetloupeError) as refused:
            function(**dict.fromkeys(required, value))
        assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("baseline", [b"x", object(), {"a": 1}, [None]])
def test_baselines_that_are_none(baseline: Any) -> None:
    net = netloupe.load()
    with pytest.raises(InputError, match=r"^baseline .* \(accepted: mean, blur, a gray value"):
        netloupe.integrated_gradients(net, torch.rand(1, 3, 64, 64), "class:koala", baseline, steps=1)
