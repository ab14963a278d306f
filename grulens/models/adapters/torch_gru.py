"""How grulens reads torch's own GRU modules, and `GRUStack`, which is called as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from grulens.cells.gru import Cell
from grulens.errors import AdapterError
from grulens.models.call.call import Call, Key
from grulens.models.call.fits import fits
from grulens.models.call.layout import Dense, Form, Packed

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@dataclass(frozen=True)
class OfSequence:
    """nn.GRU: (time, batch, input), batch first, unbatched or packed; h_0 -> output, h_n.

    Attributes:
        vouched: whether the module's forward is torch's own; what somebody wrote around it is
            compared with it.
    """

    vouched: bool = True
    sequence = True

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
        given, hx = _arguments(module, self.vouched, args, kwargs)
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
            enter=lambda result: form.enter(_output(module, result, given)),
            leave=lambda done: (form.leave(done.body), form.state(done.h_n)),
            dropout=module.dropout if module.training and module.num_layers > 1 else 0.0,
        )

    def again(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor, h_0: Tensor
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (x if module.batch_first else x.transpose(0, 1), h_0), {}


@dataclass(frozen=True)
class OfStack(OfSequence):
    """`GRUStack`: called as nn.GRU is, and knows its cells."""

    def cells_of(self, module: Any) -> dict[Key, Cell]:
        cells: dict[Key, Cell] = module.cells
        return cells

    ran = cells_of


@dataclass(frozen=True)
class OfCell:
    """nn.GRUCell: one step, (batch, input) or (input,); state -> state."""

    vouched: bool = True
    sequence = False

    def cells_of(self, module: Any) -> dict[Key, Cell]:
        held = {name: getattr(module, name) for name in WEIGHTS}
        return {(0, 0): _cell(held, "")}

    ran = cells_of

    def open(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        x, hx = _arguments(module, self.vouched, args, kwargs)
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
            enter=lambda result: _state(module, result, x).reshape(1, len(rows), -1),
            leave=lambda done: done.h_n[0] if batched else done.h_n[0, 0],
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
        output, form = result[0], PackedSequence if isinstance(given, PackedSequence) else Tensor
        if isinstance(output, form):
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


def _cell(held: dict[str, Tensor], suffix: str) -> Cell:
    weight_ih, weight_hh = held[f"weight_ih{suffix}"], held[f"weight_hh{suffix}"]
    return Cell(weight_ih, weight_hh, held.get(f"bias_ih{suffix}"), held.get(f"bias_hh{suffix}"))
