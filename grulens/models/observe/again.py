"""Whether a run gives what the run gave in which its cells were looked for, just before.

All that the extra runs are seen to change is put back. What an extension keeps, a file or a clock
is not seen, and may show in what the model returns.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from grulens.errors import LeftBehindWarning


def tell_if_other(output: object, before: object) -> None:
    """Warn if a model returns something else than in the run in which its cells were looked for.

    Args:
        output: what it returns.
        before: what it returned then; None where that is not known.

    Warns:
        LeftBehindWarning: a number is another.

    >>> tell_if_other((torch.ones(2), "a"), (torch.ones(2), "b"))
    """
    pairs = zip(_numbers(output), _numbers(before), strict=False)
    if before is not None and any(_are_apart(*pair) for pair in pairs):
        warnings.warn(
            "the model returns something else here than in the run just before, of the same input, "
            "in which its cells were looked for. So runs leave something behind that is not put "
            "back (in a file, a clock, an extension), or are not repeatable: this may be no first "
            "run, and not what the model alone would have given",
            LeftBehindWarning,
            stacklevel=4,
        )


def _numbers(output: object) -> Iterator[Tensor]:
    for one in tree_leaves(output):
        if isinstance(one, Tensor) and one.is_floating_point():
            yield one.detach()
        elif type(one) in (int, float):
            yield torch.tensor(float(one))


def _are_apart(one: Tensor, other: Tensor) -> bool:
    """Whether two results differ by more than rounding, or in their shapes."""
    if one.shape != other.shape or one.layout is not torch.strided or one.is_meta:
        return one.shape != other.shape
    if not one.numel():
        return False
    least = torch.finfo(one.dtype).eps ** 0.5
    size = float(other.nan_to_num(0, 0, 0).abs().max()) + 1e-30
    return not torch.allclose(one, other, rtol=least, atol=least * size, equal_nan=True)
