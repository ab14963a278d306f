"""A scanned corpus in a real page: a row shows its unit, a click opens a place in a linked lens."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.jupyter import settled, until
from tests.browser.test_bokeh_view import contrast, luminance
from tests.browser.test_keyboard import WATCH, walk

pytestmark = pytest.mark.browser

SETUP = """
from tempfile import mkdtemp
import numpy as np
from grulens import corpus
from grulens.demo import load
from grulens.demo.corpus import read_sources
from grulens.demo.ground_truth import ground_truth
model, encode, decode = load()
parts = list(read_sources(["shlex.py", "textwrap.py"]).values())
labels = {
    "in_text": lambda text: ground_truth(text).in_text,
    "digit": lambda text: np.array([c.isdigit() for c in text]),
}
done = corpus.scan(model, parts, mkdtemp(), labels=labels, steps=400, progress=False)
screen = corpus.Corpus(done)
screen
"""


# an answer that is held until the test lets it go
HOLD = """
import threading
gate, match = threading.Event(), corpus.Scan.match
def held(*args, **options):
    gate.wait(60)
    return match(*args, **options)
corpus.Scan.match = held
"""
LET_GO = "gate.set(); corpus.Scan.match = match"


def what_is_pressed_is_busy(notebook: Any) -> None:
    """A button says that its answer is under way, and stays readable; so does the list of it."""
    page = notebook.page
    find = page.get_by_role("button", name="find similar moments")
    busy = page.locator("[aria-busy=true]")
    assert busy.count() == 0
    notebook.kernel(HOLD)
    find.click()
    until(page, lambda: busy.count() == 2, "a button and a list that say they are busy")
    assert find.get_attribute("aria-busy") == "true"
    assert page.locator(".grulens-contexts[aria-busy=true]").count() == 1
    bar = find.evaluate(
        "of => [getComputedStyle(of, '::after').height, getComputedStyle(of).opacity]"
    )
    assert bar == ["3px", "1"]
    notebook.screenshot("corpus-busy", of=notebook.cell(0))
    notebook.kernel(LET_GO)
    page.get_by_role("list", name="similar moments").get_by_role("listitem").first.wait_for()
    until(page, lambda: busy.count() == 0, "no mark of what has ended")
    assert page.locator(".grulens-busy").count() == 0


# the ink of each word, its ground (that of the page where it has none), what pales both
WORDS = """all => all.map(of => {
  let opacity = 1;
  for (let up = of; up; up = up.parentElement) opacity *= Number(getComputedStyle(up).opacity);
  const page = getComputedStyle(document.body).getPropertyValue("--jp-layout-color0");
  const canvas = new OffscreenCanvas(1, 1).getContext("2d");
  const style = getComputedStyle(of);
  const [ground, ink] = [[page, style.backgroundColor], [page, style.backgroundColor, style.color]]
    .map(layers => {
      for (const color of layers) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
      return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    });
  return { ground, ink, opacity, plain: style.backgroundColor === "rgba(0, 0, 0, 0)" };
})"""


def every_word_is_read(page: Any, theme: str) -> None:
    """Each word has its ink on its ground, and where no unit is on that is the page's."""
    words = page.locator(".grulens-context-text > span").evaluate_all(WORDS)
    assert len({str(one["ground"]) for one in words}) > 20
    for one in words:
        assert one["opacity"] == 1
        assert contrast(one["ground"], one["ink"]) >= 4.5, one
    beside = page.locator(".grulens-context-beside").evaluate_all(WORDS)
    assert any(one["plain"] for one in beside)
    assert all((luminance(one["ground"]) < 0.4) == (theme == "dark") for one in beside)


def no_half_line_at_the_foot(page: Any) -> None:
    """A list or table ends at a whole line, and a list says how many more there are."""
    for name in ("windows of the unit", "similar moments"):
        area = page.get_by_role("list", name=name)
        foot = area.evaluate("""of => [of.getBoundingClientRect().bottom,
            ...[...of.children].map(one => one.getBoundingClientRect().bottom)]""")
        below = sum(bottom > foot[0] + 1 for bottom in foot[1:])
        assert min(abs(bottom - foot[0]) for bottom in foot[1:]) <= 1
        said = area.locator("xpath=following-sibling::*").inner_text()
        assert said.startswith(f"\u2193 {below} more: scroll." if below else "bars"), said
    table = page.locator(".slick-viewport-top.slick-viewport-left").first
    assert table.evaluate("of => of.offsetHeight") == 9 * 25


def legends_are_whole(page: Any) -> None:
    """On a narrow page entries stand under each other, all of them on it."""
    panel = page.locator(".grulens-panel").first
    page.set_viewport_size({"width": 480, "height": 1400})
    settled(panel)
    area = panel.bounding_box()
    left, right = area["x"], area["x"] + area["width"]
    entries = page.locator(".bk-Legend .bk-label")
    assert entries.count() == 2
    for one in entries.all():
        box = one.bounding_box()
        assert left + 15 < box["x"] < box["x"] + box["width"] <= right
    page.set_viewport_size({"width": 968, "height": 1400})


def every_control_by_keyboard(page: Any) -> None:
    """Tab goes over every control, each with a name, and leaves the table behind."""
    page.set_viewport_size({"width": 968, "height": 2100})
    settled(page.locator(".grulens-panel").first)
    page.evaluate(WATCH)
    seen = until(page, lambda: walk(page), "a walk on which the front end takes no focus")
    assert not [stop for stop in seen if not stop["name"]]
    names = [stop["name"] for stop in seen]
    for control in (
        "layer", "Find", "where", "from", "to", "clear", "name", "histogram by", "highest", "show",
        "on for so many steps", "at least so many units", "find similar moments",
    ):  # fmt: skip
        assert any(control in name for name in names), control
    assert {"table of units: heads", "table of units: rows"} <= {
        stop["name"] for stop in seen if stop["bokeh"]
    }
    assert any(name.startswith("histogram: h of unit 137") for name in names)
    assert sum(name.startswith("open part") for name in names) == 10
    page.set_viewport_size({"width": 968, "height": 1400})


@pytest.mark.parametrize("flavour", ["lab"])
def test_from_a_unit_to_its_places_to_a_lens(open_notebook: Any) -> None:
    notebook = open_notebook(SETUP)
    notebook.run_all()
    page = notebook.page
    page.set_viewport_size({"width": 968, "height": 1400})
    page.get_by_role("textbox", name="Find").fill("137")
    page.get_by_role("status").filter(has_text="1 of 192 units").wait_for()
    page.locator(".slick-row").first.locator(".slick-cell").nth(1).click()
    notebook.until("print(screen.units, screen.unit)", "(137,) 137")
    contexts = page.get_by_role("list", name="windows of the unit")
    contexts.get_by_role("listitem").nth(9).wait_for()
    notebook.until(
        "print(screen.view.wait(0.0) and screen.view.contexts.shown['said'] == '')", "True"
    )
    # bars are of the page's ink whatever the ink of their step, which may be that of the page
    bars = contexts.locator(".grulens-context-text > span").evaluate_all(
        "all => all.map(of => getComputedStyle(of).boxShadow).filter(of => of !== 'none')"
    )
    assert bars
    assert all("rgba(0, 0, 0, 0.87)" in bar for bar in bars)
    notebook.screenshot("corpus-unit", of=notebook.cell(0))
    every_control_by_keyboard(page)
    what_is_pressed_is_busy(notebook)
    no_half_line_at_the_foot(page)
    for theme in ("light", "dark"):
        notebook.theme(theme)
        every_word_is_read(page, theme)
    notebook.screenshot("corpus-moments", of=notebook.cell(0))
    first = contexts.get_by_role("button").first
    first.focus()
    page.keyboard.press("Enter")
    notebook.until("print(screen.lens is not None and screen.lens.session.units)", "(137,)")
    page.get_by_role("button", name="close the lens").wait_for()
    notebook.kernel("screen.lens.session.units = (5,)")
    notebook.until("print(screen.unit)", "5")
    notebook.screenshot("corpus-lens", of=notebook.cell(0))


NUMBERS = """
from tempfile import mkdtemp
import numpy as np, torch
from torch import nn
from grulens import corpus
torch.manual_seed(1)
model = nn.LSTM(3, 12, num_layers=2, batch_first=True)
parts = [torch.sin(torch.arange(600.0)[:, None] / torch.tensor([9.0, 17.0, 40.0]) + k)[None]
         for k in range(4)]
labels = {
    "first is up, or so it seems": lambda x: np.asarray(x)[:, 0] > 0,
    "never": lambda x: np.zeros(len(x), bool),
}
along = {"l1": {"first less second": torch.eye(12)[0] - torch.eye(12)[1]}}
done = corpus.scan(model, parts, mkdtemp(), labels=labels, directions=along, progress=False)
screen = corpus.Corpus(done)
screen
"""


@pytest.mark.parametrize("flavour", ["lab", "notebook"])
def test_a_direction_over_numbers_by_keyboard(open_notebook: Any) -> None:
    notebook = open_notebook(NUMBERS)
    notebook.run_cell(0)
    page = notebook.page
    page.set_viewport_size({"width": 900, "height": 1400})
    page.get_by_role("status").filter(has_text="12 of 12 units, 1 of 1 direction").wait_for()
    means = page.locator(".slick-cell").filter(has_text="−")  # as long as that of the figures
    means.first.wait_for()
    find = page.get_by_role("textbox", name="Find")
    find.focus()
    page.keyboard.type("→")
    page.get_by_role("status").filter(has_text="0 of 12 units, 1 of 1 direction").wait_for()
    page.locator(".slick-row").first.locator(".slick-cell").nth(1).click()
    notebook.until("print(screen.units, screen.unit)", "('first less second',) first less second")
    contexts = page.get_by_role("list", name="windows of the unit")
    contexts.get_by_role("listitem").nth(9).wait_for()
    page.get_by_text("the strip under them: h along it").wait_for()
    page.get_by_text("bars under the lines, from the top: first is up, or so it").wait_for()
    legends_are_whole(page)
    # a path for each number of the input, and a bar at each step with the label
    first = contexts.locator("svg").first
    assert first.locator("path").count() == 3
    held = notebook.kernel("print(int(done.holds(screen.view.found.places[0])[0].sum()))")
    bars = first.locator("rect").evaluate_all(
        "all => all.filter(one => one.getAttribute('y') === '47').length"
    )
    assert str(bars) == held
    assert page.get_by_role("button", name="find similar moments").is_disabled()
    # what stands below stays in reach, and Notebook folds no output of this height
    assert contexts.bounding_box()["height"] <= 480
    assert page.locator(".jp-mod-outputsScrolled").count() == 0
    name = page.get_by_role("textbox", name="name", exact=True)
    name.focus()
    page.keyboard.type("up or down")
    page.keyboard.press("Enter")
    pin = page.get_by_role("button", name="★")
    pin.focus()
    page.keyboard.press("Space")
    page.locator(".slick-cell").filter(has_text="★ → first less second: up or down").wait_for()
    notebook.theme("dark")
    notebook.screenshot("corpus-direction", of=notebook.cell(0))
    contexts.get_by_role("button").first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="close the lens").wait_for()
    place = "(lambda p: tuple(range(p.start, p.stop)))(screen.view.found.places[0])"
    notebook.until(
        f"print(screen.lens is not None and screen.lens.session.times == {place})", "True"
    )
    assert notebook.kernel("print(screen.callbacks.box.value)") == ""
    # it is looked at in the lens, too: let go of in the study by a key, there it is let go of here;
    # and chosen in the lens' table of directions
    notebook.kernel("screen.lens.studies.shown = 'corpus'")
    chosen = "print(screen.unit, screen.units, screen.lens.session.unit)"
    notebook.until(chosen, "first less second ('first less second',) first less second")
    choice = page.get_by_role("combobox", name="direction", exact=True)
    choice.wait_for()
    choice.focus()
    page.keyboard.press("ArrowUp")
    notebook.until(chosen, "None () None")
    listed = page.get_by_role("group", name="table of directions", exact=True)
    listed.locator(".slick-row").first.locator(".slick-cell").nth(1).click()
    notebook.until(chosen, "first less second ('first less second',) first less second")
    notebook.until(
        "study = screen.lens.studies.opened['corpus']; print(study.wait(0.0) and study.view.found"
        " is not None and study.view.found.unit, study.callbacks.box.value)",
        "first less second",
    )
    page.get_by_role("list", name="windows of the unit").nth(1).get_by_role("listitem").nth(
        9
    ).wait_for()
    # an output of this height is folded, by Notebook at once, to what one can still work in
    notebook.cell(0).evaluate("cell => cell.classList.add('jp-mod-outputsScrolled')")
    area = notebook.cell(0).locator(".jp-Cell-outputArea")
    assert area.bounding_box()["height"] > 0.8 * 1400
