"""How the manual is built: `sphinx-build -W docs built`.

The notebooks are stored executed, and the check runs every one of them and compares; so the manual
shows what is stored and runs nothing twice. `-D nb_execution_mode=force` runs them in the build.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))

import languages  # noqa: E402
import live  # noqa: E402
import nbformat  # noqa: E402

import grulens  # noqa: E402
from grulens import arguments  # noqa: E402

project, author = "grulens", "the grulens team"
copyright = "the grulens team, Apache-2.0"
version = release = grulens.__version__

extensions = [
    "languages",
    "mathml",
    "searching",
    "signatures",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "stills",
]
exclude_patterns = ["built", "**/.ipynb_checkpoints", "notebooks/sanitize.cfg"]
# `name` in a docstring is a link where there is such a name, and code where there is none
default_role = "py:obj"
html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"grulens {version}"
html_favicon = "_static/icon.svg"
html_static_path = ["_static", str(languages.IN_SCRIPTS)]
html_additional_pages = {languages.SEARCH: "search.html"}
html_css_files = ["manual.css"]
html_js_files = ["theme.js"]
html_extra_path: list[str] = []
templates_path: list[str] = []

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "attrs_block", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "off"
# a live view has nothing to live on here: the still picture beside it is what is shown
nb_render_markdown_format = "myst"
nb_mime_priority_overrides = [("html", "text/html", 0), ("html", "application/javascript", None)]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 80
# the names that the section "What functions take" spells out
autodoc_type_aliases = {
    name: name
    for name, it in vars(arguments).items()
    if name[0].isupper() and getattr(it, "__name__", "") != name  # not what it only imports
}
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
napoleon_use_rtype = False
napoleon_use_ivar = True
intersphinx_mapping: dict[str, Any] = {}


def _has_live_pages(app: Any) -> bool:
    return app.builder.format == "html" and "GRULENS_NO_LIVE_PAGES" not in os.environ


def copy_notebooks(app: Any) -> None:
    """The notebooks live beside the manual, not in it; there their lenses are pages that run."""
    to, there = HERE / "notebooks", HERE.parent / "notebooks"
    shutil.rmtree(to, ignore_errors=True)
    for path in sorted(there.glob("**/[0-9]*.ipynb")):
        copy = to / path.relative_to(there)
        copy.parent.mkdir(parents=True, exist_ok=True)
        notebook = nbformat.read(path, 4)
        for cell in notebook.cells:  # beside the manual they link into it
            cell.source = cell.source.replace("](../docs/", "](../").replace(
                "](../../docs/", "](../../"
            )
        if _has_live_pages(app):
            up = "../" * (len(copy.relative_to(HERE).parts) - 1)
            live.with_page(notebook, path.stem, up, path.parent.name == "zh")
        nbformat.write(notebook, copy)


def make_live_pages(app: Any) -> None:
    """Save the lenses that the manual shows, into what is built."""
    if _has_live_pages(app):
        live.save_all(Path(app.outdir) / "live")


def setup(app: Any) -> dict[str, Any]:
    """Prepare what the manual shows before it is read."""
    app.connect("builder-inited", copy_notebooks)
    app.connect("builder-inited", make_live_pages)
    return {"parallel_read_safe": True}
