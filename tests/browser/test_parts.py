"""Units pinned as lines, and parts of the lens folded away, by hand and by keys."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.browser

SETUP = """
import torch, grulens
torch.manual_seed(0)
torch.set_num_threads(1)
model = torch.nn.GRU(3, 8, batch_first=True)
lens = grulens.Lens(model, torch.randn(1, 30, 3))
session = lens.session
session.units = (5,)
lens
"""
SAID = """(text) => globalThis[Symbol.for("grulens.bokehjs")].scope.Bokeh.documents
  .flatMap((doc) => [...doc.all_models])
  .some((model) => (model.data?.text ?? []).some?.((one) => `${one}`.startsWith(text)))"""


def test_a_unit_is_pinned_and_named_and_parts_fold_away(open_notebook: Any) -> None:
    notebook = open_notebook(SETUP)
    notebook.run_cell(0)
    page = notebook.page
    area = page.locator(".grulens-area-map")
    area.locator("canvas:visible").first.wait_for()
    page.get_by_role("button", name="★ pin", exact=True).click()
    page.get_by_role("button", name="★ unpin", exact=True).wait_for()
    name = page.get_by_label("name", exact=True).locator("visible=true").first
    name.fill("<b>loud</b>")
    name.press("Enter")
    notebook.until("print(session.pins)", "{'l0': {5: '<b>loud</b>'}}")
    page.wait_for_function(SAID, arg="unit 5 · <b>loud</b>")
    parts = page.get_by_role("button", name="parts", exact=True)
    parts.focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="map", exact=True).click()
    area.wait_for(state="hidden")
    notebook.until("print(lens.parts.hidden)", "('map',)")
    page.get_by_role("button", name="map", exact=True).click()
    area.locator("canvas:visible").first.wait_for()
    page.get_by_role("button", name="★ unpin", exact=True).click()
    page.get_by_role("button", name="★ pin", exact=True).wait_for()
    notebook.until("print(session.pins)", "{}")
    assert notebook.errors == []
