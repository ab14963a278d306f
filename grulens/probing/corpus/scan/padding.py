"""An input that says itself which of its steps are padding, given to layers that take them all.

A model may take a mask, or how long each row is, and leave the padding out only afterwards. To its
layers these are steps like all others, and a scan counts what layers do: so it is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy import ndarray
from torch import Tensor


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
    return next((n for n, one in every.items() if n != read and _pads(one, *mask.shape)), None)


def _pads(one: Any, rows: int, steps: int) -> bool:
    """Whether it is a mask with two values, each at one end of a row, or lengths of rows."""
    if isinstance(one, list | tuple) and all(type(n) is int for n in one):
        one = np.array(one, np.int64)
    if isinstance(one, Tensor):
        if one.is_complex() or one.dim() not in (1, 2) or one.numel() > rows * steps:
            return False
        one = one.detach().float().cpu().numpy()
    if not isinstance(one, ndarray):
        return False
    if one.shape == (rows,) and rows > 1:
        return bool((one == one.round()).all() and one.min() > 0 and steps == one.max() > one.min())
    if one.shape not in ((rows, steps), (steps, rows)):
        return False
    turns = np.diff(one if one.shape == (rows, steps) else one.T, axis=1)
    marks = bool(((one == 0) | (one == 1)).all())
    return marks and bool(turns.any()) and any(bool((of >= 0).all()) for of in (turns, -turns))
