"""The moment that the README shows: drag over *not*, move z, and the label turns round.

Made anew by `GRULENS_README_SHOT=1 pytest -m browser tests/browser/test_moving_picture.py`: the
network of notebook 06 is trained, which takes a while, so the check does not do it every time.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from PIL import Image

from tests.browser.jupyter import into_view, settled

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "moment.webp"
#: Bytes that a page may load for it.
MOST = 3_000_000
LENS = """
lens = Lens(
    model, "The film.", encode=encode, decode=lambda ids: [vocabulary[i] for i in ids.tolist()],
    readout=lambda output: output[:, -1],
)
session = lens.session
lens.parts.hidden = ("edits", "units")
lens
"""
# a mouse, for a picture of the page has none
MOUSE = """() => {
  const mouse = document.createElement("div");
  mouse.id = "mouse";
  mouse.innerHTML = '<svg width="18" height="24"><path d="M1 1v18l5-4 3 7 3-1-3-7h6z" ' +
    'fill="white" stroke="black" stroke-width="1.2"/></svg>';
  mouse.style.cssText = "position:fixed;z-index:9999;pointer-events:none;left:0;top:0";
  document.body.append(mouse);
  addEventListener("mousemove", (event) => {
    mouse.style.transform = `translate(${event.clientX}px, ${event.clientY}px)`;
  }, true);
}"""


def test_the_picture_is_there_and_small_enough() -> None:
    assert 100_000 < PICTURE.stat().st_size < MOST
    with Image.open(PICTURE) as picture:
        assert picture.width <= 900
        assert getattr(picture, "n_frames", 1) > 20


@pytest.mark.browser
@pytest.mark.skipif(not os.environ.get("GRULENS_README_SHOT"), reason="makes the picture anew")
@pytest.mark.parametrize("flavour", ["lab"], indirect=True)
def test_not_is_dragged_over_and_the_label_turns_round(open_notebook: Any) -> None:
    cells = nbformat.read(ROOT / "notebooks" / "06_sentiment.ipynb", 4).cells  # type: ignore[no-untyped-call]
    notebook = open_notebook(*[cells[i].source for i in (1, 3, 4, 5)], LENS, fresh=True)
    page = notebook.page
    page.set_viewport_size({"width": 1330, "height": 1000})
    for i in range(5):
        notebook.run_cell(i)
    panel = page.locator(".grulens-panel").first
    panel.wait_for(timeout=120_000)
    panel.locator("canvas:visible").first.wait_for()
    into_view(panel)
    page.evaluate(MOUSE)
    settled(panel)
    frames: list[tuple[Image.Image, int]] = []

    def take(milliseconds: int) -> None:
        frames.append((Image.open(io.BytesIO(panel.screenshot())).convert("RGB"), milliseconds))

    def go(x: float, y: float, steps: int = 1) -> None:
        for _ in range(steps):
            page.mouse.move(x, y)

    def verdict() -> str:
        return str(
            notebook.kernel("print(session.labels[int(session.answer_now.values[0].argmax())])")
        )

    take(700)
    box = panel.get_by_label("input").locator("visible=true").first
    box.fill("")
    for letters in ("The fil", "m is n", "ot fun", "ny."):
        box.press_sequentially(letters)
        take(130)
    panel.get_by_role("button", name="run", exact=True).click()
    notebook.until("print(session.steps)", "6")
    settled(panel)
    assert verdict() == "rotten"
    take(1500)

    word = page.locator('.grulens-text-body [data-i="3"]').bounding_box()
    middle = word["y"] + word["height"] / 2
    go(word["x"] - 40, middle + 30)
    take(150)
    go(word["x"] + 3, middle)
    take(300)
    page.mouse.down()
    go(word["x"] + word["width"] - 3, middle)
    take(150)
    page.mouse.up()
    notebook.until("print(session.times)", "(3,)")
    settled(panel)
    take(900)

    panel.get_by_role("button", name="set", exact=True).click()
    settled(panel)
    slider = panel.locator(".grulens-area-hand .grulens-signal-z").locator("visible=true").first
    handle = slider.locator(".noUi-handle").bounding_box()
    track = slider.locator(".noUi-base").bounding_box()
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    go(x, y)
    take(400)
    page.mouse.down()
    end = track["x"] + track["width"]
    for step in range(1, 13):
        go(x + (end - x) * step / 12, y)
        settled(panel)
        take(120)
    page.mouse.up()
    notebook.until("print(session.slots[0].edit.amount)", "1.0")
    settled(panel)
    assert verdict() == "fresh"
    take(2600)

    width = min(900, frames[0][0].width)
    small = [one.resize((width, round(one.height * width / one.width))) for one, _ in frames]
    height = max(one.height for one in small)
    shown = [Image.new("RGB", (width, height), "white") for _ in small]
    for page_of, one in zip(shown, small, strict=True):
        page_of.paste(one)
    shown[0].save(
        PICTURE, save_all=True, append_images=shown[1:], duration=[ms for _, ms in frames], loop=0,
        quality=72, method=6,
    )  # fmt: skip
    assert PICTURE.stat().st_size < MOST
