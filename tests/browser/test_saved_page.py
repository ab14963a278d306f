"""`lens.save()`: the page from disk, in a browser that reaches no network and no kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from grulens import Lens, ablate
from grulens.demo import load
from tests.browser.jupyter import settled, until

pytestmark = pytest.mark.browser

MODELS = "[...Bokeh.documents[0].all_models]"


def test_a_saved_page_lives_without_kernel_and_network(browser: Any, tmp_path: Path) -> None:
    lens = Lens(load().model, 'x = "text"\n')
    lens.session.add(ablate("rnn.l0", 137))
    path = lens.save(tmp_path / "lens.html", weights=False)
    page = browser.new_page(viewport={"width": 1000, "height": 1400})
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    page.locator("canvas").first.wait_for()
    heat = page.locator(".bk-Figure").first

    title = f"{MODELS}.find(m => m.type === 'Title' && m.text.includes('rnn.l0')).text"
    assert page.evaluate(title).startswith("state h")
    before = settled(heat)
    page.locator("select").first.select_option(label="update gate z")
    until(page, lambda: page.evaluate(title).startswith("update gate z"), "another title")
    until(page, lambda: heat.screenshot() != before, "another picture")
    switched = settled(heat)

    box = heat.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    chosen = f"{MODELS}.find(m => m.type === 'DataTable').source.selected.indices.length"
    until(page, lambda: page.evaluate(chosen) == 1, "one unit chosen")
    until(page, lambda: heat.screenshot() != switched, "a picture with an outline")

    page.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2)
    page.locator(".bk-Tooltip").first.wait_for(state="visible")
    page.screenshot(path=str(Path(__file__).parent / "shots" / "saved-page.png"))
    assert not errors
    assert not [url for url in asked if url.startswith("http")]
    page.close()


class Classes(nn.Module):
    """One answer a row: (batch, class)."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.out(self.rnn(x)[1][-1])
        return out


def test_a_page_of_one_answer_a_row_opens_as_the_lens_stood(browser: Any, tmp_path: Path) -> None:
    lens = Lens(Classes(), torch.randn(1, 12, 3), labels=["no", "yes", "why"])
    lens.session.add(ablate("rnn.l0", 2))
    lens.session.units, lens.session.times = (5,), (3, 4)
    lens.gates.order, lens.gates.signal = "similarity", "z"
    lens.studies.shown = "memory"
    path = lens.save(tmp_path / "lens.html", weights=False)
    page = browser.new_page(viewport={"width": 1000, "height": 2400})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    ready = f"{MODELS}.filter(m => m.type === 'Figure' && m.visible)"
    page.wait_for_function(
        f"window.Bokeh?.documents.length && {ready}"
        ".every(m => Bokeh.documents[0].views_manager?.find_one(m)?.el.isConnected)"
    )
    rows = f"{MODELS}.find(m => m.type === 'ColumnDataSource' && m.data.unit?.length === 8)"
    assert list(page.evaluate(f"Array.from({rows}.data.unit)")) == lens.gates._ordered().tolist()
    title = f"{MODELS}.find(m => m.type === 'Title' && m.text.includes('rnn.l0')).text"
    assert page.evaluate(title).startswith("update gate z")
    table = f"{MODELS}.find(m => m.type === 'DataTable').source"
    assert page.evaluate(f"{table}.selected.indices.map((i) => {table}.data.unit[i])") == [5]
    # the answer has an axis of its own, and the picture keeps all of its steps
    heat = page.locator(".bk-Figure").first
    ranges = (
        f"{MODELS}.filter(m => m.type === 'Figure').map(m => m.x_range.end).filter(Number.isFinite)"
    )
    assert max(page.evaluate(ranges)) >= 11
    assert page.locator(".grulens-still").count() == 1  # the study that was open
    box = heat.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    chosen = f"() => {table}.selected.indices.length === 1"
    page.wait_for_function(chosen)
    sources = f"{MODELS}.filter(m => m.type === 'ColumnDataSource' && m.data.label)"
    labels = page.evaluate(f"{sources}.map(m => [...m.data.label].sort().join(' '))")
    assert "no why yes" in labels
    page.locator("select").nth(1).select_option(label="edited − baseline")
    page.wait_for_function(f"{title}.includes('edited − baseline')")
    assert not errors
    page.close()
