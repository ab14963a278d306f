"""What a screen says past the catalogues: it is made in a language in which all is ⟦marked⟧.

Of a message everything is put in ⟦ ⟧ but what stands in it by name: `⟦row ⟧3⟦ of ⟧8`. What stands
outside and is no number, sign or single letter was not looked up: it is data, or it was forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from gettext import NullTranslations
from html import unescape
from typing import Any

import ipywidgets as W
import numpy as np
from bokeh.model import Model
from bokeh.models import (
    Axis,
    ColorBar,
    ColumnDataSource,
    HoverTool,
    LegendItem,
    TableColumn,
    Title,
)  # fmt: skip
from bokeh.models.widgets import Widget

from grulens.widgets.corpus.context_list import ContextList
from grulens.widgets.jupyter.bokeh_view import BokehView

PLACE = re.compile(r"(\{[^{}]*\})")
MARKED = re.compile(r"⟦[^⟦⟧]*⟧")
#: A message that was cut off where it was too long.
CUT = re.compile(r"⟦[^⟦⟧]*…")
CODE = re.compile(r"<(pre|code|style|script)\b.*?</\1>", re.DOTALL)
SAID = re.compile(r"""\b(?:title|alt|aria-label|placeholder)=("[^"]*"|'[^']*')""")
TAG = re.compile(r"<[^<>]*>")
WORD = re.compile(r"[^\W\d_]{2,}")
#: Traits of ipywidgets that are read by people.
TRAITS = ("description", "tooltip", "placeholder")


class Marked(NullTranslations):
    """Marks what it is asked for."""

    def gettext(self, text: str) -> str:
        return mark(text)

    def ngettext(self, one: str, many: str, n: int) -> str:
        return mark(one if n == 1 else many)

    def pgettext(self, meaning: str, text: str) -> str:
        return mark(text)


def mark(text: str) -> str:
    """A message as it is said in this language."""
    return "".join(
        part if PLACE.fullmatch(part) else f"⟦{part}⟧" for part in PLACE.split(text) if part
    )


def words(text: str, data: Iterable[str] = ()) -> list[str]:
    """The words of a text, or of HTML, that were not looked up and are no data."""
    text = PLACE.sub(" ", CUT.sub("", MARKED.sub(" ", CODE.sub(" ", text))))
    text = " ".join([TAG.sub(" ", text), *(found[1][1:-1] for found in SAID.finditer(text))])
    text = unescape(text)
    for known in sorted(data, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(known)}(?!\w)", " ", text)
    return WORD.findall(text)


def of_widget(widget: W.Widget) -> Iterator[tuple[str, str]]:
    """What a widget and all in it says: where, and the text."""
    kind = type(widget).__name__
    for trait in TRAITS:
        text = getattr(widget, trait, None)
        if isinstance(text, str):
            yield f"{kind}.{trait}", text
    if isinstance(widget, W.HTML | W.Label):
        yield f"{kind}.value", widget.value
    for name in ("_options_labels", "tooltips"):
        for text in getattr(widget, name, None) or ():
            yield f"{kind}.{name}", str(text)
    for name in ("words", "label"):  # of our own, for their scripts
        said = getattr(widget, name, None)
        if isinstance(said, str | dict) and name in widget.traits():
            for text in [said] if isinstance(said, str) else said.values():
                yield f"{kind}.{name}", str(text)
    if isinstance(widget, ContextList):
        for line in widget.shown["lines"]:
            parts = (line["name"], line["about"], line["closed"], *line.get("tips", ()))
            yield from ((f"{kind}.line", part) for part in parts)
        yield from ((f"{kind}.{name}", widget.shown[name]) for name in ("said", "under"))
        yield f"{kind}.name", widget.name
    if isinstance(widget, BokehView):
        for root in widget.document.roots:
            for model in root.references():
                yield from of_model(model)
        for offer in widget.offers:
            yield f"{kind}.offers", offer
    for child in getattr(widget, "children", ()):
        yield from of_widget(child)


def of_model(model: Model) -> Iterator[tuple[str, str]]:
    """What a Bokeh model says itself."""
    kind = type(model).__name__
    asked: list[tuple[str, Any]] = []
    match model:
        case Title():
            asked = [("text", model.text)]
        case Axis():
            labels = model.major_label_overrides
            asked = [("axis_label", model.axis_label), *(("label", one) for one in labels.values())]
        case ColorBar() | TableColumn():
            asked = [("title", model.title)]
        case LegendItem():
            asked = [("label", model.label.value if hasattr(model.label, "value") else model.label)]
        case HoverTool():
            tips = model.tooltips
            own = "tooltips" in model.properties_with_values(include_defaults=False)
            pairs = ([(tips, "")] if isinstance(tips, str) else tips or []) if own else []
            asked = [("tooltips", re.sub(r"@\{[^}]*\}(\{[^}]*\})?|[@$]\w+(\{[^}]*\})?", " ", part))
                     for pair in pairs for part in pair if isinstance(part, str)]  # fmt: skip
        case ColumnDataSource():
            for name, column in model.data.items():
                if name == "bars":  # a small picture, drawn by the letters of a font of ours
                    continue
                texts = {one for one in np.asarray(column, object).ravel() if isinstance(one, str)}
                asked += [(f"data[{name}]", text) for text in sorted(texts)]
        case Widget():
            asked = [(name, getattr(model, name, None)) for name in ("text", "label", "title")]
    for name, text in asked:
        if isinstance(text, str) and not re.fullmatch(r"#[0-9a-fA-F]{3,8}", text):
            yield f"{kind}.{name}", text


def past(said: Iterable[tuple[str, str]], data: Iterable[str] = ()) -> list[str]:
    """What is said past the catalogues, each with where."""
    data = [*data]
    return sorted(
        {f"{where}: {text if len(text) < 150 else ' '.join(left)}" for where, text in said
         if (left := words(text, data))}
    )  # fmt: skip
