"""A recorded stack of GRU layers, as what each of them computed in each call.

What goes through a whole stack (a phrase's part of every state on the way up, the relevance of
every state on the way down) needs to know which layer reads which, from which end, and which call
begins with the state that another ended with. A level is one layer of an `nn.GRU` with both of its
directions, each of which is a layer in the words of grulens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from grulens.cells.changes import last_valid, reverse
from grulens.cells.kinds.gru import Cell
from grulens.cells.precision import exact
from grulens.cells.unroll import run as states_of
from grulens.errors import CellError, EditError, RecordingError, shown
from grulens.models.layers import article, find, named
from grulens.models.observed import ObservedLayer
from grulens.models.recording import LayerRecording, Recording


@dataclass(frozen=True, eq=False)
class LayerCall:
    """What one layer computed in one call, in the order in which it reads its steps.

    Attributes:
        layer: its name.
        cell: the weights that ran.
        x: its input (batch, time, input); zero past a row's end.
        h: the state after each step (batch, time, unit), likewise.
        h_0: the state before the first step (batch, unit).
        lengths: how far each row goes (batch,), or None.
        reverse: whether it reads every row from its end.
        continues: whether h_0 is the last state of the same layer's call before.
    """

    layer: str
    cell: Cell
    x: Tensor
    h: Tensor
    h_0: Tensor
    lengths: Tensor | None
    reverse: bool
    continues: bool

    @property
    def h_prev(self) -> Tensor:
        """The state before each step (batch, time, unit)."""
        return torch.cat([self.h_0[:, None], self.h[:, :-1]], 1)

    def flipped(self, value: Tensor) -> Tensor:
        """A value (*any, batch, time, unit) from positions to reading order, or back."""
        if not self.reverse:
            return value
        rows = value.reshape(-1, *value.shape[-2:])
        lengths = None if self.lengths is None else self.lengths.repeat(len(rows) // len(self.h))
        return reverse(rows, lengths).reshape(value.shape)

    def last(self, value: Tensor) -> Tensor:
        """The value (*any, batch, unit) of each row's last step, from (*any, batch, time, unit)."""
        return last_valid(value, self.lengths)

    def valid(self, value: Tensor) -> Tensor:
        """A value (*any, batch, time, unit) in reading order, zero past a row's end."""
        if self.lengths is None:
            return value
        time = torch.arange(value.shape[-2], device=value.device)
        past = time >= self.lengths.to(value.device)[:, None]
        return value.masked_fill(past[..., None], 0)


Call = list[list[LayerCall]]
"""The levels of a stack in one call, the lowest first; of each, its directions."""


@dataclass(frozen=True, eq=False)
class Stack:
    """A layer and the levels below it, down to the input of its module.

    Attributes:
        layer: its name.
        calls: for every call of the module, its levels, the lowest first.
        mask: (batch, time), False on padding.
    """

    layer: str
    calls: tuple[Call, ...]
    mask: Tensor

    @staticmethod
    def of(
        model: nn.Module, recording: Recording, layer: str, dtype: torch.dtype | None = None
    ) -> Stack:
        """The stack up to and with a layer's own level, as it ran.

        Args:
            model: the model that was recorded.
            recording: its unedited run.
            layer: the layer.
            dtype: compute in this precision instead of the recording's own.

        Raises:
            CellError: the layer was observed, and has no weights that are known; or is no GRU.
            LayerError: the recording holds no such layer.
            RecordingError: an edit was in force, or a layer does not read the states of the one
                below as they are.
        """
        top = recording[layer]
        top.check_one_batch("taking a run apart")
        if isinstance(top, ObservedLayer):
            raise CellError(
                f"a run is taken apart by the weights of its cells, and layer {layer!r} was "
                f"observed in its module's own forward ({top.cell.equation})"
            )
        _gru_of(top)
        modules = [named(path, module) for path, module in find(model).items()]
        cells, height = next(
            (cells, level)
            for cells in modules
            for (level, _), (name, _) in cells.items()
            if name == layer
        )
        names = [
            [cells[key][0] for key in sorted(cells) if key[0] == number]
            for number in range(height + 1)
        ]
        stack = [[recording[name] for name in level] for level in names]
        calls: list[Call] = []
        for number in range(len(top.segments)):
            calls.append(_call(stack, number, calls[-1] if calls else None, dtype))
        return Stack(layer, tuple(calls), top.mask)

    @property
    def top(self) -> list[str]:
        """The directions of the layer's own level, by name."""
        return [part.layer for part in self.calls[0][-1]]

    @property
    def reads_from_end(self) -> bool:
        """Whether any layer reads its rows from their ends, so that later steps count too."""
        return any(part.reverse for level in self.calls[0] for part in level)

    def states(self, layer: str) -> Tensor:
        """The states (batch, time, unit) of a layer of the top level, by position."""
        parts = [next(part for part in call[-1] if part.layer == layer) for call in self.calls]
        return torch.cat([part.flipped(part.h) for part in parts], 1)

    @property
    def x(self) -> Tensor:
        """The input of the lowest level (batch, time, input), by position."""
        return torch.cat([call[0][0].flipped(call[0][0].x) for call in self.calls], 1)

    def row(self, number: int) -> Stack:
        """The same for one row of the batch alone."""
        rows = slice(number, number + 1)

        def cut(part: LayerCall) -> LayerCall:
            lengths = None if part.lengths is None else part.lengths[rows]
            x, h, h_0 = part.x[rows], part.h[rows], part.h_0[rows]
            return replace(part, x=x, h=h, h_0=h_0, lengths=lengths)

        calls = tuple([[cut(part) for part in level] for level in call] for call in self.calls)
        return Stack(self.layer, calls, self.mask[rows])


def check_dtype(dtype: object) -> None:
    """Raise EditError unless it is None or a floating dtype of full precision."""
    if not (dtype is None or dtype is torch.float32 or dtype is torch.float64):
        raise EditError(f"dtype must be torch.float32, torch.float64 or None, got {shown(dtype)}")


def _call(
    stack: Sequence[Sequence[LayerRecording]],
    number: int,
    before: Call | None,
    dtype: torch.dtype | None,
) -> Call:
    found: Call = []
    below: Tensor | None = None
    for level, layers in enumerate(stack):
        parts = []
        for direction, layer in enumerate(layers):
            earlier = None if before is None else before[level][direction]
            parts.append(_layer_call(layer, number, below, earlier, dtype))
        below = torch.cat([part.flipped(part.h) for part in parts], 2)
        found.append(parts)
    return found


def _gru_of(layer: LayerRecording) -> Cell:
    """The cell of a layer; CellError unless it is a GRU's."""
    cell = layer.cell
    if not isinstance(cell, Cell):
        raise CellError(
            "taking a run apart rests on a GRU's own equation, h = (1 - z) n + z h_prev; layer "
            f"{layer.name!r} is {article(cell.kind)}. integrated_gradients and input_x_gradient "
            "credit the steps of any model"
        )
    return cell


def _layer_call(
    layer: LayerRecording,
    number: int,
    below: Tensor | None,
    before: LayerCall | None,
    dtype: torch.dtype | None,
) -> LayerCall:
    segment = layer.segments[number]
    if segment.program is not None:
        raise RecordingError(
            f"layer {layer.name!r} ran with an edit, and what is edited cannot be taken apart; "
            "leave the block of editing(...), or look at the unedited run"
        )
    x, h, h_0 = (v.detach() for v in (segment.inputs(), segment.states(), segment.h_0))
    if below is not None and not torch.allclose(below.to(x), x, *_CLOSE[x.dtype], equal_nan=True):
        raise RecordingError(
            f"layer {layer.name!r} does not read the states of the layer below as they are: with "
            "dropout between layers, call model.eval() first"
        )
    # nothing is computed in half a precision: 16 bits do not hold differences of gates
    wanted = dtype or (h.dtype if h.dtype in _CLOSE and h.dtype.itemsize > 2 else torch.float32)
    cell = _gru_of(layer).over(lambda weight: weight.detach().to(wanted))
    start = h_0.to(wanted)
    # whether it begins with the state in which the call before it had ended
    continues = before is not None and torch.equal(layer.segments[number - 1].last(), h_0)
    if continues and before is not None:
        start = before.last(before.h)
    made = LayerCall(layer.name, cell, x, h, start, segment.lengths, segment.reverse, continues)
    made = replace(made, x=made.flipped(x.to(wanted) if below is None else below))
    if h.dtype == wanted:
        return replace(made, h=made.flipped(h))
    with torch.no_grad(), exact(start.device):
        again = states_of(cell, made.x, start, lengths=segment.lengths).h
    return replace(made, h=made.valid(again))


_CLOSE = {
    torch.float64: (1e-9, 1e-9),
    torch.float32: (1e-4, 1e-5),
    torch.float16: (1e-2, 1e-2),
    torch.bfloat16: (5e-2, 5e-2),
}
"""How far a layer's input may be from the states below: (relative, absolute), by dtype."""
