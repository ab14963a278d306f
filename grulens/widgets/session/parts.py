"""Which parts of a screen are seen: each folds away, and stays so in the next screen, too.

parts [text] [sliders] [answer] [map] [edits] [units]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import ipywidgets as W
import traitlets as tl

from grulens.errors import GrulensError, shown
from grulens.widgets.session.callbacks import Callbacks
from grulens.widgets.session.controls import row
from grulens.widgets.session.panel import Panel
from grulens.words import message, say

#: What is folded away, by the name of the part: a cell that runs again makes the same screen.
_FOLDED: Final[set[str]] = set()
#: What parts are called.
NAMES: Final = (
    message("text"), message("map"), message("sliders"), message("answer"), message("edits"),
    message("units"),
)  # fmt: skip


class Parts(tl.HasTraits):
    """The parts of a screen, of which any can be folded away.

    Args:
        parts: what each part is, by its name. A screen among them sleeps while it is not seen.
        callbacks: makes the callbacks, and shows their errors.

    Attributes:
        hidden: the names of the parts that are folded away.
        open: the button that shows the buttons of the parts.
        box: these buttons.
        buttons: the button of each part, pressed where it is seen.
    """

    hidden: Any = tl.Tuple()

    def __init__(self, parts: Mapping[str, W.DOMWidget], callbacks: Callbacks) -> None:
        super().__init__()
        self._parts = dict(parts)
        self.open = W.ToggleButton(
            description=say("parts"), tooltip=say("choose which parts of the screen are seen"),
            layout=W.Layout(width="auto"),
        )  # fmt: skip
        self.buttons = {
            name: W.ToggleButton(
                value=True, description=say(name),
                tooltip=say("see the {part}, or fold it away", part=say(name)),
                layout=W.Layout(width="auto"),
            )
            for name in self._parts
        }  # fmt: skip
        self.box = row(
            W.HTML(f'<span class="grulens-label">{say("See")}</span>'), *self.buttons.values()
        )
        self.box.layout.display = "none"
        self.open.observe(callbacks.guard(lambda change: self._on_open()), "value")
        for name, one in self.buttons.items():
            one.observe(callbacks.guard(self._pressed(name)), "value")
        self.hidden = tuple(name for name in self._parts if name in _FOLDED)

    @tl.validate("hidden")
    def _valid_hidden(self, proposal: Any) -> tuple[str, ...]:
        wrong = [name for name in proposal["value"] if name not in self._parts]
        if wrong:
            raise GrulensError(
                f"hidden holds names of parts, {', '.join(self._parts)}; got {shown(wrong[0])}"
            )
        return tuple(name for name in self._parts if name in proposal["value"])

    @tl.observe("hidden")
    def _on_hidden(self, _: Any) -> None:
        for name, part in self._parts.items():
            away = name in self.hidden
            if part.layout.display == ("none" if away else None):
                continue
            (_FOLDED.add if away else _FOLDED.discard)(name)
            part.layout.display = "none" if away else None
            self.buttons[name].value = not away
            if isinstance(part, Panel):
                (part.sleep if away else part.wake)()

    def _on_open(self) -> None:
        self.box.layout.display = None if self.open.value else "none"

    def _pressed(self, name: str) -> Callable[[Any], None]:
        def pressed(change: Any) -> None:
            others = tuple(one for one in self.hidden if one != name)
            self.hidden = others if change["new"] else (*others, name)

        return pressed
