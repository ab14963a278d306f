"""nn.LSTM and nn.RNN in one notebook cell each, their signals under a real hand."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.browser.jupyter import until

pytestmark = pytest.mark.browser

CELL = """
import grulens, torch
torch.manual_seed(0)
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.{kind}(3, 12, batch_first=True)
        self.head = torch.nn.Linear(12, 4)
    def forward(self, x):
        return self.head(self.rnn(x)[0])
lens = grulens.Lens(Net(), torch.randn(2, 30, 3))
session = lens.session
lens
"""


# what the strip writes on its cells: as black texts, and as white ones
WRITTEN = """(steps) => {
  const docs = globalThis[Symbol.for("grulens.bokehjs")].scope.Bokeh.documents;
  const texts = docs.flatMap((doc) => [...doc.all_models])
    .filter((model) => model.type === "CustomJSTickFormatter" && model.args.white != null);
  return [...Array(steps).keys()].filter((step) => texts.some(
    (text) => text.doFormat([step], { loc: 0 })[0] === `${step}`)).length;
}"""


@pytest.mark.parametrize(("kind", "signals", "moved"), [("LSTM", "ifgo", "f"), ("RNN", "a", "a")])
def test_its_own_signals_move(open_notebook: Any, kind: str, signals: str, moved: str) -> None:
    notebook = open_notebook(CELL.format(kind=kind))
    notebook.run_all()
    notebook.page.locator(".grulens-panel canvas:visible").first.wait_for()
    for name in signals:
        notebook.page.locator(f".grulens-signal-{name} .noUi-handle:visible").first.wait_for()
    assert notebook.page.locator(".grulens-signal-z .noUi-handle:visible").count() == 0
    # every step has its number, or none has: half of them would say that the others are missing
    bars = notebook.page.locator(".slick-row svg").first
    assert bars.get_attribute("viewBox").split()[2] == "30"
    written = partial(notebook.page.evaluate, WRITTEN, 30)
    until(notebook.page, lambda: written() == 30, "a number on every step")
    notebook.page.set_viewport_size({"width": 760, "height": 900})
    until(notebook.page, lambda: written() == 0, "no number on any step")
    notebook.page.set_viewport_size({"width": 1200, "height": 900})
    notebook.kernel("session.units = (3,)")
    handle = notebook.page.locator(f".grulens-signal-{moved} .noUi-handle:visible").first
    handle.focus()
    for _ in range(4):
        notebook.page.keyboard.press("ArrowLeft")
    notebook.until("print(len(session.slots))", "1")
    notebook.until("print(float(session.divergence.sum()) > 0)", "True")
    notebook.kernel(f"lens.gates.signal = {moved!r}")
    line = notebook.page.locator(".grulens-line").first
    line.wait_for()
    notebook.screenshot(f"kind-{kind}")
    line.locator("input[type=checkbox]").click()
    notebook.until("print(session.edited is session.baseline)", "True")
