"""What a table waits for in the page, by the node that playwright brings along."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import playwright
import pytest

from grulens.widgets.jupyter.bokeh_js import VIEW_JS

NODE = Path(playwright.__file__).with_name("driver") / "node"


def defined(name: str) -> str:
    """The lines of the script that define a constant."""
    lines = re.search(rf"^const {name} = .*?(?=\nconst |\n\n)", VIEW_JS, re.MULTILINE | re.DOTALL)
    assert lines, name
    return lines[0]


@pytest.mark.parametrize(
    ("hidden", "paints"), [("false", "setTimeout(call)"), ("false", ""), ("true", "")]
)
def test_a_table_is_drawn_whether_or_not_its_page_is_painted(hidden: str, paints: str) -> None:
    script = f"""
        const document = {{ hidden: {hidden} }}, requestAnimationFrame = (call) => {{ {paints} }};
        {defined("UNSEEN")}
        {defined("pause")}
        Promise.resolve(pause()).then(() => console.log("drawn"));
    """
    done = subprocess.run(
        [NODE, "-e", script], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "drawn\n"
