"""What a person takes away of a lens: pictures as they are seen, numbers as they are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.browser.jupyter import settled

pytestmark = pytest.mark.browser

SETUP = """
import grulens
from grulens.demo import load
lens = grulens.Lens(load().model, "def f(x):\\n    return (x)\\n")
session = lens.session
session.units, session.times = (3, 17), (2, 3, 5)
session.add(grulens.clamp("rnn.l0", "z", value=1.0, units=[3]))
lens
"""
MAP = ".grulens-area-map"


def taken(page: Any, menu: Any, kind: str) -> tuple[str, bytes]:
    """The name and the bytes of a file, asked for with keys alone."""
    menu.locator("summary").focus()
    page.keyboard.press("Enter")
    button = menu.get_by_role("button", name=kind, exact=True)
    button.wait_for()
    while not button.evaluate("el => el === document.activeElement"):
        page.keyboard.press("Tab")
    with page.expect_download() as got:
        page.keyboard.press("Enter")
    assert menu.get_attribute("open") is None
    return got.value.suggested_filename, Path(got.value.path()).read_bytes()


def unlike(png: bytes, other: bytes) -> float:
    """The share of blocks of 8 x 8 pixels that are clearly of another colour.

    Rows of a map are a pixel high: half a pixel, which is where the page has put the figure, is
    another picture pixel by pixel.
    """
    one, two = (Image.open(io.BytesIO(p)).convert("RGB") for p in (png, other))
    assert np.abs(np.subtract(one.size, two.size)).max() <= 2, (one.size, two.size)
    size = np.minimum(one.size, two.size).tolist()
    blocks = [np.asarray(im.crop((0, 0, *size)).reduce(8), int) for im in (one, two)]
    return float((np.abs(blocks[0] - blocks[1]).max(-1) > 40).mean())


@pytest.mark.parametrize(("flavour", "theme"), [("lab", "light"), ("notebook", "dark")])
def test_figures_and_numbers_are_saved_as_they_are_seen(open_notebook: Any, theme: str) -> None:
    notebook = open_notebook(SETUP)
    notebook.run_cell(0)
    page = notebook.page
    notebook.theme(theme)
    page.set_viewport_size({"width": 1200, "height": 2000})
    menu = page.locator(f"{MAP} .grulens-save")
    menu.locator("summary").wait_for()
    shown = page.locator(f"{MAP} .grulens-bokeh")
    # tools and menu are no part of a picture
    page.add_style_tag(content=f"{MAP} .grulens-save {{ opacity: 0 }}")
    seen = settled(shown)

    name, png = taken(page, menu, "PNG")
    assert name == "CharacterModel-rnn.l0-edited-units-by-steps-state-h-rnn.l0.png"
    assert unlike(png, seen) < 0.02
    name, svg = taken(page, menu, "SVG")
    assert name.endswith("state-h-rnn.l0.svg")
    assert b"image-rendering: pixelated" in svg
    texts = {el.text for el in ElementTree.fromstring(svg).iter() if el.tag.endswith("}text")}
    assert {"state h · rnn.l0", "unit", "step"} <= texts
    drawn = page.context.browser.new_page(viewport={"width": 1200, "height": 600})
    drawn.set_content(f"<body style='margin: 0'>{svg.decode()}</body>")
    assert unlike(drawn.locator("svg").first.screenshot(), seen) < 0.03
    drawn.close()
    notebook.kernel("lens.gates.picture.save('map.svg')")  # and the same from Python
    same = "import os; print(os.path.exists('map.svg') and open('map.svg').read()[:4])"
    notebook.until(same, "<svg")

    name, csv = taken(page, menu, "selection as CSV")
    assert name == "CharacterModel-rnn.l0-edited-selection.csv"
    assert csv.decode().splitlines() == notebook.kernel("print(lens.gates.to_csv())").splitlines()
    under = page.locator(".grulens-save.grulens-under")
    page.get_by_role("columnheader", name="mean z", exact=True).click()
    notebook.until("print(lens.table._table.sorted_by)", "(('mean_z', False),)")
    name, csv = taken(page, under, "table as CSV")
    assert name == "CharacterModel-rnn.l0-edited-units.csv"
    assert csv.decode().splitlines() == notebook.kernel("print(lens.table.to_csv())").splitlines()
    assert csv.decode().splitlines()[1].startswith("3,edited,")  # what is kept most stands first
