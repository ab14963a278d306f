"""BokehJS comes from the installed bokeh, so it needs no network and always fits Python's side.

Only the parts a document needs are sent, each once per page and gzipped: about 350 kB for figures,
100 kB more for inputs, 90 kB for tables.
"""

from __future__ import annotations

import functools
import gzip
from pathlib import Path
from typing import Final

import bokeh
from bokeh.document import Document
from bokeh.models import Plot

from grulens.widgets.jupyter.script import script

PARTS: Final = {
    "bokeh": "bokeh.min.js",
    "widgets": "bokeh-widgets.min.js",
    "tables": "bokeh-tables.min.js",
    "gl": "bokeh-gl.min.js",
}

_HERE = Path(__file__).parent

#: What the page runs for a view.
VIEW_JS: Final = script(
    *(_HERE / f"bokeh_{name}.js" for name in ("theme", "table", "save", "view"))
)
VIEW_CSS: Final = (_HERE / "bokeh_view.css").read_text(encoding="utf-8")


@functools.cache
def gzipped(part: str) -> bytes:
    """One part of BokehJS, gzipped.

    Raises:
        KeyError: no such part.

    >>> gzipped("bokeh")[:2].hex()
    '1f8b'
    """
    source = Path(bokeh.__file__).parent / "server" / "static" / "js" / PARTS[part]
    return gzip.compress(source.read_bytes(), 6, mtime=0)


def parts(document: Document) -> list[str]:
    """The parts that draw a document, in the order they must be loaded.

    >>> from bokeh.models import Slider
    >>> from bokeh.plotting import figure
    >>> document = Document()
    >>> document.add_root(figure())
    >>> parts(document)
    ['bokeh']
    >>> document.add_root(Slider(start=0, end=1, value=0))
    >>> parts(document)
    ['bokeh', 'widgets']
    """
    modules = {type(model).__module__ for model in document.models}
    needed = ["bokeh"]
    if any(name.startswith("bokeh.models.widgets") for name in modules):
        needed.append("widgets")
    if any(name.startswith("bokeh.models.widgets.tables") for name in modules):
        needed.append("tables")
    # only plots have a backend, and a Bokeh model takes milliseconds to say what it has not
    plots = (model for model in document.models if isinstance(model, Plot))
    if any(plot.output_backend == "webgl" for plot in plots):
        needed.append("gl")
    return needed
