"""What weights from elsewhere need first: arrays of any library as tensors, gates in our order.

Keras and ONNX pack the gates z, r, n; torch and a `Cell` pack them r, z, n.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from grulens.cells.activations import Activation
from grulens.errors import CellError


class GRUWeights(NamedTuple):
    """What a `Cell` is made of, in its order; see there."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    reset_after: bool
    gate: Activation
    candidate: Activation


def tensor(value: Any, name: str) -> Tensor:
    """An array as a tensor of the same floating dtype; a tensor stays part of its graph.

    Args:
        value: a tensor, or what NumPy takes for an array.
        name: what it is called in the error.

    Raises:
        CellError: it is no array of floating numbers.

    >>> tensor([[1.0, 2.0]], "kernel")
    tensor([[1., 2.]], dtype=torch.float64)
    """
    if isinstance(value, Tensor):
        if value.is_floating_point():
            return value
        raise CellError(f"{name} has dtype {value.dtype}; weights are floating")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise CellError(f"{name} is no array: {error}") from error
    if array.dtype.name == "bfloat16":  # of ml_dtypes, which torch does not know
        return torch.from_numpy(array.astype(np.float32)).bfloat16()
    if array.dtype.name not in ("float16", "float32", "float64"):
        raise CellError(f"{name} has dtype {array.dtype}; weights are floating")
    # a copy in the machine's own byte order: files hold others, and arrays that are read-only
    return torch.from_numpy(array.astype(array.dtype.name))


def rzn(rows: Tensor) -> Tensor:
    """Rows (3 unit, ...) packed z, r, n, in the order r, z, n.

    >>> rzn(torch.tensor([[1.0], [2.0], [3.0]])).flatten()
    tensor([2., 1., 3.])
    """
    z, r, n = rows.chunk(3)
    return torch.cat([r, z, n])
