"""Activations that torch has no name for, as values: they compare, hash, pickle and print.

What a Keras or an ONNX GRU may hold goes beyond sigmoid and tanh, and "hard sigmoid" alone means
three different functions. A `Cell` takes any elementwise callable; one of these says in its repr
which function it is. For the others torch's own do: `torch.sigmoid`, `torch.tanh`, `torch.relu`,
`torch.nn.functional.hardsigmoid`, ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import hardsigmoid, leaky_relu

from grulens.results import by_name

Activation = Callable[[Tensor], Tensor]
"""An elementwise function: a tensor of any shape in, one of the same shape and dtype out."""


@dataclass(frozen=True)
class HardSigmoid:
    """min(1, max(0, alpha a + beta)) (ONNX HardSigmoid; the defaults are ONNX's and Keras 2's).

    >>> HardSigmoid()(torch.tensor([-3.0, 0.0, 1.0]))
    tensor([0.0000, 0.5000, 0.7000])
    """

    alpha: float = 0.2
    beta: float = 0.5

    def __call__(self, a: Tensor) -> Tensor:
        return (self.alpha * a + self.beta).clamp(0, 1)


HARD_SIGMOID_KERAS2: Activation = HardSigmoid(0.2, 0.5)
"""Keras 1 and 2: 0.2 a + 0.5 between 0 and 1."""
HARD_SIGMOID_KERAS3: Activation = hardsigmoid
"""Keras 3 and torch: a / 6 + 0.5 between 0 and 1."""


@dataclass(frozen=True)
class Affine:
    """alpha a + beta (ONNX GRU, Affine).

    >>> Affine(2.0, 1.0)(torch.tensor([-1.0, 3.0]))
    tensor([-1.,  7.])
    """

    alpha: float
    beta: float

    def __call__(self, a: Tensor) -> Tensor:
        return self.alpha * a + self.beta


@dataclass(frozen=True)
class ScaledTanh:
    """alpha tanh(beta a) (ONNX GRU, ScaledTanh).

    >>> ScaledTanh(2.0, 0.0)(torch.tensor([5.0]))
    tensor([0.])
    """

    alpha: float
    beta: float

    def __call__(self, a: Tensor) -> Tensor:
        return self.alpha * torch.tanh(self.beta * a)


@dataclass(frozen=True)
class LeakyRelu:
    """a where it is positive, else alpha a (ONNX LeakyRelu; Keras leaky_relu, alpha 0.2).

    >>> LeakyRelu(0.5)(torch.tensor([-2.0, 2.0]))
    tensor([-1.,  2.])
    """

    alpha: float = 0.01

    def __call__(self, a: Tensor) -> Tensor:
        return leaky_relu(a, self.alpha)


@dataclass(frozen=True)
class ThresholdedRelu:
    """a where it is above alpha, else 0 (ONNX ThresholdedRelu).

    >>> ThresholdedRelu(1.0)(torch.tensor([1.0, 2.0]))
    tensor([0., 2.])
    """

    alpha: float

    def __call__(self, a: Tensor) -> Tensor:
        return torch.where(a > self.alpha, a, 0.0)


@dataclass(frozen=True)
class Elu:
    """a where it is positive, else alpha (exp(a) - 1) (ONNX Elu; Keras elu, alpha 1).

    >>> Elu(2.0)(torch.tensor([-100.0, 3.0]))
    tensor([-2.,  3.])
    """

    alpha: float = 1.0

    def __call__(self, a: Tensor) -> Tensor:
        return torch.nn.functional.elu(a, self.alpha)


@dataclass(frozen=True)
class Clipped:
    """An activation of a kept within -limit and limit (ONNX GRU, clip).

    >>> Clipped(Affine(1.0, 0.0), 3.0)(torch.tensor([-9.0, 2.0]))
    tensor([-3.,  2.])
    """

    activation: Activation
    limit: float

    def __call__(self, a: Tensor) -> Tensor:
        return self.activation(a.clamp(-self.limit, self.limit))

    def __repr__(self) -> str:
        return f"Clipped({name_of(self.activation)}, {self.limit})"


def identity(a: Tensor) -> Tensor:
    """The value itself (Keras linear).

    >>> identity(torch.tensor([-3.0]))
    tensor([-3.])
    """
    return a


def name_of(activation: Any) -> str:
    """What an activation is called on screen and in errors.

    >>> name_of(torch.sigmoid), name_of(HARD_SIGMOID_KERAS2), name_of(HARD_SIGMOID_KERAS3)
    ('sigmoid', 'HardSigmoid(alpha=0.2, beta=0.5)', 'hardsigmoid')
    """
    if type(activation).__module__ == __name__:
        return repr(activation)
    # the repr of any other callable would hold its address, another one each run
    return str(getattr(activation, "__name__", None) or type(activation).__name__)


def with_slope(activation: Activation, pre: Tensor) -> tuple[Tensor, Tensor]:
    """The value and the derivative of an activation, elementwise."""
    if activation is torch.sigmoid:
        value = torch.sigmoid(pre)
        return value, value * (1 - value)
    if activation is torch.tanh:
        value = torch.tanh(pre)
        return value, 1 - value * value
    with torch.enable_grad():
        at = pre.detach().requires_grad_()
        value = activation(at)
        (slope,) = torch.autograd.grad(value.sum(), at)
    return value.detach(), slope


by_name(
    sigmoid=torch.sigmoid, tanh=torch.tanh, relu=torch.relu, hardsigmoid=hardsigmoid,
    identity=identity, HardSigmoid=HardSigmoid, Affine=Affine, ScaledTanh=ScaledTanh,
    LeakyRelu=LeakyRelu, ThresholdedRelu=ThresholdedRelu, Elu=Elu, Clipped=Clipped,
)  # fmt: skip
