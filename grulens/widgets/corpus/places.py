"""A place of a scanned corpus as the input of a screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from traitlets import Bunch

from grulens.errors import GrulensError, ScanError
from grulens.probing.corpus.scan.place import Place
from grulens.probing.corpus.scan.scanned import Scan
from grulens.widgets.session.session import Session


@dataclass(frozen=True, eq=False)
class Row:
    """The row of a corpus that a place is in, as the model takes it.

    A screen runs the whole row: so the states are those of the corpus, and each study of it is of
    the model as it is. That they are is what the scan has kept compared with.

    Attributes:
        place: the place.
        given: the arguments and the named ones, in each way in which they may be meant.
        tokens: what each step is called, where that is known.
    """

    place: Place
    given: list[tuple[tuple[Any, ...], dict[str, Any]]]
    tokens: list[str] | None

    def choose(self, session: Session, unit: int | None = None) -> None:
        """Choose the steps of the place, and a unit, in a session that shows the row."""
        session.times = tuple(range(self.place.start, self.place.stop))
        session.step = self.place.stop - 1
        if unit is not None:
            session.units = (unit,)


def inputs_of(scan: Scan, place: Place) -> Float[np.ndarray, "step number"] | None:
    """What stood at each step of a place, where it was numbers and is kept."""
    found = scan.inputs(place)
    return None if found is None else found.float().numpy()


def row_of(scan: Scan, place: Place) -> Row:
    """The row that a place is in, run again and compared.

    Raises:
        ScanError: there is no model, what it took is not kept, or it does not run as it did.
    """
    whole = scan.row_of(place)
    again = scan.replay(whole)  # says why, where there is no model, or what it took is not kept
    steps = again.recording[scan.layers[-1]].h.shape[1]
    if steps != whole.stop:
        raise GrulensError(f"the row has {whole.stop} steps, and the layer ran {steps}")
    tokens = scan.context(whole).tokens
    return Row(place, scan.given(whole), None if tokens is None else list(tokens))


def tell_again(session: Session) -> None:
    """Have what follows the scan of a session look at it again: a unit is called otherwise."""
    session.notify_change(
        Bunch(name="scan", old=session.scan, new=session.scan, owner=session, type="change")
    )


def shown_in(session: Session | None, scan: Scan, row: Row, layer: str) -> Session:
    """A session that shows a row: the one given, its edits kept, or a new one."""
    if scan.model is None:
        raise ScanError("a place opens where the model is there: open_scan(path, model)")
    options: dict[str, Any] = {"tokens": row.tokens, "layer": layer}
    steps = scan.row_of(row.place).stop
    for inputs in row.given:
        if session is None:
            made = Session(scan.model, inputs=inputs, call=scan.manifest.call, **options)
        else:
            session.set_input(inputs=inputs, **options)
            made = session
        if tuple(made.before.mask.shape) == (1, steps):
            break
    if made.mode:
        made.evaluate = True
    return made
