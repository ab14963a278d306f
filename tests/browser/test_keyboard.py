"""A person without a mouse: every control is reached with Tab, has a name, and works."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.jupyter import settled, until

pytestmark = pytest.mark.browser

SETUP = """
import grulens
from grulens.demo import load
model, encode, decode = load()
lens = grulens.Lens(model, "def f(x):\\n    return x\\n")
session = lens.session
session.units = (3,)
session.add(grulens.ablate("rnn.l0", 3))
lens
"""
FOCUSED = """() => {
  let el = document.activeElement;
  while (el?.shadowRoot?.activeElement) el = el.shadowRoot.activeElement;
  const within = document.querySelector(".grulens-panel").contains(document.activeElement);
  // inside a figure or table the stops are Bokeh's own: what stands in them is no name
  const bokeh = el !== document.activeElement;
  const label = el.labels?.[0] ?? el.closest(".widget-inline-hbox")?.querySelector("label");
  const name = el.getAttribute("aria-label") || label?.textContent
    || (!bokeh && el.textContent.trim().slice(0, 40)) || el.placeholder || el.title || "";
  return { within, name, bokeh, tag: el.tagName.toLowerCase(), role: el.getAttribute("role") };
}"""
# a script that moves the focus out of the screen is the front end's: no code of ours does
WATCH = """() => {
  const focus = HTMLElement.prototype.focus;
  const panel = document.querySelector(".grulens-panel");
  const within = (el) => Boolean(el) && (panel.contains(el) || within(el.getRootNode().host));
  window.grulensTaken = [];
  HTMLElement.prototype.focus = function (...options) {
    const here = within(document.activeElement);
    focus.apply(this, options);
    if (here && !within(document.activeElement)) grulensTaken.push(new Error().stack);
  };
}"""
EXPECTED = {
    "run", "h state", "r reset gate", "z update gate", "n candidate", "edited − baseline", "clear",
    "scale", "set", "shift", "ablate selection", "zero", "its mean", "all on", "all off", "invert",
    "undo", "remove", "copy as code", "into a new cell", "the same as code",
}  # fmt: skip
LABELLED = {
    "search the text",
    "steps: click or drag",
    "layer",
    "input",
    "Order units by",
    "Find",
    "where",
    "from",
    "to",
}


def walk(page: Any) -> list[dict[str, Any]]:
    """Where the focus stands after each Tab, from the first control until it leaves the screen.

    Nothing where the front end took the focus on the way: it puts it on a cell that has run, late
    on a slow machine.
    """
    first = page.locator(".grulens-panel select").first

    def there() -> bool:
        first.focus()
        return bool(first.evaluate("el => el === document.activeElement"))

    until(page, there, "the focus in the first control")
    page.evaluate("grulensTaken.splice(0)")
    seen = [page.evaluate(FOCUSED)]
    for _ in range(80):
        page.keyboard.press("Tab")
        here = page.evaluate(FOCUSED)
        if not here["within"]:
            break
        seen.append(here)
    return [] if page.evaluate("grulensTaken.length") else seen


def test_every_control_by_keyboard(open_notebook: Any) -> None:
    notebook = open_notebook(SETUP)
    notebook.run_cell(0)  # run_all moves the focus to the last cell, some time later
    page = notebook.page
    # higher than the screen: else each picture of it makes the window larger and smaller again
    page.set_viewport_size({"width": 1200, "height": 2100})
    panel = page.locator(".grulens-panel").first
    for name in EXPECTED:  # each control is there once its own view is made, the figure or not
        panel.get_by_text(name, exact=True).locator("visible=true").first.wait_for()
    panel.locator(".slick-row").first.wait_for()
    settled(panel)
    page.evaluate(WATCH)
    seen = until(page, lambda: walk(page), "a walk on which the front end takes no focus")
    names = {stop["name"] for stop in seen}
    assert not EXPECTED - names
    assert not {word for word in LABELLED if not any(word in name for name in names)}
    assert sum(stop["role"] == "slider" for stop in seen) == 3
    assert not [stop for stop in seen if not stop["name"]]
    for gate in ("r reset gate", "z update gate", "n candidate"):
        page.get_by_role("slider", name=gate).first.wait_for()
    # Tab leaves the table behind its few stops, and has chosen nothing on its way through it
    stops = [stop["name"] for stop in seen]
    assert stops[-1] == "save"
    assert stops.index("corpus") < stops.index("measure effects")
    assert len(stops) < 80
    assert sum(stop["bokeh"] for stop in seen[stops.index("measure effects") + 1 :]) <= 14
    figures = {"units by steps: state h · rnn.l0", "how far the output moved, by step",
               "table of units: rows"}  # fmt: skip
    assert not figures - {stop["name"] for stop in seen if stop["bokeh"]}
    assert notebook.kernel("print(session.units)") == "(3,)"

    # and they do what they say
    page.get_by_role("button", name="invert", exact=True).first.focus()
    page.keyboard.press("Enter")
    notebook.until("print(session.edited is session.baseline)", "True")
    page.get_by_role("button", name="undo", exact=True).first.focus()
    page.keyboard.press(" ")
    notebook.until("print(session.edited is session.baseline)", "False")
    page.locator(".grulens-line input").first.focus()
    page.keyboard.press(" ")
    notebook.until("print(session.edited is session.baseline)", "True")
    page.locator(".grulens-signal-n .noUi-handle:visible").first.focus()
    page.keyboard.press("ArrowRight")
    notebook.until("print(session.slots[-1].edit)", "scale('rnn.l0', 'n', [3], by=1.01)")
    page.get_by_label("Find").first.focus()
    page.keyboard.type("5-7")
    notebook.until("print(lens.table._table.shown)", "(5, 6, 7)")
