"""A layer as a dynamical system, as figures of their own, without a session around them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from bokeh.layouts import column
from bokeh.model import Model
from jaxtyping import Float
from torch import Tensor

from grulens.cells.dynamics.fixed_points import FixedPoints
from grulens.cells.dynamics.jacobian import Jacobian
from grulens.cells.dynamics.lyapunov import Lyapunov
from grulens.errors import GrulensError, ReadoutError, shown
from grulens.probing.dynamics.portrait import Portrait, principal_axes
from grulens.views.dynamics.exponents import Exponents
from grulens.views.dynamics.phase_portrait import PhasePlot
from grulens.views.dynamics.spectrum import Spectrum
from grulens.views.still import lens as still
from grulens.views.still.exponents import exponents as exponents_of
from grulens.views.still.portrait import portrait as picture_of
from grulens.widgets.plot.matrix import matrix
from grulens.widgets.plot.registry import Figure, PlotOptions, draws
from grulens.words import say

#: Pixels of a spectrum that stands alone.
ALONE: Final = 320


@draws(Portrait)
def draw_portrait(found: Portrait, options: PlotOptions) -> Figure:
    """The states of all rows in two components, coloured by their step."""
    pair = (0, 1) if options.output is None else options.output
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise ReadoutError(
            f"output={shown(pair)}: of a portrait it is two components, such as (0, 2)"
        )
    found.plane(*pair)  # says which there are
    points: Float[np.ndarray, "row time 2"] = found.points[..., list(pair)].numpy()
    rows, steps, _ = points.shape
    tokens = options.tokens_of(steps)
    if tokens is not None and rows > 1:
        raise GrulensError(f"tokens name the steps of one row; this portrait has {rows} rows")
    first, second = (
        say("PC {n} ({share} of the variance)", n=i + 1, share=f"{float(found.explained[i]):.0%}")
        for i in pair
    )
    title, axes = say("states of {layer}", layer=found.layer), (first, second)
    plot = PhasePlot()
    plot.states(
        points, np.indices((rows, steps))[1].astype(float), colors="time",
        ends=(0.0, float(max(steps - 1, 0))), measure="step", axes=axes, title=title,
        tokens=None if tokens is None else [tokens],
    )  # fmt: skip
    nothing = np.zeros((0, 2))
    return plot.root, lambda: still.compose(
        picture_of(points, nothing, [], kinds=[], axes=axes, title=title)
    )


@draws(FixedPoints)
def draw_fixed_points(found: FixedPoints, _: PlotOptions) -> Figure:
    """The points in their own principal components, and the eigenvalues of the one that is tapped.

    Raises:
        GrulensError: there is no point to draw.
    """
    if not len(found):
        raise GrulensError(
            f"{found!r}: no point to draw; where it moves slowly, found.slow(1e-3) lists the places"
        )
    places, axes = _plane(found.states)
    ways, title = found.unstable_dims.numpy(), say("fixed points")
    plot, spectrum = PhasePlot(colors=False), Spectrum()
    if len(found) > 1:
        plot.states(
            np.zeros((0, 0, 2)), np.zeros((0, 0)), colors="time", ends=(0.0, 1.0), measure="",
            axes=axes, title=title,
        )  # fmt: skip
        plot.points(
            places, ways, kinds=found.kinds, residual=found.residual.numpy(),
            slowest=found.time_constants.amax(1).numpy(),
        )  # fmt: skip

    def show(point: int) -> None:
        values, marginal = found.eigenvalues[point].numpy(), found.marginal[point].numpy()
        spectrum.update(values, marginal, f"{say('point {n}', n=point)}: {say(found.kinds[point])}")
        plot.choose((float(places[point, 0]), float(places[point, 1])))

    for figure in (plot.root, spectrum.root):
        figure.width = None  # in a column it would count, and not that of the frame
    plot.on_tap(show, lambda *_: None, lambda *_: None)
    show(0)
    root: Model = column(plot.root, spectrum.root) if len(found) > 1 else spectrum.root

    def draw() -> str:
        drawn = picture_of(
            np.zeros((0, 0, 2)), places, ways.tolist(), kinds=found.kinds, axes=axes, title=title
        )
        return still.compose(drawn if len(found) > 1 else "", found._repr_html_())

    return root, draw


@draws(Lyapunov)
def draw_lyapunov(found: Lyapunov, _: PlotOptions) -> Figure:
    """A point for each exponent, from the largest down, with its band."""
    given: dict[str, Any] = {"title": say("Lyapunov exponents")}
    values, band = found.exponents.cpu().numpy(), found.band.cpu().numpy()
    figure = Exponents(ALONE)
    figure.update(values, band, **given)
    return figure.root, lambda: still.compose(exponents_of(values, band, **given))


@draws(Jacobian)
def draw_jacobian(found: Jacobian, options: PlotOptions) -> Figure:
    """How each number of the state moves each number of the next one, in one row of the batch."""
    parts, part = found.parts, "total" if options.output is None else options.output
    if not isinstance(part, str) or part not in parts:
        raise ReadoutError(
            f"output={shown(part)}: the parts of this Jacobian are {', '.join(parts)}"
        )
    place = options.row_of(len(found.total), "this Jacobian")
    values = parts[part][place]
    where = " · " + say("row {numbers}", numbers=place) if len(found.total) > 1 else ""
    return matrix(
        values, rows=[str(i) for i in range(len(values))], down=say("new unit"),
        across=say("old unit"), measure=say("derivative"),
        title=(say("the next state by the one before") if part == "total" else part) + where,
    )  # fmt: skip


def _plane(states: Tensor) -> tuple[Float[np.ndarray, "point 2"], tuple[str, str]]:
    """Points in their first two principal components, and what those are."""
    states = states.detach().cpu().double()
    axes, explained = principal_axes(states - states.mean(0))
    places = (states - states.mean(0)) @ axes[:2].T
    if places.shape[1] < 2:  # one unit: a line
        places, explained = (torch.cat([p, p.new_zeros((*p.shape[:-1], 1))], -1)
                             for p in (places, explained))  # fmt: skip
    first, second = (
        say(
            "PC {n} of the points ({share} of their variance)",
            n=i + 1,
            share=f"{float(explained[i]):.0%}",
        )
        for i in (0, 1)
    )
    return places.numpy(), (first, second)
