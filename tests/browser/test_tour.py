"""The tour as a person runs it: every cell, then the slider under the keyboard."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from grulens.cli import NAME, tour

pytestmark = pytest.mark.browser


@pytest.fixture
def opened(open_notebook: Any, server: Any, flavour: str) -> Any:
    path = f"{flavour}-{NAME}"
    shutil.copy(tour(), server.root / path)
    notebook = open_notebook(path=path)
    notebook.page.set_viewport_size({"width": 1300, "height": 1000})
    notebook.run_all()
    return notebook


def test_the_tour_runs_and_its_lens_answers(opened: Any) -> None:
    page = opened.page
    errors = page.locator("[data-mime-type='application/vnd.jupyter.error']")
    assert errors.count() == 0
    panel = page.locator(".grulens-panel").first
    panel.locator("canvas").first.wait_for()
    view = panel.locator(".grulens-bokeh").first
    moved = "print(float(lens.session.moved.mean()))"
    held = float(opened.kernel(moved))
    assert held > 0.1  # the tour leaves the update gate of unit 137 held

    page.wait_for_timeout(1500)  # Notebook 7 moves the focus to its last cell after running all
    panel.locator(".grulens-z .noUi-handle:visible").first.focus()
    before = view.screenshot()
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    opened.until("print(lens.session.slots[0].edit.amount)", "0.7")
    page.wait_for_timeout(500)
    assert float(opened.kernel(moved)) < held / 2  # a gate that leaks forgets
    edited = view.screenshot()
    assert edited != before

    panel.locator(".grulens-line input[type=checkbox]").first.click()
    opened.until("print(lens.session.edited is lens.session.baseline)", "True")
    page.wait_for_timeout(500)
    assert float(opened.kernel(moved)) == 0
    assert view.screenshot() != edited
    opened.screenshot("tour")


def test_the_last_picture_is_there_without_a_kernel(opened: Any, open_notebook: Any) -> None:
    opened.kernel("lens.session.units = (42,)")
    opened.page.wait_for_timeout(3500)  # the page asks for a new picture once nothing moves
    opened.save()
    for session in opened.server.ask("api/sessions"):
        opened.server.ask(f"api/sessions/{session['id']}", "DELETE")
    again = open_notebook(path=opened.path)
    still = again.page.locator(".grulens-still img").first
    still.wait_for()
    assert "unit 42" in again.page.locator(".grulens-still").first.inner_text()
    again.screenshot("reopened")
