"""The weights of a Keras GRU layer as a Cell: Keras itself is not needed.

Keras multiplies from the other side (x @ kernel), so its matrices are the transposes of torch's,
and it packs the gates z, r, n. Its z keeps the memory, as torch's does (keras.layers.GRUCell).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from grulens.errors import CellError, ConventionError, shown
from grulens.gru.activations import (
    HARD_SIGMOID_KERAS2,
    HARD_SIGMOID_KERAS3,
    Activation,
    Elu,
    LeakyRelu,
    identity,
)
from grulens.gru.cell import Cell
from grulens.gru.zrn import rzn, tensor

HARD_SIGMOID = {2: HARD_SIGMOID_KERAS2, 3: HARD_SIGMOID_KERAS3}

# keras.activations, those that are elementwise and have no argument without a default
BY_NAME: dict[str, Activation] = {
    "celu": functional.celu,
    "elu": Elu(1.0),
    "exponential": torch.exp,
    "gelu": functional.gelu,
    "hard_shrink": functional.hardshrink,
    "hard_silu": functional.hardswish,
    "hard_swish": functional.hardswish,
    "hard_tanh": functional.hardtanh,
    "leaky_relu": LeakyRelu(0.2),
    "linear": identity,
    "log_sigmoid": functional.logsigmoid,
    "mish": functional.mish,
    "relu": torch.relu,
    "relu6": functional.relu6,
    "selu": torch.selu,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "soft_shrink": functional.softshrink,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "swish": functional.silu,
    "tanh": torch.tanh,
    "tanh_shrink": functional.tanhshrink,
}


def keras_cell(
    weights: Any,
    *,
    reset_after: bool,
    activation: Any,
    recurrent_activation: Any,
    keras_version: Any,
) -> Cell:
    """The cell of one layer and direction; arguments and errors: `Cell.from_keras`.

    >>> kernel, recurrent, bias = torch.zeros(2, 9), torch.zeros(3, 9), torch.zeros(2, 9)
    >>> keras_cell([kernel, recurrent, bias], reset_after=True, activation="relu",
    ...            recurrent_activation="hard_sigmoid", keras_version=2)
    Cell(input 2, hidden 3, float32, reset after the product,
    gate HardSigmoid(alpha=0.2, beta=0.5), candidate relu)
    """
    kernel, recurrent, bias = _arrays(weights)
    units = recurrent.shape[0] if recurrent.dim() == 2 else -1
    shapes = [tuple(array.shape) for array in (kernel, recurrent)]
    if kernel.dim() != 2 or shapes != [(kernel.shape[0], 3 * units), (units, 3 * units)]:
        raise CellError(
            "expected a kernel of shape (input, 3 unit) and a recurrent kernel of shape "
            f"(unit, 3 unit), got {shapes[0]} and {shapes[1]}"
        )
    bias_ih = bias_hh = None
    if bias is not None:
        expected = {True: (2, 3 * units), False: (3 * units,)}
        came = tuple(bias.shape)
        if came == expected[not reset_after]:
            raise ConventionError(
                f"the bias has shape {came}: that is a layer with reset_after={not reset_after}, "
                f"got reset_after={reset_after}"
            )
        if came != expected[reset_after]:
            raise CellError(
                f"expected a bias of shape {expected[reset_after]} (reset_after={reset_after}, "
                f"{units} units), got {came}"
            )
        bias_ih, *rest = (rzn(row) for row in bias.reshape(-1, 3 * units))
        bias_hh = rest[0] if rest else None
    return Cell(
        rzn(kernel.t()),
        rzn(recurrent.t()),
        bias_ih,
        bias_hh,
        reset_after=reset_after,
        gate=_activation("recurrent_activation", recurrent_activation, keras_version),
        candidate=_activation("activation", activation, keras_version),
    )


def _arrays(weights: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Kernel, recurrent kernel, bias or None."""
    if hasattr(weights, "get_weights"):
        raise CellError(
            f"got the layer {type(weights).__name__} itself; pass layer.get_weights(), and its "
            "reset_after and activations by name"
        )
    if isinstance(weights, Tensor | str) or not isinstance(weights, Sequence):
        raise CellError(
            "expected the list that layer.get_weights() gives (kernel, recurrent kernel, bias), "
            f"got {type(weights).__name__}"
        )
    if len(weights) in (4, 6):
        half = len(weights) // 2
        raise CellError(
            f"got {len(weights)} arrays, those of a Bidirectional layer: pass weights[:{half}] for "
            f"the forward cell and weights[{half}:] for the reverse one"
        )
    if len(weights) not in (2, 3):
        raise CellError(
            "expected the 3 arrays of one layer (kernel, recurrent kernel, bias), or 2 if it has "
            f"use_bias=False, got {len(weights)}"
        )
    names = ("the kernel", "the recurrent kernel", "the bias")
    found = [tensor(array, name) for array, name in zip(weights, names, strict=False)]
    return found[0], found[1], found[2] if len(found) == 3 else None


def _activation(argument: str, given: Any, keras_version: Any) -> Activation:
    known = keras_version is None or isinstance(keras_version, int)
    if not known or keras_version not in (None, 2, 3):
        raise ConventionError(f"keras_version must be 2 or 3, got {shown(keras_version)}")
    if given is None:
        return identity
    if callable(given):
        function: Activation = given
        return function
    if isinstance(given, str) and given == "hard_sigmoid":
        if keras_version is None:
            raise ConventionError(
                f"{argument}='hard_sigmoid' is 0.2 x + 0.5 in Keras 2 and x / 6 + 0.5 in Keras 3: "
                "say which Keras the layer was trained with, keras_version=2 or keras_version=3"
            )
        return HARD_SIGMOID[keras_version]
    if not isinstance(given, str) or given not in BY_NAME:
        names = ", ".join(sorted([*BY_NAME, "hard_sigmoid"]))
        raise ConventionError(
            f"{argument}={shown(given)} is not known; pass an elementwise function on tensors, or "
            f"one of {names}"
        )
    return BY_NAME[given]
