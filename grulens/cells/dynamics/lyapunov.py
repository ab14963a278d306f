"""How fast neighbouring trajectories of a driven cell part: its Lyapunov exponents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from grulens.arguments import Frame
from grulens.cells.cell import RecurrentCell
from grulens.cells.dynamics.jacobian import check_cell, dense, fit, slope
from grulens.errors import CellError, shown
from grulens.results import Result, frame
from grulens.words import so_many


@dataclass(frozen=True, eq=False, repr=False)
class Lyapunov(Result):
    """The Lyapunov spectrum of a trajectory.

    Attributes:
        exponents: (unit,), descending, natural logarithm per step, float64; -inf where a step's
            Jacobian is singular, so that a difference in that direction is gone for good.
        band: how far the running means still moved in the second half of the trajectory: half the
            distance between their highest and lowest value, (unit,); 0 for an exponent of -inf,
            which no further step changes.
    """

    exponents: Float[Tensor, " unit"]
    band: Float[Tensor, " unit"]

    @property
    def note(self) -> str:
        """What a reader of the numbers has to know, in words; "" if nothing."""
        gone = int(self.exponents.isneginf().sum())
        if not gone:
            return ""
        return f"{gone} of {len(self.exponents)} are -inf: a step's Jacobian is singular there"

    def to_frame(self) -> Frame:
        """A pandas DataFrame, a line an exponent, with its band.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        return frame({"exponent": self.exponents, "band": self.band})

    def __repr__(self) -> str:
        first, width = float(self.exponents[0]), float(self.band[0])
        many = so_many(len(self.exponents), "exponent")
        said = f"{many}, largest {first:z.4f} ± {width:.4f} a step"
        return f"Lyapunov({said}{'; ' * bool(self.note)}{self.note})"

    def _repr_html_(self) -> str:
        from grulens.tables import html_table  # noqa: PLC0415 - only for display

        rows = [
            (i, f"{value:z.4f}", f"{band:.4f}")
            for i, (value, band) in enumerate(zip(self.exponents[:10], self.band[:10], strict=True))
        ]
        return html_table(("exponent", "a step", "band"), rows, repr(self))


def lyapunov(
    cell: RecurrentCell,
    x: Tensor,
    h: Tensor | None = None,
    *,
    skip: int | None = None,
) -> Lyapunov:
    """The Lyapunov spectrum along a driven trajectory, by QR of the products of its Jacobians.

    Benettin et al. 1980 (Meccanica 15:9); Vogt et al. 2022 (Front. Appl. Math. Stat. 8:818799) for
    recurrent networks.

    What a step stretches by less than rounding of its own numbers counts as nothing: such an
    exponent is -inf, not the logarithm of a rounding error.

    Args:
        cell: the cell: a GRU of any convention, an RNN, an LSTM; it is read in float64.
        x: input that drives it (time, input).
        h: state before the first step (unit,), of an LSTM h and c side by side; None is zero.
        skip: steps at the start that turn the axes and are not counted; None is a tenth.

    Raises:
        CellError: x or h does not fit the cell, or there are no steps to count.

    >>> from grulens import Cell
    >>> cell = Cell(torch.zeros(6, 1), torch.zeros(6, 2), None, None)          # h' = h / 2
    >>> lyapunov(cell, torch.zeros(50, 1)).exponents
    tensor([-0.6931, -0.6931], dtype=torch.float64)
    """
    check_cell(cell)
    dense(x, "x")
    cell = cell.over(lambda weight: weight.detach().double())
    like = cell.weight_hh
    x = x.detach().to(like)
    if h is None:
        h = like.new_zeros(cell.state_size)
    else:
        dense(h, "h")
        h = h.detach().to(like)
    if x.dim() != 2 or h.dim() != 1:
        raise CellError(
            f"x must be (time, input) and h (unit,), got {tuple(x.shape)} and {tuple(h.shape)}"
        )
    fit(cell, x, h)
    if not bool(torch.isfinite(x).all() and torch.isfinite(h).all()):
        raise CellError("x and h must be finite")
    skip = len(x) // 10 if skip is None else skip
    if isinstance(skip, bool) or not isinstance(skip, int) or not 0 <= skip < len(x):
        raise CellError(f"{len(x)} steps of which {shown(skip)} are skipped leave none to count")

    def slopes() -> Iterator[Tensor]:
        state = h[None]
        for product in cell.project(x):
            yield slope(cell, product[None], state)[0]
            state = cell.step(product[None], state)

    return spectrum(slopes(), skip)


def spectrum(slopes: Iterable[Float64[Tensor, "unit unit"]], skip: int) -> Lyapunov:
    """The Lyapunov spectrum of a trajectory, from the Jacobians of its steps one by one.

    Args:
        slopes: the Jacobian of each step.
        skip: how many of the first ones turn the axes and are not counted.

    >>> spectrum([torch.eye(1).double() / 2] * 9, 1).exponents
    tensor([-0.6931], dtype=torch.float64)
    """
    axes: Tensor | None = None
    with torch.no_grad():
        growth = []
        for t, by_state in enumerate(slopes):
            if axes is None:
                like, eps = by_state, len(by_state) * torch.finfo(by_state.dtype).eps
                axes = torch.eye(len(like), dtype=like.dtype, device=like.device)
            noise = eps * (by_state.abs() @ axes.abs()).norm(dim=0)
            axes, r = torch.linalg.qr(by_state @ axes)
            if t >= skip:
                stretch = r.diagonal().abs()
                growth.append(torch.where(stretch > noise, stretch, 0.0).log())
        logs = torch.stack(growth)
    steps = torch.arange(1, len(logs) + 1, dtype=like.dtype, device=like.device)[:, None]
    running = logs.cumsum(0) / steps
    late = running[len(running) // 2 :]
    order = running[-1].argsort(descending=True)
    band = (late.max(0).values - late.min(0).values) / 2
    band = band.masked_fill(running[-1].isneginf(), 0.0)
    return Lyapunov(running[-1][order], band[order])
