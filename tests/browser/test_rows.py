"""Rows of a batch, picked from their table by hand and by keys: thousands of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.jupyter import settled

pytestmark = pytest.mark.browser

SETUP = """
import torch
from torch import nn
import grulens
WORDS = ["not", "bad", "good", "<b>x</b>"]
class Classifier(nn.Module):
    labels = ["neg", "pos"]
    def __init__(self):
        super().__init__()
        self.emb, self.rnn = nn.Embedding(4, 3), nn.GRU(3, 4, batch_first=True)
        self.out = nn.Linear(4, 2)
    def decode(self, ids):
        return [WORDS[i] for i in ids.tolist()]
    def forward(self, ids):
        return self.out(self.rnn(self.emb(ids))[0][:, -1])
torch.manual_seed(0)
ids = torch.randint(0, 3, (5000, 6))
ids[4321] = 3
lens = grulens.Lens(Classifier(), ids, truth=[0, 1] * 2500)
session = lens.session
lens
"""


def test_a_row_of_thousands_is_found_and_picked(open_notebook: Any) -> None:
    notebook = open_notebook(SETUP)
    notebook.run_cell(0)
    page = notebook.page
    panel = page.locator(".grulens-panel").first
    page.get_by_role("button", name="pick a row").click()
    rows = page.get_by_role("group", name="table of rows", exact=True)
    rows.locator(".slick-row").first.wait_for()
    rows.locator(".slick-row").nth(2).locator(".slick-cell").nth(1).click()
    notebook.until("print(session.row)", "2")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    notebook.until("print(session.row)", "3")
    # all the way down: what is far away is drawn when it is seen
    viewport = rows.locator(".slick-viewport-top.slick-viewport-left")
    viewport.evaluate("element => { element.scrollTop = element.scrollHeight; }")
    rows.locator(".slick-cell", has_text="4999").first.wait_for()
    page.get_by_label("Find").first.fill("<b>x</b> <b>x</b>")
    page.get_by_text("1 of 5000 rows").wait_for()
    rows.locator(".slick-cell", has_text="<b>x</b>").first.click()
    notebook.until("print(session.row)", "4321")
    assert rows.locator("b").count() == 0
    page.get_by_label("Find").first.fill("")
    page.get_by_role("button", name="only wrong").click()
    notebook.until("print(0 < len(lens.rows._table.shown) < 5000)", "True")
    notebook.theme("dark")
    settled(panel)
    notebook.screenshot("rows-dark", of=panel)
