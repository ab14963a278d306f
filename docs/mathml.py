"""Formulas as MathML, which browsers draw themselves: no script, no network, read out aloud.

docutils has the translation and Sphinx does not offer it.
"""

from __future__ import annotations

import re
from typing import Any, Final

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.util import logging

log = logging.getLogger(__name__)

THIN: Final = '<mspace width="0.1667em"/>'
APPLIED: Final = "<mo>&ApplyFunction;</mo>"


def spaced(mathml: str) -> str:
    r"""A function's name set apart from what it is of, and from what it multiplies, as TeX does.

    >>> formula = latex2mathml.tex2mathml(r"a \ln m")
    >>> spaced(formula).count("mspace"), spaced(latex2mathml.tex2mathml(r"\ln(m)")).count("mspace")
    (2, 0)
    """
    mathml = re.sub(rf"{APPLIED}(?!\s*<mo[^>]*>[(\[|])", APPLIED + THIN, mathml)
    return re.sub(
        rf"(</m(?:i|n|sub|sup)>)(?=\s*<mi[^>]*>\w+</mi>\s*{APPLIED})", rf"\1{THIN}", mathml
    )


def draw(writer: Any, node: nodes.Element, *, block: bool) -> None:
    """Write a formula in place of its node; one that cannot be read, as a warning with its place.

    Raises:
        nodes.SkipNode: always: nothing is left to write.
    """
    formula = node.astext()
    try:
        writer.body.append(spaced(latex2mathml.tex2mathml(formula, as_block=block)))
    except MathError as error:
        log.warning("%s In the formula: %s", error, formula, location=node, type="mathml")
    raise nodes.SkipNode


def inline(writer: Any, node: nodes.Element) -> None:
    """A formula in a line of text."""
    draw(writer, node, block=False)


def block(writer: Any, node: nodes.Element) -> None:
    """A formula on lines of its own."""
    writer.body.append('<div class="formula">')
    try:
        draw(writer, node, block=True)
    finally:
        writer.body.append("</div>")


def setup(app: Any) -> dict[str, Any]:
    """Offer the renderer `mathml`."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
