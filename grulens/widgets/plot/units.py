"""Sweeps, traces and close ups as figures: bars, a picture of units by steps, a drawn cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.model import Model
from jaxtyping import Bool, Float
from torch import Tensor

from grulens.errors import PositionError, ReadoutError, shown
from grulens.probing.edits import positions
from grulens.probing.units.close_up import CloseUp
from grulens.probing.units.sweep import PATHS, Sweep
from grulens.probing.units.trace import Trace
from grulens.views.figure import raster
from grulens.views.gates.step_map import largest, step_map
from grulens.views.still import lens as still
from grulens.views.still import sweep as still_sweep
from grulens.views.units.sweep_chart import SweepChart
from grulens.widgets.plot.registry import Figure, PlotOptions, check_enough, draws
from grulens.widgets.units import close_up
from grulens.words import message, say

#: A trace's colours always reach a whole share, so that a faint one looks faint.
WHOLE = 1.0


@draws(CloseUp)
def draw_close_up(found: CloseUp, options: PlotOptions) -> Figure:
    """The cell with its numbers, and the parts of one sum; a tap on a signal chooses it."""
    check_enough(options.tokens, found.step + 1)
    token = "" if options.tokens is None else options.tokens[found.step]
    figure = close_up.CloseUpFigure()
    figure.drawing.on_signal(lambda name: figure.update(found, name, token=token))
    figure.update(found, found.blocks[0], token=token)
    return figure.root, lambda: close_up.still(found, token=token)


@draws(Sweep)
def draw_sweep(found: Sweep, options: PlotOptions) -> Figure:
    """Units by falling effect; over times a picture of units by steps."""
    values, adds, measure = _shown(found, options.output)
    if found.times is not None:
        return over_time(
            values["effect"], list(map(_name, found.units)), found.times, options.tokens,
            measure=measure, layer=_title(found),
        )  # fmt: skip
    names = [_name(unit) for unit in found.units]
    title = say("effect of each unit · {layer}", layer=_title(found))
    chart = SweepChart()
    chart.update(names, **values, adds=adds, measure=measure, title=title)
    return chart.root, lambda: still.compose(
        still_sweep.effects(names, *(values[path] for path in PATHS), title=title)
    )


@draws(Trace)
def draw_trace(found: Trace, options: PlotOptions) -> Figure:
    """A picture of blocks of units by steps."""
    share = array(_chosen(found.share, 2, options.output))
    if share.ndim > 2:
        over = tuple(range(2, share.ndim))
        count = np.isfinite(share).sum(over)  # of a step that an interrupt left undone: none
        share = np.where(count > 0, np.nansum(share, over) / np.maximum(count, 1), np.nan)
    return over_time(
        share, list(map(_name, found.units)), found.times, options.tokens,
        measure=say("recovered share"), layer=_title(found), floor=WHOLE, guides=(WHOLE,),
    )  # fmt: skip


def over_time(
    values: Float[np.ndarray, "row time"],
    names: Sequence[str],
    times: Sequence[int],
    tokens: Sequence[object] | None,
    *,
    measure: str,
    layer: str,
    floor: float = 1e-9,
    guides: Sequence[float] = (),
    down: str = message("unit"),
) -> Figure:
    """A picture of rows by steps over the tokens, blank where there is no step; of one row a line.

    Args:
        values: (row, some), of the steps in `times`.
        names: (row,), what to call each row.
        times: (some,), counted from the start.
        tokens: what to call each step.
        measure: what the values are.
        layer: named in the title.
        floor: the colours reach at least this far from zero.
        guides: values that a line is read against.
        down: what the rows are.

    Raises:
        GrulensError: there are fewer tokens than steps.
        PositionError: `times` count from each row's end.
    """
    check_enough(tokens, max(times) + 1)
    values, mask = _placed(values, times, tokens)
    root: Model = step_map(
        values, rows=names, tokens=tokens, mask=mask, floor=floor, guides=guides, measure=measure,
        layer=layer, down=down,
    )  # fmt: skip

    def draw() -> str:
        ends = raster.symmetric(values, floor)
        parts = [
            still.heatmap(
                values, signal="difference", units=names, mask=mask, layer=layer, name=measure,
                ends=ends, down=down,
            )
        ]  # fmt: skip
        if tokens is not None:
            parts.append(
                still.tokens(
                    largest(values), signal="difference", tokens=tokens, mask=mask,
                    name=say("the largest of each step"), ends=ends,
                )
            )  # fmt: skip
        return still.compose(*parts)

    return root, draw


def _shown(found: Sweep, output: Any) -> tuple[dict[str, Float[np.ndarray, "*runs"]], bool, str]:
    """One number a run for each path, whether they add up, and what they are."""
    runs = found.done.dim()
    chosen = {name: _chosen(getattr(found, name), runs, output) for name in PATHS}
    if all(values[(0,) * runs].numel() == 1 for values in chosen.values()):
        one = {
            name: array(values.reshape(*values.shape[:runs], -1)[..., 0])
            for name, values in chosen.items()
        }
        return one, True, say("change of the readout")
    sizes = {
        name: array(v.abs().reshape(*v.shape[:runs], -1).mean(-1)) for name, v in chosen.items()
    }
    return sizes, False, say("mean size of the readout's change")


def _chosen(values: Tensor, runs: int, output: Any) -> Tensor:
    if output is None:
        return values
    index = output if isinstance(output, tuple) else (output,)
    shape = tuple(values.shape[runs:])
    whole = all(isinstance(i, int) and not isinstance(i, bool) for i in index)
    fits = len(index) <= len(shape) and all(
        -n <= i < n for i, n in zip(index, shape, strict=False) if whole
    )
    if not whole or not fits:
        raise ReadoutError(f"output={shown(output)} names no number of a readout of shape {shape}")
    return values[(slice(None),) * runs + index]


def _placed(
    values: Float[np.ndarray, "row some"], times: Sequence[int], tokens: Sequence[object] | None
) -> tuple[Float[np.ndarray, "row time"], Bool[np.ndarray, " time"] | None]:
    """The values on the whole time axis, and a mask of the steps that have one."""
    if min(times) < 0:
        raise PositionError(
            f"times {tuple(times)} count from each row's own end, and rows of several lengths "
            "share no axis: sweep one row at a time, or times counted from the start"
        )
    steps = max(max(times) + 1, len(tokens or ()))
    mask = np.isin(np.arange(steps), times)
    if mask.all() and list(times) == list(range(steps)):
        return values, None
    placed = np.zeros((len(values), steps), values.dtype)
    placed[:, list(times)] = values
    return placed, None if mask.all() else mask


def _name(unit: Any) -> str:
    return str(unit) if isinstance(unit, int) else positions.words(unit, "unit", say)


def _title(found: Sweep | Trace) -> str:
    return found.layer + (f" ({found.note})" if found.note else "")


def array(values: Tensor) -> Float[np.ndarray, "*shape"]:
    """A tensor as numbers for a figure, float64."""
    found: Float[np.ndarray, "*shape"] = values.detach().cpu().double().numpy()
    return found
