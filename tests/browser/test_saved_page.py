"""`lens.save()`: the page from disk, in a browser that reaches no network and no kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from grulens import Lens, ablate
from grulens.demo import load

pytestmark = pytest.mark.browser

MODELS = "[...Bokeh.documents[0].all_models]"


def test_a_saved_page_lives_without_kernel_and_network(browser: Any, tmp_path: Path) -> None:
    lens = Lens(load().model, 'x = "text"\n')
    lens.session.add(ablate("rnn.l0", 137))
    path = lens.save(tmp_path / "lens.html")
    page = browser.new_page(viewport={"width": 1000, "height": 1400})
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    page.locator("canvas").first.wait_for()
    page.wait_for_timeout(1000)
    heat = page.locator(".bk-Figure").first

    title = f"{MODELS}.find(m => m.type === 'Title' && m.text.includes('rnn.l0')).text"
    assert page.evaluate(title).startswith("state h")
    before = heat.screenshot()
    page.locator("select").first.select_option(label="update gate z")
    page.wait_for_timeout(500)
    assert page.evaluate(title).startswith("update gate z")
    switched = heat.screenshot()
    assert switched != before

    box = heat.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_timeout(500)
    chosen = f"{MODELS}.find(m => m.type === 'DataTable').source.selected.indices.length"
    assert page.evaluate(chosen) == 1
    assert heat.screenshot() != switched

    page.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2)
    page.locator(".bk-Tooltip").first.wait_for(state="visible")
    page.screenshot(path=str(Path(__file__).parent / "shots" / "saved-page.png"))
    assert not errors
    assert not [url for url in asked if url.startswith("http")]
    page.close()
