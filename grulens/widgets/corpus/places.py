"""A place of a scanned corpus as the input of a screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

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
        ids: (1, step), or (step, 1) for a model that takes them so.
        tokens: what each step is called.
    """

    place: Place
    ids: Tensor
    tokens: list[str]

    def choose(self, session: Session, unit: int | None = None) -> None:
        """Choose the steps of the place, and a unit, in a session that shows the row."""
        session.times = tuple(range(self.place.start, self.place.stop))
        session.step = self.place.stop - 1
        if unit is not None:
            session.units = (unit,)


def row_of(scan: Scan, place: Place) -> Row:
    """The row that a place is in, run again and compared.

    Raises:
        ScanError: there is no model, the inputs were no ids, or it does not run as it did.
    """
    whole = scan.row_of(place)
    ids = scan.ids(whole)
    again = scan.replay(whole)  # says why, where there is no model, or no ids
    if ids is None:
        raise ScanError("the inputs of this scan were no ids, and are not kept")
    steps = again.recording[scan.layers[-1]].h.shape[1]
    if steps != len(ids):
        raise GrulensError(f"the row has {len(ids)} steps, and the layer ran {steps}")
    return Row(place, ids[None], list(scan.context(whole).tokens or ()))


def shown_in(session: Session | None, scan: Scan, row: Row, layer: str) -> Session:
    """A session that shows a row: the one given, its edits kept, or a new one."""
    if scan.model is None:
        raise ScanError("a place opens where the model is there: open_scan(path, model)")
    options: dict[str, Any] = {"tokens": row.tokens, "layer": layer}
    for ids in (row.ids, row.ids.T):
        if session is None:
            made = Session(scan.model, ids, call=scan.manifest.call, **options)
        else:
            session.set_input(ids, **options)
            made = session
        if tuple(made.before.mask.shape) == (1, row.ids.shape[1]):
            break
    if made.mode:
        made.evaluate = True
    return made
