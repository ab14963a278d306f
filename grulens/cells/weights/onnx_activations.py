"""The activations of an ONNX GRU node: two a direction, with numbers handed out in their order.

Where the standard gives a number no default, runtimes differ (onnxruntime's ThresholdedRelu starts
elsewhere than ONNX's): a node that leaves it out is refused, not guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from grulens.cells.activations import (
    Activation,
    Affine,
    Clipped,
    Elu,
    HardSigmoid,
    LeakyRelu,
    ScaledTanh,
    ThresholdedRelu,
)
from grulens.errors import ConventionError

PLAIN: dict[str, Activation] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "tanh": torch.tanh,
}
# name -> which function, how many numbers it takes, and what they are if the node is silent; None
# where the standard names no default, or onnxruntime's is another
SHAPED: dict[str, tuple[Any, int, tuple[float, ...] | None]] = {
    "affine": (Affine, 2, None),
    "elu": (Elu, 1, (1.0,)),
    "hardsigmoid": (HardSigmoid, 2, (0.2, 0.5)),
    "leakyrelu": (LeakyRelu, 1, (0.01,)),
    "scaledtanh": (ScaledTanh, 2, None),
    "thresholdedrelu": (ThresholdedRelu, 1, None),
}


def activations(said: Mapping[str, Any], directions: int, name: str) -> list[Activation]:
    """The two, gate and candidate, of each direction, one after another.

    Args:
        said: the node's attributes `activations`, `activation_alpha`, `activation_beta`, `clip`.
        directions: 1 or 2.
        name: the node, for the error.

    Raises:
        ConventionError: an activation that ONNX does not define, or too few numbers for them.

    >>> from grulens.cells.activations import name_of
    >>> said = {"activations": ["HardSigmoid", "Relu"], "activation_alpha": [0.25],
    ...         "activation_beta": [], "clip": None}
    >>> [name_of(found) for found in activations(said, 1, "'gru'")]
    ['HardSigmoid(alpha=0.25, beta=0.5)', 'relu']
    """
    names = [n.decode(errors="replace") if isinstance(n, bytes) else n for n in said["activations"]]
    names = names or ["Sigmoid", "Tanh"] * directions
    if len(names) != 2 * directions:
        raise ConventionError(
            f"the GRU node {name} names {len(names)} activations ({', '.join(names)}); expected "
            f"2 a direction, {2 * directions}"
        )
    kinds = [n.lower() for n in names]
    for kind, shown in zip(kinds, names, strict=True):
        if kind not in PLAIN and kind not in SHAPED:
            raise ConventionError(
                f"the GRU node {name} has the activation {shown!r}, which ONNX does not define"
            )
    # the numbers are taken in the order of the activations that use them
    numbers = []
    for position, attribute in enumerate(("activation_alpha", "activation_beta")):
        users = [kind for kind in kinds if kind in SHAPED and SHAPED[kind][1] > position]
        given = [_shortest(value) for value in said[attribute]]
        if not given and all(SHAPED[kind][2] is not None for kind in users):
            given = [SHAPED[kind][2][position] for kind in users]  # type: ignore[index]
        if len(given) != len(users) and users:
            raise ConventionError(
                f"the GRU node {name} gives {len(given)} values of {attribute} for "
                f"{', '.join(names)}; {len(users)} are needed, and no two runtimes agree on others"
            )
        if not all(map(math.isfinite, given)):
            raise ConventionError(
                f"the GRU node {name} gives {', '.join(map(str, given))} as {attribute}; they must "
                "be finite"
            )
        numbers.append(iter(given))
    found: list[Activation] = []
    for kind in kinds:
        if kind in PLAIN:
            found.append(PLAIN[kind])
        else:
            make, count, _ = SHAPED[kind]
            found.append(make(*(next(numbers[position]) for position in range(count))))
    clip = said["clip"]
    if clip is None:
        return found
    if not clip > 0:
        raise ConventionError(f"the GRU node {name} has clip {clip}; it must be above 0")
    return [Clipped(activation, _shortest(clip)) for activation in found]


def _shortest(number: float) -> float:
    """ONNX keeps float32: 0.2 comes back as 0.20000000298, which is the same float32 as 0.2."""
    return float(str(np.float32(number)))
