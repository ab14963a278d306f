"""Numbers as people give them: Python's own, numpy's, or a tensor of one."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np
from torch import Tensor

from grulens.errors import GrulensError, ScanError, shown


def as_whole(value: Any) -> int | None:
    """A whole number, or None where it is none; True and False are none.

    >>> as_whole(np.int64(3)), as_whole(np.float32(3)), as_whole(True), as_whole([3])
    (3, None, None, None)
    """
    if isinstance(value, bool | np.bool_) or getattr(value, "ndim", None):
        return None
    if isinstance(value, Tensor | np.ndarray) and str(value.dtype).endswith("bool"):
        return None
    try:
        return index(value)
    except Exception:  # whatever it is, it is no whole number
        return None


def as_number(value: Any) -> float | None:
    """A number, or None where it is none.

    >>> as_number(np.float32(0.5)), as_number(2), as_number("2"), as_number(False)
    (0.5, 2.0, None, None)
    """
    plain = isinstance(value, int | float | np.integer | np.floating)
    single = isinstance(value, Tensor | np.ndarray) and not value.ndim
    if not (plain or single) or isinstance(value, bool):
        return None
    if not plain and str(value.dtype).endswith("bool"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None


def whole(
    value: Any,
    name: str,
    least: int = 1,
    most: int | None = None,
    *,
    error: type[GrulensError] = ScanError,
) -> int:
    """A whole number that lies between two.

    Args:
        value: what was given.
        name: for what.
        least: the least it may be.
        most: the most, or None.
        error: the class of the error.

    Raises:
        GrulensError: it is none; of the class given.
    """
    found = as_whole(value)
    if found is None or found < least or (most is not None and found > most):
        upto = f"{least} on" if most is None else f"{least} to {most}"
        raise error(f"{name} must be a whole number from {upto}, got {shown(value)}")
    return found
