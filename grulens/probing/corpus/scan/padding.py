"""An input that says itself which of its steps are padding, given to layers that take them all.

A model may take a mask, or how long each row is, and leave the padding out only afterwards. To its
layers these are steps like all others, and a scan counts what layers do: so it is said. What such
an argument is, its name tells: numbers that look like a mask may be the kinds of tokens as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool
from numpy import ndarray
from torch import Tensor

_MASK: Final = re.compile(r"mask|pad", re.IGNORECASE)
_LENGTHS: Final = re.compile(r"len", re.IGNORECASE)


def named(args: Sequence[Any], kwargs: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """All arguments of a call by name.

    Args:
        args: those by place.
        kwargs: those by name.
        names: what the first of those by place are called.

    >>> named((1, 2), {"c": 3}, ["a"])
    {'a': 1, 'argument 1': 2, 'c': 3}
    """
    called = [*names[: len(args)]]
    called += [f"argument {place}" for place in range(len(called), len(args))]
    return dict(zip(called, args, strict=True)) | dict(kwargs)


def is_mask(name: str, one: Any) -> bool:
    """Whether an argument says of steps whether they count, and is not what stands there.

    >>> is_mask("attention_mask", None), is_mask("token_type_ids", np.zeros(3))
    (True, False)
    """
    return bool(_MASK.search(name)) or (isinstance(one, Tensor) and one.dtype == torch.bool)


def padding(
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    names: Sequence[str],
    read: str,
    mask: Bool[ndarray, "row step"],
) -> str | None:
    """The name of an argument that says that some steps are padding, which the layers take.

    Args:
        args: the arguments of the run by place.
        kwargs: those by name.
        names: what those by place are called.
        read: the name of the argument that holds what stands at each step.
        mask: (row, step) the steps that the layers took; where they left any out, they know.
    """
    if not mask.all():
        return None
    every = named(args, kwargs, names)
    return next((n for n, one in every.items() if n != read and _pads(n, one, *mask.shape)), None)


def _pads(name: str, one: Any, rows: int, steps: int) -> bool:
    """Whether it is a mask with a value for padding, or lengths of rows that are shorter."""
    try:
        held = np.asarray(one.detach().float().cpu() if isinstance(one, Tensor) else one)
    except Exception:  # of any kind: what numpy does not take says nothing of steps
        return False
    if held.dtype.kind not in "biuf" or not held.size:
        return False
    if _MASK.search(name) and held.size == rows * steps:
        return bool(held.min() != held.max())
    if _LENGTHS.search(name) and held.size == rows:
        return bool((held == held.round()).all() and held.min() >= 0 and held.min() < steps)
    return False
