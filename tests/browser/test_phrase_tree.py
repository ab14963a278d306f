"""A tree of phrases built and read by hand, in real JupyterLab and Notebook 7."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.jupyter import settled

pytestmark = pytest.mark.browser

SETUP = """
import grulens
from grulens.demo import load
screen = grulens.phrases.PhraseTree(load().model, 'return "a text"  # no')
screen
"""
TIMES = "print(screen.session.times)"


@pytest.mark.parametrize(("flavour", "theme"), [("lab", "light"), ("notebook", "dark")])
def test_it_is_built_tapped_and_chosen_from_by_keyboard(open_notebook: Any, theme: str) -> None:
    notebook = open_notebook(SETUP)
    notebook.run_all()
    notebook.theme(theme)
    page = notebook.page
    page.set_viewport_size({"width": 968, "height": 1100})
    page.get_by_role("button", name="build").click()
    name = "phrases within phrases: phrases for t at step 20 · rnn.l0"
    figure = page.get_by_role("figure", name=name, exact=True)
    figure.wait_for()
    page.get_by_text("21 tokens").wait_for()
    strip = "tokens, coloured by what each contributes alone"
    page.get_by_role("figure", name=strip, exact=True).wait_for()
    # as high as the tree, also after the parts of it that were shown while it grew
    top = "print(screen._boxes.y_range.end == max(g.height for g in screen.tree.groups) + 0.15)"
    notebook.until(top, "True")

    # a tap near the top right is in a large group of the last tokens
    settled(figure)
    notebook.screenshot(f"phrases-{theme}", of=notebook.cell(0))
    box = figure.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.4)
    notebook.until("print(len(screen.session.times) > 1)", "True")
    tapped = notebook.kernel("print(screen.phrase.value)")
    assert int(tapped) > 0
    page.get_by_text("of it only as its two parts are together").wait_for()
    notebook.screenshot(f"phrases-chosen-{theme}", of=notebook.cell(0))

    chooser = page.get_by_label("phrase", exact=True)
    chooser.focus()
    page.keyboard.press("Home")
    notebook.until(TIMES, "()")
    page.keyboard.press("ArrowDown")
    first = notebook.kernel("print(screen.tree.merges[0].tokens)")
    notebook.until(TIMES, first)
