"""What `engine.js` needs to run a network in a page: a description as JSON, and its arrays.

The page has no torch, so it is told everything by name: kinds of cell, conventions, activations,
which layer reads which, where the readout reads. What the engine does not know is refused here, by
name, before a page is written.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from grulens.cells import activations
from grulens.cells.activations import name_of
from grulens.cells.cell import RecurrentCell
from grulens.cells.kinds.gru import Cell
from grulens.cells.kinds.lstm import LSTM
from grulens.cells.kinds.rnn import RNN
from grulens.errors import CellError

#: torch's own functions that the page knows, by the names it knows them by.
BY_NAME: Final = {
    torch.sigmoid: "sigmoid",
    torch.tanh: "tanh",
    torch.relu: "relu",
    torch.nn.functional.relu: "relu",
    torch.nn.functional.hardsigmoid: "hardsigmoid",
    activations.identity: "identity",
}
#: Those that have numbers of their own.
WITH_NUMBERS: Final = (
    activations.HardSigmoid,
    activations.Affine,
    activations.ScaledTanh,
    activations.LeakyRelu,
    activations.ThresholdedRelu,
    activations.Elu,
)


@dataclass(frozen=True, eq=False)
class Stacked:
    """One layer of the network.

    Attributes:
        name: the layer's name.
        cell: its cell.
        reads: the layers whose states it reads, side by side in this order; none is the input.
        reverse: whether it reads from the end.
        start: the state before its first step (state,), or None for zeros.
    """

    name: str
    cell: RecurrentCell
    reads: Sequence[str] = ()
    reverse: bool = False
    start: Float[Tensor, " state"] | None = None


@dataclass(frozen=True, eq=False)
class Read:
    """A linear readout: bias + the sum over layers of weight h.

    Attributes:
        weights: (class, unit) by layer.
        bias: (class,).
        each: whether every position has an answer; else one is read.
        ends: where that one is read: where each layer ends, which is the last position of a layer
            that reads forward and the first of one that reads backward; or the last one of all.
    """

    weights: Mapping[str, Float[Tensor, "klass unit"]]
    bias: Float[Tensor, " klass"]
    each: bool
    ends: bool = True


@dataclass(frozen=True)
class Described:
    """A network as the page has it.

    Attributes:
        network: for `new Network`, without numbers.
        arrays: by the names that `network` calls them.
    """

    network: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(repr=False)

    def size(self, dtype: Literal["f4", "f2"]) -> int:
        """Bytes of the arrays before base64."""
        return sum(array.size for array in self.arrays.values()) * int(dtype[1])

    def packed(self, dtype: Literal["f4", "f2"]) -> dict[str, dict[str, str]]:
        """The arrays for `unpacked`, in float32 or float16."""
        return {
            name: {"dtype": dtype, "data": b64encode(array.astype(f"<{dtype}").tobytes()).decode()}
            for name, array in self.arrays.items()
        }


def describe(
    layers: Sequence[Stacked],
    input_size: int,
    table: Tensor | None = None,
    head: Read | None = None,
) -> Described:
    """The description of these layers, the lowest first.

    Args:
        layers: what is run, each behind those that it reads.
        input_size: numbers that one position of the input has.
        table: (token, input), where the input is rows of an embedding; None where it is numbers.
        head: the readout, or None.

    Raises:
        CellError: the page has no such cell or no such activation.

    >>> cell = RNN(torch.zeros(2, 3), torch.zeros(2, 2), None, None)
    >>> made = describe([Stacked("l0", cell)], 3)
    >>> made.network["layers"][0]["activation"], made.size("f4")
    ({'name': 'tanh'}, 40)
    """
    arrays: dict[str, np.ndarray] = {}

    def kept(name: str, value: Tensor | None) -> str | None:
        if value is not None:
            arrays[name] = value.detach().cpu().double().numpy().ravel()
        return None if value is None else name

    told = []
    for layer in layers:
        cell, name = layer.cell, layer.name
        told.append(
            {
                "name": name,
                "kind": _kind(cell),
                "reads": list(layer.reads),
                "reverse": layer.reverse,
                "units": cell.hidden_size,
                "width": cell.input_size,
                "start": kept(f"{name} start", layer.start),
                **{
                    part: kept(f"{name} {part}", getattr(cell, part))
                    for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                },
                **_convention(cell),
            }
        )
    read = head and {
        "classes": len(head.bias),
        "each": head.each,
        "bias": kept("head bias", head.bias),
        "reads": [
            {
                "layer": layer.name,
                "weight": kept(f"head {layer.name}", head.weights[layer.name]),
                "position": "first" if layer.reverse and head.ends else "last",
            }
            for layer in layers
            if layer.name in head.weights
        ],
    }
    network = {
        "input": {"size": input_size, "table": kept("table", table)},
        "layers": told,
        "head": read,
    }
    return Described(network, arrays)


def _kind(cell: RecurrentCell) -> str:
    # a kind made of another one may step otherwise: only these classes themselves are known
    if type(cell) not in (Cell, RNN, LSTM):
        raise CellError(
            f"a page that runs knows GRU, RNN and LSTM; this layer's cell is {type(cell).__name__}"
        )
    return cell.kind


def _convention(cell: RecurrentCell) -> dict[str, Any]:
    if isinstance(cell, Cell):
        return {
            "reset_after": cell.reset_after,
            "gate": activation(cell.gate),
            "candidate": activation(cell.candidate),
        }
    return {"activation": activation(cell.activation)} if isinstance(cell, RNN) else {}


def activation(function: Any) -> dict[str, Any]:
    """An activation as the page is told it.

    Raises:
        CellError: the page does not know it.

    >>> activation(activations.Clipped(torch.tanh, 3.0))
    {'name': 'Clipped', 'activation': {'name': 'tanh'}, 'limit': 3.0}
    """
    if isinstance(function, activations.Clipped):
        inner = activation(function.activation)
        return {"name": "Clipped", "activation": inner, "limit": float(function.limit)}
    if is_dataclass(function) and type(function) in WITH_NUMBERS:
        numbers = {name: float(value) for name, value in asdict(function).items()}  # type: ignore[arg-type]
        return {"name": type(function).__name__, **numbers}
    for known, name in BY_NAME.items():
        if function is known:
            return {"name": name}
    known_names = sorted({*BY_NAME.values(), *(kind.__name__ for kind in WITH_NUMBERS), "Clipped"})
    raise CellError(
        f"a page that runs does not know the activation {name_of(function)}; it knows "
        f"{', '.join(known_names)}"
    )
