"""The last picture stays in the notebook, and is seen wherever its widget no longer lives.

JupyterLab and Notebook prefer a widget view to everything else in an output, and say "Loading
widget..." for ever when its kernel is gone; HTML in the same output is used only in notebooks that
are not trusted. So the picture is an output of its own, beneath the widget's, and its style sheet
lets the page show one of the two.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from IPython import display as ipython

# IPython does not type them
publish: Callable[..., object] = ipython.display
update: Callable[..., object] = ipython.update_display

# a style sheet knows without a script whether a widget came to life in the output above
STYLE: Final = """<style>
.jp-OutputArea-child:has(.grulens) + .jp-OutputArea-child:has(.grulens-still),
.jp-OutputArea-child:not(:has(.grulens)):has(+ .jp-OutputArea-child .grulens-still) {
  display: none;
}
</style>"""


class Still:
    """The picture of one widget, in every output where the widget is shown.

    Args:
        html: draws the present state as self-contained HTML; what it shows of the user's text is
            escaped by it.

    Attributes:
        html: the same.

    >>> still = Still(lambda: "<p>four units</p>")
    >>> still.bundle()["text/html"].endswith('<div class="grulens-still"><p>four units</p></div>')
    True
    """

    def __init__(self, html: Callable[[], str]) -> None:
        self.html = html
        self._id: str | None = None

    def bundle(self) -> dict[str, str]:
        """The picture as it is now, as a MIME bundle."""
        return {
            "text/html": f'{STYLE}<div class="grulens-still">{self.html()}</div>',
            "text/plain": "",
        }

    def show(self, widget: Mapping[str, Any]) -> None:
        """Show a widget, and the picture for when it is gone.

        Args:
            widget: the widget's MIME bundle; its own HTML would say the same twice.
        """
        self._id = self._id or uuid.uuid4().hex
        publish({mime: data for mime, data in widget.items() if mime != "text/html"}, raw=True)
        publish(self.bundle(), raw=True, display_id=self._id)

    def refresh(self) -> None:
        """Bring the picture up to date wherever it was shown; nowhere, nothing is drawn."""
        if self._id is not None:
            update(self.bundle(), raw=True, display_id=self._id)
