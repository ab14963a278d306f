"""The present state as code, to the clipboard or into a new cell: both happen in the browser."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets as tl


class CopyCode(anywidget.AnyWidget):
    """Two buttons for one piece of code.

    Attributes:
        code: what they give.

    >>> CopyCode(code="1 + 1").code
    '1 + 1'
    """

    _esm = Path(__file__).with_name("copy_code.js").read_text(encoding="utf-8")

    code = tl.Unicode().tag(sync=True)
