"""An input that is padded past its longest row, of which the layers take no more than that.

A model that packs its rows by their lengths, or cuts off what all of them have as padding, has
layers of fewer steps than its input. Which steps of the input these are is seen by a run of the
input without the rest: where all states are as before, they are the first ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from grulens.models.recording import Recording
from grulens.probing.corpus.scan.replay import nearness
from grulens.probing.corpus.scan.sequences import Run, fits


def first_steps(
    run: Run, recording: Recording, again: Callable[[Run], Recording], known: bool
) -> Run:
    """A run without the steps that its layers did not take; itself where that is not so.

    Args:
        run: the run.
        recording: what the layers did in it.
        again: records a run.
        known: whether an input before it was so: then it is not run again.
    """
    mask = next(iter(recording.values())).mask
    ways = [*shortened(run, *mask.shape)]
    if known and len(ways) == 1:
        return ways[0]
    for one in ways:
        try:
            without = again(one)
        except Exception:  # whatever a user's model does with such an input: it takes all of it
            continue
        if _same(recording, without):
            return one
    return run


def shortened(run: Run, rows: int, steps: int) -> Iterator[Run]:
    """A run without its last steps, in each way in which the layers may have had the first ones.

    None where something of it has as many steps as they, or what has more is no rows of theirs.

    Args:
        run: the run.
        rows: how many rows the layers had.
        steps: how many steps.
    """
    if any(fits(one, rows, steps) for one in run.ready.values()):
        return
    shapes = dict.fromkeys(tuple(one.shape[:2]) for one in run.ready.values()
                           if isinstance(one, Tensor))  # fmt: skip
    for shape in shapes:
        for axis in (1, 0):
            if shape[1 - axis] == rows and shape[axis] > steps:
                yield _cut(run, rows, shape[axis], steps, axis)


def _cut(run: Run, rows: int, many: int, steps: int, axis: int) -> Run:
    """A run of whose many steps the first ones are left, in all that has so many."""
    done: dict[int, Any] = {}

    def shorter(of: Any) -> Any:
        if not isinstance(of, Tensor):
            return of
        if id(of) not in done:
            at = next((a for a in (axis, 1 - axis) if of.dim() > 1
                       and (of.shape[a], of.shape[1 - a]) == (many, rows)), None)  # fmt: skip
            at = 0 if tuple(of.shape) == (many,) != (rows,) else at
            done[id(of)] = of if at is None else of.narrow(at, 0, steps)
        return done[id(of)]

    args, kwargs = tree_map(shorter, (run.args, run.kwargs))
    return replace(
        run,
        args=args,
        kwargs=kwargs,
        ready={name: shorter(one) for name, one in run.ready.items()},
        held=_labels(run.held, rows, many, steps),
        turned=axis == 0 if rows == steps > 1 else run.turned,
    )


def _labels(held: Mapping[str, Any], rows: int, many: int, steps: int) -> dict[str, Any]:
    """Labels that were given for all steps of the input, of those that are left."""
    found: dict[str, Any] = {}
    for name, given in held.items():
        try:
            array = np.asarray(given.cpu() if isinstance(given, Tensor) else given)
        except ValueError:  # rows of several lengths are no array
            array = np.zeros(())
        whole = array.shape in ((rows, many), *([(many,)] if rows == 1 else []))
        found[name] = array[..., :steps] if whole else given
    return found


def _same(one: Recording, other: Recording) -> bool:
    """Whether all layers had the same steps and states in two runs, but for rounding."""
    for name, layer in one.items():
        if name not in other or other[name].h.shape != layer.h.shape:
            return False
        before, after = layer.h.detach().double(), other[name].h.detach().double()
        apart = (before - after).abs() / before.abs().clamp(min=1)
        far = float(torch.where(before == after, 0, apart).nan_to_num(torch.inf).max())
        if not torch.equal(layer.mask, other[name].mask) or far > nearness(layer.h):
            return False
    return True
