"""One step with its input held, as a function of the state: all that a search needs of a cell.

Of a cell that is known by its weights that function is written down. Of one that was observed it is
its module's own code, run once more with other states.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from grulens.cells.dynamics.jacobian import Jacobian
from grulens.cells.dynamics.stationary import Standstill
from grulens.errors import CellError


class StepMap(ABC):
    """A step as a function of the state before it, in float64.

    Attributes:
        state_size: numbers of one state.
        eps: rounding of the numbers that the step is made of, in their own dtype.
        like: a float64 tensor on the device where states belong.
        parts: the names of what stands side by side in a state: h, or h and c.
    """

    parts: tuple[str, ...] = ("h",)
    state_size: int
    eps: float
    like: Tensor

    @abstractmethod
    def after(self, states: Float64[Tensor, "point state"]) -> Float64[Tensor, "point state"]:
        """The states after the step."""

    @abstractmethod
    def slope(self, states: Float64[Tensor, "point state"]) -> Float64[Tensor, "point state state"]:
        """The derivative of the state after the step by the one before it."""

    @abstractmethod
    def off(self, states: Float64[Tensor, "point state"]) -> Float64[Tensor, "point state"]:
        """What is zero at a fixed point: n(h) - h of a gated mix, F(s) - s of any other step."""

    @abstractmethod
    def off_slope(
        self, states: Float64[Tensor, "point state"]
    ) -> Float64[Tensor, "point state state"]:
        """The derivative of `off`."""

    def quick(self) -> StepMap:
        """The same step for a search, which asks often; where it ends, this step is asked."""
        return self


@dataclass(frozen=True, eq=False, repr=False)
class SavedStep(StepMap):
    """What a file holds of a step: its derivatives at some states, and what it was.

    Attributes:
        words: what the step was, in words.
        states: the states (point, state).
        slopes: the derivatives there.
    """

    words: str
    state_size: int
    eps: float
    states: Float64[Tensor, "point state"]
    slopes: Float64[Tensor, "point state state"]

    @staticmethod
    def of(step: StepMap, states: Float64[Tensor, "point state"]) -> SavedStep:
        """What is saved of a step."""
        slopes = step.slope(states) if len(states) else states.new_zeros(0, *2 * [step.state_size])
        return SavedStep(repr(step), step.state_size, step.eps, states, slopes)

    @property
    def like(self) -> Tensor:  # type: ignore[override]
        return self.states.new_empty(0)

    def __repr__(self) -> str:
        return f"{self.words}, saved"

    def slope(self, states: Float64[Tensor, "point state"]) -> Float64[Tensor, "point state state"]:
        same = (states[:, None] == self.states).all(2)
        if not bool(same.any(1).all()):
            raise self._gone()
        return self.slopes[same.int().argmax(1)]

    def after(self, states: Float64[Tensor, "point state"]) -> Float64[Tensor, "point state"]:
        raise self._gone()

    def off(self, states: Float64[Tensor, "point state"]) -> Float64[Tensor, "point state"]:
        raise self._gone()

    def off_slope(
        self, states: Float64[Tensor, "point state"]
    ) -> Float64[Tensor, "point state state"]:
        raise self._gone()

    def _gone(self) -> CellError:
        return CellError(
            f"{self.words} was saved without its model, and is known at the saved states alone: "
            "make it again by observed_step(model, ...)"
        )


@dataclass(frozen=True, eq=False)
class MapStandstill(Standstill):
    """A step that is known as a function alone."""

    cell: StepMap  # type: ignore[assignment]

    def quick(self) -> Standstill:
        return MapStandstill(self.cell.quick(), self.product)

    def moves(self, h: Float[Tensor, "point unit"]) -> Float[Tensor, "point unit"]:
        return self.cell.after(h) - h

    def off(self, h: Float[Tensor, "point unit"]) -> Float[Tensor, "point unit"]:
        return self.cell.off(h)

    def slope(self, h: Float[Tensor, "point unit"]) -> Float[Tensor, "point unit unit"]:
        return self.cell.off_slope(h)

    def jacobian(self, h: Float[Tensor, "point unit"]) -> Jacobian:
        return Jacobian(self.cell.slope(h))

    def rounding(self, h: Float[Tensor, "point unit"]) -> Float[Tensor, " point"]:
        """The norm that `off` has from rounding alone, at most about."""
        # what the input adds is not seen: the sums of the states' own terms stand for it, times 4
        sums = (self.slope(h).abs() @ h.abs()[..., None])[..., 0]
        size: Tensor = (2 * h.abs() + self.off(h).abs() + sums).norm(dim=1)
        return 16 * torch.finfo(h.dtype).eps * size
