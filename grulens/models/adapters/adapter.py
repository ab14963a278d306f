"""What a user says about a recurrent class of their own, so that grulens can open it exactly.

There are two kinds of class: one that is called step by step, and one that takes whole sequences.
An adapter says which cells such a module holds and how its arguments and results are to be read.
Nothing of that is believed: it is compared with what the module itself computes, at every step of
every run.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from grulens.arguments import CellOf, CellsOf, MakeResult, ReadArguments, ReadStates
from grulens.errors import AdapterError
from grulens.models.adapters.adapter_calls import (
    call_adapter,
    check,
    checked_cells,
    pair,
    takes_more,
)
from grulens.models.adapters.again import replaced
from grulens.models.call.call import Call, Cells, Run
from grulens.models.call.layout import Dense, Layout, Packed

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Those of one call, and those that it names."""


@runtime_checkable
class Adapter(Protocol):
    """What grulens asks about a recurrent module."""

    @property
    def sequence(self) -> bool:
        """Whether it takes whole sequences; its layers are then named l0, l0_reverse, ..."""

    @property
    def vouched(self) -> bool:
        """Whether it needs no comparison with the module: what it says is torch's own forward."""

    def cells_of(self, module: Any) -> Cells:
        """Its cells by level and direction, over the weights that its next forward would read."""

    def ran(self, module: Any) -> Cells:
        """The same, over the weights that its last forward has read."""

    def open(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """A call of it; None if the module is to refuse these arguments in its own words."""

    def again(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor, h_0: Tensor
    ) -> Arguments | None:
        """The arguments of a call like this one that reads other rows, or None if unknown.

        x is (step, 1, input) and h_0 (level and direction, step, unit): rows of one step.
        """


@dataclass(frozen=True)
class StepAdapter:
    """A module that is called step by step: `h = module(x, h)`.

    Attributes:
        cells: from the module to its cell, a `Cell` or another kind of `RecurrentCell`, made of its
            own weights (no copies: gradients flow through them), rows in the order of the kind's
            `blocks`: r, z, n of a `Cell`.
        arguments: from the module and the arguments of its forward to x (batch, input) and h_prev
            (batch, unit), None for zeros. By default they are its first two arguments.
        state: from the module and what its forward returned to h (batch, unit). By default it is
            that itself.
        result: from the module and h (batch, unit) to what its forward returns. By default h.

    `state` and `result` are given the call's own arguments too, behind these two, if they take
    more than two. In a call without a batch, x is (input,) and states are (unit,).

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
    >>> from grulens import Cell, layers, record
    >>> from grulens.adapters import register
    >>> register(Mine, StepAdapter(lambda m: Cell(m.x.weight, m.h.weight, m.x.bias, m.h.bias)))
    >>> mine = Mine()
    >>> layers(mine)
    cell: Mine, input 2, hidden 3, forward, reset after the product
    >>> record(mine, torch.ones(4, 2), torch.ones(4, 3))["cell"].z.shape
    torch.Size([4, 1, 3])
    >>> register(Mine, None)
    """

    cells: CellOf
    _: KW_ONLY
    arguments: ReadArguments = None
    state: ReadStates = None
    result: MakeResult = None

    sequence = False
    vouched = False

    def cells_of(self, module: Any) -> Cells:
        by_key = checked_cells(self, module)
        if len(by_key) > 1:
            raise AdapterError(
                f"the StepAdapter of {type(module).__name__} gives {len(by_key)} cells; a module "
                "that is called step by step has one (SequenceAdapter takes several)"
            )
        return by_key

    ran = cells_of

    def again(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor, h_0: Tensor
    ) -> None:
        return None  # a call takes one step, and from a state that it is given

    def open(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        cell = self.cells_of(module)[0, 0]
        given = call_adapter(self, module, "arguments", self.arguments or _two, *args, **kwargs)
        x, h = pair(self, module, given)
        batch = () if _dims(x) == 1 and _dims(h) != 2 else (None,)
        word = "batch, " if batch else ""
        check(module, "x", x, (*batch, cell.input_size), f"({word}input)", cell)
        size = (*x.shape[:-1], cell.hidden_size)
        if h is None:
            h = x.new_zeros(size)
        check(module, "h_prev", h, size, f"({word}unit)", cell)

        def enter(returned: Any) -> Tensor:
            h = self._convert("state", module, (args, kwargs), returned)
            check(module, "state", h, size, f"({word}unit)", cell)
            return h.reshape(1, -1, cell.hidden_size)  # type: ignore[no-any-return]

        def leave(done: Run) -> Any:
            return self._convert("result", module, (args, kwargs), done.h_n.reshape(size))

        body = x.reshape(1, -1, cell.input_size)
        return Call(Dense(True, True), body, h.reshape(1, -1, cell.hidden_size), 1, 1, enter, leave)

    def _convert(self, what: str, module: Any, call: Arguments, *values: Any) -> Any:
        """What `state` or `result` gives; one that takes the call's arguments gets them."""
        args, kwargs = call if what in self._take_calls else ((), {})
        return call_adapter(
            self, module, what, getattr(self, what) or _itself, *values, *args, **kwargs
        )

    @cached_property
    def _take_calls(self) -> set[str]:
        return {what for what in ("state", "result") if takes_more(getattr(self, what), 2)}


@dataclass(frozen=True)
class SequenceAdapter:
    """A module that takes whole sequences: `output, h_n = module(x, h_0)`.

    Attributes:
        cells: from the module to its cells: a `Cell` or another kind of `RecurrentCell`, one a
            level, or a pair (forward, reverse) a level; made of its own weights, rows in the order
            of the kind's `blocks`: r, z, n of a `Cell`.
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

    `states` and `result` are given the call's own arguments too, behind these, if they take more.
    In a call without a batch, x is (time, input) and no shape has a batch.

    >>> import torch
    >>> from grulens import Cell
    >>> SequenceAdapter(
    ...     lambda m: Cell(m.wx, m.wh, None, None), result=lambda m, h, h_n: h
    ... ).batch_first
    True
    """

    cells: CellsOf
    _: KW_ONLY
    batch_first: bool = True
    arguments: ReadArguments = None
    states: ReadStates = None
    result: MakeResult = None

    sequence = True
    vouched = False

    def cells_of(self, module: Any) -> Cells:
        return checked_cells(self, module)

    ran = cells_of

    def open(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        by_key = self.cells_of(module)
        cell, directions = by_key[0, 0], 2 if (0, 1) in by_key else 1
        given = call_adapter(
            self, module, "arguments", self.arguments or self._first_two, *args, **kwargs
        )
        x, h_0 = pair(self, module, given)
        batched = _dims(x) != 2 or _dims(h_0) == 3
        layout: Layout = Dense(True, batched)
        if isinstance(x, PackedSequence):
            layout = Packed(x.batch_sizes, x.sorted_indices, x.unsorted_indices)
            check(module, "x", x.data, (None, cell.input_size), "(batch and time, input)", cell)
            batch = int(x.batch_sizes[0])
        else:
            sizes = (None, None) if batched else (None,)
            words = "(batch, time, input)" if batched else "(time, input)"
            check(module, "x", x, (*sizes, cell.input_size), words, cell)
            batch = len(x) if batched else 1
        body = layout.enter(x)
        size = (len(by_key), *((batch,) if batched else ()), cell.hidden_size)
        if h_0 is None:
            h_0 = body.new_zeros(size)
        words = "(level and direction, batch, unit)" if batched else "(level and direction, unit)"
        check(module, "h_0", h_0, size, words, cell)

        def enter(returned: Any) -> Tensor:
            states = self._convert("states", module, (args, kwargs), returned)
            if isinstance(states, PackedSequence) != isinstance(layout, Packed):
                raise AdapterError(
                    f"the adapter of {type(module).__name__} gives x as {type(x).__name__} and "
                    f"states as {type(states).__name__}; expected the same kind"
                )
            width = directions * cell.hidden_size
            packed = isinstance(states, PackedSequence)
            data, shape = (states.data, body.shape) if packed else (states, x.shape)
            check(module, "states", data, (*shape[:-1], width), "as x, with (direction and unit)",
                  cell)  # fmt: skip
            return layout.enter(states)

        def leave(done: Run) -> Any:
            h_n = layout.state(done.h_n)
            return self._convert("result", module, (args, kwargs), layout.leave(done.body), h_n)

        h_0 = h_0 if batched else h_0[:, None]
        return Call(layout, body, h_0, len(by_key) // directions, directions, enter, leave)

    def again(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor, h_0: Tensor
    ) -> Arguments | None:
        if self.arguments is None:
            return (self._transposed(x), h_0), {}
        return replaced(self.arguments, module, args, kwargs, x, h_0)

    def _convert(self, what: str, module: Any, call: Arguments, *values: Any) -> Any:
        """What `states` or `result` gives; one that takes the call's arguments gets them."""
        function = getattr(self, what) or (self._output if what == "states" else self._both)
        args, kwargs = call if what in self._take_calls else ((), {})
        return call_adapter(self, module, what, function, *values, *args, **kwargs)

    @cached_property
    def _take_calls(self) -> set[str]:
        takes = {"states": takes_more(self.states, 2), "result": takes_more(self.result, 3)}
        return {what for what, more in takes.items() if more}

    def _first_two(self, module: Any, x: Any, h_0: Any = None) -> tuple[Any, Any]:
        return self._transposed(x), h_0

    def _output(self, module: Any, result: Any) -> Any:
        return self._transposed(result[0] if isinstance(result, tuple | list) else result)

    def _both(self, module: Any, h: Any, h_n: Any) -> tuple[Any, Any]:
        return self._transposed(h), h_n

    def _transposed(self, sequence: Any) -> Any:
        if self.batch_first or not isinstance(sequence, Tensor) or sequence.dim() != 3:
            return sequence
        return sequence.transpose(0, 1)


def _dims(value: Any) -> int | None:
    return value.dim() if isinstance(value, Tensor) else None


def _two(module: Any, x: Any, h: Any = None) -> tuple[Any, Any]:
    return x, h


def _itself(module: Any, value: Any) -> Any:
    return value
