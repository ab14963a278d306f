"""Cells that are observed, under a real hand: defined in the notebook, as people define theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from grulens import Lens, ablate
from tests.browser.jupyter import into_view, settled, until
from tests.widgets import observed_cells
from tests.widgets.observed_cells import made

pytestmark = pytest.mark.browser

CELLS = Path(observed_cells.__file__).read_text(encoding="utf-8")
LENS = """
import grulens
net, x = made({name!r})
lens = grulens.Lens(net, x)
session = lens.session
lens
"""
# where the time axis begins in what is seen of steps: their units, their names, their answers
EDGES = """() => {
  const { documents } = globalThis[Symbol.for("grulens.bokehjs")].scope.Bokeh;
  const mapped = (doc) => [...doc.all_models].some((model) => model.name === "units by steps");
  const doc = documents.find(mapped);
  if (!doc) return null;
  return [...doc.all_models]
    .filter((model) => model.type === "Figure" && /step|token/.test(model.name))
    .map((model) => doc.views_manager.find_one(model))
    .filter((view) => view.el.getBoundingClientRect().width)
    .map((view) => view.el.getBoundingClientRect().left + view.frame.bbox.left);
}"""
# how the first unit of the map is called, and the title above the map
MAP = """() => {
  const { documents } = globalThis[Symbol.for("grulens.bokehjs")].scope.Bokeh;
  const mapped = (doc) => [...doc.all_models].some((model) => model.name === "units by steps");
  const doc = documents.find(mapped);
  if (!doc) return null;
  const figure = [...doc.all_models].find((model) => model.type === "Figure" && model.title?.text);
  const rows = [...doc.all_models].find(
    (model) => model.type === "ColumnDataSource" && model.columns().join() === "unit");
  return rows ? [String(rows.get_column("unit")[0]), figure.title.text] : null;
}"""
MOVED = "print(float(session.divergence.abs().sum()) > 0)"
SAME = """
exec(session.code(), ran := dict(globals()))
print(torch.equal(ran["run"].output, session.edited.output))
"""
WHY = "layer 'cell' was observed in its module's own forward"


def lens_on(open_notebook: Any, name: str) -> Any:
    """A notebook with a lens on one of the cells."""
    notebook = open_notebook(CELLS, LENS.format(name=name))
    notebook.run_all()
    notebook.page.locator(".grulens-panel canvas:visible").first.wait_for()
    return notebook


def says(notebook: Any, text: str) -> None:
    """Wait until a text is seen in the lens."""
    notebook.page.locator(".grulens-panel").first.get_by_text(text).locator(
        "visible=true"
    ).first.wait_for()


@pytest.mark.parametrize(
    ("name", "gate", "line"),
    [
        ("decay", "gam", "torch.exp(-torch.relu(self.decay(x_t)))"),
        ("two", "f", "torch.sigmoid(f)"),
        ("conv", "z", "torch.sigmoid(self.gates("),
    ],
)
def test_its_equation_is_read_and_its_gates_move(
    open_notebook: Any, name: str, gate: str, line: str
) -> None:
    notebook = lens_on(open_notebook, name)
    page = notebook.page
    says(notebook, notebook.kernel("print(session.now.cell.equation)"))
    page.locator(".grulens-code summary").first.click()
    says(notebook, line)
    # what is wider than the screen is scrolled to, and not cut off
    assert page.locator(".grulens-lines").evaluate(
        "el => el.getBoundingClientRect().right <= "
        "el.closest('.grulens-panel').getBoundingClientRect().right"
    )
    notebook.kernel("session.units = (1,)")
    page.locator(f".grulens-signal-{gate} .noUi-handle:visible").first.focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    notebook.until("print(len(session.slots))", "1")
    notebook.until(MOVED, "True")
    notebook.until(SAME, "True")
    page.get_by_role("button", name="ablate selection").click()
    edits = page.locator(".grulens-line")
    edits.nth(1).wait_for()
    if name == "conv":
        says(notebook, "state of unit 1 set to 0 · channel 0 at (0, 1)")
    settled(page.locator(".grulens-area-map .grulens-bokeh").first)
    edges = page.evaluate(EDGES)
    assert len(edges) == (2 if name == "conv" else 3)  # one answer has no axis of time
    assert max(edges) - min(edges) < 1, "steps stand under each other, however long a name is"
    notebook.screenshot(f"observed-{name}")
    page.get_by_role("button", name="undo").click()
    notebook.until("print(len(session.slots))", "1")
    edits.first.locator("input[type=checkbox]").click()
    notebook.until("print(session.edited is session.baseline)", "True")
    notebook.kernel("session.set_input(x[:, :3])")
    says(notebook, "units × 3 steps")
    assert page.locator(".grulens-failed:visible").count() == 0


@pytest.mark.parametrize("flavour", ["lab"])
def test_space_is_folded_and_what_is_chosen_goes_along(open_notebook: Any) -> None:
    notebook = lens_on(open_notebook, "conv")
    page = notebook.page
    space, place = (
        page.get_by_label(name, exact=True).locator("visible=true") for name in ("space", "at")
    )
    rows = "how each unit of the map is called, and the title above it"

    def shows(first: str, title: str, text: str, count: str) -> None:
        """Wait until the picture, the sentence and the table are of this fold."""
        until(page, lambda: page.evaluate(MAP) == [first, title], rows)
        says(notebook, text)
        says(notebook, count)

    notebook.kernel("lens.gates.order = 'index'")
    shows("channel 0 at (0, 0)", "state h · cell", "all units", "24 of 24 units")
    settled(page.locator(".grulens-area-map .grulens-bokeh").first)
    pictures = []
    for fold, title in (("mean", "mean over 3 × 4 places"), ("max", "largest over 3 × 4 places")):
        space.select_option(fold)
        shows("channel 0", f"state h · cell, {title}", f"a channel: {title}", "2 of 2 channels")
        pictures.append(settled(page.locator(".grulens-area-map .grulens-bokeh").first))
    assert pictures[0] != pictures[1]
    notebook.kernel("session.units = range(12, 24)")
    says(notebook, "units 12 to 23 (all of channel 1)")
    space.select_option("one place")
    for at, unit in (("1, 2", 18), ("2, 3", 23)):
        place.fill(at)
        place.press("Enter")
        shows(f"channel 0 at ({at})", f"state h · cell, at ({at})", f"at ({at})", "2 of 2 channels")
        says(notebook, f"unit {unit} (channel 1 at ({at}))")
    page.get_by_role("button", name="ablate selection").click()
    says(notebook, "state of unit 23 set to 0 · channel 1 at (2, 3)")
    notebook.until("print((session.now.h == 0).all(1).all(0).nonzero().tolist())", "[[23]]")
    space.select_option("every place")
    shows("channel 0 at (0, 0)", "state h · cell", "unit 23 (channel 1 at (2, 3))", "24 of 24")
    place.wait_for(state="detached")
    assert page.locator(".grulens-failed:visible").count() == 0


# of the sliders seen: whether no name is cut, how long the shortest is, and what the panel cuts off
NARROW = """() => {
  const seen = (all) => [...document.querySelectorAll(all)].filter((el) => el.offsetParent);
  const panel = seen(".grulens-panel")[0], right = panel?.getBoundingClientRect().right;
  const sliders = seen(".grulens-panel .widget-slider");
  const names = sliders.map((el) => el.querySelector(".widget-label"));
  return [
    names.length > 3 && names.every((el) => el.scrollWidth <= el.clientWidth),
    Math.min(...sliders.map((el) => el.querySelector(".slider-container").offsetWidth)) >= 120,
    sliders.filter((el) => el.getBoundingClientRect().right > right + 1).length,
  ];
}"""


@pytest.mark.parametrize("flavour", ["notebook"])
def test_where_it_is_narrow_no_name_is_cut_and_no_slider_is_short(open_notebook: Any) -> None:
    notebook = lens_on(open_notebook, "conv")
    page = notebook.page
    notebook.kernel("lens.gates.controls.sliders['z'].value = 0.5")  # into the bar
    for width in (460, 400):
        page.set_viewport_size({"width": width, "height": 900})
        page.locator(".grulens-bar .widget-slider:visible").first.wait_for()
        until(page, lambda: page.evaluate(NARROW) == [True, True, 0], "names, lengths, what is cut")


@pytest.mark.parametrize("flavour", ["lab"])
def test_a_mask_is_dragged_between_its_bounds(open_notebook: Any) -> None:
    notebook = lens_on(open_notebook, "masked")
    page = notebook.page
    page.get_by_role("button", name="set", exact=True).click()
    handle = page.locator(".grulens-area-hand .grulens-act-set.grulens-signal-m .noUi-handle")
    handle.wait_for()
    into_view(handle)
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    # past the slider's end, and not out of the window: there a drag ends where it was last seen
    page.mouse.move(x - 400, y, steps=8)
    until(page, lambda: handle.get_attribute("aria-valuenow") == "0.0", "the handle at its end")
    page.mouse.up()
    held = "print([(s.edit.kind, s.edit.signal, s.edit.amount) for s in session.slots])"
    notebook.until(held, "[('clamp', 'm', 0.0)]")
    notebook.until(MOVED, "True")
    notebook.until(SAME, "True")
    says(notebook, "mask (keeps the state at 0) of all units set to 0")
    page.get_by_role("button", name="undo").click()
    notebook.until("print(session.edited is session.baseline)", "True")
    page.get_by_role("button", name="shift", exact=True).click()
    page.locator(
        ".grulens-area-hand .grulens-act-shift.grulens-signal-m .noUi-target[disabled]"
    ).wait_for()


def test_a_long_name_of_a_gate_is_read_whole(open_notebook: Any) -> None:
    page = lens_on(open_notebook, "conv").page
    name = page.locator(".grulens-area-hand .widget-slider:visible .widget-label", has_text="takes")
    name.wait_for()
    assert "candidate at 1" in name.inner_text()
    # its beginning and its end, in no more than two lines
    assert name.evaluate("e => [e.scrollWidth - e.clientWidth, e.scrollHeight]") in (
        [0, 14], [0, 28],
    )  # fmt: skip


def test_a_study_that_it_has_not_says_so_where_it_would_stand(open_notebook: Any) -> None:
    notebook = lens_on(open_notebook, "decay")
    for study, text in (
        ("memory", "layer 'cell'"), ("motion", WHY), ("phrases", WHY),
        ("credit", "This is credit of x, which the model itself is given"),
    ):  # fmt: skip
        notebook.page.get_by_role("button", name=study, exact=True).click()
        says(notebook, text)
        assert notebook.page.locator(".grulens-failed:visible").count() == 0


def test_its_saved_page_lives_without_a_kernel(browser: Any, tmp_path: Path) -> None:
    lens = Lens(*made("conv"))
    lens.session.add(ablate("cell", 1))
    page = browser.new_page(viewport={"width": 1000, "height": 1400})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(lens.save(tmp_path / "lens.html").as_uri())
    page.locator("canvas:visible").first.wait_for()
    page.get_by_text("cell (ConvGRU): h = (1 - z) h_prev + z n").first.wait_for()
    models = "[...Bokeh.documents[0].all_models]"
    title = f"{models}.find(m => m.type === 'Title' && m.text.includes('cell')).text"
    page.locator("select").first.select_option(label="update gate (takes the candidate at 1) z")
    until(page, lambda: page.evaluate(title).startswith("update gate"), "the other signal")
    table = f"{models}.find(m => m.type === 'DataTable').source"
    page.evaluate(f"{table}.selected.indices = [0]")
    called = page.evaluate(f"{table}.data.place[0]")
    assert called.startswith("channel ")
    strip = f"{models}.some(m => m.data?.get?.('name')?.[0] === {called!r} "
    strip += f"|| m.data?.name?.[0] === {called!r})"
    until(page, lambda: page.evaluate(strip), "the name of the unit chosen")
    page.set_viewport_size({"width": 700, "height": 1400})
    settled(page.locator(".bk-Figure").first)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(path=str(Path(__file__).parent / "shots" / "saved-observed.png"))
    assert not errors
    page.close()
