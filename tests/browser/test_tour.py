"""The tour as a person runs it: every cell, then the slider under the keyboard."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from grulens.cli import NAME, tour
from tests.browser.jupyter import PANEL, settled, until

pytestmark = pytest.mark.browser

#: The first still picture in the notebook that is open, as its HTML.
STILL = (
    f"{PANEL}.content.model.toJSON().cells.flatMap(cell => cell.outputs ?? [])"
    ".map(output => [output.data?.['text/html'] ?? ''].flat().join(''))"
    ".find(html => html.includes('grulens-still'))"
)


def test_the_tour_runs_its_lens_answers_and_its_last_picture_needs_no_kernel(
    open_notebook: Any, server: Any, flavour: str
) -> None:
    path = f"{flavour}-{NAME}"
    shutil.copy(tour(), server.root / path)
    opened = open_notebook(path=path)
    page = opened.page
    page.set_viewport_size({"width": 1300, "height": 1000})
    opened.run_all()
    errors = page.locator("[data-mime-type='application/vnd.jupyter.error']")
    assert errors.count() == 0
    panel = page.locator(".grulens-panel").first
    panel.locator("canvas").first.wait_for()
    view = panel.locator(".grulens-area-map .grulens-bokeh").first
    moved = "print(float(lens.session.moved.mean()))"
    held = float(opened.kernel(moved))
    assert held > 0.1  # the tour leaves the update gate of unit 137 held

    before = settled(view)
    handle = panel.locator(".grulens-signal-z .noUi-handle:visible").first
    for _ in range(30):
        handle.press("ArrowLeft")  # focused each time: Notebook 7 takes the focus to its last cell
    opened.until("print(lens.session.slots[0].edit.amount)", "0.7")
    assert float(opened.kernel(moved)) < held / 2  # a gate that leaks forgets
    until(page, lambda: view.screenshot() != before, "another picture")
    edited = settled(view)

    panel.locator(".grulens-line input[type=checkbox]").first.click()
    opened.until("print(lens.session.edited is lens.session.baseline)", "True")
    assert float(opened.kernel(moved)) == 0
    until(page, lambda: view.screenshot() != edited, "the picture without the edit")
    opened.screenshot("tour")

    opened.kernel("lens.session.units = (42,)")
    # the page asks for a new picture once nothing moves
    page.wait_for_function(f"{STILL}?.includes('unit 42')")
    opened.save()
    for session in server.ask("api/sessions"):
        if session["path"] == path:
            server.ask(f"api/sessions/{session['id']}", "DELETE")
    again = open_notebook(path=opened.path)
    still = again.page.locator(".grulens-still img").first
    still.wait_for()
    assert "unit 42" in again.page.locator(".grulens-still").first.inner_text()
    again.screenshot("reopened")
