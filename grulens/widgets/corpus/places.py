"""A place of a scanned corpus as the input of a screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import ipywidgets as W
import numpy as np
from jaxtyping import Float
from traitlets import Bunch

from grulens.errors import ScanError
from grulens.probing.corpus.scan.excerpt import AROUND
from grulens.probing.corpus.scan.place import Place
from grulens.probing.corpus.scan.scanned import Scan
from grulens.views.figure.tokens import different, visible_name
from grulens.widgets.session.session import Session
from grulens.words import say, say_n

#: A row may be as long as anybody likes, and is shown whole to who asks for that.
WHOLE: Final = 10**9


def steps_around(do: Callable[..., None]) -> W.BoundedIntText:
    """How many steps to either side of a place are opened with it; `do` is told when it changes."""
    made = W.BoundedIntText(
        value=AROUND, min=0, max=WHOLE, step=64, description=say("steps around a place"),
        tooltip=say("how many steps before and after a place a lens runs with it"),
        style={"description_width": "auto"}, layout=W.Layout(width="220px"),
    )  # fmt: skip
    made.observe(do, "value")
    return made


def inputs_of(scan: Scan, place: Place) -> Float[np.ndarray, "step number"] | None:
    """What stood at each step of a place, where it was numbers and is kept."""
    found = scan.inputs(place)
    return None if found is None else found.float().numpy()


def size_of(scan: Scan) -> str:
    """How much was scanned, and what of it is not there, in words."""
    words = say_n("{n} part, {steps} steps", "{n} parts, {steps} steps", len(scan.parts),
                  steps=f"{scan.steps:,}")  # fmt: skip
    if not scan.whole:
        words += " · " + say("the scan was stopped, or goes on: other parts are not there yet")
    if gone := len(scan.missing):
        words += " · " + say_n(
            "{n} part cannot be read and is left out", "{n} parts cannot be read and are left out",
            gone,
        )  # fmt: skip
    return words


def labels_called(scan: Scan) -> dict[str, str]:
    """What each label is called on screen: a name may be long, and no two are called the same."""
    said = different([visible_name(label, 40) for label in scan.labels])
    return dict(zip(scan.labels, said, strict=True))


def tell_again(session: Session) -> None:
    """Have what follows the scan of a session look at it again: a unit is called otherwise."""
    session.notify_change(
        Bunch(name="scan", old=session.scan, new=session.scan, owner=session, type="change")
    )


def open_in(session: Session | None, scan: Scan, place: Place, layer: str, around: int) -> Session:
    """A session that shows a place and so many steps around it: the one given, or a new one.

    The edits of the one given are kept, and the steps of the place are chosen.

    Raises:
        ScanError: there is no model, what it took is not kept, or it does not run as it did.
    """
    if scan.model is None:
        raise ScanError("a place opens where the model is there: open_scan(path, model)")
    excerpt = scan.excerpt(place, around)
    tokens = scan.context(excerpt.place).tokens
    options: dict[str, Any] = {"tokens": None if tokens is None else [*tokens], "layer": layer}
    if session is None:
        session = Session(scan.model, excerpt, call=scan.manifest.call, **options)
    else:
        session.show_excerpt(excerpt, **options)
    if session.mode:
        session.evaluate = True
    session.times = tuple(range(excerpt.steps.start, excerpt.steps.stop))
    session.step = excerpt.steps.stop - 1
    return session
