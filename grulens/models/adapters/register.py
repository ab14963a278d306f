"""Which adapter opens a module: torch's own modules are known, other classes are registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from grulens.arguments import AdapterLike, ModuleClass
from grulens.errors import AdapterError, shown
from grulens.models.adapters.adapter import Adapter, SequenceAdapter, StepAdapter
from grulens.models.adapters.keras import keras_adapter
from grulens.models.adapters.stack import GRUStack
from grulens.models.adapters.torch_modules import OfCell, OfSequence, OfStack
from grulens.models.restore import added

BUILT_IN: dict[type[nn.Module], Callable[[bool], Adapter]] = {
    nn.GRU: OfSequence,
    nn.GRUCell: OfCell,
    nn.LSTM: OfSequence,
    nn.LSTMCell: OfCell,
    nn.RNN: OfSequence,
    nn.RNNCell: OfCell,
    GRUStack: OfStack,
}
_CALLED = (
    "forward", "check_input", "check_hidden_size", "check_forward_args", "permute_hidden",
    "get_expected_hidden_size", "get_expected_cell_size", "_update_flat_weights", "cells",
)  # fmt: skip
"""What computes in these classes; whoever writes one of these anew may compute something else."""
_WRITTEN = {kind: [getattr(kind, name, None) for name in _CALLED] for kind in BUILT_IN}
_registered: dict[type[nn.Module], Adapter] = {}


def register(module_type: ModuleClass, adapter: AdapterLike) -> None:
    """Teach grulens a recurrent class of your own, and its subclasses.

    From then on its modules are recorded, edited and shown as `nn.GRU` is; layers inside them are
    parts of them. Whenever such a module runs under grulens, what its adapter says is compared
    with what the module computes, at every step; a difference is an error that says at which step,
    how large it is, and what would fit.

    Args:
        module_type: the class.
        adapter: a `StepAdapter` for a module that is called step by step, `SequenceAdapter` for one
            that takes sequences; None forgets the class again.

    Raises:
        AdapterError: these are not a module class and an adapter.

    >>> import torch
    >>> from grulens import Cell, record
    >>> from grulens.adapters import GRUStack
    >>> class Wrapped(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.inner = nn.GRU(2, 3, batch_first=True)
    ...     def forward(self, x):
    ...         return self.inner(x)[0]
    >>> def cells(module):
    ...     g = module.inner
    ...     return Cell(g.weight_ih_l0, g.weight_hh_l0, g.bias_ih_l0, g.bias_hh_l0)
    >>> register(Wrapped, SequenceAdapter(cells, result=lambda module, h, h_n: h))
    >>> record(Wrapped(), torch.ones(1, 4, 2))
    Recording(l0)
    >>> register(Wrapped, None)
    """
    kind: Any = module_type
    if not isinstance(kind, type) or not issubclass(kind, nn.Module):
        got = f"a {type(kind).__name__}"
        if isinstance(kind, nn.Module):
            got += ": pass its class"
        elif isinstance(kind, type):
            got = kind.__name__
        raise AdapterError(f"register takes a class of torch.nn.Module, got {got}")
    if adapter is None:
        _registered.pop(kind, None)
        return
    given: Any = adapter
    if not isinstance(given, StepAdapter | SequenceAdapter):
        raise AdapterError(
            f"the adapter of {kind.__name__} must be a StepAdapter or a SequenceAdapter, "
            f"got {shown(given)}"
        )
    _registered[kind] = given


def adapter_of(module: Any) -> Adapter | None:
    """The adapter that opens a module, or None; the nearest class that is known says."""
    for kind in type(module).__mro__:
        if kind in _registered:
            return _registered[kind]
        if kind in BUILT_IN:
            return BUILT_IN[kind](_as_written(module, kind))
    return keras_adapter(module)


def _as_written(module: Any, kind: type[nn.Module]) -> bool:
    """Whether a module computes by the code of `kind`, as it was when grulens was imported."""
    if own_forward(module) is not None or any(name in vars(module) for name in _CALLED[1:]):
        return False
    return [getattr(type(module), name, None) for name in _CALLED] == _WRITTEN[kind]


def own_forward(module: Any) -> Any:
    """The forward that somebody has set on a module itself, over that of its class; or None."""
    # while a watch is open on it, a tap is in its place, and somebody may have wrapped that
    return added.own(module, "forward")
