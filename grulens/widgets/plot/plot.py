"""The figure of a result, live in a notebook and still in a saved one.

What was found is a plain result and knows no figure; this puts the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from bokeh.model import Model
from jaxtyping import Bool, Float
from torch import Tensor

from grulens.errors import GrulensError, PositionError, ReadoutError, shown
from grulens.probing.credit.credit import Credit
from grulens.probing.credit.lensed import LogitLens
from grulens.probing.edits import positions
from grulens.probing.memory.attention import GateAttention
from grulens.probing.memory.timescales import Timescales
from grulens.probing.phrases.hierarchy import Hierarchy
from grulens.probing.units.sweep import PATHS, Sweep
from grulens.probing.units.trace import Trace
from grulens.views.figure import raster
from grulens.views.gates.step_map import largest, step_map
from grulens.views.phrases.tree import PhraseBoxes
from grulens.views.still import lens as still
from grulens.views.still import phrases as still_phrases
from grulens.views.still import sweep as still_sweep
from grulens.views.units.sweep_chart import SweepChart
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.plot import credit as plot_credit
from grulens.widgets.plot import memory as plot_memory
from grulens.widgets.session.tokens import texts

#: A trace's colours always reach a whole share, so that a faint one looks faint.
WHOLE = 1.0


def plot(
    found: Sweep | Trace | GateAttention | Timescales | Hierarchy | Credit | LogitLens,
    *,
    tokens: Sequence[object] | str | None = None,
    output: Any = None,
    row: Any = 0,
    toward: Any = None,
) -> BokehView:
    """Show what was found as a figure.

    A sweep of units is a chart of them by falling effect, a bar for the direct and one for the
    recurrent part; a sweep over times, or a trace, is a picture of units by steps over the tokens,
    and a line where there is one row of them. Gate attention is a map of states by the steps they
    were written at, of which a tap chooses one; time scales are a saturation plot, histograms and
    half-lives; a tree of phrases is boxes over the tokens. Credit is a bar for each step, and the
    ledger that adds up to the score; a logit lens is a line for each of the likeliest classes, and
    what each unit adds to one of them at the step that is tapped.

    Args:
        found: what `sweep`, `trace_patch`, `attention`, `timescales`, `agglomerate` or `logit_lens`
            returned, or the `Credit` of any method.
        tokens: what to call each step: a text, or a sequence of (time,).
        output: which number of the readout is shown, an index into it (an int, or a tuple of int).
            None shows the only one; of several, the mean size of their effects, or a trace's mean
            share. Of a logit lens, the class whose units are shown; None is the likeliest.
        row: of attention, credit and a logit lens, which row of the batch.
        toward: of attention, a direction (unit,): what each step adds along it, signed.

    Returns:
        A widget: end a cell with it.

    Raises:
        GrulensError: `found` is none of these, or `tokens` are no texts or fewer than steps.
        ReadoutError: `output` names no number of the readout.
        PositionError: times that count from each row's end cannot share an axis; or there is no
            such row, or no such class of a logit lens.

    >>> import torch
    >>> from grulens import plot, sweep
    >>> rnn = torch.nn.GRU(3, 4, batch_first=True)
    >>> plot(sweep(rnn, torch.ones(1, 5, 3), layer="l0", readout=lambda out: out[0][0, -1, 0],
    ...            progress=False))
    plot of Sweep('l0', 4 units, readout ())
    """
    if not isinstance(
        found, Sweep | Trace | GateAttention | Timescales | Hierarchy | Credit | LogitLens
    ):
        raise GrulensError(
            "plot shows what sweep, trace_patch, attention, timescales, agglomerate or logit_lens "
            f"returned, or a Credit; got {shown(found)}"
        )
    if isinstance(found, Credit):
        root, draw = plot_credit.of_credit(found, _words(tokens), row)
    elif isinstance(found, LogitLens):
        root, draw = plot_credit.of_lens(found, _words(tokens), row, output)
    elif isinstance(found, GateAttention):
        root, draw = plot_memory.of_attention(found, _words(tokens), row, toward)
    elif isinstance(found, Timescales):
        root, draw = plot_memory.of_timescales(found)
    elif isinstance(found, Hierarchy):
        root, draw = _phrases(found, _words(tokens), output)
    elif isinstance(found, Trace):
        root, draw = _trace(found, _words(tokens), output)
    elif found.times is None:
        root, draw = _units(found, output)
    else:
        values, _, measure = _shown(found, output)
        root, draw = _over_time(
            values["effect"], found.units, found.times, _words(tokens), measure=measure,
            layer=_title(found),
        )  # fmt: skip
    return BokehView(root, still=draw, text=lambda: f"plot of {found!r}")


Figure = tuple[Model, Callable[[], str]]


def _units(found: Sweep, output: Any) -> Figure:
    values, adds, measure = _shown(found, output)
    names = [_name(unit) for unit in found.units]
    title = f"effect of each unit · {_title(found)}"
    chart = SweepChart()
    chart.update(names, **values, adds=adds, measure=measure, title=title)
    return chart.root, lambda: still.compose(still_sweep.effects(names, **values, title=title))


def _trace(found: Trace, tokens: Sequence[object] | None, output: Any) -> Figure:
    share = _array(_chosen(found.share, 2, output))
    if share.ndim > 2:
        over = tuple(range(2, share.ndim))
        count = np.isfinite(share).sum(over)  # of a step that an interrupt left undone: none
        share = np.where(count > 0, np.nansum(share, over) / np.maximum(count, 1), np.nan)
    return _over_time(
        share, found.units, found.times, tokens, measure="recovered share", layer=_title(found),
        floor=WHOLE, guides=(WHOLE,),
    )  # fmt: skip


def _phrases(found: Hierarchy, tokens: Sequence[object] | None, output: Any) -> Figure:
    if output is not None:
        raise ReadoutError(f"output={shown(output)}: a tree of phrases is of one class, give None")
    _check_enough(tokens, len(found.tokens))
    target = found.target
    classes = f"{target}" if isinstance(target, int) else f"{target[0]} against {target[1]}"
    title = f"phrases for class {classes} · {_title(found)}"
    boxes = PhraseBoxes()
    boxes.update(found.groups, tokens=tokens, title=title)
    boxes.on_phrase(lambda group: boxes.select(range(group.first, group.stop)))
    boxes.on_times(boxes.select)
    return boxes.root, lambda: still.compose(
        still_phrases.phrases(found.groups, tokens=tokens, title=title)
    )


def _over_time(
    values: Float[np.ndarray, "row time"],
    units: Sequence[Any],
    times: Sequence[int],
    tokens: Sequence[object] | None,
    *,
    measure: str,
    layer: str,
    floor: float = 1e-9,
    guides: Sequence[float] = (),
) -> Figure:
    _check_enough(tokens, max(times) + 1)
    values, mask = _placed(values, times, tokens)
    names = [_name(unit) for unit in units]
    root: Model = step_map(
        values, rows=names, tokens=tokens, mask=mask, floor=floor, guides=guides, measure=measure,
        layer=layer,
    )  # fmt: skip

    def draw() -> str:
        ends = raster.symmetric(values, floor)
        parts = [
            still.heatmap(
                values, signal="difference", units=names, mask=mask, layer=layer, name=measure,
                ends=ends,
            )
        ]  # fmt: skip
        if tokens is not None:
            parts.append(
                still.tokens(
                    largest(values), signal="difference", tokens=tokens, mask=mask,
                    name="the largest of each step", ends=ends,
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
            name: _array(values.reshape(*values.shape[:runs], -1)[..., 0])
            for name, values in chosen.items()
        }
        return one, True, "change of the readout"
    sizes = {
        name: _array(v.abs().reshape(*v.shape[:runs], -1).mean(-1)) for name, v in chosen.items()
    }
    return sizes, False, "mean size of the readout's change"


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


def _check_enough(tokens: Sequence[object] | None, steps: int) -> None:
    if tokens is not None and len(tokens) < steps:
        raise GrulensError(f"{len(tokens)} tokens were given; what is shown has {steps} steps")


def _words(tokens: Sequence[object] | str | None) -> list[str] | None:
    return None if tokens is None else texts(tokens)


def _name(unit: Any) -> str:
    return str(unit) if isinstance(unit, int) else positions.words(unit, "unit")


def _title(found: Sweep | Trace | Hierarchy) -> str:
    return found.layer + (f" ({found.note})" if found.note else "")


def _array(values: Tensor) -> Float[np.ndarray, "*shape"]:
    array: Float[np.ndarray, "*shape"] = values.detach().cpu().double().numpy()
    return array
