"""How often torch has counted a write to a tensor: what says whether it still is what it was."""

from __future__ import annotations

from torch import Tensor


def version(tensor: Tensor) -> int | None:
    """How often a tensor was changed in place; None where torch does not count."""
    return None if tensor.is_inference() else tensor._version
