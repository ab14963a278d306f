"""Comparisons as figures: the difference of one signal, the units that differ most first.

Steps of a stand across, those of b beside them; a step without a partner is blank.
"""

from __future__ import annotations

import numpy as np

from grulens.errors import PositionError
from grulens.probing.comparison.align import NONE
from grulens.probing.comparison.compare import Comparison, place_names
from grulens.widgets.plot.registry import Figure, PlotOptions, draws
from grulens.widgets.plot.units import array, over_time
from grulens.words import say


@draws(Comparison)
def draw_comparison(found: Comparison, options: PlotOptions) -> Figure:
    """The difference of the signal that `output` names, h where it names none."""
    signal = "h" if options.output is None else options.output
    change = array(found.difference(signal))
    if not len(change):
        raise PositionError("no step of one row has a partner in the other")
    units = found.ranked(signal).tolist()
    paired = np.flatnonzero((found.alignment != NONE).all(1).numpy())
    name = " − ".join(reversed(dict.fromkeys(found.layers)))
    return over_time(
        change.T[units], list(map(str, units)), paired.tolist(),
        options.tokens_of(len(found.alignment)) or place_names(found),
        measure=say("{signal} of b − a", signal=signal), layer=name,
    )  # fmt: skip
