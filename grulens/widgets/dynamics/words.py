"""What a phase portrait says in words, for those who read and for those who listen."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from torch import Tensor

from grulens.cells.dynamics.fixed_points import FixedPoints
from grulens.cells.dynamics.lyapunov import Lyapunov
from grulens.durations import steps

#: Steps of a trajectory that a person starts.
STEPS: Final = 200


def progress(found: FixedPoints | None, percent: int | None) -> str:
    """How far a search is, or what it found.

    Args:
        found: what it found, None before the first.
        percent: how much of it is done, None where none runs.
    """
    text = ""
    if percent is not None:
        text = f"searching, {percent} %"
    elif found is not None:
        ran, marginal = int((~found.speed.isnan()).sum()), found.stability.count("marginal")
        text = (
            f"<b>{_count(len(found), 'fixed point')}, {int(found.stable.sum())} stable"
            f"{f', {marginal} marginal' if marginal else ''}</b>, from "
            f"{_count(ran, 'start')} ({float(found.converged.sum()) / max(1, ran):.0%} arrived)"
        )
        if found.note:
            text += f"; {found.note}"
        if len(found):
            text += f"; a step moves none by more than {float(found.residual.max()):.0e}"
    return status(text)


def modes(index: int, values: Tensor, marginal: Tensor) -> str:
    """What the eigenvalues (unit,) of a point say, and which of them are marginal (unit,)."""
    size, open_ = values.abs(), int(marginal.sum())
    grows, dies = size[(size > 1) & ~marginal], size[(size < 1) & ~marginal]
    text = f"<b>point {index}</b>: {'marginal' if open_ else 'stable'}."
    if len(grows):
        twice = float(np.log(2) / grows.max().log())
        text = (
            f"<b>point {index}</b>: unstable in {_count(len(grows), 'direction')}; the fastest "
            f"doubles in {steps(twice)}."
        )
    if open_:
        text += (
            f" In {_count(open_, 'direction')} the eigenvalue has modulus 1 to rounding: whether "
            "what is moved there grows or dies cannot be told from it."
        )
    if len(dies):
        slowest = float(-1 / dies.max().log())
        text += f" What dies away slowest takes {steps(slowest)} to fall to 1/e."
    return status(text)


def journey(path: Tensor, found: Any, index: int | None) -> str:
    """Where a trajectory (step, unit) began and ended.

    Args:
        path: the states.
        found: the fixed points, or None.
        index: the fixed point through which the plane was laid, or None.
    """
    through = "the mean state" if index is None else f"point {index}"
    text = f"started in the plane through {through}; after {len(path) - 1} steps "
    if found is None or not len(found):
        return status(text + f"a step moves it by {float((path[-1] - path[-2]).norm()):.1g}")
    away = (found.states - path[-1]).norm(dim=1)
    nearest = int(away.argmin())
    kind = found.stability[nearest]
    return status(text + f"{float(away[nearest]):.1g} away from point {nearest} ({kind})")


def parting(found: Lyapunov) -> str:
    """Whether neighbouring trajectories part, by the largest exponent."""
    largest, band = float(found.exponents[0]), float(found.band[0])
    gone = int(found.exponents.isneginf().sum())
    if gone == len(found.exponents):
        return status(
            "all exponents are −∞: a step of this run forgets every difference, and neighbouring "
            "trajectories are one from there on."
        )
    text = f"largest exponent {largest:.3g} ± {band:.1g} a step: "
    also = f" In {_count(gone, 'direction')} (exponent −∞) a step forgets every difference."
    also = also if gone else ""
    if abs(largest) <= band:
        return status(text + "within its band of zero, so longer runs must tell." + also)
    every = steps(np.log(2) / abs(largest))
    moves = "apart, twice as far" if largest > 0 else "together, half as far"
    return status(text + f"neighbouring trajectories come {moves} every {every}." + also)


def status(text: str) -> str:
    """A line that a screen reader says when it changes."""
    return f'<span role="status">{text}</span>'


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
