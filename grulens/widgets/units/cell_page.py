"""A cell that one steps through, in a page of its own: no kernel, no network.

reads    a  B  a  ?          one step at a time: [← step back]  step 2 of 3  [next step →]
┌ the cell: x, h before ▶ r, z ▶ n ▶ h, with the numbers of this step ┐  what it did, in words
└                                                                      ┘  hold r ──○── hold z ──○──
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from grulens import words
from grulens.cells import activations
from grulens.cells.kinds.gru import Cell
from grulens.errors import CellError, GrulensError, PositionError, shown
from grulens.models.recorded import LayerRecording
from grulens.views.figure.palette import ACCENT
from grulens.views.page.cell_page import cell_page
from grulens.widgets.session.running import Running, running
from grulens.widgets.session.session import Session
from grulens.widgets.session.told import told

#: So many units and steps can be seen at once.
UNITS, STEPS = 8, 100
#: Gates that go from shut to open: what they let through is a share.
SHARES: Final = (torch.sigmoid, nn.functional.hardsigmoid)


class CellPage:
    """A GRU cell that one steps through in a page, without a kernel and without a network.

    The page reads the input one step at a time and shows r, z, n and h in a drawing of the cell,
    what the step did in words, and how much of each earlier state is still in the present one.
    Sliders hold r and z of a unit. All runs are made in the page itself, from the layer's weights,
    which stand in it. It speaks English and Chinese.

    Args:
        model: a module that holds a GRU, or a `Session`.
        *args: the model's own arguments, or one text where there is an `encode`.
        units: which units are seen, 8 at most; None is all of them, or the 8 whose state moves most
            in this run.
        title: what stands over it; a text, or one for each language: {"en": ..., "zh": ...}.
        about: what the network does, under the title; a text, or one for each language.
        language: in which language it opens; None is the one that `grulens.language` was given,
            else that of the reader's browser.
        **options: as `Session`: `tokens`, `layer`, `readout`, `labels`, ...

    Attributes:
        html: the page.

    Raises:
        CellError: the layer is no GRU, or its gates are no shares.
        RecordingError: the page could not make the run that the model made; the message says why.
        PositionError: there is no such unit, or there are more than 8; or the input has no step, or
            more than 100.
        LanguageError: there is no such language.

    >>> import torch
    >>> from grulens import CellPage
    >>> page = CellPage(nn.GRU(2, 3, batch_first=True), torch.ones(1, 5, 2))
    >>> page
    CellPage('l0', 3 units, 5 steps)
    >>> "default-src 'none'" in page.html
    True
    """

    def __init__(
        self,
        model: nn.Module | Session,
        *args: Any,
        units: Sequence[int] | None = None,
        title: str | Mapping[str, str] | None = None,
        about: str | Mapping[str, str] | None = None,
        language: str | None = None,
        **options: Any,
    ) -> None:
        session = model if isinstance(model, Session) else Session(model, *args, **options)
        if session.edited is not session.baseline:
            raise GrulensError(
                "edits are on, which a page of the cell does not show: switch them off, or save "
                "a lens"
            )
        layer = session.before
        _check(layer)
        if not 0 < session.steps <= STEPS:
            raise PositionError(
                f"a page to step through has 1 to {STEPS} steps; this row has {session.steps}: "
                "give a shorter input"
            )
        seen = _units(layer, session, units)
        run = running(session)
        data = told(session, run, {}, {})
        cell = {
            "layer": session.layer, "units": seen, "all": layer.cell.hidden_size, "most": STEPS,
            "title": _by_language(title, "title"), "about": _by_language(about, "about"),
            "language": words.chosen() if language is None else words.meant(language),
            "named": {signal.name: signal.words for signal in layer.cell.signals},
            "input": ACCENT["x"], "symbols": _symbols(run),
        }  # fmt: skip
        self.html = cell_page(data, cell)
        size = f"{words.so_many(len(seen), 'unit')}, {words.so_many(session.steps, 'step')}"
        self._what = f"{session.layer!r}, {size}"

    def save(self, path: str | Path) -> Path:
        """Write the page to a file.

        Args:
            path: where to; an existing file is replaced.

        Returns:
            The path.
        """
        path = Path(path)
        path.write_text(self.html, encoding="utf-8")
        return path

    def __repr__(self) -> str:
        return f"CellPage({self._what})"

    def _repr_html_(self) -> str:
        """The page in a frame that lets its script run and reach nothing outside of it."""
        title = f"A GRU cell to step through: layer {self._what}"
        return (
            f'<iframe class="stepped" sandbox="allow-scripts" title="{escape(title)}" '
            'style="width:100%;height:940px;border:1px solid #8886;border-radius:4px;'
            f'resize:vertical" srcdoc="{escape(self.html)}"></iframe>'
        )


def _check(layer: LayerRecording) -> None:
    """Raise unless the layer is a GRU whose gates are shares of something."""
    cell = layer.cell
    if type(cell) is not Cell:
        raise CellError(
            f"a page to step through draws a GRU; layer {layer.name} is of another kind, "
            f"{cell.kind}: `layer=` names another one, and `CellView` shows any"
        )
    gate = cell.gate
    while isinstance(gate, activations.Clipped):
        gate = gate.activation
    if not (any(gate is one for one in SHARES) or type(gate) is activations.HardSigmoid):
        raise CellError(
            f"the gates of layer {layer.name} are {activations.name_of(gate)}, which may leave 0 "
            "to 1: what they keep is no share that a page could name"
        )


def _symbols(run: Running) -> list[str] | None:
    """What each number of the input stands for, where the input is a one at a symbol's place."""
    table, size = run.described.arrays.get("table"), run.described.network["input"]["size"]
    if run.spelling is None or table is None or len(run.spelling.ids) != size:
        return None
    same = table.size == size**2 and np.array_equal(table.reshape(size, size), np.eye(size))
    return [*run.spelling.ids] if same and [*run.spelling.ids.values()] == [*range(size)] else None


def _units(layer: LayerRecording, session: Session, units: Any) -> list[int]:
    """The units that are seen."""
    count = layer.cell.hidden_size
    if units is None:
        if count <= UNITS:
            return [*range(count)]
        moves = layer.h[session.row, : session.steps].double().var(0, correction=0)
        return sorted(moves.argsort(descending=True)[:UNITS].tolist())
    if isinstance(units, str) or not isinstance(units, Sequence):
        raise PositionError(f"units is a list of unit numbers, got {shown(units)}")
    for unit in units:
        if not isinstance(unit, int) or isinstance(unit, bool) or not 0 <= unit < count:
            raise PositionError(f"layer {layer.name} has units 0 to {count - 1}, got {shown(unit)}")
    found = sorted(set(units))
    if not 0 < len(found) <= UNITS:
        raise PositionError(f"a page shows 1 to {UNITS} units, got {len(found)}")
    return found


def _by_language(given: str | Mapping[str, str] | None, what: str) -> dict[str, str] | None:
    """A text in each language; one text is that of all, and None the page's own."""
    if given is None:
        return None
    texts = {words.ENGLISH: given} if isinstance(given, str) else given
    if (
        not isinstance(texts, Mapping)
        or not texts
        or any(n not in words.languages() or not isinstance(t, str) for n, t in texts.items())
    ):
        raise GrulensError(
            f"{what} is a text, or one for each language ({', '.join(words.languages())}); got "
            f"{shown(given)}"
        )
    return {words.ENGLISH: next(iter(texts.values())), **texts}
