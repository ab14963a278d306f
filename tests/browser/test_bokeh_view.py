"""A Bokeh document in real front ends. What jupyter_bokeh 4.1 was found to get wrong is in here."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import nbformat
import numpy as np
import pytest
from PIL import Image

from tests.browser.jupyter import settled, until

pytestmark = pytest.mark.browser

PLOT = """
from bokeh.events import DoubleTap, Reset, SelectionGeometry, Tap
from bokeh.models import ColumnDataSource, Slider
from bokeh.layouts import column
from bokeh.plotting import figure
from grulens.widgets.jupyter.bokeh_view import BokehView

source = ColumnDataSource({"x": [1, 2, 3], "y": [1, 2, 3]})
plot = figure(height=250, width=500, tools="tap,box_select,pan,reset", active_drag="box_select",
              x_range=(0, 4), y_range=(0, 4))
plot.scatter("x", "y", size=30, source=source)
slider = Slider(start=0, end=10, value=5, step=1, title="depth")
seen = []
for event in (DoubleTap, Reset, SelectionGeometry, Tap):
    plot.on_event(event, lambda e: seen.append(e.event_name))
slider.on_change("value", lambda attr, old, new: source.data.update(y=[new / 3] * 3))
view = BokehView(column(plot, slider), text=lambda: "a plot")
"""
WIDE = """
import torch
import grulens
grulens.GateSliders(torch.nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
"""
SHARED = 'globalThis[Symbol.for("grulens.bokehjs")]'
# counts what is written into the style sheets of the figures' parts from now on
STYLES = """() => {
  globalThis.written = 0;
  const count = (root) => {
    for (const sheet of root.querySelectorAll("style"))
      new MutationObserver((all) => { written += all.length; }).observe(sheet, { childList: true });
    for (const el of root.querySelectorAll("*")) if (el.shadowRoot) count(el.shadowRoot);
  };
  document.querySelectorAll(".grulens-bokeh").forEach(count);
}"""
FIGURE = ".grulens-bokeh .bk-Figure"


def documents(notebook: Any) -> int:
    count: int = notebook.page.evaluate(f"{SHARED}.scope.Bokeh.documents.length")
    return count


def model(notebook: Any, kind: str, attr: str, document: int = -1) -> Any:
    """The value that a model of the page's document has."""
    return notebook.page.evaluate(
        f"""([kind, attr, at]) => [...{SHARED}.scope.Bokeh.documents.at(at).all_models]
            .find(model => model.type === kind)[attr]""",
        [kind, attr, document],
    )


def until_model(notebook: Any, kind: str, attr: str, want: Any, document: int = -1) -> None:
    until(
        notebook.page,
        lambda: model(notebook, kind, attr, document) == want,
        f"{kind}.{attr} {want}",
    )


def spot(notebook: Any, x: float, y: float) -> tuple[float, float]:
    """Where on the page a point of the first figure lies, in pixels."""
    left, top = notebook.page.evaluate(
        f"""([x, y]) => {{
          const doc = {SHARED}.scope.Bokeh.documents.at(-1);
          const figure = [...doc.all_models].find(model => model.type === "Figure");
          const view = doc.views_manager.find_one(figure);
          view.el.scrollIntoView({{block: "nearest"}});
          const box = view.el.getBoundingClientRect();
          const {{x_scale, y_scale}} = view.frame;
          return [box.left + x_scale.compute(x), box.top + y_scale.compute(y)];
        }}""",
        [x, y],
    )
    return left, top


def shown(notebook: Any, cell: int = 0) -> Any:
    figure = notebook.cell(cell).locator(FIGURE).first
    figure.wait_for()
    notebook.page.wait_for_function(f"{SHARED}.scope.Bokeh.documents.every(doc => doc.is_idle)")
    settled(figure)
    return figure


def pixels(locator: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB")).astype(int)


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """But for a few soft edges, and for a row that a figure lies lower between two pixels."""
    if a.shape != b.shape:
        return False
    shifted = (np.roll(a, by, axis=0)[2:-2, 2:-2] for by in (-1, 0, 1))
    return any((abs(one - b[2:-2, 2:-2]).max(axis=2) > 60).sum() < 40 for one in shifted)


def until_pixels(locator: Any, like: np.ndarray, *, equal: bool) -> np.ndarray:
    """Wait until the picture is, or is no longer, this one."""
    found: list[np.ndarray] = []

    def reached() -> bool:
        found[:] = [pixels(locator)]
        return alike(found[0], like) == equal

    until(locator.page, reached, f"{'the same' if equal else 'other'} pixels")
    return found[0]


def test_both_ways(open_notebook: Any) -> None:
    notebook = open_notebook(PLOT + "view", fresh=True)
    notebook.run_all()
    figure = shown(notebook)
    page = notebook.page
    first = pixels(figure)

    page.evaluate(STYLES)
    notebook.kernel("source.data = {'x': [1, 2, 3], 'y': [3, 2, 1]}")
    swapped = until_pixels(figure, first, equal=False)
    assert page.evaluate("written") == 0, "a style that stands already costs the page all styles"
    notebook.kernel("plot.width = 440")
    until_pixels(figure, swapped, equal=False)
    assert page.evaluate("written") > 0, "a figure lies elsewhere, and that is written"
    notebook.kernel("plot.width = 500")
    until_pixels(figure, swapped, equal=True)
    notebook.kernel(
        "with view.batch():\n source.patch({'y': [(0, 1), (2, 3)]})\n plot.x_range.end = 4.0"
    )
    until_pixels(figure, first, equal=True)

    page.mouse.click(*spot(notebook, 2, 2))
    notebook.until("print(source.selected.indices, 'tap' in seen)", "[1] True")
    page.mouse.move(*spot(notebook, 0.5, 0.5))
    page.mouse.down()
    page.mouse.move(*spot(notebook, 2, 2.5), steps=4)
    page.mouse.move(*spot(notebook, 2.6, 2.6), steps=4)
    page.mouse.up()
    notebook.until("print(source.selected.indices)", "[0, 1]")
    notebook.until("print(seen[-1])", "selectiongeometry")
    notebook.kernel(
        "from bokeh.models import PanTool\nplot.toolbar.active_drag = plot.select_one(PanTool)"
    )
    page.wait_for_function(
        f"""() => [...{SHARED}.scope.Bokeh.documents.at(-1).all_models]
            .find(model => model.type === "Toolbar").active_drag?.type === "PanTool\""""
    )
    x, y = spot(notebook, 2.5, 1)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y, steps=5)
    page.mouse.up()
    notebook.until("print(plot.x_range.start > 0.2)", "True")
    page.mouse.dblclick(*spot(notebook, 2.5, 1))
    notebook.until("print('doubletap' in seen)", "True")

    # a slider of Bokeh's, by keyboard, answered by Python; Notebook 7 would keep the arrow
    page.locator(".noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    notebook.until("print(slider.value, source.data['y'][0])", "6 2.0")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    notebook.until("print(slider.value)", "4")
    until_pixels(figure, swapped, equal=False)
    notebook.screenshot("both-ways")

    assert page.evaluate("window.Bokeh") is None
    assert notebook.outside == []


def drawings(notebook: Any) -> list[str]:
    """What each display of the figure has drawn."""
    urls: list[str] = notebook.page.evaluate(
        f"""() => {SHARED}.scope.Bokeh.documents.map(doc => {{
          const figure = [...doc.all_models].find(model => model.type === "Figure");
          return doc.views_manager.find_one(figure).export("png", false).canvas.toDataURL();
        }})"""
    )
    return urls


def until_equal(notebook: Any, but: str = "") -> str:
    """What all displays have drawn, once it is the same and another picture than `but`."""

    def same() -> str:
        now = set(drawings(notebook))
        return now.pop() if len(now) == 1 and but not in now else ""

    drawn: str = until(notebook.page, same, "displays that are the same")
    return drawn


def test_every_display_is_current(open_notebook: Any) -> None:
    notebook = open_notebook(
        PLOT + "view",
        "import ipywidgets as W\nW.VBox([W.HTML('above'), view])",
        "view",
    )
    notebook.run_cell(0)
    shown(notebook, 0)
    before = drawings(notebook)
    notebook.kernel("source.data = {'x': [1, 2, 3], 'y': [1, 3, 1]}")
    notebook.run_cell(1)
    notebook.run_cell(2)
    for cell in range(3):
        shown(notebook, cell)
    assert documents(notebook) == 3
    after = until_equal(notebook)
    assert after not in before

    # what a person does in one shows in the others
    notebook.page.mouse.click(*spot(notebook, 2, 3))
    notebook.until("print(source.selected.indices)", "[1]")
    until_equal(notebook, but=after)
    notebook.page.locator(".noUi-handle").nth(2).focus()
    notebook.page.keyboard.press("ArrowRight")
    for document in range(3):
        until_model(notebook, "Slider", "value", 6, document)
    notebook.screenshot("displays")


def test_nothing_grows(open_notebook: Any) -> None:
    notebook = open_notebook(
        "keep = 0", PLOT + "from IPython.display import display\ndisplay(view)"
    )
    notebook.run_all()
    shown(notebook, 1)
    widgets = "import ipywidgets\nprint(len(ipywidgets.widgets.widget._instances))"
    assert (notebook.kernel(widgets), documents(notebook)) == ("2", 1)  # the view and its layout
    roots = f"{SHARED}.scope.Bokeh.index.roots.length"
    before = notebook.page.evaluate(roots)
    for _ in range(6):
        notebook.run_cell(1)
    shown(notebook, 1)
    # they go after the new one is there; that none comes back shows when all has been said
    until(notebook.page, lambda: documents(notebook) == 1, "one document")
    notebook.until(widgets, "2")
    until(notebook.page, lambda: notebook.page.evaluate(roots) == before, "no more roots")
    assert (notebook.kernel(widgets), documents(notebook)) == ("2", 1)
    notebook.kernel("view.close(); view.close()")
    notebook.page.locator(FIGURE).wait_for(state="detached")
    assert documents(notebook) == 0


def test_an_error_shows_and_goes(open_notebook: Any) -> None:
    callback = """
def fails(attr, old, new):
    if new > 5:
        raise ValueError("<b>too deep</b>")
slider.on_change("value", fails)
"""
    notebook = open_notebook(PLOT + callback + "view", "view")
    notebook.run_all()
    for cell in (0, 1):
        shown(notebook, cell)
    page = notebook.page
    page.locator(".noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    box = page.locator("details.grulens-error[role=alert]")
    box.nth(1).wait_for()
    assert box.nth(0).locator("summary").inner_text() == "ValueError: <b>too deep</b>"
    assert not box.nth(0).locator("pre").is_visible()
    box.nth(0).locator("summary").click()
    assert "in fails" in box.nth(0).locator("pre").inner_text()
    notebook.screenshot("error")
    page.locator(".noUi-handle").first.focus()
    page.keyboard.press("ArrowLeft")
    box.first.wait_for(state="detached")
    notebook.until("print(slider.value)", "5")


def test_reload_restart_move_and_a_second_tab(open_notebook: Any) -> None:
    notebook = open_notebook(PLOT + "view", "1 + 1", fresh=True)
    notebook.run_all()
    shown(notebook)
    notebook.save()
    notebook.kernel("source.data = {'x': [1, 2, 3], 'y': [1, 3, 1]}")

    notebook.load()
    figure = shown(notebook)
    before = pixels(figure)
    notebook.kernel("source.data = {'x': [1, 2, 3], 'y': [3, 1, 3]}")
    until_pixels(figure, before, equal=False)

    # a view in another tab of the browser follows
    other = open_notebook(path=notebook.path)
    until_pixels(shown(other), pixels(figure), equal=True)
    other.page.locator(".noUi-handle").first.focus()
    other.page.keyboard.press("ArrowRight")
    until_model(notebook, "Slider", "value", 6)
    other.page.close()

    notebook.page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0")
    notebook.command("notebook:move-cell-down")
    notebook.kernel("source.data = {'x': [1, 2, 3], 'y': [2, 2, 2]}")
    moved = shown(notebook, 1)
    until_pixels(moved, before, equal=False)
    assert documents(notebook) == 1

    notebook.restart()
    notebook.page.locator(".noUi-handle").first.focus()
    notebook.page.keyboard.press("ArrowRight")
    notebook.page.get_by_text("The kernel is gone: run the cell again.").wait_for()
    notebook.run_all()
    again = shown(notebook, 1)
    first = pixels(again)
    notebook.kernel("source.data = {'x': [1, 2, 3], 'y': [2, 3, 2]}")
    until_pixels(again, first, equal=False)
    assert documents(notebook) == 1


TABLE = """
from bokeh.models import (ColorBar, ColumnDataSource, DataTable, LinearColorMapper, NumberFormatter,
                          TableColumn)
from bokeh.layouts import row
from bokeh.plotting import figure
from grulens.widgets.jupyter.bokeh_view import BokehView

source = ColumnDataSource({"unit": [0, 1, 2, 3], "effect": [0.1, 0.2, 0.3, 0.4]})
source.selected.indices = [1, 2]
table = DataTable(source=source, width=300, height=200, columns=[
    TableColumn(field="unit", title="unit"),
    TableColumn(field="effect", title="effect", formatter=NumberFormatter(format="0.00"))])
plot = figure(height=250, width=450, title="effects", x_axis_label="unit", toolbar_location="right")
plot.line("unit", "effect", source=source, legend_label="effect of a unit", color="#D55E00")
plot.yaxis.axis_label_text_color = "#ff0000"
plot.add_layout(ColorBar(color_mapper=LinearColorMapper("Viridis256", low=0, high=1),
                         title="scale"), "right")
view = BokehView(row(table, plot))
view
"""


def luminance(color: Any) -> float:
    light = np.asarray(color, float) / 255
    light = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    return float(light @ [0.2126, 0.7152, 0.0722])


def contrast(a: Any, b: Any) -> float:
    """WCAG 2.2: from 1 to 21; text needs 4.5."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def readable(picture: np.ndarray) -> tuple[float, float]:
    """How dark the commonest colour is, and the strongest contrast on it."""
    colors = Counter(map(tuple, picture.reshape(-1, 3)))
    ground = colors.most_common(1)[0][0]
    return luminance(ground), max(contrast(ground, color) for color in colors)


def crop(notebook: Any, kind: str, picture: np.ndarray) -> np.ndarray:
    """The part of the figure's picture where an annotation stands."""
    x0, y0, x1, y1 = notebook.page.evaluate(
        f"""kind => {{
          const doc = {SHARED}.scope.Bokeh.documents.at(-1);
          const model = [...doc.all_models].find(model => model.type === kind);
          const {{x0, y0, x1, y1}} = doc.views_manager.find_one(model).bbox;
          return [x0, y0, x1, y1].map(Math.round);
        }}""",
        kind,
    )
    return picture[y0:y1, x0:x1]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_are_readable(open_notebook: Any, theme: str) -> None:
    notebook = open_notebook(TABLE)
    notebook.run_all()
    figure = shown(notebook)
    notebook.theme(theme)  # with the view open: it follows
    settled(figure)
    notebook.screenshot(f"colours-{theme}")
    picture = pixels(figure)
    edge = contrast(picture[:3, 100:400].reshape(-1, 3).max(0), picture[:3, 100:400].min((0, 1)))
    assert edge < 1.1  # nothing of the other theme is left
    for kind in ("Title", "Legend", "LinearAxis"):
        ground, strongest = readable(crop(notebook, kind, picture))
        assert (ground < 0.05) == (theme == "dark"), kind
        assert strongest > 4.5, kind
    # the bar itself has every colour: look at what it was told
    colors = [model(notebook, "ColorBar", name) for name in
              ("background_fill_color", "major_label_text_color", "title_text_color")]  # fmt: skip
    assert len({str(color) for color in colors}) == 2
    assert colors[1] == colors[2]
    # the axis whose colour Python chose keeps it
    chosen = notebook.page.evaluate(
        f"""[...{SHARED}.scope.Bokeh.documents.at(-1).all_models]
            .filter(model => model.type === "LinearAxis")
            .map(model => JSON.stringify(model.axis_label_text_color))"""
    )
    assert sum("#ff0000" in color for color in chosen) == 1
    assert notebook.kernel("print(plot.xaxis[0].axis_label_text_color)") == "#444444"

    cells = notebook.page.evaluate(
        """() => {
          const rgb = text => {
            const canvas = new OffscreenCanvas(1, 1).getContext("2d");
            canvas.fillStyle = text;
            canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data];
          };
          const find = (root, out = []) => {
            for (const el of root.querySelectorAll("*")) {
              if (el.matches(".slick-cell.l1, .slick-header-column")) out.push(el);
              if (el.shadowRoot) find(el.shadowRoot, out);
            }
            return out;
          };
          return find(document).map(el => {
            let ground = el;
            while (rgb(getComputedStyle(ground).backgroundColor)[3] === 0) {
              ground = ground.parentElement ?? ground.getRootNode().host;
            }
            const style = getComputedStyle(ground).backgroundColor;
            return { selected: el.matches(".selected"), header: el.matches(".slick-header-column"),
                     ground: rgb(style).slice(0, 3),
                     text: rgb(getComputedStyle(el).color).slice(0, 3) };
          });
        }"""
    )
    rows = [cell for cell in cells if not cell["header"]]
    assert [cell["selected"] for cell in rows] == [False, True, True, False]
    for cell in cells:
        assert contrast(cell["ground"], cell["text"]) > 4.5, cell
        assert (luminance(cell["ground"]) < 0.2) == (theme == "dark"), cell
    for chosen in rows[1:3]:
        for other in (rows[0], rows[3]):
            assert contrast(chosen["ground"], other["ground"]) > 1.2, (chosen, other)


def test_a_table_redraws_for_data_of_the_same_length(open_notebook: Any) -> None:
    notebook = open_notebook(TABLE)
    notebook.run_all()
    shown(notebook)
    notebook.page.get_by_text("0.40", exact=True).wait_for()
    notebook.kernel("source.data = dict(source.data, effect=[0.5, 0.6, 0.7, 0.8])")
    notebook.page.get_by_text("0.80", exact=True).wait_for()
    notebook.kernel("source.patch({'effect': [(3, 0.9)]})")
    notebook.page.get_by_text("0.90", exact=True).wait_for()
    notebook.page.get_by_text("0.50", exact=True).click()
    notebook.until("print(source.selected.indices)", "[0]")


def test_the_last_picture_stays(open_notebook: Any) -> None:
    still = """view = BokehView(column(plot, slider), text=lambda: "a plot",
                 still=lambda: f"<p>the picture at {slider.value}</p>")"""
    make = PLOT.replace(PLOT[PLOT.index("view =") :].strip(), still)
    notebook = open_notebook(make + "view", fresh=True)
    notebook.run_all()
    shown(notebook)
    picture = notebook.page.locator(".grulens-still")
    assert picture.count() == 1
    assert not picture.is_visible()
    notebook.page.locator(".noUi-handle").first.focus()
    notebook.page.keyboard.press("ArrowRight")
    notebook.page.get_by_text("the picture at 6").wait_for(state="attached")
    saved = notebook.save()
    notebook.close()

    # trusted, with a kernel that knows nothing of the widget
    again = open_notebook(path=notebook.path)
    outputs = again.cell(0).locator(".jp-OutputArea-child")
    again.page.get_by_text("the picture at 6").wait_for()
    assert not outputs.first.is_visible()
    again.screenshot("still")
    again.run_all()
    shown(again)
    assert not again.page.get_by_text("the picture at 5").is_visible()

    # a notebook from elsewhere: no script, no style
    saved.cells[0].source += "\n"
    nbformat.write(saved, again.server.root / "elsewhere.ipynb")
    elsewhere = open_notebook(path="elsewhere.ipynb")
    elsewhere.page.get_by_text("the picture at 6").wait_for()
    assert outputs_of(elsewhere) == ["a plot", "the picture at 6"]


def outputs_of(notebook: Any) -> list[str]:
    texts: list[str] = notebook.cell(0).locator(".jp-OutputArea-output").all_inner_texts()
    return texts


@pytest.mark.parametrize("flavour", ["lab"])
def test_a_figure_keeps_its_tools_when_the_page_changes_its_width(open_notebook: Any) -> None:
    notebook = open_notebook(WIDE)
    notebook.run_all()
    page = notebook.page
    figure = page.locator(".grulens-area-map .bk-Figure:visible").nth(1)  # under the input's lines
    settled(figure)
    buttons = figure.locator(".bk-OnOffButton:visible")
    many = buttons.count()
    assert many > 2
    for width in (1001, 900, 1111):
        page.set_viewport_size({"width": width, "height": 900})
        settled(figure)
        until(page, lambda: buttons.count() == many, f"{many} tools")
