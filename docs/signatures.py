"""The API and code as one writes them, where Sphinx writes something else."""

from __future__ import annotations

import inspect
import re
from typing import Any

from docutils import nodes
from sphinx.util.inspect import signature, stringify_signature
from traitlets import HasTraits


def as_written(app: Any, what: str, name: str, it: Any, options: Any, given: Any, back: Any) -> Any:
    """A screen by its own signature, not by that of all with traits; names in place of reprs."""
    if inspect.isclass(it) and issubclass(it, HasTraits):
        own = signature(
            it.__init__, bound_method=True, type_aliases=app.config.autodoc_type_aliases
        )
        given = stringify_signature(
            own.replace(return_annotation=own.empty), unqualified_typehints=True
        )
    return _named(given), _named(back)


def _named(text: str | None) -> str | None:
    if text is None:
        return None
    text = re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text)
    text = re.sub(r"<built-in method (\w+) of type object>", r"torch.\1", text)
    return text.replace("<factory>", "...")


def whole_sentence(app: Any, what: str, name: str, it: Any, options: Any, lines: list[str]) -> None:
    """What stands before a colon in the text of a property is no type: napoleon reads line 1 so."""
    if what in ("property", "attribute", "data"):
        lines[:0] = ["..", ""]


def without_last_line(app: Any, document: nodes.document) -> None:
    """Code ends where it ends; doctest wants an empty line behind what it prints."""
    for block in document.findall(nodes.literal_block):
        text = block.astext()
        if text.endswith("\n") and block.rawsource == text:
            block.rawsource = text.rstrip("\n")
            block[:] = [nodes.Text(block.rawsource)]


def setup(app: Any) -> dict[str, Any]:
    """Act before napoleon reads a docstring, and before a page is written."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-signature", as_written)
    app.connect("autodoc-process-docstring", whole_sentence, priority=400)
    app.connect("doctree-read", without_last_line)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
