"""The arrow keys of a screen: left and right step in time, up and down over units."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets as tl

from grulens.widgets.jupyter.script import script
from grulens.words import of_script


class ArrowKeys(anywidget.AnyWidget):
    """A bar of four buttons, which takes the arrow keys where it has the focus.

    Args:
        move: called with how many steps to go across, and how many units down.
        label: what the keys do.

    >>> keys = ArrowKeys(lambda across, down: print(across, down), "arrow keys")
    >>> keys._received(keys, {"across": 1, "down": 0}, [])
    1 0
    """

    _esm = script(Path(__file__).with_name("arrow_keys.js"))
    _css = Path(__file__).with_name("arrow_keys.css").read_text(encoding="utf-8")

    label = tl.Unicode().tag(sync=True)
    words = tl.Dict().tag(sync=True)

    def __init__(self, move: Callable[[int, int], object], label: str) -> None:
        super().__init__(label=label, words=of_script(self._esm))
        self._move = move
        self.on_msg(self._received)

    def _received(self, _: object, message: Any, __: object) -> None:
        try:
            self._move(int(message.get("across", 0)), int(message.get("down", 0)))
        finally:
            if self.comm is not None:
                self.send({"done": True})
