"""`{still}`: lines of code, and below them the picture that they make, made in every build.

The last line gives what is drawn; its picture is that of a saved notebook, which needs no script,
and in the language of its page.
The blocks of a page are run one after the other, as cells are.
"""

from __future__ import annotations

import ast
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from languages import is_chinese
from sphinx.errors import ExtensionError

import grulens


class Still(Directive):
    """Run a block, show it, and show what its last line gives."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The code and its picture."""
        code = "\n".join(self.content)
        env = self.state.document.settings.env
        names = env.temp_data.setdefault("stills", {})
        block = nodes.literal_block(code, code, language="python")
        grulens.language("zh" if is_chinese(env.docname) else "en")
        try:
            return [block, nodes.raw("", drawn(code, names), format="html")]
        finally:
            grulens.language("en")


def drawn(code: str, names: dict[str, Any]) -> str:
    """What a block draws, as HTML; `names` is what those before it left."""
    *before, last = ast.parse(code).body
    if not isinstance(last, ast.Expr):
        raise ExtensionError(f"the last line of a still draws something, got {ast.unparse(last)!r}")
    exec(compile(ast.Module(before, []), "<still>", "exec"), names)
    shown = eval(compile(ast.Expression(last.value), "<still>", "eval"), names)
    bundle = shown._repr_mimebundle_()
    data, *_ = bundle if isinstance(bundle, tuple) else (bundle,)
    page: str = data["text/html"]
    if 'class="grulens-still' not in page:
        raise ExtensionError(f"{ast.unparse(last)} draws no picture")
    return page


def setup(app: Any) -> dict[str, Any]:
    """Know the directive."""
    app.add_directive("still", Still)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
