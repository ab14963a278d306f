"""Whether a forward that is not torch's own computes what torch's does: tried on a few numbers.

A subclass or a wrapper may call torch's forward and change nothing; no reading of its code tells.
So it is run once on made-up numbers. What differs there is no layer that could be opened; what
agrees is opened, and compared again in every run.
"""

from __future__ import annotations

import inspect
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from grulens.cells.precision import exact
from grulens.errors import AdapterError
from grulens.models.adapters.adapter import Adapter
from grulens.models.adapters.beside import Beside
from grulens.models.adapters.register import BUILT_IN, own_forward
from grulens.models.adapters.torch_modules import OfCell, OfSequence
from grulens.models.call.fits import weight_of

_tried: WeakKeyDictionary[nn.Module, tuple[object, str | None]] = WeakKeyDictionary()


def why_not_torchs(module: nn.Module, adapter: Adapter | None) -> str | None:
    """Why a module with a forward of its own is not read as torch's, or None.

    >>> class Clipped(nn.GRUCell):
    ...     def forward(self, x, h=None):
    ...         return super().forward(x, h).clamp(-0.1, 0.1)
    >>> print(why_not_torchs(Clipped(2, 3), OfCell(vouched=False)))
    a Clipped, a subclass of nn.GRUCell with a forward of its own, which does not compute what \
torch's does (it clips the state at 0.1): use the plain class, or say what it computes with \
grulens.adapters.register
    >>> why_not_torchs(nn.GRUCell(2, 3), OfCell()) is None
    True
    """
    if not isinstance(adapter, OfSequence | OfCell) or adapter.vouched:
        return None
    forward = own_forward(module)
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        return (
            f"a {type(module).__name__}, an LSTM with a forward of its own, which cannot be "
            "compared with torch's: use the plain class"
        )
    # no forward itself: a bound method would keep its module alive
    known = type(module), type(module).forward, forward and id(forward), module.training
    before, why = _tried.get(module, (None, None))
    if before != known:
        why = _tried_out(module, adapter, forward or type(module).forward.__get__(module))
        _tried[module] = known, why
    if why is None:
        return None
    kind = type(module).__name__
    base = next(base for base in BUILT_IN if isinstance(module, base))
    torchs = f"{'' if base.__module__.startswith('grulens') else 'nn.'}{base.__name__}"
    if forward is not None:
        own = f"a {kind} on which another forward has been set"
    elif type(module) is base:
        own = f"a {kind}, whose forward has been replaced in its class"
    else:
        own = f"a {kind}, a subclass of {torchs} with a forward of its own"
    register = "grulens.adapters.register"
    return f"{own}, which {why}: use the plain class, or say what it computes with {register}"


def _tried_out(module: Any, adapter: OfSequence | OfCell, forward: Any) -> str | None:
    """In which way it differs, None if it does not or if that cannot be tried."""
    try:
        cells = adapter.cells_of(module)
        weight = weight_of(module)
    except Exception as error:
        return f"has weights that make no GRU ({error})"
    if weight.is_meta:
        return None
    rows, steps = 2, 3
    x = _numbers(weight, rows, steps, cells[0, 0].input_size)
    h_0 = _numbers(weight, len(cells), rows, cells[0, 0].hidden_size)
    if isinstance(adapter, OfCell):
        args: tuple[Tensor, ...] = x[:, 0], h_0[0]
    else:
        args = (x if module.batch_first else x.transpose(0, 1)), h_0
    try:
        inspect.signature(forward).bind(*args)
    except TypeError:
        try:
            inspect.signature(forward).bind(*(args := args[:1]))
        except TypeError:
            return "takes other arguments than torch's does"
    except ValueError:
        pass  # made in C, it does not say what it takes
    names = dict.fromkeys(cells, "it")
    beside = Beside(adapter, module, forward, names, 0)
    try:
        with exact(weight.device):
            call = adapter.open(module, args, {})
            if call is not None:
                beside.compare(call, args, {})
    except AdapterError as error:
        return error.why or str(error)
    except Exception:
        return None  # it wants something that these numbers are not: its own runs will tell
    return None


def _numbers(like: Tensor, *shape: int) -> Tensor:
    """Numbers between -1 and 1, always the same ones."""
    count = torch.Size(shape).numel()
    return torch.arange(1.0, count + 1).mul(2).sin().reshape(shape).to(like)
