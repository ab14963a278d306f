"""Controls as the screens lay them out: a row, a choice of buttons with a word, a small button."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as W

from grulens.views.figure.tokens import visible_text


def row(*children: W.Widget) -> W.HBox:
    """Controls beside each other, going on to the next line where it is narrow."""
    box = W.HBox(children)
    box.add_class("grulens-row")
    return box


def choice(
    word: str, options: list[tuple[str, str]], tips: list[str]
) -> tuple[W.HTML, W.ToggleButtons]:
    """Buttons of which one is down, and the word before them."""
    label = W.HTML(f'<span class="grulens-label">{escape(word)}</span>')
    buttons = W.ToggleButtons(options=options, tooltips=tips)
    buttons.style.button_width = "auto"
    return label, buttons


def button(text: str, tip: str, do: Callable[..., None], **options: Any) -> W.Button:
    """A small labelled button."""
    made = W.Button(description=text, tooltip=tip, layout=W.Layout(width="auto"), **options)
    made.on_click(do)
    return made


def quiet(text: str) -> str:
    """A sentence beside controls, which a screen reader says when it changes."""
    shown = escape(visible_text(text, 400).replace("\N{OPEN BOX}", " ")) if text else ""
    return f'<span class="grulens-quiet" role="status">{shown}</span>'
