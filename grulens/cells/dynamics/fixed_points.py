"""Where a cell stands still: states that a step leaves as they are, and how it moves near them.

A step moves the state by (1 - z)(n - h). As long as z < 1 it stands still exactly where n(h) = h,
so that is what is solved. Searching h' = h instead also stops where the update gate is merely
almost closed: points that are slow, not fixed, and may lie where no state can be. A solution of
n(h) = h lies in the range of the candidate by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from grulens.arguments import Frame
from grulens.cells.cell import RecurrentCell
from grulens.cells.dynamics.distinct import distinct, points
from grulens.cells.dynamics.jacobian import check_cell, dense, jacobian
from grulens.cells.dynamics.stability import modes
from grulens.cells.dynamics.stationary import Standstill, standstill
from grulens.cells.dynamics.step_map import MapStandstill, SavedStep, StepMap
from grulens.durations import steps
from grulens.errors import CellError, shown
from grulens.job import Job, stopped, tell
from grulens.results import Result, frame
from grulens.words import so_many

STEPS = 200
"""Levenberg-Marquardt steps a start is given; ten are usual."""
NEARLY = 1e-3
"""Where n(h) - h is no larger and the search went no further, a singular slope may be why."""
FEW = 30
"""Points that a notebook shows of them."""


Stability = Literal["stable", "unstable", "marginal"]


@dataclass(frozen=True, eq=False, repr=False)
class FixedPoints(Result):
    """The fixed points that were found, the nearest to a stable one first; float64.

    Attributes:
        cell: the cell, in float64; or the step of an observed one (`observed_step`).
        x: the constant input (input,); empty where it is part of the step.
        states: (point, unit).
        residual: norm of F(h) - h at each, (point,); at most `tol`.
        eigenvalues: those of d F / d h, largest modulus first, (point, unit), complex.
        marginal: which of them rounding cannot tell from modulus 1, (point, unit), bool.
        count: how many starts arrived at each, (point,).
        converged: which starts arrived at a fixed point, (start,), bool; False as well for starts
            that an interrupt left undone.
        speed: norm of F(h) - h where each start ended, (start,); NaN where it was left undone.
        ends: where each start ended, (start, unit): fixed or, where its speed is above `tol`, a
            point from which the search found no way to a slower one.
    """

    cell: RecurrentCell | StepMap | SavedStep
    x: Float[Tensor, " input"]
    states: Float[Tensor, "point unit"]
    residual: Float[Tensor, " point"]
    eigenvalues: Any
    marginal: Bool[Tensor, "point unit"]
    count: Int[Tensor, " point"]
    converged: Bool[Tensor, " start"]
    speed: Float[Tensor, " start"]
    ends: Float[Tensor, "start unit"]

    def __len__(self) -> int:
        return len(self.states)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """As every result is saved; of an observed step its derivatives at these points alone."""
        if isinstance(self.cell, StepMap) and not isinstance(self.cell, SavedStep):
            return replace(self, cell=SavedStep.of(self.cell, self.states)).save(path)
        return super().save(path)

    @property
    def jacobian(self) -> Float[Tensor, "point unit unit"]:
        """D F / d h at each point; computed when it is read, and as large as units squared."""
        if isinstance(self.cell, StepMap):
            return self.cell.slope(self.states)
        return jacobian(self.cell, self.x.expand(len(self), -1), self.states).total

    @property
    def unstable_dims(self) -> Int[Tensor, " point"]:
        """In how many directions a small displacement grows: eigenvalues of modulus above 1."""
        found: Tensor = ((self.eigenvalues.abs() > 1) & ~self.marginal).sum(1)
        return found

    @property
    def marginal_dims(self) -> Int[Tensor, " point"]:
        """In how many directions it cannot be told whether it grows: eigenvalues of modulus 1."""
        return self.marginal.sum(1)

    @property
    def stable(self) -> Bool[Tensor, " point"]:
        """Whether every small displacement dies away: all eigenvalues of modulus below 1.

        False for a point with a marginal eigenvalue: `stability` says so.
        """
        found: Tensor = ((self.eigenvalues.abs() < 1) & ~self.marginal).all(1)
        return found

    @property
    def stability(self) -> tuple[Stability, ...]:
        """Of each point "stable", "unstable" (something grows) or "marginal" (neither is certain).

        An eigenvalue is marginal where a change of the Jacobian no larger than rounding puts it
        onto the unit circle: rounding of the cell's weights in their own dtype, and of where the
        point lies. What is slower than linear decides there: a marginal point may attract or repel.
        """
        return tuple(
            "unstable" if grows else "marginal" if open_ else "stable"
            for grows, open_ in zip(self.unstable_dims, self.marginal_dims, strict=True)
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The stability of each point in words: "unstable in 2, marginal in 1"."""
        pairs = zip(self.unstable_dims.tolist(), self.marginal_dims.tolist(), strict=True)
        return tuple(kind(*pair) for pair in pairs)

    @property
    def time_constants(self) -> Float[Tensor, "point unit"]:
        """Steps in which each mode changes by e: `1 / |ln |eigenvalue||`; inf where marginal."""
        found: Tensor = 1 / self.eigenvalues.abs().log().abs()
        return found.masked_fill(self.marginal, torch.inf)

    def slow(self, speed: float, unique: float = 1e-5) -> Float[Tensor, "point unit"]:
        """Slow points: ends that are not fixed, where a step moves the state by at most `speed`."""
        some = ~self.converged & (self.speed <= speed)
        return self.ends[some][distinct(self.ends[some], self.speed[some], unique)[0]]

    @property
    def note(self) -> str:
        """What a reader of the points has to know, in words; "" if nothing."""
        left = int(self.speed.isnan().sum())
        return stopped(len(self.speed) - left, len(self.speed), "start")

    def to_frame(self) -> Frame:
        """A pandas DataFrame, a line a point: its kind, unstable and marginal dims and so on.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        return frame({
            "kind": list(self.kinds), "unstable_dims": self.unstable_dims,
            "marginal_dims": self.marginal_dims, "slowest": self.time_constants.amax(1),
            "starts": self.count, "residual": self.residual,
        })  # fmt: skip

    def __repr__(self) -> str:
        share = float(self.converged.double().mean()) if len(self.converged) else 0.0
        said = f"{so_many(len(self), 'point')}, {int(self.stable.sum())} stable"
        marginal = self.stability.count("marginal")
        said += f", {marginal} marginal" if marginal else ""
        said += f", from {so_many(len(self.converged), 'start')}, {share:.0%} converged"
        return f"FixedPoints({said}{', ' * bool(self.note)}{self.note})"

    def _repr_html_(self) -> str:
        from grulens.tables import html_table  # noqa: PLC0415 - only for display

        lasts = self.time_constants.amax(1).tolist()
        rows = [
            (i, name, steps(last, "for ever"), int(self.count[i]), f"{float(self.residual[i]):.0e}")
            for i, (name, last) in enumerate(zip(self.kinds[:FEW], lasts, strict=False))
        ]
        more = f", the first {FEW}" if len(self) > FEW else ""
        head = ("point", "kind", "slowest mode", "starts", "moves by")
        return html_table(head, rows, repr(self) + more)


def find_fixed_points(
    cell: RecurrentCell | StepMap,
    *,
    x: Tensor | None = None,
    starts: Tensor,
    tol: float = 1e-10,
    unique: float = 1e-5,
    memory: int = 2**30,
    progress: bool | Callable[[int], object] = True,
) -> FixedPoints:
    """States that a step with a constant input leaves as they are.

    n(h) - h = 0 is solved by Levenberg-Marquardt (Marquardt 1963, J. SIAM 11:431) with the
    closed-form Jacobian, in float64, for many starts at once. The n of another kind of cell, or of
    an observed one, is its candidate, if the shares of that and of the state sum to 1; elsewhere
    F(s) - s = 0 is solved. Sussillo and Barak 2013 (Neural Comput. 25:626) brought fixed points to
    trained recurrent networks; they minimise the speed of h instead.

    Args:
        cell: the cell, of any kind and convention; it is read in float64. Or a step of an observed
            cell, what `observed_step` gives.
        x: the constant input, (input,); None is zero. An observed step has its own.
        starts: where to search from, (start, unit), of an LSTM h and c side by side, as
            `torch.cat([h, c], -1)`; states of a recorded run serve well.
        tol: the largest norm of F(h) - h at a fixed point.
        unique: points nearer to each other than this are one.
        memory: bytes that the search may hold; it takes as many starts at once as fit.
        progress: whether to show a bar; or a function that is told how many more starts are done,
            and ends the search if it raises KeyboardInterrupt.

    Returns:
        `FixedPoints`. Interrupted, it holds what was found so far, and says so (`note`, and a
        `StoppedWarning` unless `progress` is a function).

    Raises:
        CellError: x or the starts do not fit the cell, or something is not finite; tol, unique or
            memory is no number above 0.

    >>> from grulens import Cell
    >>> cell = Cell(torch.zeros(3, 1), torch.tensor([[0.], [0.], [4.]]), None, None)
    >>> find_fixed_points(cell, starts=torch.tensor([[-1.], [0.], [1.]]), progress=False)
    FixedPoints(3 points, 2 stable, from 3 starts, 100% converged)
    """
    if not isinstance(cell, StepMap):
        check_cell(cell)
    for name, value in (("tol", tol), ("unique", unique), ("memory", memory)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise CellError(f"{name} must be a number above 0, got {shown(value)}")
    parts = cell.parts if isinstance(cell, StepMap) else cell.states
    _check_starts(starts, parts, cell.state_size)
    if isinstance(cell, StepMap):
        still, x, starts, eps = _of_map(cell, x, starts)
    else:
        still, x, starts, eps = _of_cell(cell, x, starts)
    with torch.no_grad():
        quick = still.quick()
        ends, left = _search(still, quick, starts, tol, memory, progress)
        speed = still.moves(ends).norm(dim=1)
        # n = h as well, and not only a gate that is almost closed
        converged = (speed <= tol) & (still.unslowed(ends).norm(dim=1) <= tol**0.5) & ~left
        speed[left] = torch.nan
        some = converged.nonzero()[:, 0]
        for one in [quick] if quick is still else [quick, still]:
            states, count = points(one, ends[some], speed[some], unique, memory)
            residual = still.moves(states).norm(dim=1)
            if bool((residual <= tol).all()):
                break
        values, marginal = modes(still, states, eps, memory)
        order = values[:, 0].abs().argsort(stable=True)
        found = FixedPoints(
            still.cell, x, states[order], residual[order], values[order], marginal[order],
            count[order], converged, speed, ends,
        )  # fmt: skip
    if found.note and not callable(progress):
        tell("find_fixed_points", found.note)
    return found


def _check_starts(starts: Any, parts: tuple[str, ...], size: int) -> None:
    """Raise CellError, which says how they are given, unless starts are (start, state)."""
    words = f"{' and '.join(parts)} side by side" if len(parts) > 1 else "unit"
    wanted = f"starts must be (start, {words}) = (any, {size})"
    whole = f"torch.cat([{', '.join(parts)}], -1)"
    if isinstance(starts, tuple | list) and any(isinstance(one, Tensor) for one in starts):
        sizes = ", ".join(str(tuple(getattr(one, "shape", ()))) for one in starts)
        way = whole if len(parts) > 1 else "torch.cat(starts), where each is (start, unit)"
        raise CellError(f"{wanted}, got {len(starts)} tensors of {sizes}: give one, {way}")
    dense(starts, "starts")
    came = tuple(starts.shape)
    if len(came) == 2 and came[1] == size:
        return
    way = ""
    if came[-1:] == (size,):
        way = (
            ": one start is starts[None]"
            if len(came) == 1
            else f": give starts.reshape(-1, {size})"
        )
    elif len(parts) > 1 and came[-1:] == (size // len(parts),):
        way = f": that is one of {' and '.join(parts)} alone; give {whole}"
    raise CellError(f"{wanted}, got {came}{way}")


def _of_map(step: StepMap, x: Any, starts: Tensor) -> tuple[Standstill, Tensor, Tensor, float]:
    """The map whose zeros are searched, no input, the starts, and rounding of the weights."""
    if x is not None:
        raise CellError("an observed step has the input of its own run: leave x away")
    starts = starts.detach().to(step.like)
    if not bool(torch.isfinite(starts).all()):
        raise CellError("the starts must be finite")
    nothing = step.like.new_empty(0)
    return MapStandstill(step, nothing), nothing, starts, step.eps


def _of_cell(
    cell: RecurrentCell, x: Any, starts: Tensor
) -> tuple[Standstill, Tensor, Tensor, float]:
    """The same of a cell with its weights, and the constant input."""
    eps = torch.finfo(cell.weight_hh.dtype).eps
    cell = cell.over(lambda weight: weight.detach().double())
    like = cell.weight_hh
    if x is None:
        x = like.new_zeros(cell.input_size)
    else:
        dense(x, "x")
        x = x.detach().to(like)
    if tuple(x.shape) != (cell.input_size,):
        raise CellError(f"x must be (input,) = ({cell.input_size},), got {tuple(x.shape)}")
    starts = starts.detach().to(like)
    if not bool(torch.isfinite(starts).all() and torch.isfinite(x).all()):
        raise CellError("x and the starts must be finite")
    if not all(bool(torch.isfinite(weight).all()) for weight in cell.parameters):
        raise CellError("the cell's weights are not finite: nothing stands still there")
    with torch.no_grad():
        return standstill(cell, cell.project(x), starts), x, starts, eps


def _search(
    still: Standstill,
    quick: Standstill,
    starts: Tensor,
    tol: float,
    memory: int,
    progress: bool | Callable[[int], object],
) -> tuple[Tensor, Tensor]:
    """Where each start ends (start, unit), and which were left undone by an interrupt."""
    chunk = still.fitting(memory)
    ends, left = starts.clone(), torch.ones(len(starts), dtype=torch.bool, device=starts.device)
    job: Job[FixedPoints] = Job("fixed points", "start", len(starts))

    def done(count: int) -> None:
        if callable(progress):
            progress(count)
        job.advance(count)

    with job.watched(bar=progress is True):
        for begin in range(0, len(starts), chunk):
            part = slice(begin, begin + chunk)
            _levenberg_marquardt(quick, ends[part], left[part], tol, done)
            if quick is not still:
                _search_again(still, quick, starts[part], ends[part], left[part], tol, done)
    return ends, left


def _search_again(
    still: Standstill,
    quick: Standstill,
    starts: Tensor,
    ends: Tensor,
    left: Tensor,
    tol: float,
    done: Callable[[int], object],
) -> None:
    """Search by the step itself, in place, where it is another at an end than the quick one was."""
    same = (quick.off(ends) - still.off(ends)).norm(dim=1) <= tol / 2
    wrong = (~same & ~left).nonzero()[:, 0]
    if len(wrong):
        again, undone = starts[wrong], torch.ones_like(left[wrong])
        left[wrong] = True
        # these starts are counted already
        _levenberg_marquardt(still, again, undone, tol, lambda _: done(0))
        ends[wrong], left[wrong] = again, undone


def _levenberg_marquardt(
    still: Standstill,
    ends: Tensor,
    left: Tensor,
    tol: float,
    done: Callable[[int], object],
) -> None:
    """Solve n(h) - h = 0 from every row of `ends`, in place; `left` says which are not done."""
    h = ends.clone()
    running = torch.arange(len(h), device=h.device)
    off, eye = still.off(h), torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
    damping = torch.full((len(h), 1, 1), 1e-3, dtype=h.dtype, device=h.device)
    for left_over in range(STEPS - 1, -1, -1):
        slope = still.slope(h)
        # where the damping is too small to keep it from being singular the step is no number, and
        # as one that leads no nearer it makes the damping grow
        factors = torch.linalg.lu_factor_ex(slope.mT @ slope + damping * eye)[:2]
        step = -_solved(factors, slope, off)
        tried = h + step
        new = still.off(tried)
        # along a curved valley a straight step soon leaves it: back by what it missed
        bent = tried - _solved(factors, slope, new - off - (slope @ step[..., None])[..., 0])
        newer = still.off(bent)
        # where the straight step does well it is left alone: another way may lead elsewhere
        slow = new.norm(dim=1) > off.norm(dim=1)
        nearer = slow & (newer.norm(dim=1) < new.norm(dim=1))
        tried = torch.where(nearer[:, None], bent, tried)
        new = torch.where(nearer[:, None], newer, new)
        better = new.norm(dim=1) < off.norm(dim=1)
        h = torch.where(better[:, None], tried, h)
        off = torch.where(better[:, None], new, off)
        damping = torch.where(better[:, None, None], damping / 10, damping * 10).clamp(1e-15, 1e15)
        # far below tol: the last digits cost one step, and keep duplicates together
        arrived = off.norm(dim=1) <= 1e-3 * tol
        stuck = (step.norm(dim=1) <= 1e-14) | (damping[:, 0, 0] >= 1e15)
        over = arrived | stuck if left_over else torch.ones_like(arrived)
        nearly = over & ~arrived & (off.norm(dim=1) <= NEARLY)
        if bool(nearly.any()):
            h[nearly] = still.polished(h[nearly])
        ends[running[over]] = h[over]
        left[running[over]] = False
        done(int(over.sum()))
        running, h, off, damping = running[~over], h[~over], off[~over], damping[~over]
        if not len(h):
            break


def _solved(factors: tuple[Tensor, Tensor], slope: Tensor, off: Tensor) -> Tensor:
    """The damped step (start, unit) that takes `off` away, from the factors of its matrix."""
    found: Tensor = torch.linalg.lu_solve(*factors, slope.mT @ off[..., None])[..., 0]
    return found


def kind(unstable: int, marginal: int) -> str:
    """The stability of a point in words.

    >>> kind(0, 0), kind(2, 0), kind(2, 1)
    ('stable', 'unstable in 2', 'unstable in 2, marginal in 1')
    """
    words = [f"{word} in {n}" for word, n in (("unstable", unstable), ("marginal", marginal)) if n]
    return ", ".join(words) or "stable"
