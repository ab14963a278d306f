"""Weights that are computed anew each time somebody asks for them (torch.nn.utils.parametrize).

A spectral norm takes a step of its power iteration, a noisy weight draws random numbers: what is
read beside a run is not what ran, and reading it moves the model on. So a look at such a weight
must leave no trace, and what a run reads must be computed once, for the run and for grulens.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext

from torch import nn
from torch.nn.utils import parametrize

from grulens.models.restore.interrupts import Uninterrupted
from grulens.models.restore.untouched import untouched


def only_looked_at(module: nn.Module) -> AbstractContextManager[None]:
    """Inside, its weights may be read; afterwards the module is as if they had not been.

    >>> import torch
    >>> from torch.nn.utils.parametrizations import spectral_norm
    >>> cell = spectral_norm(nn.GRUCell(2, 3), "weight_hh")
    >>> with only_looked_at(cell):
    ...     one = cell.weight_hh
    >>> with only_looked_at(cell):
    ...     torch.equal(cell.weight_hh, one)
    True
    """
    return untouched(module) if _parametrized(module) else nullcontext()


def computed_once(module: nn.Module) -> AbstractContextManager[None]:
    """Inside, who asks for a weight again gets the same one.

    `nn.GRU` is let alone: its forward computes its weights several times and keeps what it runs
    with, where grulens reads it.

    >>> noisy = nn.GRUCell(2, 3)
    >>> _ = parametrize.register_parametrization(noisy, "weight_hh", nn.Dropout())
    >>> with computed_once(noisy):
    ...     noisy.weight_hh is noisy.weight_hh
    True
    """
    if isinstance(module, nn.GRU) or not _parametrized(module):
        return nullcontext()
    return _Cached()


class _Cached(Uninterrupted):
    """torch's own cache of parametrized weights, which a Ctrl-C does not leave switched on."""

    def __init__(self) -> None:
        self._undo = ExitStack()

    def begin(self) -> None:
        self._undo.enter_context(parametrize.cached())

    def end(self) -> None:
        self._undo.close()


def _parametrized(module: nn.Module) -> bool:
    return any(parametrize.is_parametrized(part) for part in module.modules())
