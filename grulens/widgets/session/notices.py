"""Warnings about the runs shown, each with what can be done about it.

the model has changed since this run                          [run again]
training mode: dropout is on                                  [run in eval mode]
no answer is shown: … ; this would show it: readout=lambda output: output.flatten(2)
the steps of layer 'cell' have numbers, and not the names of the input's: …
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Final

import ipywidgets as W

from grulens.errors import NoAnswerError
from grulens.widgets.session.callbacks import Callbacks
from grulens.widgets.session.controls import row
from grulens.widgets.session.session import Session
from grulens.words import message, say

CHANGED: Final = message("the model has changed since this run")
#: What a model's mode may be; see `in_training`.
MODES: Final = (
    message("training mode: dropout is on"),
    message("training mode: normalisation reads the batch"),
    message("training mode: dropout is on, normalisation reads the batch"),
)


class Notices:
    """Four lines, each shown only while it has a warning.

    Args:
        session: whose runs they are of.
        callbacks: makes those of its controls.

    Attributes:
        box: all of them.
        again: makes the runs anew.
        evaluate: down while the runs are in eval mode.
    """

    def __init__(self, session: Session, callbacks: Callbacks) -> None:
        self.session = session
        self._changed, self._mode, self._unread = W.HTML(), W.HTML(), W.HTML()
        self._unnamed = W.HTML()
        self.again = W.Button(
            description=say("run again"), layout=W.Layout(width="auto"),
            tooltip=say("run the model as it is now, without the edits and with them"),
        )  # fmt: skip
        self.again.on_click(callbacks.guard(lambda _: session.run_again()))
        self.evaluate = W.ToggleButton(
            value=session.evaluate, description=say("run in eval mode"),
            tooltip=say("only for the runs shown here: the model itself stays in its mode"),
            layout=W.Layout(width="auto"),
        )  # fmt: skip
        self.evaluate.observe(callbacks.guard(self._on_evaluate), "value")
        self._lines = [
            row(self._changed, self.again), row(self._mode, self.evaluate), row(self._unread),
            row(self._unnamed),
        ]  # fmt: skip
        self.box = W.VBox(self._lines)
        self.show()

    def show(self) -> None:
        """Say what is so now."""
        session = self.session
        self._say(0, self._changed, say(CHANGED) if session.changed else "")
        self._say(1, self._mode, say(session.mode))
        self._say(2, self._unread, *_no_answer(session.unread))
        self._say(3, self._unnamed, session.unnamed)
        self.evaluate.value = session.evaluate

    def hide(self) -> None:
        """Say nothing: a larger screen does."""
        for line in (self._changed, self._mode, self._unread, self._unnamed):
            line.value = ""
        self.box.layout.display = "none"

    def _say(self, line: int, where: W.HTML, text: str, lines: Sequence[str] = ()) -> None:
        code = "".join(f"<br><code>{escape(one)}</code>" for one in lines)
        where.value = f'<div role="status" class="grulens-note">{escape(text)}{code}</div>'
        self._lines[line].layout.display = None if text else "none"

    def _on_evaluate(self, change: Any) -> None:
        try:
            self.session.evaluate = change["new"]
        finally:
            self.evaluate.value = self.session.evaluate


def _no_answer(error: NoAnswerError | None) -> tuple[str, tuple[str, ...]]:
    """What to say where no answer is shown, and the lines that would show one."""
    if error is None:
        return "", ()
    why = str(error)
    for line in reversed(error.lines):
        why = why.removesuffix(line).rstrip()
    return say("No answer is shown: {why}", why=why), error.lines
