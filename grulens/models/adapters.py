"""What a user says about a GRU class of their own, so that grulens can open it exactly.

There are two kinds of class: one that is called step by step, and one that takes whole sequences.
An adapter says which cells such a module holds and how its arguments and results are to be read.
Nothing of that is believed: on first use it is compared with what the module itself computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from grulens.errors import AdapterError
from grulens.gru.cell import Cell
from grulens.models.calls import Call, Key, Run
from grulens.models.form import Dense, Form, Packed
from grulens.models.said import asked, cells_said, check, pair


@runtime_checkable
class Adapter(Protocol):
    """What grulens asks about a module that holds a GRU."""

    @property
    def sequence(self) -> bool:
        """Whether it takes whole sequences; its layers are then named l0, l0_reverse, ..."""

    @property
    def vouched(self) -> bool:
        """Whether it needs no comparison with the module."""

    def cells_of(self, module: Any) -> dict[Key, Cell]:
        """Its cells by level and direction, over the weights that its next forward would read."""

    def ran(self, module: Any) -> dict[Key, Cell]:
        """The same, over the weights that its last forward has read."""

    def open(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """A call of it; None if the module is to refuse these arguments in its own words."""


@dataclass(frozen=True)
class StepAdapter:
    """A module that is called step by step: `h = module(x, h)`.

    Attributes:
        cells: from the module to its `Cell`, made of its own weights (no copies: gradients flow
            through them), rows in the order r, z, n.
        arguments: from the module and the arguments of its forward to x (batch, input) and h_prev
            (batch, unit), None for zeros. By default they are its first two arguments.
        state: from the module and what its forward returned to h (batch, unit). By default it is
            that itself.
        result: from the module and h (batch, unit) to what its forward returns. By default h.

    >>> import torch
    >>> from torch import nn
    >>> class Mine(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.x, self.h = nn.Linear(2, 9), nn.Linear(3, 9)
    ...     def forward(self, x, h):
    ...         a, b = self.x(x).chunk(3, 1), self.h(h).chunk(3, 1)
    ...         r, z = torch.sigmoid(a[0] + b[0]), torch.sigmoid(a[1] + b[1])
    ...         n = torch.tanh(a[2] + r * b[2])
    ...         return n + z * (h - n)
    >>> from grulens import Cell, layers, record, register
    >>> register(Mine, StepAdapter(lambda m: Cell(m.x.weight, m.h.weight, m.x.bias, m.h.bias)))
    >>> mine = Mine()
    >>> layers(mine)
    cell: Mine, input 2, hidden 3, forward, reset after the product
    >>> record(mine, torch.ones(4, 2), torch.ones(4, 3))["cell"].z.shape
    torch.Size([4, 1, 3])
    >>> register(Mine, None)
    """

    cells: Callable[[Any], Any]
    _: KW_ONLY
    arguments: Callable[..., Any] | None = None
    state: Callable[[Any, Any], Any] | None = None
    result: Callable[[Any, Any], Any] | None = None

    sequence = False
    vouched = False

    def cells_of(self, module: Any) -> dict[Key, Cell]:
        by_key = cells_said(self, module)
        if len(by_key) > 1:
            raise AdapterError(
                f"the StepAdapter of {type(module).__name__} gives {len(by_key)} cells; a module "
                "that is called step by step has one (SequenceAdapter takes several)"
            )
        return by_key

    ran = cells_of

    def open(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        cell = self.cells_of(module)[0, 0]
        given = asked(self, module, "arguments", self.arguments or _two, *args, **kwargs)
        x, h = pair(self, module, given)
        check(module, "x", x, (None, cell.input_size), "(batch, input)", cell)
        if h is None:
            h = x.new_zeros(len(x), cell.hidden_size)
        check(module, "h_prev", h, (len(x), cell.hidden_size), "(batch, unit)", cell)

        def enter(result: Any) -> Tensor:
            state = asked(self, module, "state", self.state or _itself, result)
            check(module, "state", state, (len(x), cell.hidden_size), "(batch, unit)", cell)
            return state[None]  # type: ignore[no-any-return]

        def leave(done: Run) -> Any:
            return asked(self, module, "result", self.result or _itself, done.h_n[0])

        return Call(Dense(True, True), x[None], h[None], 1, 1, enter, leave)


@dataclass(frozen=True)
class SequenceAdapter:
    """A module that takes whole sequences: `output, h_n = module(x, h_0)`.

    Attributes:
        cells: from the module to its cells: a `Cell`, one a level, or a pair (forward, reverse) a
            level; made of its own weights, rows in the order r, z, n.
        batch_first: how the defaults below read a sequence: (batch, time, input), or
            (time, batch, input) if False.
        arguments: from the module and the arguments of its forward to x (batch, time, input), or a
            PackedSequence, and h_0 (level and direction, batch, unit), None for zeros. By default
            they are its first two arguments.
        states: from the module and what its forward returned to the states of the last level
            (batch, time, direction and unit), or a PackedSequence. By default the first of what
            it returned, or the tensor itself.
        result: from the module, these states and h_n (level and direction, batch, unit) to what
            its forward returns. By default both, the states as `batch_first` says.

    >>> import torch
    >>> from grulens import Cell
    >>> SequenceAdapter(
    ...     lambda m: Cell(m.wx, m.wh, None, None), result=lambda m, h, h_n: h
    ... ).batch_first
    True
    """

    cells: Callable[[Any], Any]
    _: KW_ONLY
    batch_first: bool = True
    arguments: Callable[..., Any] | None = None
    states: Callable[[Any, Any], Any] | None = None
    result: Callable[[Any, Any, Any], Any] | None = None

    sequence = True
    vouched = False

    def cells_of(self, module: Any) -> dict[Key, Cell]:
        return cells_said(self, module)

    ran = cells_of

    def open(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        by_key = self.cells_of(module)
        cell, directions = by_key[0, 0], 2 if (0, 1) in by_key else 1
        given = asked(self, module, "arguments", self.arguments or self._first_two, *args, **kwargs)
        x, h_0 = pair(self, module, given)
        form: Form = Dense(batch_first=True, batched=True)
        if isinstance(x, PackedSequence):
            form = Packed(x.batch_sizes, x.sorted_indices, x.unsorted_indices)
            check(module, "x", x.data, (None, cell.input_size), "(batch and time, input)", cell)
            batch = int(x.batch_sizes[0])
        else:
            check(module, "x", x, (None, None, cell.input_size), "(batch, time, input)", cell)
            batch = len(x)
        body = form.enter(x)
        size = (len(by_key), batch, cell.hidden_size)
        if h_0 is None:
            h_0 = body.new_zeros(size)
        check(module, "h_0", h_0, size, "(level and direction, batch, unit)", cell)

        def enter(result: Any) -> Tensor:
            states = asked(self, module, "states", self.states or self._output, result)
            if isinstance(states, PackedSequence) != isinstance(form, Packed):
                raise AdapterError(
                    f"the adapter of {type(module).__name__} gives x as {type(x).__name__} and "
                    f"states as {type(states).__name__}; expected the same kind"
                )
            out = form.enter(states)
            check(module, "states", out, (*body.shape[:-1], directions * cell.hidden_size),
                   "as x, with (direction and unit)", cell)  # fmt: skip
            return out

        def leave(done: Run) -> Any:
            out = self.result or self._both
            return asked(self, module, "result", out, form.leave(done.body), done.h_n)

        return Call(form, body, h_0, len(by_key) // directions, directions, enter, leave)

    def _first_two(self, module: Any, x: Any, h_0: Any = None) -> tuple[Any, Any]:
        return self._turned(x), h_0

    def _output(self, module: Any, result: Any) -> Any:
        return self._turned(result[0] if isinstance(result, tuple | list) else result)

    def _both(self, module: Any, h: Any, h_n: Any) -> tuple[Any, Any]:
        return self._turned(h), h_n

    def _turned(self, sequence: Any) -> Any:
        if self.batch_first or not isinstance(sequence, Tensor) or sequence.dim() != 3:
            return sequence
        return sequence.transpose(0, 1)


def _two(module: Any, x: Any, h: Any = None) -> tuple[Any, Any]:
    return x, h


def _itself(module: Any, value: Any) -> Any:
    return value
