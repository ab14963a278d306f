"""The screen of memory in a real page: a tap chooses a state, a list the class, a box the units."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.jupyter import settled

pytestmark = pytest.mark.browser

SETUP = """
import grulens
from grulens.demo import load
model, encode, decode = load()
screen = grulens.memory.GateMemory(model, "def f(name):\\n    return name\\n")
session = screen.session
screen
"""


@pytest.mark.parametrize("flavour", ["lab"])
def test_attention_by_mouse_and_keyboard(open_notebook: Any) -> None:
    notebook = open_notebook(SETUP)
    notebook.run_all()
    page = notebook.page
    page.set_viewport_size({"width": 968, "height": 1200})
    picture = page.get_by_role("figure", name="weights by query and key: mean weight · rnn.l0")
    picture.wait_for()
    settled(picture)
    notebook.screenshot("memory-attention", of=notebook.cell(0))
    box = picture.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.5)
    notebook.until("print(8 < session.step < 20)", "True")
    page.get_by_role("spinbutton", name="state after step").fill("7")
    page.keyboard.press("Tab")
    notebook.until("print(session.step)", "7")
    page.get_by_role("status").filter(has_text="the state after step 7").wait_for()
    page.get_by_role("combobox", name="weigh toward").select_option("(")
    page.get_by_role("figure", name="weights by query and key: toward “(” · rnn.l0").wait_for()
    page.get_by_role("status").filter(has_text="toward “(” (all 192 units)").wait_for()
    notebook.theme("dark")
    notebook.screenshot("memory-toward", of=notebook.cell(0))


@pytest.mark.parametrize("flavour", ["lab"])
def test_time_scales_by_mouse_and_keyboard(open_notebook: Any) -> None:
    notebook = open_notebook(SETUP)
    notebook.run_all()
    page = notebook.page
    page.set_viewport_size({"width": 968, "height": 1200})
    page.get_by_role("button", name="timescales").focus()
    page.keyboard.press("Enter")
    dots = page.get_by_role("figure", name="saturation of the gates, a dot a unit")
    dots.wait_for()
    for name in ("histogram of the reset gate", "histogram of the update gate"):
        page.get_by_role("figure", name=name).wait_for()
    settled(dots)
    box = dots.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    for step in range(1, 6):
        page.mouse.move(
            box["x"] + box["width"] * (0.25 + 0.06 * step),
            box["y"] + box["height"] * (0.2 + 0.06 * step),
        )
    page.mouse.up()
    notebook.until("print(len(session.units) > 0)", "True")
    notebook.screenshot("memory-timescales", of=notebook.cell(0))
    lives = page.get_by_role("figure", name="half-life of every unit")
    box = lives.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.4)
    notebook.until("print(len(session.units))", "1")
