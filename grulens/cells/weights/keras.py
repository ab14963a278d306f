"""The weights of a Keras GRU layer as a Cell: Keras itself is not needed.

Keras multiplies from the other side (x @ kernel), so its matrices are the transposes of torch's,
and it packs the gates z, r, n. Its z keeps the memory, as torch's does (keras.layers.GRUCell).
CuDNNGRU (Keras 2) keeps each gate's kernel in cuDNN's order, that of torch's rows, in arrays of the
plain layer's shapes; its bias of 6 units in one row tells it (keras.saving.legacy, Keras 2.15).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from grulens.cells.activations import (
    HARD_SIGMOID_KERAS2,
    HARD_SIGMOID_KERAS3,
    Activation,
    Elu,
    LeakyRelu,
    identity,
)
from grulens.cells.weights.arrays import GRUWeights, rzn, tensor
from grulens.errors import CellError, ConventionError, shown

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


def keras_weights(
    weights: Any,
    *,
    reset_after: bool,
    activation: Any,
    recurrent_activation: Any,
    keras_version: Any,
) -> GRUWeights:
    """The weights of one layer and direction; arguments and errors: `Cell.from_keras`.

    >>> kernel, recurrent, bias = torch.zeros(2, 9), torch.zeros(3, 9), torch.zeros(2, 9)
    >>> read = keras_weights([kernel, recurrent, bias], reset_after=True, activation="relu",
    ...                      recurrent_activation="hard_sigmoid", keras_version=2)
    >>> read.weight_ih.shape, read.reset_after, read.gate
    (torch.Size([9, 2]), True, HardSigmoid(alpha=0.2, beta=0.5))
    """
    kernel, recurrent, bias = _arrays(weights)
    units = recurrent.shape[0] if recurrent.dim() == 2 else -1
    shapes = [tuple(array.shape) for array in (kernel, recurrent)]
    if kernel.dim() != 2 or shapes != [(kernel.shape[0], 3 * units), (units, 3 * units)]:
        raise CellError(
            "expected a kernel of shape (input, 3 unit) and a recurrent kernel of shape "
            f"(unit, 3 unit), got {shapes[0]} and {shapes[1]}"
        )
    if bias is not None and tuple(bias.shape) == (6 * units,):
        _check_cudnn(reset_after, activation, recurrent_activation)
        kernel, recurrent = (_from_cudnn(array) for array in (kernel, recurrent))
        bias = bias.reshape(2, 3 * units)
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
    return GRUWeights(
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
    if len(weights) not in (2, 3):
        if said := _several(weights):
            raise CellError(f"got {len(weights)} arrays, {said}")
        raise CellError(
            "expected the 3 arrays of one layer (kernel, recurrent kernel, bias), or 2 if it has "
            f"use_bias=False, got {len(weights)}"
        )
    names = ("the kernel", "the recurrent kernel", "the bias")
    found = [tensor(array, name) for array, name in zip(weights, names, strict=False)]
    return found[0], found[1], found[2] if len(found) == 3 else None


def _several(weights: Sequence[Any]) -> str | None:
    """Which cells more than three arrays are of, as their shapes tell, and how to take one."""
    shapes = [tuple(getattr(array, "shape", ())) for array in weights]
    bounds = _cells(shapes)
    if not bounds:  # no cells, or nothing at all
        return None
    inputs = [shapes[start][0] for start, _ in bounds]
    units = [shapes[start + 1][0] for start, _ in bounds]
    both = len(bounds) == 2 and inputs[0] == inputs[1]
    stacked = inputs[1:] == units[:-1]
    parts = [
        f"weights[{start or ''}:{'' if end == len(weights) else end}]" for start, end in bounds
    ]
    two = f"{parts[0]} for the forward cell and {parts[-1]} for the reverse one"
    each = f"{', '.join(parts)} one at a time, a cell each, the lowest first"
    if both and stacked:
        return (
            f"those of a Bidirectional layer or of two cells one upon the other: pass {two}, or "
            f"{each}"
        )
    if both:
        return f"those of a Bidirectional layer: pass {two}"
    return f"those of {len(bounds)} cells{' one upon the other' if stacked else ''}: pass {each}"


def _cells(shapes: list[tuple[int, ...]], start: int = 0) -> list[tuple[int, int]] | None:
    """Where each cell's arrays begin and end, if they are those of cells."""
    if start == len(shapes):
        return []
    if not _kernels(shapes[start : start + 2]):
        return None
    units = shapes[start + 1][0]
    biases = ((2, 3 * units), (3 * units,), (6 * units,))
    has_bias = start + 2 < len(shapes) and shapes[start + 2] in biases
    for end in (start + 3, start + 2) if has_bias else (start + 2,):
        rest = _cells(shapes, end)
        if rest is not None:
            return [(start, end), *rest]
    return None


def _kernels(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether these are a kernel's shape and a recurrent kernel's."""
    if [len(shape) for shape in shapes] != [2, 2]:
        return False
    (_, width), (units, wide) = shapes
    return width == wide == 3 * units


def _check_cudnn(reset_after: bool, activation: Any, recurrent_activation: Any) -> None:
    """Raise ConventionError unless the options are CuDNNGRU's, which has no others."""
    if not reset_after or activation != "tanh" or recurrent_activation != "sigmoid":
        raise ConventionError(
            "a bias of 6 units in one row is CuDNNGRU's, which has reset_after=True, "
            "activation='tanh' and recurrent_activation='sigmoid'; got "
            f"reset_after={reset_after}, activation={shown(activation)}, "
            f"recurrent_activation={shown(recurrent_activation)}"
        )


def _from_cudnn(kernel: Tensor) -> Tensor:
    """A kernel (input, 3 unit) of CuDNNGRU as the plain layer keeps it.

    >>> _from_cudnn(torch.arange(12.0).reshape(2, 6))  # 2 inputs, 2 units
    tensor([[ 0.,  6.,  2.,  8.,  4., 10.],
            [ 1.,  7.,  3.,  9.,  5., 11.]])
    """
    gates = kernel.chunk(3, 1)
    return torch.cat([gate.reshape(gate.shape[::-1]).t() for gate in gates], 1)


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
