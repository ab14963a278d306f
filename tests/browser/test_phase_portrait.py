"""The phase portrait under a real hand, in real JupyterLab and Notebook 7."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.jupyter import into_view, settled

pytestmark = pytest.mark.browser

# three units that each hold a sign: 27 fixed points
SETUP = """
import torch
from torch import nn
from grulens.dynamics import PhasePortrait
class Switches(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(1, 3, batch_first=True)
        with torch.no_grad():
            for weight in self.rnn.parameters():
                weight.zero_()
            self.rnn.weight_hh_l0[6:] = 2 * torch.eye(3)
            self.rnn.bias_ih_l0[:3] = 20

    def forward(self, h_0):
        return self.rnn(h_0.new_zeros(len(h_0), 9, 1), h_0[None])[0]

h_0 = torch.rand(60, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
panel = PhasePortrait(Switches(), h_0, scale="value")
"""
FIGURE = "states, and where the network stands still"


def spot(notebook: Any, x: float, y: float) -> tuple[float, float]:
    """Where on the page a point of the plane lies, in pixels, once nothing moves any more."""
    figure = notebook.page.get_by_role("figure", name=f"{FIGURE}: states of rnn.l0", exact=True)
    into_view(figure)
    before = None
    while (now := where(notebook, x, y)) != before:
        before = now
        settled(figure)
    return now


# the plane's view, by the beginning of its name
VIEW = """
  const docs = globalThis[Symbol.for("grulens.bokehjs")].scope.Bokeh.documents;
  const mine = (model) => model.name?.startsWith(name);
  const doc = docs.find((doc) => [...doc.all_models].some(mine));
  const view = doc.views_manager.find_one([...doc.all_models].find(mine));
  const box = view.el.getBoundingClientRect();
"""
# whether the plane is seen whole, how wide it is, how much longer a unit is down than across
SEEN = f"""name => {{ {VIEW}
  const {{ x_scale, y_scale, bbox }} = view.frame;
  const unit = (scale) => Math.abs(scale.compute(1) - scale.compute(0));
  const {{ right }} = document.querySelector(".grulens-panel").getBoundingClientRect();
  return [box.right <= right + 1, bbox.width, Math.round(20 * unit(y_scale) / unit(x_scale)) / 20];
}}"""


def where(notebook: Any, x: float, y: float) -> tuple[float, float]:
    """Where on the page a point of the plane lies at this moment."""
    left, top = notebook.page.evaluate(
        f"""([name, x, y]) => {{ {VIEW}
          const {{ x_scale, y_scale }} = view.frame;
          return [box.left + x_scale.compute(x), box.top + y_scale.compute(y)];
        }}""",
        [FIGURE, x, y],
    )
    return left, top


def test_points_are_found_chosen_and_started_from(open_notebook: Any) -> None:
    notebook = open_notebook(SETUP, "panel")
    notebook.run_all()
    page = notebook.page
    page.set_viewport_size({"width": 1340, "height": 1200})
    page.get_by_role("button", name="find fixed points").click()
    page.get_by_role("status").filter(has_text="8 stable").wait_for()
    notebook.screenshot("phase-light", of=notebook.cell(1))
    place = "print(*(float(panel._plot.layers.fixed.data[k][0]) for k in 'xy'))"
    x, y = map(float, notebook.kernel(place).split())
    page.mouse.click(*spot(notebook, x, y))
    notebook.until("print(panel.point.value)", "0")
    page.get_by_text("What dies away slowest").wait_for()
    page.get_by_role(
        "figure", name="eigenvalues of the fixed point: spectrum of point 0"
    ).wait_for()
    notebook.kernel("panel.field.value = True")
    page.get_by_label("how every point moves").and_(page.locator(":checked")).wait_for()
    right = notebook.kernel("r = panel._plot.root; print(r.x_range.end, r.y_range.start)")
    corner = [float(v) * 0.93 for v in right.split()]
    started = page.get_by_text("started in the plane through point 0; after 200 steps")
    # the list of points above it may be in two lines now
    settled(notebook.cell(1))
    page.mouse.click(*spot(notebook, *corner))
    started.wait_for()
    assert notebook.kernel("print(len(panel._plot.layers.trail.data['x']))") == "201"
    notebook.theme("dark")
    settled(notebook.cell(1))
    notebook.screenshot("phase-dark", of=notebook.cell(1))


def test_a_point_is_chosen_with_the_keyboard_alone(open_notebook: Any) -> None:
    notebook = open_notebook(SETUP, "panel.find.click(); panel.wait(60.0)\npanel")
    notebook.run_all()
    choice = notebook.page.get_by_label("point", exact=True)
    notebook.page.get_by_role("status").filter(has_text="8 stable").wait_for()
    choice.focus()
    notebook.page.keyboard.press("ArrowDown")
    notebook.until("print(panel.point.value)", "0")


@pytest.mark.parametrize("flavour", ["notebook"])
def test_the_plane_is_seen_whole_where_it_is_narrow(open_notebook: Any) -> None:
    notebook = open_notebook(SETUP, "panel")
    notebook.run_all()
    page = notebook.page
    widths = []
    for room, meanwhile in ((420, ""), (360, ""), (1100, ""), (420, "none"), (1100, "none")):
        notebook.kernel(f"panel.layout.display = {meanwhile!r}")
        page.set_viewport_size({"width": room, "height": 900})
        notebook.kernel("panel.layout.display = ''")
        canvas = page.locator(".grulens-panel canvas:visible").first
        canvas.wait_for()
        settled(canvas)
        whole, width, longer = page.evaluate(SEEN, FIGURE)
        assert (whole, longer) == (True, 1.0), f"{room} pixels: {width}"
        widths.append(width)
    assert 100 < widths[1] < widths[0] < widths[2] == 440
    assert widths[3:] == [widths[0], 440], "a width that it was given while it was hidden"
