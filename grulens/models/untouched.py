"""Run a model once more as if it had not run: what relative edits refer to is such a run.

A forward may draw random numbers, count batches, keep its last state: the run after it must not see
any of that.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from grulens.models.whole import Whole, random_kept


class untouched(Whole):  # noqa: N801 - called as a function is, in a `with`
    """Afterwards the model's buffers and attributes and torch's random numbers are as before.

    >>> norm = nn.BatchNorm1d(2)
    >>> with untouched(norm):
    ...     _ = norm(torch.ones(3, 2))
    >>> norm.running_mean, int(norm.num_batches_tracked)
    (tensor([0., 0.]), 0)
    """

    def __init__(self, model: nn.Module) -> None:
        # attributes may be given a new value or, where they are buffers, changed in place
        self.attributes = [(module, dict(vars(module))) for module in model.modules()]
        self.buffers = [(module._buffers, dict(module._buffers)) for module in model.modules()]
        self.values = [(buffer, buffer.clone()) for buffer in model.buffers()]
        self.random = random_kept(devices={p.device.index for p in model.parameters() if p.is_cuda})

    def begin(self) -> None:
        self.random.begin()

    def end(self) -> None:
        self.random.end()
        for module, before in self.attributes:
            _restore(vars(module), before)
        for held, kept in self.buffers:
            _restore(held, kept)
        with torch.no_grad():
            for buffer, value in self.values:
                # by value: batch norm's kernel counts no change; and only then, since a copy counts
                # as one, and an earlier graph may hold the buffer
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


def _restore(held: dict[str, Any], before: dict[str, Any]) -> None:
    for name in held.keys() - before.keys():
        del held[name]
    held.update(before)
