"""What is left of n(h) - h at a state: its size, its slope, and the least that arithmetic can see.

At a bifurcation the slope is singular, and n(h) - h vanishes like a power of the distance: states
that are far apart look equally fixed. Where a state may lie without anybody seeing a difference is
then asked of n(h) - h itself, along a direction, with every other direction solved for
(Lyapunov and Schmidt's reduction: Golubitsky and Schaeffer 1985, doi:10.1007/978-1-4612-5034-0).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grulens.cells.cell import RecurrentCell
from grulens.cells.derivative import derivative
from grulens.cells.dynamics.jacobian import Jacobian, Slopes
from grulens.cells.gated import gated
from grulens.cells.kinds.gru import Cell

NEWTON = 40
"""Steps that a polished state is given: each brings a zero of order k nearer by 1 / k."""
SHORTER = (1.0, 0.5, 0.25)
"""Parts of a step of Newton's that are tried. A longer one would leap over a zero nearby."""
MATRICES = 8
"""What a step holds for each state: Jacobian and its parts, normal equations, their factors."""


def standstill(
    cell: RecurrentCell, product: Float[Tensor, " blocks"], states: Float[Tensor, "point unit"]
) -> Standstill:
    """The map whose zeros are a cell's fixed points.

    Args:
        cell: the cell, in float64.
        product: what the input adds to a step.
        states: some states, by which it is found what a step makes of them.
    """
    if isinstance(cell, Cell):
        return GRUStandstill(cell, product)
    if len(states) and len(cell.states) == 1:
        signals = cell.compute(product.expand(len(states), -1), states)
        form = gated(cell, signals, states)
        if form is not None and form.candidate is not None:
            return MixStandstill(cell, product, form.candidate)
        if form is not None:
            return GatedStandstill(cell, product, (form.keep == 1).all(0))
    return Standstill(cell, product)


@dataclass(frozen=True, eq=False)
class Standstill:
    """The map F(s) - s of one cell with one input: its zeros are fixed points.

    Attributes:
        cell: the cell, in float64.
        product: what the input adds to a step (blocks of units,).
    """

    cell: RecurrentCell
    product: Float[Tensor, " blocks"]

    def quick(self) -> Standstill:
        """The same map for a search, which looks at it often and checks it in the end."""
        return self

    def moves(self, h: Float[Tensor, "point unit"]) -> Float[Tensor, "point unit"]:
        """How a step moves some states."""
        return self.cell.step(self.product.expand(len(h), -1), h) - h

    def target(
        self, product: Float[Tensor, "point blocks"], h: Float[Tensor, "point unit"]
    ) -> Float[Tensor, "point unit"]:
        """What a state equals where it is a fixed point: the state after a step."""
        return self.cell.step(product, h)

    def off(self, h: Float[Tensor, "point unit"]) -> Float[Tensor, "point unit"]:
        """What is zero at a fixed point."""
        return self.target(self.product.expand(len(h), -1), h) - h

    def unslowed(self, h: Float[Tensor, "point unit"]) -> Float[Tensor, "point unit"]:
        """`off` without what only slows a state down."""
        return self.off(h)

    def jacobian(self, h: Float[Tensor, "point unit"]) -> Jacobian:
        """The derivative of a step."""
        return Jacobian(self.cell.slope(self.product.expand(len(h), -1), h).detach())

    def slope(self, h: Float[Tensor, "point unit"]) -> Float[Tensor, "point unit unit"]:
        """The derivative of `off`."""
        product = self.product.expand(len(h), -1)
        found = derivative(lambda state: self.target(product, state), h)
        return found - torch.eye(h.shape[1], dtype=h.dtype, device=h.device)

    def rounding(self, h: Float[Tensor, "point unit"]) -> Float[Tensor, " point"]:
        """The norm that `off` has from rounding alone, at most about."""
        # a sum rounds by its terms: W h and what the input adds, as far as the step passes them on
        with torch.enable_grad():
            products = self.product.expand(len(h), -1).clone().requires_grad_()
            state = h.detach().requires_grad_()
            new = self.target(products, state)
            axes = torch.eye(h.shape[1], dtype=h.dtype, device=h.device)[:, None]
            by_product, by_state = torch.autograd.grad(
                new, (products, state), axes.expand(-1, len(h), -1), is_grads_batched=True
            )
        sums = (by_product.abs() * products.abs()).sum(2) + (by_state.abs() * h.abs()).sum(2)
        size: Tensor = (h.abs() + new.abs() + sums.T).norm(dim=1)
        return 4 * torch.finfo(h.dtype).eps * size.detach()

    def blur(self, h: Float[Tensor, "point unit"]) -> Float[Tensor, " point"]:
        """How far a zero may be from each state, to first order; infinite where the slope is none.

        That is the step of Newton's method, and what the slope makes of rounding.
        """
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(h.shape[1], dtype=h.dtype, generator=generator).to(h.device)
        noise = self.rounding(h)[:, None] * noise
        sides = torch.stack([self.off(h), noise], 2)
        found, failed = torch.linalg.solve_ex(self.slope(h), sides)
        size: Tensor = found.norm(dim=1).sum(1)
        return size.masked_fill((failed != 0) | ~size.isfinite(), torch.inf)

    def polished(self, h: Float[Tensor, "point unit"]) -> Float[Tensor, "point unit"]:
        """States nearer to their zeros, as near as rounding lets them."""
        h, off = h.clone(), self.off(h)
        noise = 8 * torch.finfo(h.dtype).eps * h.shape[1] ** 0.5
        going = (off.norm(dim=1) > self.rounding(h)).nonzero()[:, 0]
        for _ in range(NEWTON):
            if not len(going):
                break
            u, size, v = torch.linalg.svd(self.slope(h[going]))
            # a direction whose slope is rounding has no step
            weight = torch.where(size > noise, 1 / size, 0.0)[..., None]
            step = -(v.mT @ (weight * (u.mT @ off[going][..., None])))[..., 0]
            way = torch.nn.functional.normalize(step, dim=1)
            best, least = h[going].clone(), off[going].clone()
            short = torch.ones(len(going), dtype=torch.bool, device=h.device)
            for part in SHORTER:
                # the zeros of all other directions lie on a curve: a straight step leaves it
                tried = self.beside(h[going][short] + part * step[short], way[short])
                new = self.off(tried)
                better = new.norm(dim=1) < least[short].norm(dim=1)
                index = short.nonzero()[better, 0]
                best[index], least[index] = tried[better], new[better]
                short[index] = False
                if not bool(short.any()):
                    break
            size = least.norm(dim=1)
            # a hundredth less is not worth another step
            goes_on = (size < 0.99 * off[going].norm(dim=1)) & (size > self.rounding(best))
            h[going], off[going] = best, least
            going = going[goes_on]
        return h

    def beside(
        self, h: Float[Tensor, "point unit"], along: Float[Tensor, "point unit"]
    ) -> Float[Tensor, "point unit"]:
        """States where n(h) - h is as small as it gets without a move in a direction.

        Args:
            h: the states.
            along: of length 1: how far each state is along it stays.
        """
        off, eye = self.off(h), torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
        for _ in range(3):
            slope = self.slope(h)
            slope = slope - (slope @ along[..., None]) * along[:, None, :]
            gradient = (slope.mT @ off[..., None])[..., 0]
            step = -torch.linalg.solve(slope.mT @ slope + 1e-14 * eye, gradient)
            new = self.off(h + step)
            better = new.norm(dim=1) < off.norm(dim=1)
            if not bool(better.any()):
                break
            h = torch.where(better[:, None], h + step, h)
            off = torch.where(better[:, None], new, off)
        return h

    def fitting(self, memory: int) -> int:
        """How many states go at once: about MATRICES of (unit, unit) each are alive at a time."""
        return max(1, int(memory // (MATRICES * 8 * self.cell.state_size**2)))


@dataclass(frozen=True, eq=False)
class MixStandstill(Standstill):
    """c(h) - h of a cell whose step is a h + (1 - a) c: without the gate a, which only slows it.

    Attributes:
        candidate: the signal c.
    """

    candidate: str

    def target(
        self, product: Float[Tensor, "point blocks"], h: Float[Tensor, "point unit"]
    ) -> Float[Tensor, "point unit"]:
        return self.cell.compute(product, h)[self.candidate]


@dataclass(frozen=True, eq=False)
class GatedStandstill(Standstill):
    """F(h) - h of a cell whose step is a h + b, where b is no share of a candidate.

    Where a rounds to 1 and b to 0 a state stands still in float64, and moves for ever in truth.

    Attributes:
        always: (unit,) where a is 1 whatever the state is: nothing is slowed down there.
    """

    always: Bool[Tensor, " unit"]

    def unslowed(self, h: Float[Tensor, "point unit"]) -> Float[Tensor, "point unit"]:
        """What is left without a, b / (1 - a) - h; infinite where a is 1."""
        form = gated(self.cell, self.cell.compute(self.product.expand(len(h), -1), h), h)
        if form is None:
            return self.off(h)
        slowed = (form.write - (1 - form.keep) * h) / (1 - form.keep)
        slowed = torch.where(form.keep == 1, torch.inf, slowed)
        return torch.where(self.always, form.write, slowed)


@dataclass(frozen=True, eq=False)
class GRUStandstill(Standstill):
    """n(h) - h of a GRU: without the update gate, which only slows a state down."""

    cell: Cell

    def moves(self, h: Float[Tensor, "point unit"]) -> Float[Tensor, "point unit"]:
        made = self.cell.terms(self.product.expand(len(h), -1), h)
        return (1 - made.z) * (made.n - h)

    def jacobian(self, h: Float[Tensor, "point unit"]) -> Jacobian:
        return self.at(h).jacobian()

    def at(self, h: Float[Tensor, "point unit"]) -> Slopes:
        """Gates and slopes at some states."""
        return Slopes.at(self.cell, self.product.expand(len(h), -1), h)

    def off(self, h: Float[Tensor, "point unit"]) -> Float[Tensor, "point unit"]:
        """n(h) - h."""
        return self.at(h).n - h

    def slope(self, h: Float[Tensor, "point unit"]) -> Float[Tensor, "point unit unit"]:
        """The derivative of n(h) - h."""
        parts = self.at(h)
        eye = torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
        return parts.by_candidate() + parts.by_reset() - eye

    def rounding(self, h: Float[Tensor, "point unit"]) -> Float[Tensor, " point"]:
        """The norm that n(h) - h has from rounding alone, at most about."""
        parts, units = self.at(h), self.cell.hidden_size
        weight, bias = self.cell.weight_hh[2 * units :].abs(), self.cell.bias_hh
        inside = h.abs() if self.cell.reset_after else parts.r * h.abs()
        sums = inside @ weight.T + (0.0 if bias is None else bias[2 * units :].abs())
        if self.cell.reset_after:
            sums = parts.r * sums
        sums = parts.dn.abs() * (self.product[2 * units :].abs() + sums)
        size: Tensor = (h.abs() + parts.n.abs() + sums).norm(dim=1)
        return 4 * torch.finfo(h.dtype).eps * size
