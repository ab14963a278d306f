"""Whether the arguments of a call fit torch's modules: what does not is torch's own to refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from grulens.cells.precision import autocast


def fits(module: Any, given: Any, hx: Any) -> bool:
    """Whether torch would run this call.

    An edited run takes other ways than torch's kernel, on which a wrong shape would fail with
    another message, or broadcast and not fail.

    >>> import torch
    >>> fits(nn.GRU(3, 4), torch.zeros(5, 2, 3), None), fits(nn.GRUCell(3, 4), torch.zeros(7), None)
    (True, False)
    """
    weight = weight_of(module)
    packed = isinstance(given, PackedSequence)
    data = given.data if packed else given
    if not isinstance(data, Tensor) or not _goes_with(data, weight) or not data.dim():
        return False
    if data.shape[-1] != module.input_size:
        return False
    dims, units = data.dim(), module.hidden_size
    if isinstance(module, nn.RNNCellBase):
        expected = (*data.shape[:-1], units)
        fit = dims in (1, 2) and not packed
    else:
        count = module.num_layers * (2 if module.bidirectional else 1)
        batch = () if dims == 2 else (data.shape[0 if module.batch_first else 1],)
        if packed:
            batch = (int(given.batch_sizes[0]),)
        expected = (count, *batch, units)
        fit = dims == 2 if packed else dims in (2, 3)
    if hx is None or not fit:
        return fit
    states: Sequence[Any] = (hx,)
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        if not isinstance(hx, tuple | list) or len(hx) != 2:
            return False
        states = hx
    return all(
        isinstance(state, Tensor) and _goes_with(state, weight) and state.shape == expected
        for state in states
    )


def _goes_with(tensor: Tensor, weight: Tensor) -> bool:
    """Whether the kernel takes them together: autocast makes products of what it can round."""
    if not autocast(tensor.device):
        return tensor.dtype == weight.dtype
    rounded = (torch.float32, torch.float16, torch.bfloat16)
    return tensor.dtype == weight.dtype or {tensor.dtype, weight.dtype} <= set(rounded)


def weight_of(module: Any) -> Tensor:
    """A tensor of its weights' dtype and device; a parametrized weight would be computed."""
    found = next(module.parameters(), None)
    if found is None:
        found = module.weight_hh if isinstance(module, nn.RNNCellBase) else module.weight_hh_l0
    weight: Tensor = found
    return weight
