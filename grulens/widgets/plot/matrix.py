"""Any signed matrix with named rows and columns as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from torch import Tensor

from grulens.views.figure import raster
from grulens.views.figure.canvas import without_choosing
from grulens.views.gates.heatmap import Heatmap
from grulens.views.still import lens as still
from grulens.widgets.plot.registry import Figure
from grulens.words import say

#: Colours reach at least this far: rounding must not look like a weight.
FLOOR: Final = 1e-9


def matrix(
    values: Tensor,
    *,
    rows: Sequence[str],
    down: str,
    across: str,
    measure: str,
    title: str = "",
) -> Figure:
    """A picture from blue below zero to red above it.

    Args:
        values: (row, column).
        rows: (row,), what to call each row.
        down: what the rows are.
        across: what the columns are.
        measure: what the values are.
        title: what they are of.
    """
    shown: Float[np.ndarray, "row column"] = values.detach().double().cpu().numpy()
    ends = raster.symmetric(shown, FLOOR)
    heat = Heatmap(down=down, across=across, height=min(420, max(150, 110 + 14 * len(rows))))
    without_choosing(heat.root)
    named: dict[str, Any] = {
        "signal": "difference", "layer": title, "name": measure, "ends": ends,
    }  # fmt: skip
    heat.update(shown, units=np.arange(len(rows)), labels=rows, **named)
    heat.root.name = say("{measure}, {down} by {across}", measure=measure, down=down, across=across)
    return heat.root, lambda: still.compose(
        still.heatmap(shown, units=rows, down=down, across=across, **named)
    )
