"""Two texts over each other under a real hand: written, aligned, chosen in, and untrusted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.jupyter import settled, until

pytestmark = pytest.mark.browser

SETUP = """
import grulens
from grulens.demo import load
model, encode, decode = load()
text = 'x = "a <b>c</b>"'
view = grulens.CompareView(model, text)
session = view.session
view
"""


def test_another_text_is_written_and_aligned(open_notebook: Any) -> None:
    notebook = open_notebook(SETUP)
    notebook.run_cell(0)
    page = notebook.page
    panel = page.locator(".grulens-panel").first
    page.get_by_label("other text").fill("xy = 'a <b>c</b>'")
    page.get_by_role("button", name="run", exact=True).click()
    page.get_by_text("1 step of the other text has no partner").wait_for()
    page.get_by_role("button", name="token", exact=True).click()
    pairs = panel.locator(".grulens-pair")
    # x stands over x, a dot over y, and what replaces a quote over it
    for place, (over, under) in enumerate(["xx", "·y", "  ", "==", "  ", "\"'", "aa"]):
        spans = pairs.nth(place).locator("span")
        wanted = [over, under]
        until(page, lambda s=spans, w=wanted: s.all_text_contents() == w, f"{wanted} at {place}")
    assert panel.locator(".grulens-text-body b").count() == 0
    pairs.nth(3).click()
    notebook.until("print(session.step, session.times)", "2 (2,)")
    page.get_by_text("After “=”").wait_for()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    notebook.until("print(session.step, session.times)", "4 (4,)")
    page.get_by_role("button", name="z update gate").click()
    page.get_by_text("update gate z", exact=False).first.wait_for()
    notebook.theme("dark")
    settled(panel)
    notebook.screenshot("compare-dark", of=panel)
