"""Linear probes of many labels from one set of normal equations, which add up part by part.

A probe of a label is the ridge regression of +1 where it holds and −1 elsewhere onto the states: w
and b that make the mean of (w·h + b − y)² + strength · v · |w|² least, v the mean variance of the
units. All that it takes are the covariance of the states and their products with the labels, so one
pass over a corpus is enough for all labels and strengths, and the error on other steps is known
from the moments of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Float64
from numpy import ndarray

#: float32 products of so many steps are added exactly enough,
_AT_ONCE: Final = 4096
#: where no state is larger than this: beside one that is, others would be rounded away.
_LARGE: Final = 8.0
#: The mean variance of units that never move is taken for this, so that there is an answer.
LEAST: Final = 1e-30


@dataclass(frozen=True)
class Moments:
    """The moments of states and targets over some steps.

    Attributes:
        steps: how many steps.
        units: how many units.
        mean: (unit + target,) of the states, then of the targets, 1 where one holds and else 0.
        products: (unit + target, unit + target) the sum of the products of value - mean.
    """

    steps: int
    units: int
    mean: Float64[ndarray, " both"]
    products: Float64[ndarray, "both both"]

    @classmethod
    def of(
        cls, states: Float[ndarray, "step unit"], targets: Bool[ndarray, "step target"]
    ) -> Moments:
        """The moments of some steps."""
        states = _exact(states)
        pivot = np.zeros(states.shape[1] + targets.shape[1], states.dtype)
        pivot[: states.shape[1]] = states[len(states) // 2]  # near the values
        moved = np.concatenate([states, targets.astype(states.dtype)], 1) - pivot
        rest = moved.mean(0, dtype=np.float64)
        products = np.zeros((len(rest), len(rest)))
        for start in range(0, len(moved), _AT_ONCE):
            block = moved[start : start + _AT_ONCE]
            products += block.T @ block
        products -= len(moved) * np.outer(rest, rest)
        return cls(len(moved), states.shape[1], pivot + rest, products)

    def __add__(self, other: Moments) -> Moments:
        """The moments of the steps of both (Chan, Golub and LeVeque 1983)."""
        steps, apart = self.steps + other.steps, other.mean - self.mean
        share = other.steps / steps
        products = self.products + other.products + self.steps * share * np.outer(apart, apart)
        return Moments(steps, self.units, self.mean + share * apart, products)


@dataclass(frozen=True)
class Solved:
    """Probes of all targets at several strengths.

    Attributes:
        weights: (strength, unit, target).
        bias: (strength, target).
    """

    weights: Float64[ndarray, "strength unit target"]
    bias: Float64[ndarray, "strength target"]

    @classmethod
    def of(cls, moments: Moments, strengths: Sequence[float]) -> Solved:
        """Solve the normal equations, for all strengths by one decomposition."""
        n = moments.units
        covariance, mean = moments.products / moments.steps, moments.mean
        values, vectors = np.linalg.eigh(covariance[:n, :n])
        turned = vectors.T @ (2 * covariance[:n, n:])
        scale = max(float(np.diag(covariance)[:n].mean()), LEAST)
        weights = np.stack([
            vectors @ (turned / (np.maximum(values, 0) + strength * scale)[:, None])
            for strength in strengths
        ])  # fmt: skip
        return cls(weights, 2 * mean[n:] - 1 - mean[:n] @ weights)

    def errors(self, moments: Moments) -> Float64[ndarray, "strength target"]:
        """The sum of (w·h + b − y)² over the steps of some moments."""
        n, steps = moments.units, moments.steps
        inside, cross = moments.products[:n, :n], 2 * moments.products[:n, n:]
        own = 4 * np.diag(moments.products)[n:]
        shift = moments.mean[:n] @ self.weights + self.bias - (2 * moments.mean[n:] - 1)
        spread = (self.weights * (inside @ self.weights - 2 * cross)).sum(1)
        found: ndarray = spread + own + steps * shift**2
        return found

    def at(self, strength: Sequence[int]) -> Probes:
        """The probe of each target at a strength of its own, by number."""
        targets = np.arange(self.bias.shape[1])
        return Probes(self.weights[strength, :, targets].T, self.bias[strength, targets])


@dataclass(frozen=True)
class Probes:
    """One probe for each target.

    Attributes:
        weights: (unit, target).
        bias: (target,).
    """

    weights: Float64[ndarray, "unit target"]
    bias: Float64[ndarray, " target"]

    def scores(self, states: Float[ndarray, "step unit"]) -> Float[ndarray, "step target"]:
        """w·h + b at some steps; at 0 or above, the label is said to hold."""
        states = _exact(states)
        kind = states.dtype
        found: ndarray = states @ self.weights.astype(kind) + self.bias.astype(kind)
        return found


def _exact(states: Float[ndarray, "step unit"]) -> Float[ndarray, "step unit"]:
    """The states, as float64 where one is large."""
    large = states.size > 0 and max(float(states.max()), -float(states.min())) > _LARGE
    return states.astype(np.float64) if large else states


def least(errors: Float64[ndarray, "strength target"]) -> list[int]:
    """The strength of the least error for each target; of equal ones the last.

    >>> least(np.array([[1.0, 3.0], [1.0, 4.0]]))
    [1, 0]
    """
    chosen: list[int] = (len(errors) - 1 - errors[::-1].argmin(0)).tolist()
    return chosen
