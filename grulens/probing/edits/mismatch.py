"""What of an edit a run has not got: one made on a long input may reach past a short one's end."""

from __future__ import annotations

from typing import Literal

from grulens.errors import EditError
from grulens.models.call.place import Place
from grulens.models.recording import Recording
from grulens.probing.edits import positions
from grulens.probing.edits.edit import Edit
from grulens.probing.edits.positions import Index
from grulens.words import Say, english


def describe_mismatch(edit: Edit, run: Recording, say: Say = english) -> str:
    """What keeps an edit from acting in runs of this input, in words; "" where nothing does.

    Args:
        edit: the edit.
        run: the unedited run.
        say: says it in a language.

    >>> import torch
    >>> from grulens import clamp, record
    >>> run = record(torch.nn.GRU(2, 3), torch.zeros(5, 1, 2))
    >>> describe_mismatch(clamp("l0", "z", value=1.0, at=[2, 12, 13]), run)
    'steps 12, 13 of 5'
    >>> describe_mismatch(clamp("l0", "z", value=1.0, at=[2, 4]), run)
    ''
    """
    if edit.layer not in run:
        return say("layer {layer}, which did not run", layer=edit.layer)
    layer = run[edit.layer]
    batch, steps, units = layer.shape
    if edit.signal not in layer.names:
        return say("signal {signal}, which layer {layer} has not got", signal=edit.signal,
                   layer=edit.layer)  # fmt: skip
    asked: tuple[tuple[Index, int, Literal["unit", "step", "row"]], ...] = (
        (edit.units, units, "unit"), (edit.at, steps, "step"), (edit.rows, batch, "row"),
    )  # fmt: skip
    for index, size, what in asked:
        if missing := _missing(index, size):
            return say("{those} of {n}", those=positions.words(missing, what, say), n=size)
    try:
        edit.check_units(units)
        edit.check_steps(steps)
        edit.change(
            Place(layer.name, batch, steps, layer.cell, 0, steps, None, layer.segments[0].h_0,
                  lambda: layer.h.new_zeros(units))
        )  # fmt: skip
    except EditError as error:
        return str(error).split(";")[0]
    return ""


def _missing(index: Index, size: int) -> Index:
    """The positions that are not among so many; a slice is asked only whether any is left."""
    if isinstance(index, slice):
        return None if range(size)[index] or not _named(index) else index
    if index is None or (isinstance(index, tuple) and index and isinstance(index[0], bool)):
        return None
    items = (index,) if isinstance(index, int) else index
    return tuple(item for item in items if not -size <= item < size) or None


def _named(index: slice) -> bool:
    """Whether a slice means some step of a run that is long enough."""
    return any(range(max(map(abs, (index.start or 0, index.stop or 0, 1))) + 1)[index])
