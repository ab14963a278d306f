"""A session as one HTML file: it makes the runs itself where it can, else shows those there were.

It is what `Lens.save` writes and what marimo shows of a screen: marimo draws anywidgets, and has
none of the sliders and buttons of ipywidgets that a screen is made of in Jupyter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets as tl

from grulens.errors import GrulensError
from grulens.probing.units.order import Order, order_units
from grulens.views.figure.raster import REACHES
from grulens.views.page.page import page
from grulens.views.page.running import running_page
from grulens.widgets.jupyter.script import script
from grulens.widgets.session.panel import Panel
from grulens.widgets.session.picture import page_arrays
from grulens.widgets.session.running import running
from grulens.widgets.session.seen import Seen
from grulens.widgets.session.session import Session
from grulens.widgets.session.token_text import TokenText
from grulens.widgets.session.told import told
from grulens.words import say


class Framed(anywidget.AnyWidget):
    """A page in a frame that lets its script run and reach nothing outside of it.

    Attributes:
        html: the page.
        about: what it shows, for who does not see it.

    >>> Framed(html="<p>four units</p>", about="a lens").html
    '<p>four units</p>'
    """

    _esm = script(Path(__file__).with_name("framed.js"))

    html = tl.Unicode().tag(sync=True)
    about = tl.Unicode().tag(sync=True)


class Paged(Panel):
    """A screen whose session a page can show."""

    def seen(self) -> dict[str, Any]:
        """What the page shows first, as arguments of `page_of`."""
        return {}

    def _display_(self) -> Framed:
        """What marimo shows, which asks for it by this name."""
        return Framed(html=page_of(self.session, **self.seen()), about=self.about)


def page_of(
    session: Session,
    *,
    signal: str = "h",
    difference: bool = False,
    order: Order = "similarity",
    colors: str = REACHES[0],
    mode: str = "scale",
    columns: Callable[[], Mapping[str, Any]] = dict,
    study: str = "",
    weights: bool = True,
) -> str:
    """The session's present state as a page.

    Args:
        session: what it shows.
        signal: shown first.
        difference: whether edited − baseline is shown first.
        order: of the units.
        colors: what they reach over, one of `REACHES`; the still page has all that there can be.
        mode: what the sliders do: "scale", "set" or "shift"; the still page has none.
        columns: gives the table of units, name to (unit,); an empty one is none.
        study: HTML that stands at the end, escaped by whoever made it.
        weights: whether the page may hold the model's weights; without them it cannot run.

    >>> import torch
    >>> session = Session(torch.nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
    >>> "grulensEngine" in page_of(session), "grulensEngine" in page_of(session, weights=False)
    (True, False)
    """
    why = ""
    if weights:
        shown = {
            "signal": signal, "order": order, "colors": colors, "difference": difference,
            "mode": mode,
        }  # fmt: skip
        try:
            data = told(session, running(session), shown, columns())
        except GrulensError as error:
            why = say(
                "This page shows the run as it was; it cannot run here, because {error}.",
                error=error,
            )
        else:
            return running_page(data, TokenText.script, TokenText.style, study)
    arrays = page_arrays(session)
    arrays["about"] = "\n".join(filter(None, [why, arrays["about"]]))
    with session.lock:
        placed = order_units(Seen(session).values(session.before.h), order)
    return page(
        **arrays, signal=signal, difference=difference, order=placed, columns=columns(), study=study
    )
