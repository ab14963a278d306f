"""Whether rows and steps of a layer are those of the input, whose labels and words they are given.

A model may turn its input round before a layer reads it, move it by a step, or sort its rows by
their lengths; and of a source and a target a layer may read the other one. Layers of as many rows
and steps then stand beside labels of others, and every number of a label would be wrong: nothing
but another run can tell.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_map

from grulens.errors import ScanError
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.corpus.scan.anew import apart, rows_elsewhere
from grulens.probing.corpus.scan.padding import is_mask, named
from grulens.probing.corpus.scan.replay import nearness
from grulens.probing.corpus.scan.sequences import Run
from grulens.probing.step_order import StepOrder


def way_round(run: Run) -> bool | None:
    """Whether steps come before rows in what holds what stands at each step of a run.

    None where it does not tell: an input that is packed, a text, one row without an axis of rows,
    or as many rows as steps that no run has told apart.

    Args:
        run: a run with its rows.
    """
    read = next((one for one in run.form.every if one.kind == "read" and not one.bare), None)
    if read is None or run.read is None or run.read.shape[0] == run.read.shape[1] > 1:
        return run.turned
    return read.turned


def check_places(
    run: Run, known: Run, recording: Recording, names: Sequence[str],
    again: Callable[[Run], Recording],
) -> None:  # fmt: skip
    """Raise where a layer has the input's steps, or its rows, in another order.

    Args:
        run: the first run.
        known: the same with its rows.
        recording: what the layers did in it.
        names: what the arguments of the model by place are called.
        again: records a run.

    Raises:
        ScanError: it has; it says which layer.

    Warns:
        UserWarning: a layer reads each step of the input later than at its own place, or goes by
            another argument.
    """
    read = run.ready.get(known.by) if run.ready else run.args[0]
    if not isinstance(read, Tensor):
        return
    order = StepOrder(
        recording, lambda given: again(replace(run, args=given[0], kwargs=given[1])),
        (run.args, run.kwargs),
    )  # fmt: skip
    for name, layer in recording.items():
        way = order.order(layer, [read]) if layer.shape[1] > 1 else "forwards"
        if way == "late":
            _say_late(name, order.later(layer))
        if way == "unknown" and (by := _gone_by(run, names, layer, read, order)):
            warnings.warn(
                f"layer {name!r} goes by argument {by!r}, step by step, and labels, words and "
                f"contexts are of {known.by!r}: where {by!r} has a step for each of the layer's, "
                f"scan it by itself, layers=[...], input_of={by!r}",
                stacklevel=3,
            )
        if way == "backwards":
            raise ScanError(
                f"layer {name!r} reads the input from the end: labels and words would stand at "
                "other steps than they are of. Scan the other layers, layers=[...]; the reverse "
                "direction of nn.GRU(bidirectional=True) has the steps of the input"
            )
    rows = recording[next(iter(recording))].shape[0]
    axis = int(bool(way_round(known)))
    if rows > 1 and read.dim() > 1 and read.shape[axis] == rows:
        _check_rows(run, read, axis, recording, again)


def _say_late(name: str, by: int) -> None:
    steps = "one step" if by == 1 else f"{by} steps"
    warnings.warn(
        f"layer {name!r} reads what stands at each step of the input {steps} later, after what the "
        "model puts before it, as in teacher forcing: labels, words and contexts stand at the "
        f"states {steps} before those that have read them. Give labels that are {steps} later, or "
        "scan what the model gives its shifted input to, call=",
        stacklevel=4,
    )


def _gone_by(
    run: Run, names: Sequence[str], layer: LayerRecording, read: Tensor, order: StepOrder
) -> str:
    """The name of another argument that a layer goes by step by step; "" where there is none.

    It may have a step more than the layer, of which the first or the last is left out.
    """
    steps = layer.shape[1]
    if order.follows(layer, read, steps) is not False:
        return ""
    for name, one in named(run.args, run.kwargs, names).items():
        if isinstance(one, Tensor) and one is not read and not is_mask(name, one) and one.dim() > 1:
            for many in (steps, steps + 1):
                if order.follows(layer, one, many):
                    return name
    return ""


def _put(one: Tensor, other: Tensor, of: Any) -> Any:
    return other if of is one else of


def _check_rows(run: Run, read: Tensor, axis: int, recording: Recording,
                again: Callable[[Run], Recording]) -> None:  # fmt: skip
    rows = read.shape[axis]
    if rows > 2 and _in_place(run, read, axis, recording, again):
        return
    changed = _tried(run, partial(_put, read, _backwards(read, axis, 0)), again)
    turned = _tried(run, lambda of: _flipped(of, rows), again)
    for name, layer in recording.items():
        for told in (_moved(layer.h, changed, name), _kept(layer.h, turned, name)):
            if told:
                raise rows_elsewhere(name)


def _in_place(run: Run, read: Tensor, axis: int, recording: Recording,
              again: Callable[[Run], Recording]) -> bool:  # fmt: skip
    """Whether one run tells that all layers have their rows where the input has them.

    Its rows are given from the last to the first, and what was the last is another, too: so it is
    in the layers where that is the first of them alone, and the others are turned round. Rows that
    know of each other, or are two, tell nothing so.
    """
    rows = read.shape[axis]
    other = _backwards(read, axis, rows - 1)
    turned = _tried(run, lambda of: _flipped(other if of is read else of, rows), again)
    if turned is None:
        return False
    for name, layer in recording.items():
        if name not in turned or turned[name].h.shape != layer.h.shape:
            return False
        far = apart(layer.h.flip(0), turned[name].h) > nearness(layer.h)
        if not bool(far[0]) or bool(far[1:].any()):
            return False
    return True


def _backwards(read: Tensor, axis: int, row: int) -> Tensor:
    """What stands at each step, in one row from the last step to the first."""
    other = read.detach().clone()
    other.select(axis, row).copy_(read.select(axis, row).flip(0))
    return other


def _tried(
    run: Run, do: Callable[[Any], Any], again: Callable[[Run], Recording]
) -> Recording | None:
    """What the layers do on another input; None where the model does not run on it."""

    def leaf(of: Any) -> bool:
        return isinstance(of, list | PackedSequence)

    args, kwargs = tree_map(do, (run.args, run.kwargs), is_leaf=leaf)
    try:
        return again(replace(run, args=args, kwargs=kwargs))
    except Exception:  # whatever a user's model does with such an input: then nothing is known
        return None


def _flipped(of: Any, rows: int) -> Any:
    """An argument with its rows from the last to the first."""
    if isinstance(of, Tensor):
        axis = next((i for i, size in enumerate(of.shape[:2]) if size == rows), None)
        return of if axis is None else of.flip(axis)
    return of[::-1] if isinstance(of, list) and len(of) == rows else of


def _moved(h: Tensor, after: Recording | None, name: str) -> bool:
    """Whether a change of the first row of the input changed one other row of the layer alone."""
    if after is None or name not in after or after[name].h.shape != h.shape:
        return False
    far = apart(h, after[name].h) > nearness(h)
    return int(far.sum()) == 1 and not bool(far[0])


def _kept(h: Tensor, after: Recording | None, name: str) -> bool:
    """Whether rows given the other way round are not so in the layer, and stand elsewhere there."""
    if after is None or name not in after or after[name].h.shape != h.shape:
        return False
    now, near = after[name].h, nearness(h)
    if not bool((apart(h.flip(0), now) > near).any()):
        return False
    return all(bool((apart(h, row.expand_as(h)) <= near).any()) for row in now)
