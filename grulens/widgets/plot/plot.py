"""The figure of a result, live in a notebook and still in a saved one.

What was found is a plain result and knows no figure; this puts the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grulens.arguments import Direction, Integer
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.plot import (  # noqa: F401 - what they draw
    comparison,
    corpus,
    credit,
    dynamics,
    memory,
    phrases,
    units,
)
from grulens.widgets.plot.registry import drawer, plot_options


def plot(
    found: object,
    *,
    tokens: Sequence[object] | str | None = None,
    output: Any = None,
    row: Integer = 0,
    toward: Direction = None,
) -> BokehView:
    """Show what was found as a figure.

    A sweep of units is a chart of them by falling effect, a bar for the direct and one for the
    recurrent part; a sweep over times, or a trace, is a picture of units by steps over the tokens,
    and a line where there is one row of them. Gate attention is a map of states by the steps they
    were written at, of which a tap chooses one; time scales are a saturation plot, histograms and
    half-lives; a tree of phrases is boxes over the tokens. Credit is a bar for each step, and the
    ledger that adds up to the score; a logit lens is a line for each of the likeliest classes, and
    what each unit adds to one of them at the step that is tapped.

    A comparison is a picture of the difference of one signal, h where `output` names no other, of
    the units that differ most first; a step without a partner is blank.

    A close up is the drawing of the cell with its numbers, and the parts of one sum, of the signal
    that is tapped.

    A portrait is the states in their first two components; fixed points lie in the components of
    their own, with the eigenvalues of the one that is tapped; exponents stand from the largest down
    with their bands; a Jacobian and a readout are pictures of their numbers. Gradient flow is a map
    of gains, those of the state that is tapped, and the ways into the next. Interactions are a bar
    for each pair of phrases; a decomposition is what each phrase adds to a class at every step, or
    how large its part of the state is where there is no linear readout. An automaton is the share
    of words on which it and its network agree, by their length. The statistics of a corpus are a
    map of the area under the ROC curve, labels by units (the correlations of the units, where there
    are no labels); its top windows are lines of tokens; matches are the lift of each label, and the
    first places as lines of tokens on how many units are on; probes are a map of what each unit
    adds to the score of each label; the CKA of two scans is a map of their layers.

    Args:
        found: what an analysis returned; or what a function decorated with `draws`
            (`grulens.widgets.plot.registry`) draws.
        tokens: what to call each step: a text, or a sequence of (time,).
        output: which number of the readout is shown, an index into it (an int, or a tuple of int).
            None shows the only one; of several, the mean size of their effects, or a trace's mean
            share. Of a logit lens and a decomposition, the class that is shown; None is the
            likeliest. Of a readout, the one class that is shown; of a portrait, two components; of
            a Jacobian, the name of a part; of a comparison, the name of a signal.
        row: of what is of a batch, which row is shown.
        toward: of attention, a direction (unit,): what each step adds along it, signed; of
            gradient flow, the gains in it.

    Returns:
        A widget: end a cell with it.

    Raises:
        GrulensError: `found` is none of these, or there is nothing in it to draw; `tokens` are no
            texts or fewer than steps.
        ReadoutError: `output` names no number of the readout, no components or no part.
        PositionError: times that count from each row's end cannot share an axis; or there is no
            such row or class.

    >>> import torch
    >>> from grulens import plot, sweep
    >>> rnn = torch.nn.GRU(3, 4, batch_first=True)
    >>> plot(sweep(rnn, torch.ones(1, 5, 3), layer="l0", readout=lambda out: out[0][0, -1, 0],
    ...            progress=False))
    plot of Sweep('l0', 4 units, readout ())
    """
    draw = drawer(found)
    options = plot_options(tokens, output=output, row=row, toward=toward)
    root, picture = draw(found, options)
    return BokehView(root, still=picture, text=lambda: f"plot of {found!r}")
