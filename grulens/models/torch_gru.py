"""How grulens reads torch's own GRU modules, and `GRUStack`, which is called as they are."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from grulens.gru.cell import Cell
from grulens.models.calls import Call, Key
from grulens.models.fits import fits
from grulens.models.form import Dense, Form, Packed

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class OfSequence:
    """nn.GRU: (time, batch, input), batch first, unbatched or packed; h_0 -> output, h_n."""

    sequence = True
    vouched = True

    def cells_of(self, module: Any) -> dict[Key, Cell]:
        module._update_flat_weights()  # as its forward does before all else
        return self.ran(module)

    def ran(self, module: Any) -> dict[Key, Cell]:
        # the list that the kernel reads; a parametrized weight, asked for by name, is another one
        held = dict(zip(module._flat_weights_names, module._flat_weights, strict=True))
        directions = 2 if module.bidirectional else 1
        return {
            (level, direction): _cell(held, f"_l{level}{'_reverse' if direction else ''}")
            for level in range(module.num_layers)
            for direction in range(directions)
        }

    def open(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        given, hx = _arguments(*args, **kwargs)
        if not fits(module, given, hx):
            return None
        form: Form = (
            Packed(given.batch_sizes, given.sorted_indices, given.unsorted_indices)
            if isinstance(given, PackedSequence)
            else Dense(module.batch_first, given.dim() == 3)
        )
        body = form.enter(given)
        directions = 2 if module.bidirectional else 1
        if hx is None:
            batch = int(given.batch_sizes[0]) if isinstance(form, Packed) else body.shape[1]
            hx = body.new_zeros(module.num_layers * directions, batch, module.hidden_size)
        return Call(
            form,
            body,
            hx if hx.dim() == 3 else hx[:, None],
            module.num_layers,
            directions,
            enter=lambda result: form.enter(result[0]),
            leave=lambda done: (form.leave(done.body), form.state(done.h_n)),
            dropout=module.dropout if module.training and module.num_layers > 1 else 0.0,
        )


class OfStack(OfSequence):
    """`GRUStack`: called as nn.GRU is, and knows its cells."""

    def cells_of(self, module: Any) -> dict[Key, Cell]:
        cells: dict[Key, Cell] = module.cells
        return cells

    ran = cells_of


class OfCell:
    """nn.GRUCell: one step, (batch, input) or (input,); state -> state."""

    sequence = False
    vouched = True

    def cells_of(self, module: Any) -> dict[Key, Cell]:
        held = {name: getattr(module, name) for name in WEIGHTS}
        return {(0, 0): _cell(held, "")}

    ran = cells_of

    def open(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        x, hx = _arguments(*args, **kwargs)
        if not fits(module, x, hx):
            return None
        batched = x.dim() == 2
        rows = x if batched else x[None]
        h_0 = rows.new_zeros(len(rows), module.hidden_size) if hx is None else hx
        return Call(
            Dense(batch_first=True, batched=True),
            rows[None],
            h_0.reshape(1, len(rows), module.hidden_size),
            levels=1,
            directions=1,
            enter=lambda result: result.reshape(1, len(rows), module.hidden_size),
            leave=lambda done: done.h_n[0] if batched else done.h_n[0, 0],
        )


def _arguments(input: Any, hx: Any = None) -> tuple[Any, Any]:
    """The arguments of torch's forward, by its own names."""
    return input, hx


def _cell(held: dict[str, Tensor], suffix: str) -> Cell:
    weight_ih, weight_hh = held[f"weight_ih{suffix}"], held[f"weight_hh{suffix}"]
    return Cell(weight_ih, weight_hh, held.get(f"bias_ih{suffix}"), held.get(f"bias_hh{suffix}"))
