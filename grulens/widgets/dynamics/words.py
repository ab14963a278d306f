"""What a phase portrait says in words, for those who read and for those who listen."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from torch import Tensor

from grulens.cells.dynamics.fixed_points import FixedPoints
from grulens.cells.dynamics.lyapunov import Lyapunov
from grulens.durations import steps
from grulens.views.figure.tokens import number
from grulens.words import message, say, say_n

#: Steps of a trajectory that a person starts.
STEPS: Final = 200


def progress(found: FixedPoints | None, percent: int | None) -> str:
    """How far a search is, or what it found.

    Args:
        found: what it found, None before the first.
        percent: how much of it is done, None where none runs.
    """
    text = say(
        "Looks, from states of this run, for states that a step leaves where they are; it can be "
        "stopped."
    )
    if percent is not None:
        text = say("searching, {percent} %", percent=percent)
    elif found is not None:
        ran, marginal = int((~found.speed.isnan()).sum()), found.stability.count("marginal")
        points = say_n("{n} fixed point", "{n} fixed points", len(found))
        kinds = say("{points}, {n} stable", points=points, n=int(found.stable.sum()))
        if marginal:
            kinds = say("{kinds}, {n} marginal", kinds=kinds, n=marginal)
        text = say(
            "{kinds}, from {starts} ({share} arrived)", kinds=f"<b>{kinds}</b>",
            starts=say_n("{n} start", "{n} starts", ran),
            share=f"{float(found.converged.sum()) / max(1, ran):.0%}",
        )  # fmt: skip
        if found.note:
            text += f"; {found.note}"
        if len(found):
            text += say("; a step moves none by more than {residual}",
                        residual=f"{float(found.residual.max()):.0e}")  # fmt: skip
    return status(text)


def modes(index: int, values: Tensor, marginal: Tensor) -> str:
    """What the eigenvalues (unit,) of a point say, and which of them are marginal (unit,)."""
    size, open_ = values.abs(), int(marginal.sum())
    grows, dies = size[(size > 1) & ~marginal], size[(size < 1) & ~marginal]
    point = f"<b>{say('point {n}', n=index)}</b>"
    text = say("{point}: marginal.", point=point) if open_ else say("{point}: stable.", point=point)
    if len(grows):
        twice = float(np.log(2) / grows.max().log())
        text = say(
            "{point}: unstable in {directions}; the fastest doubles in {steps}.", point=point,
            directions=_directions(len(grows)), steps=steps(twice),
        )  # fmt: skip
    if open_:
        text += say(
            " In {directions} the eigenvalue has modulus 1 to rounding: whether what is moved "
            "there grows or dies cannot be told from it.", directions=_directions(open_),
        )  # fmt: skip
    if len(dies):
        slowest = float(-1 / dies.max().log())
        text += say(" What dies away slowest takes {steps} to fall to 1/e.", steps=steps(slowest))
    return status(text)


def journey(path: Tensor, found: Any, index: int | None) -> str:
    """Where a trajectory (step, unit) began and ended.

    Args:
        path: the states.
        found: the fixed points, or None.
        index: the fixed point through which the plane was laid, or None.
    """
    through = say("the mean state") if index is None else say("point {n}", n=index)
    begun = {"through": through, "steps": len(path) - 1}
    if found is None or not len(found):
        return status(
            say(
                "started in the plane through {through}; after {steps} steps a step moves it by "
                "{size}", size=f"{float((path[-1] - path[-2]).norm()):.1g}", **begun,
            )
        )  # fmt: skip
    away = (found.states - path[-1]).norm(dim=1)
    nearest = int(away.argmin())
    return status(
        say(
            "started in the plane through {through}; after {steps} steps {size} away from point "
            "{n} ({kind})", size=f"{float(away[nearest]):.1g}", n=nearest,
            kind=say(found.stability[nearest]), **begun,
        )
    )  # fmt: skip


def parting(found: Lyapunov) -> str:
    """Whether neighbouring trajectories part, by the largest exponent."""
    largest, band = float(found.exponents[0]), float(found.band[0])
    gone = int(found.exponents.isneginf().sum())
    if gone == len(found.exponents):
        return status(
            say(
                "all exponents are −∞: a step of this run forgets every difference, and "
                "neighbouring trajectories are one from there on."
            )
        )
    text = say("largest exponent {exponent} ± {band} a step: ", exponent=number(largest, ".3g"),
               band=f"{band:.1g}")  # fmt: skip
    also = ""
    if gone:
        also = say(" In {directions} (exponent −∞) a step forgets every difference.",
                   directions=_directions(gone))  # fmt: skip
    if abs(largest) <= band:
        return status(text + say("within its band of zero, so longer runs must tell.") + also)
    every = steps(np.log(2) / abs(largest))
    moves = (
        message("neighbouring trajectories come apart, twice as far every {steps}.")
        if largest > 0
        else message("neighbouring trajectories come together, half as far every {steps}.")
    )
    return status(text + say(moves, steps=every) + also)


def status(text: str) -> str:
    """A line that a screen reader says when it changes."""
    return f'<span role="status">{text}</span>'


def _directions(count: int) -> str:
    return say_n("{n} direction", "{n} directions", count)
