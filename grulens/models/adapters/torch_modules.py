"""How grulens reads torch's own recurrent modules, and `GRUStack`, which is called as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from grulens.cells.cell import RecurrentCell
from grulens.cells.kinds.gru import Cell
from grulens.cells.kinds.lstm import LSTM
from grulens.cells.kinds.rnn import RNN
from grulens.errors import AdapterError
from grulens.models.call.call import Call, Cells, Run
from grulens.models.call.fits import fits
from grulens.models.call.layout import Dense, Layout, Packed

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@dataclass(frozen=True)
class OfSequence:
    """nn.GRU, nn.LSTM, nn.RNN: (time, batch, input), batch first, unbatched or packed.

    The first state is h_0, of an LSTM (h_0, c_0); the result is the output and the last state.

    Attributes:
        vouched: whether the module's forward is torch's own; what somebody wrote around it is
            compared with it.
    """

    vouched: bool = True
    sequence = True

    def cells_of(self, module: Any) -> Cells:
        module._update_flat_weights()  # as its forward does before all else
        return self.ran(module)

    def ran(self, module: Any) -> Cells:
        # the list that the kernel reads; a parametrized weight, asked for by name, is another one
        held = dict(zip(module._flat_weights_names, module._flat_weights, strict=True))
        directions = 2 if module.bidirectional else 1
        return {
            (level, direction): _cell(module, held, f"_l{level}{'_reverse' if direction else ''}")
            for level in range(module.num_layers)
            for direction in range(directions)
        }

    def open(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        given, hx = _arguments(module, self.vouched, args, kwargs)
        if not fits(module, given, hx):
            return None
        layout: Layout = (
            Packed(given.batch_sizes, given.sorted_indices, given.unsorted_indices)
            if isinstance(given, PackedSequence)
            else Dense(module.batch_first, given.dim() == 3)
        )
        body = layout.enter(given)
        directions = 2 if module.bidirectional else 1
        pair = isinstance(module, nn.LSTM)
        if hx is None:
            batch = int(given.batch_sizes[0]) if isinstance(layout, Packed) else body.shape[1]
            width = module.hidden_size * (2 if pair else 1)
            state = body.new_zeros(module.num_layers * directions, batch, width)
        else:
            state = torch.cat(hx, -1) if pair else hx

        def leave(done: Run) -> Any:
            last = layout.state(done.h_n)
            return layout.leave(done.body), _apart(last) if pair else last

        return Call(
            layout,
            body,
            state if state.dim() == 3 else state[:, None],
            module.num_layers,
            directions,
            enter=lambda result: layout.enter(_output(module, result, given)),
            leave=leave,
            dropout=module.dropout if module.training and module.num_layers > 1 else 0.0,
        )

    def again(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor, h_0: Tensor
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (x if module.batch_first else x.transpose(0, 1), h_0), {}


@dataclass(frozen=True)
class OfStack(OfSequence):
    """`GRUStack`: called as nn.GRU is, and knows its cells."""

    def cells_of(self, module: Any) -> Cells:
        cells: Cells = module.cells
        return cells

    ran = cells_of


@dataclass(frozen=True)
class OfCell:
    """nn.GRUCell, nn.LSTMCell, nn.RNNCell: one step, (batch, input) or (input,); state -> state."""

    vouched: bool = True
    sequence = False

    def cells_of(self, module: Any) -> Cells:
        held = {name: getattr(module, name) for name in WEIGHTS}
        return {(0, 0): _cell(module, held, "")}

    ran = cells_of

    def open(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        x, hx = _arguments(module, self.vouched, args, kwargs)
        if not fits(module, x, hx):
            return None
        batched = x.dim() == 2
        rows = x if batched else x[None]
        pair = isinstance(module, nn.LSTMCell)
        width = module.hidden_size * (2 if pair else 1)
        if hx is None:
            state = rows.new_zeros(len(rows), width)
        else:
            state = torch.cat(hx, -1) if pair else hx

        def enter(result: Any) -> Tensor:
            h = result[0] if pair else _state(module, result, x)
            return h.reshape(1, len(rows), module.hidden_size)

        def leave(done: Run) -> Any:
            last = done.h_n[0] if batched else done.h_n[0, 0]
            return _apart(last) if pair else last

        return Call(
            Dense(batch_first=True, batched=True),
            rows[None],
            state.reshape(1, len(rows), width),
            levels=1,
            directions=1,
            enter=enter,
            leave=leave,
        )

    def again(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor, h_0: Tensor
    ) -> None:
        return None  # a call takes one step, and from a state that it is given


def _arguments(
    module: Any, vouched: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Any]:
    """The arguments of torch's forward, by its own names."""
    try:
        return _torchs(*args, **kwargs)
    except TypeError:
        if vouched:
            raise
        raise AdapterError(
            f"the forward of this {type(module).__name__} is not torch's own and takes "
            f"{len(args) + len(kwargs)} arguments, where torch's takes an input and a state: say "
            "which of them these are with grulens.adapters.register"
        ) from None


def _torchs(input: Any, hx: Any = None) -> tuple[Any, Any]:
    return input, hx


def _output(module: Any, result: Any, given: Any) -> Any:
    """The output of a forward that may not be torch's own."""
    if isinstance(result, tuple) and len(result) == 2:
        output, kind = result[0], PackedSequence if isinstance(given, PackedSequence) else Tensor
        if isinstance(output, kind):
            size = module.hidden_size * (2 if module.bidirectional else 1)
            came, read = (t.data if isinstance(t, PackedSequence) else t for t in (output, given))
            if came.shape == (*read.shape[:-1], size):
                return output
    raise _another(module, result, "an output for each step of the input, and h_n")


def _state(module: Any, result: Any, x: Tensor) -> Tensor:
    """The state that a forward returned which may not be torch's own."""
    if isinstance(result, Tensor) and result.shape == (*x.shape[:-1], module.hidden_size):
        return result
    raise _another(module, result, "the state after the step")


def _another(module: Any, result: Any, expected: str) -> AdapterError:
    return AdapterError(
        f"the forward of this {type(module).__name__} is not torch's own and returned "
        f"{looks(result)}, where torch's returns {expected}: say how it is read with "
        "grulens.adapters.register",
        why=f"returns {looks(result)}, where torch's returns {expected}",
    )


def looks(value: Any) -> str:
    """A value for a message, by its kind and size.

    >>> looks((1, 2)), looks("h")
    ('a tuple of 2', 'a str')
    """
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _apart(state: Tensor) -> tuple[Tensor, Tensor]:
    """The h and the c of an LSTM's state (..., state), each its own: a model may write over one."""
    h, c = state.chunk(2, -1)
    return _own(h), _own(c)


def _own(part: Tensor) -> Tensor:
    return part.clone(memory_format=torch.contiguous_format)


def _cell(module: nn.Module, held: dict[str, Tensor], suffix: str) -> RecurrentCell:
    weight_ih, weight_hh = held[f"weight_ih{suffix}"], held[f"weight_hh{suffix}"]
    biases = held.get(f"bias_ih{suffix}"), held.get(f"bias_hh{suffix}")
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        return LSTM(weight_ih, weight_hh, *biases)
    if isinstance(module, nn.RNN | nn.RNNCell):
        return RNN(weight_ih, weight_hh, *biases, ACTIVATIONS[module.nonlinearity])
    return Cell(weight_ih, weight_hh, *biases)
