"""The cell close up under a real hand: arrow keys walk over steps and units, the sums follow."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.jupyter import settled, until

pytestmark = pytest.mark.browser

SETUP = """
import grulens
from grulens.demo import load
model, encode, decode = load()
view = grulens.CellView(model, "def f(x):\\n    return x\\n")
session = view.session
session.units, session.step = (137,), 4
view
"""
SHOWN = "print(view.step.value, view.unit.value)"


def test_arrow_keys_walk_over_steps_and_units(open_notebook: Any) -> None:
    notebook = open_notebook(SETUP)
    notebook.run_cell(0)
    page = notebook.page
    panel = page.locator(".grulens-panel").first
    panel.locator("canvas").first.wait_for()
    before = settled(panel)
    keys = page.get_by_role("group", name="arrow keys")
    keys.press("ArrowRight")
    notebook.until(SHOWN, "5 137")
    until(page, lambda: panel.screenshot() != before, "another picture")
    keys.press("ArrowUp")
    notebook.until(SHOWN, "5 136")
    keys.press("ArrowLeft")
    keys.press("ArrowLeft")
    notebook.until(SHOWN, "3 136")
    page.get_by_role("button", name="unit after").click()
    notebook.until(SHOWN, "3 137")
    page.get_by_role("button", name="update gate z").click()
    page.get_by_role("figure", name="what adds up to update gate z").first.wait_for()
    notebook.theme("dark")
    settled(panel)
    notebook.screenshot("cell-dark", of=panel)
