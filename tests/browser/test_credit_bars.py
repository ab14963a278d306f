"""The panel of credit and its logit lens, in real JupyterLab and Notebook 7."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.jupyter import settled

pytestmark = pytest.mark.browser

SETUP = """
import grulens
from grulens.demo import load
model, encode, decode = load()
text = 'def f(name):\\n    print(name)\\n    return "text"\\n'
panel = grulens.credit.CreditBars(model, text)
panel.session.step = 22
panel
"""


@pytest.mark.parametrize(("flavour", "theme"), [("lab", "light"), ("notebook", "dark")])
def test_a_tap_selects_the_step_and_the_lens_is_a_click_away(
    open_notebook: Any, theme: str
) -> None:
    notebook = open_notebook(SETUP)
    notebook.run_all()
    notebook.theme(theme)
    page = notebook.page
    page.set_viewport_size({"width": 968, "height": 1500})
    bars = page.get_by_role("figure", name="credit of each step: integrated gradients · rnn.l0")
    bars.wait_for()
    page.get_by_role("figure", name="tokens, coloured by their credit", exact=True).wait_for()
    page.get_by_role("figure", name="where the score comes from", exact=True).wait_for()
    status = page.get_by_role("status").filter(has_text="at step 22")
    status.wait_for()
    assert "gap" in status.inner_text()
    settled(notebook.cell(0))
    notebook.screenshot(f"credit-{theme}", of=notebook.cell(0))
    box = bars.bounding_box()
    left, right = 66, 84  # the frame's margins
    across = (box["width"] - left - right) / float(notebook.kernel("print(len(text))"))
    page.mouse.click(box["x"] + left + across * 19.5, box["y"] + box["height"] / 2)
    notebook.until("print(panel.session.times)", "(19,)")
    page.get_by_label("by", exact=True).select_option("input × gradient")
    notebook.until("print(panel.wait(5.0), panel.credit.method)", "True input × gradient")
    page.get_by_role("button", name="logit lens", exact=True).click()
    lens = page.get_by_role("figure", name="what the model would answer, by step")
    lens.wait_for()
    page.get_by_role("figure", name="what each unit adds").wait_for()
    settled(notebook.cell(0))
    notebook.screenshot(f"logit-lens-{theme}", of=notebook.cell(0))
    box = lens.bounding_box()
    page.mouse.click(box["x"] + left + across * 10.5, box["y"] + box["height"] / 2)
    notebook.until("print(panel.session.step)", "10")
    page.get_by_role("status").filter(has_text="after step 10 the likeliest is").wait_for()


def test_a_saved_notebook_keeps_the_picture(open_notebook: Any) -> None:
    notebook = open_notebook(SETUP + "\nassert panel.wait(30.0)\npanel")
    notebook.run_all()
    notebook.page.get_by_role("status").filter(has_text="at step 22").wait_for()
    saved = notebook.save().cells[0].outputs
    html = "".join(output.data.get("text/html", "") for output in saved)
    assert "integrated gradients · rnn.l0" in html
    assert "red adds" in html
