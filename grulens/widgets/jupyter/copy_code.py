"""The present state as code, to the clipboard or into a new cell: both happen in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets as tl

from grulens.widgets.jupyter.script import script
from grulens.words import of_script


class CopyCode(anywidget.AnyWidget):
    """Two buttons for one piece of code.

    Attributes:
        code: what they give.

    >>> CopyCode(code="1 + 1").code
    '1 + 1'
    """

    _esm = script(Path(__file__).with_name("copy_code.js"))

    code = tl.Unicode().tag(sync=True)
    words = tl.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(words=of_script(self._esm), **traits)
