"""A cell that one steps through, as one HTML file, in every language there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from grulens import words
from grulens.views.page.running import source, whole_page

_SCRIPTS: Final = (
    "words.js", "elements.js", "engine.js", "running_draw.js", "running_cell.js",
    "cell_drawing.js", "cell_page.js",
)  # fmt: skip
_STYLES: Final = ("running.css", "cell_page.css")


def cell_page(data: Mapping[str, Any], cell: Mapping[str, Any]) -> str:
    """The page.

    Args:
        data: that of the page that runs, JSON-ready.
        cell: what cell_page.js reads beside it, but for its words.

    >>> html = cell_page({"title": "a"}, {"named": {"z": "update gate"}})
    >>> "default-src 'none'" in html, '"zh":{' in html
    (True, True)
    """
    scripts = [source(name) for name in _SCRIPTS]
    said = "\n".join(scripts)
    # the names of signals are data, and are looked up in the page as the script's own words are
    said += "".join(f'say("{name}")' for name in sorted(cell["named"].values()))
    spoken = {name: words.of_script(said, name) for name in words.languages()}
    return whole_page(
        {**data, "cell": {**cell, "words": spoken}}, scripts, [source(name) for name in _STYLES]
    )
