"""Keras 3 layers on torch's backend: they are torch modules, and are opened as they stand.

Keras is never imported here: who has not imported it has none of its layers. A Keras model hands
its layers to torch only where they are attributes of it, so those in its lists are found here.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from grulens.cells.kinds.gru import Cell
from grulens.cells.weights.keras import BY_NAME
from grulens.errors import DropoutMaskError, RecordingError
from grulens.models.call.call import Call, Cells, Run
from grulens.models.call.layout import Dense
from grulens.models.restore.keras_values import is_keras, keras_layers


def keras_adapter(module: Any) -> OfLayer | OfBidirectional | OfStep | None:
    """The adapter of a Keras layer that can be opened, or None.

    >>> keras_adapter(nn.GRU(2, 3)) is None
    True
    """
    kind = _kind(module)
    if kind not in ADAPTERS or why_keras_closed(module) is not None:
        return None
    return ADAPTERS[kind]


def why_keras_closed(module: Any) -> str | None:
    """Why a Keras layer that is a GRU cannot be opened, and what to do; None if nothing hinders."""
    kind = _kind(module)
    if kind not in ADAPTERS:
        return None
    if kind == "Bidirectional":
        inner = (module.forward_layer, module.backward_layer)
        if not all(_kind(layer) == "GRU" for layer in inner):
            return None
        reasons = [_hindrance(layer, bool(i)) for i, layer in enumerate(inner)]
        if len({layer.units for layer in inner}) != 1:
            reasons.append("whose directions have other numbers of units")
        why = next((reason for reason in reasons if reason), None)
        return why and f"a Keras Bidirectional GRU {why}"
    why = _hindrance(module, False)
    return why and f"a Keras {kind} {why}"


def another_keras_kind(module: Any) -> str | None:
    """Which recurrent Keras layer a module is that is no GRU, or None."""
    if not is_keras(module):
        return None
    layers = keras_layers()
    for kind in ("LSTM", "SimpleRNN"):
        if isinstance(module, (getattr(layers, kind), getattr(layers, f"{kind}Cell"))):
            return f"a Keras {kind}: of Keras' recurrent layers grulens opens GRUs"
    return None


def hidden_parts(module: nn.Module) -> dict[str, nn.Module]:
    """The layers of a Keras model that torch does not see, by their names."""
    if not is_keras(module):
        return {}
    held: Any = getattr(module, "_layers", ())  # Any: torch calls all attributes tensors
    seen = {id(child) for child in module._modules.values()}
    return {str(layer.name): layer for layer in held if id(layer) not in seen}


def not_on_torch(model: Any) -> str:
    """What to say of a Keras model that is no torch module; nothing of anything else."""
    kind = getattr(getattr(sys.modules.get("keras"), "layers", None), "Layer", None)
    if not isinstance(kind, type) or not isinstance(model, kind):
        return ""
    return (
        ", a Keras model that does not run on torch: open it with KERAS_BACKEND=torch set before "
        "Keras is imported, or take the weights of one layer, Cell.from_keras(model.get_layer(name)"
        ".get_weights()), into a GRUStack"
    )


def _kind(module: Any) -> str | None:
    """What a Keras layer is that can hold a GRU, subclasses too."""
    if not is_keras(module):
        return None
    layers = keras_layers()
    return next((kind for kind in ADAPTERS if isinstance(module, getattr(layers, kind))), None)


def _hindrance(layer: Any, backwards: bool) -> str | None:
    """Why a GRU or GRUCell of Keras cannot be opened, after its name."""
    layers, kind = keras_layers(), _kind(layer)
    plain = getattr(layers, str(kind))
    for held, known in ((layer, plain), (getattr(layer, "cell", None), layers.GRUCell)):
        own = [n for n in ("call", "inner_loop", "forward", "__call__")
               if getattr(type(held), n, None) is not getattr(known, n, None)]  # fmt: skip
        if held is not None and own:
            return (
                f"with a {own[0]} of its own ({type(held).__name__}), which may compute something "
                "else: use the plain layer, or say what it computes with grulens.adapters.register"
            )
    if not layer.built:
        return "that has no weights yet: call the model once"
    if layer.compute_dtype != layer.variable_dtype:
        return f"in mixed precision: build it with dtype={layer.compute_dtype!r}"
    if kind == "GRU" and layer.stateful:
        return "that keeps its state from call to call: build it with stateful=False"
    if kind == "GRU" and layer.go_backwards != backwards:
        return (
            "that reads backwards: put it in a Bidirectional layer, or read its weights with "
            "Cell.from_keras and flip the input"
        )
    return None


def _cell(cell: Any) -> Cell:
    """The cell of a keras.layers.GRUCell, over its own weights."""
    weights = [cell.kernel, cell.recurrent_kernel, *([cell.bias] if cell.use_bias else [])]
    return Cell.from_keras(
        [variable.value for variable in weights],
        reset_after=cell.reset_after,
        activation=_named(cell.activation),
        recurrent_activation=_named(cell.recurrent_activation),
        keras_version=3,
    )


def _named(function: Any) -> Any:
    """Keras' name of one of its own activations; another function as it is."""
    name = getattr(function, "__name__", "")
    own = getattr(sys.modules["keras"].activations, name, None)
    return name if own is function and (name in BY_NAME or name == "hard_sigmoid") else function


def _sequence(
    sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = False
) -> tuple[Any, list[Any] | None, Any, Any]:
    """The arguments of a Keras layer's call, by its own names; the states as a list."""
    if initial_state is not None and not isinstance(initial_state, list | tuple):
        initial_state = [initial_state]
    return sequences, initial_state and list(initial_state), mask, training


def _check(cell: Any, mask: Any, training: Any, kind: str) -> None:
    """Raise unless what a call asks for can be followed."""
    if mask is not None and not bool(torch.as_tensor(mask).all()):
        raise RecordingError(
            f"a Keras {kind} was called with a mask that leaves steps out, which no Cell holds: "
            "give it rows of one length, or one row at a time without its padding"
        )
    if training and (cell.dropout or cell.recurrent_dropout):
        raise DropoutMaskError(
            f"a Keras {kind} runs with dropout, whose masks it draws where nobody can see them: "
            "call the model with training=False"
        )


class _OfSequence(ABC):
    """A Keras layer that runs over (batch, time, input), with one GRU a direction."""

    sequence = True
    vouched = False

    @abstractmethod
    def parts(self, module: Any) -> tuple[Any, ...]:
        """The GRU of each direction."""

    @abstractmethod
    def given(self, module: Any, done: Run, states: Tensor) -> Any:
        """What the layer returns of a run, with all its states (batch, time, direction x unit)."""

    @abstractmethod
    def all_states(self, module: Any, result: Any) -> Tensor | None:
        """All the states that a result holds, or None where it holds fewer."""

    def cells_of(self, module: Any) -> Cells:
        return {(0, i): _cell(layer.cell) for i, layer in enumerate(self.parts(module))}

    ran = cells_of

    def again(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor, h_0: Tensor
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (x,), {"initial_state": list(h_0)}

    def open(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        x, initial, mask, training = _sequence(*args, **kwargs)
        if not isinstance(x, Tensor) or x.dim() != 3:
            return None
        parts = self.parts(module)
        for layer in parts:
            _check(layer.cell, mask, training, "Bidirectional GRU" if len(parts) > 1 else "GRU")
        layout = Dense(batch_first=True, batched=True)
        size = (len(parts), len(x), self.cells_of(module)[0, 0].hidden_size)
        h_0 = x.new_zeros(size)
        if initial is not None:
            h_0 = torch.stack([torch.as_tensor(h) for h in initial])

        def enter(result: Any) -> Tensor:
            states = self.all_states(module, result)
            # where the layer returns not all of them, its cells compute them
            return call.run(self.cells_of(module)).body if states is None else layout.enter(states)

        call = Call(
            layout, layout.enter(x), h_0.to(x), 1, len(parts), enter,
            lambda done: self.given(module, done, layout.leave(done.body)),
        )  # fmt: skip
        return call


@dataclass(frozen=True)
class OfLayer(_OfSequence):
    """keras.layers.GRU: (batch, time, input) -> states, or the last one."""

    def parts(self, module: Any) -> tuple[Any, ...]:
        return (module,)

    def given(self, module: Any, done: Run, states: Tensor) -> Any:
        output = states if module.return_sequences else done.h_n[0]
        return (output, done.h_n[0]) if module.return_state else output

    def all_states(self, module: Any, result: Any) -> Tensor | None:
        output = result[0] if module.return_state else result
        return output if module.return_sequences else None


@dataclass(frozen=True)
class OfBidirectional(_OfSequence):
    """keras.layers.Bidirectional of two GRUs, however it puts their outputs together."""

    def parts(self, module: Any) -> tuple[Any, ...]:
        return module.forward_layer, module.backward_layer

    def given(self, module: Any, done: Run, states: Tensor) -> Any:
        one, other = states.chunk(2, 2) if module.return_sequences else done.h_n
        output: Any = (one, other)
        match module.merge_mode:
            case "concat":
                output = torch.cat([one, other], -1)
            case "sum":
                output = one + other
            case "ave":
                output = (one + other) / 2
            case "mul":
                output = one * other
        if not module.return_state:
            return output
        return (*(output if module.merge_mode is None else (output,)), *done.h_n)

    def all_states(self, module: Any, result: Any) -> Tensor | None:
        if not module.return_sequences or module.merge_mode not in ("concat", None):
            return None
        if module.merge_mode is None:
            return torch.cat(list(result[:2]), -1)
        output: Tensor = result[0] if module.return_state else result
        return output


@dataclass(frozen=True)
class OfStep:
    """keras.layers.GRUCell: (batch, input) and the states -> state, states."""

    sequence = False
    vouched = False

    def cells_of(self, module: Any) -> Cells:
        return {(0, 0): _cell(module)}

    ran = cells_of

    def again(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor, h_0: Tensor
    ) -> None:
        return None  # a call takes one step, and from a state that it is given

    def open(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        x, h, training = _step(*args, **kwargs)
        several = isinstance(h, list | tuple)
        h = h[0] if several else h
        if not isinstance(x, Tensor) or x.dim() != 2 or not isinstance(h, Tensor):
            return None
        _check(module, None, training, "GRUCell")
        return Call(
            Dense(batch_first=True, batched=True), x[None], h[None], 1, 1,
            enter=lambda result: result[0][None],
            leave=lambda done: (done.h_n[0], [done.h_n[0]] if several else done.h_n[0]),
        )  # fmt: skip


def _step(inputs: Any, states: Any, training: Any = False) -> tuple[Any, Any, Any]:
    return inputs, states, training


ADAPTERS: dict[str, OfLayer | OfBidirectional | OfStep] = {
    "GRU": OfLayer(),
    "Bidirectional": OfBidirectional(),
    "GRUCell": OfStep(),
}


def every_part(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """A module and all that it holds, by dotted path; one held twice comes twice.

    What `named_modules(remove_duplicate=False)` gives, and the hidden layers of Keras models.
    """
    yield path, module
    # a Sequential of Keras holds its layers once more, as a graph
    plain = {name: child for name, child in module._modules.items() if name != "_functional"}
    for name, child in (hidden_parts(module) | plain).items():
        if child is not None:
            yield from every_part(child, f"{path}.{name}" if path else name)
