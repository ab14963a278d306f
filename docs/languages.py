"""Pages in Chinese among those in English: each says its language and leads to its twin.

Twins have one name: zh/NAME is NAME in Chinese, notebooks/zh/NAME is notebooks/NAME. Beside a
Chinese page stand the Chinese pages alone, in the order of zh/index; the words of the theme there
are Chinese, too. What is typed there is searched on search-zh, which is Sphinx's page with
Sphinx's own Chinese words.
"""

from __future__ import annotations

import gettext
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import sphinx
from sphinx import addnodes
from sphinx.environment.adapters.toctree import TocTree

FIRST: Final = "zh/index"
SEARCH: Final = "search-zh"  # its links are right only beside Sphinx's own search.html
NOTEBOOKS: Final = "notebooks/"
LOCALE: Final = Path(sphinx.__file__).parent / "locale"
SPHINX: Final = gettext.translation("sphinx", LOCALE, ["zh_CN"])
#: The same for what the search writes into its page.
IN_SCRIPTS: Final = LOCALE / "zh_CN" / "LC_MESSAGES" / "sphinx.js"
#: Words of the theme that Sphinx has not.
OF_THE_THEME: Final = {
    "On this page": "本页内容", "Next": "下一页", "Previous": "上一页", "Home": "首页",
    "Back to top": "回到顶部",
}  # fmt: skip


def is_chinese(page: str) -> bool:
    """Whether a page of this name is in Chinese.

    >>> is_chinese("zh/start"), is_chinese("notebooks/zh/01_tour"), is_chinese("start")
    (True, True, False)
    """
    return page == SEARCH or "zh" in page.split("/")[:-1]


def twin(page: str) -> str:
    """The name of the same page in the other language.

    >>> twin("how-to/a"), twin("zh/how-to/a"), twin("notebooks/01"), twin("notebooks/zh/01")
    ('zh/how-to/a', 'how-to/a', 'notebooks/zh/01', 'notebooks/01')
    """
    if is_chinese(page):
        return page.replace("zh/", "", 1)
    folder = NOTEBOOKS if page.startswith(NOTEBOOKS) else ""
    return f"{folder}zh/{page.removeprefix(folder)}"


def say_which(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Give a page its language, the tree beside it, and the link to its twin."""
    if tree is None and page != SEARCH:
        return
    code, other, name = ("zh-CN", "en", "English") if is_chinese(page) else ("en", "zh-CN", "中文")
    context["language"] = code
    if is_chinese(page):
        context["_"] = context["gettext"] = _in_chinese
        context["toctree"] = lambda **given: _chinese_tree(app, page, **given)
        context["pathto"] = _to_chinese_search(context["pathto"])
    for beside, there in zip(
        ("prev", "next"), app.builder.relations.get(page, ())[1:], strict=False
    ):
        if there is not None and is_chinese(there) != is_chinese(page):
            context[beside] = None
    if page == SEARCH:
        app.add_js_file(IN_SCRIPTS.name)
    if twin(page) in app.env.found_docs:
        there = f'href="{context["pathto"](twin(page))}" hreflang="{other}"'
        context["metatags"] += f'<link rel="alternate" {there}>\n'
        context["body"] = (
            f'<p class="twin"><a {there} lang="{other}">{name}</a></p>\n{context["body"]}'
        )


def _in_chinese(text: str) -> str:
    """A word of the theme."""
    return OF_THE_THEME.get(text) or SPHINX.gettext(text)


def _to_chinese_search(pathto: Callable[..., str]) -> Callable[..., str]:
    """The way from a page to another; to the search it leads to the Chinese one."""

    def to(name: str, *given: Any, **named: Any) -> str:
        return pathto(SEARCH if name == "search" else name, *given, **named)

    return to


def _chinese_tree(app: Any, page: str, **given: Any) -> str:
    """The trees of the first Chinese page, as HTML, seen from a page."""
    first = app.env.get_doctree(FIRST)
    found = (
        TocTree(app.env).resolve(page, app.builder, tree, **given)
        for tree in first.findall(addnodes.toctree)
    )
    whole, *others = filter(None, found)
    for tree in others:
        whole += tree.children
    html: str = app.builder.render_partial(whole)["fragment"]
    return html


def setup(app: Any) -> dict[str, Any]:
    """Act before the theme makes its list of pages."""
    app.connect("html-page-context", say_which, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
