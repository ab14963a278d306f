"""The lens under a real hand, in real JupyterLab and Notebook 7."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.browser.jupyter import into_view, settled, until

pytestmark = pytest.mark.browser

TEXT = 'def greet(name):\n    """Say hello to the person."""\n    print(name)\n'
SETUP = f"""
import grulens, torch
from grulens.demo import load
model, encode, decode = load()
lens = grulens.Lens(model, {TEXT!r})
session = lens.session
lens
"""
MOVED = "print(round(float(session.divergence.sum()), 6))"


@pytest.fixture
def lens(open_notebook: Any) -> Any:
    notebook = open_notebook(SETUP)
    notebook.run_all()
    notebook.page.locator(".grulens-panel canvas:visible").first.wait_for()
    settled(picture(notebook))
    return notebook


def picture(notebook: Any) -> Any:
    """The figures on the axis of time: heatmap, output."""
    return notebook.page.locator(".grulens-area-map .grulens-bokeh").first


def slider(notebook: Any, gate: str) -> Any:
    return notebook.page.locator(f".grulens-signal-{gate} .noUi-handle:visible").first


def changed(notebook: Any, before: bytes) -> bytes:
    """The picture once it is another than `before`, and stands still."""
    shown = picture(notebook)
    until(notebook.page, lambda: shown.screenshot() != before, "another picture")
    return settled(shown)


def spot(notebook: Any, x: float, y: float) -> tuple[float, float]:
    """Where on the page a point of the heatmap lies, in pixels."""
    left, top = notebook.page.evaluate(
        """([x, y]) => {
          const { documents } = globalThis[Symbol.for("grulens.bokehjs")].scope.Bokeh;
          const views = documents.flatMap((doc) => [...doc.all_models]
            .filter((model) => model.type === "Figure" && model.name === "units by steps")
            .map((model) => doc.views_manager.find_one(model)));
          const view = views[0], box = view.el.getBoundingClientRect();
          const { x_scale, y_scale } = view.frame;
          return [box.left + x_scale.compute(x), box.top + y_scale.compute(y)];
        }""",
        [x, y],
    )
    return left, top


def canvases(locator: Any) -> list[str]:
    """What is seen of the figures of one view, whatever fraction of a pixel they stand on.

    On paper: at its edges a canvas lets less through with each time that it is painted, white on
    white, and how often that is depends on the machine.
    """
    painted: list[str] = locator.evaluate(
        """(host) => {
          const found = [];
          const seen = (canvas) => {
            const paper = document.createElement("canvas");
            [paper.width, paper.height] = [canvas.width, canvas.height];
            const ink = paper.getContext("2d");
            ink.fillStyle = "white";
            ink.fillRect(0, 0, canvas.width, canvas.height);
            ink.drawImage(canvas, 0, 0);
            return paper.toDataURL();
          };
          const walk = (root) => {
            for (const el of root.querySelectorAll("*")) {
              if (el instanceof HTMLCanvasElement && el.width && el.height) found.push(seen(el));
              if (el.shadowRoot) walk(el.shadowRoot);
            }
          };
          walk(host);
          return found;
        }"""
    )
    return painted


def test_a_slider_moves_the_picture_and_the_switch_brings_the_baseline_back(lens: Any) -> None:
    before = picture(lens).screenshot()
    handle = slider(lens, "z")
    handle.focus()
    for _ in range(5):
        lens.page.keyboard.press("ArrowLeft")
    lens.until("print(session.slots[0].edit)", "scale('rnn.l0', 'z', by=0.95)")
    assert float(lens.kernel(MOVED)) > 0
    edited = changed(lens, before)
    switch = lens.page.locator(".grulens-line input[type=checkbox]")
    switch.click()
    lens.until("print(session.edited is session.baseline)", "True")
    assert float(lens.kernel(MOVED)) == 0
    back = changed(lens, edited)
    switch.click()
    lens.until("print(session.edited is session.baseline)", "False")
    assert changed(lens, back) != back


def test_the_mouse_drags_a_slider(lens: Any) -> None:
    before = picture(lens).screenshot()
    handle = slider(lens, "r")
    into_view(handle)
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    lens.page.mouse.move(x, y)
    lens.page.mouse.down()
    for step in range(1, 9):
        lens.page.mouse.move(x - 8 * step, y)
    lens.page.mouse.up()
    lens.until("print(session.slots[0].edit.signal, session.slots[0].edit.amount < 0.9)", "r True")
    changed(lens, before)
    # the last value wins, and slider, edit and picture agree on it
    lens.until(
        "print(lens.gates.controls.sliders['r'].value == session.slots[0].edit.amount)", "True"
    )
    lens.until("print(session.can_undo)", "True")
    lens.page.get_by_role("button", name="undo", exact=True).first.click()
    lens.until("print(len(session.slots))", "0")
    lens.page.get_by_role("button", name="redo", exact=True).first.click()
    lens.until("print(len(session.slots))", "1")


def test_table_and_heatmap_select_together(lens: Any) -> None:
    before = picture(lens).screenshot()
    table = lens.page.locator(".grulens-bokeh").last
    into_view(table)
    table.locator(".slick-header-column", has_text="mean z").click()
    table.locator(".slick-row").nth(1).locator(".slick-cell").nth(1).click()
    lens.until("print(len(session.units))", "1")
    changed(lens, before)
    lens.page.get_by_label("Find").first.fill("5-7")
    lens.until("print(lens.table._table.shown)", "(5, 6, 7)")
    lens.kernel("session.units = (6,)")
    table.locator(".slick-row .slick-cell.selected").first.wait_for()


def test_a_drag_over_tokens_limits_the_edit(lens: Any) -> None:
    into_view(token(lens, 10))
    for step, act in ((10, "down"), (15, None), (19, "up")):
        box = token(lens, step).bounding_box()
        lens.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        if act:
            getattr(lens.page.mouse, act)()
    lens.until("print(session.times)", str(tuple(range(10, 20))))
    lens.until("print(session.step)", "19")
    chosen = lens.page.locator(".grulens-text-body .grulens-chosen")
    until(lens.page, lambda: chosen.count() == 10, "ten chosen tokens")
    before = colors(lens)
    slider(lens, "z").focus()
    lens.page.keyboard.press("ArrowLeft")
    lens.until("print(session.slots[0].edit.at)", "slice(10, 20, None)")
    assert lens.kernel("print(float(session.divergence[:10].sum()) < 1e-6)") == "True"
    until(lens.page, lambda: colors(lens) != before, "other colours under the words")


def token(notebook: Any, step: int) -> Any:
    return notebook.page.locator(f'.grulens-text-body [data-i="{step}"]')


def colors(notebook: Any) -> list[str]:
    """The colour under each token."""
    found: list[str] = notebook.page.locator(".grulens-text-body [data-i]").evaluate_all(
        "all => all.map((one) => one.style.background)"
    )
    return found


def test_a_text_is_walked_over_and_searched_by_keyboard(lens: Any) -> None:
    page = lens.page
    token(lens, 3).click()
    lens.until("print(session.times, session.step)", "(3,) 3")
    page.keyboard.press("ArrowRight")
    lens.until("print(session.times, session.step)", "(4,) 4")
    page.keyboard.press("Shift+ArrowRight")
    lens.until("print(session.times)", "(4, 5)")
    page.keyboard.press("ArrowDown")  # under the g of greet stands a quote
    lens.until("print(len(session.times), session.step > 17)", "1 True")
    page.keyboard.press("Home")
    lens.until("print(session.times)", "(0,)")
    page.keyboard.press("Escape")
    lens.until("print(session.times)", "()")
    find = page.get_by_label("search the text")
    find.fill("NAME")
    page.get_by_role("status").filter(has_text="1 of 2").wait_for()
    find.press("Enter")
    lens.until("print(session.times)", str(tuple(range(10, 14))))
    find.press("Enter")
    page.get_by_role("status").filter(has_text="2 of 2").wait_for()
    lens.until("print(''.join(session.tokens[t] for t in session.times))", "name")
    find.fill("zebra")
    page.get_by_role("status").filter(has_text="not found").wait_for()
    assert lens.flavour in ("lab", "notebook")


#: Where the parts of a lens stand, counted from its text.
PLACES = """() => {
  const box = (name) => document.querySelector(`.grulens-area-${name}`).getBoundingClientRect();
  const { x, y } = box("words");
  return Object.fromEntries(["hand", "answer", "studies", "map"].map((name) => {
    const one = box(name);
    return [name, { x: one.x - x, y: one.y - y, end: one.bottom - y }];
  }));
}"""


@pytest.mark.parametrize(("width", "beside"), [(1800, True), (1000, False)])
def test_a_study_stands_where_the_map_stood(lens: Any, width: int, beside: bool) -> None:
    """What was above and beside the map stays there; the map moves down, and comes back."""
    page = lens.page
    page.set_viewport_size({"width": width, "height": 1000})
    settled(picture(lens))
    before = page.evaluate(PLACES)
    page.get_by_role("button", name="memory", exact=True).click()
    study = page.get_by_role("figure", name="weights by query and key: mean weight · rnn.l0")
    study.wait_for()
    settled(study)
    now = page.evaluate(PLACES)
    assert now["studies"]["y"] == pytest.approx(before["studies"]["y"], abs=2)
    assert now["map"]["y"] >= now["studies"]["end"] > before["map"]["y"] + 300
    for name in ("hand", "answer"):
        assert now[name]["y"] == pytest.approx(before[name]["y"], abs=20)
    assert beside == (now["answer"]["x"] > 300 and now["answer"]["y"] > now["studies"]["y"])
    lens.screenshot(f"lens-memory-{width}", of=lens.cell(0))
    page.get_by_role("button", name="nothing", exact=True).click()
    study.wait_for(state="hidden")
    until(page, lambda: page.evaluate(PLACES)["map"]["y"] < before["map"]["y"] + 2, "the map")


def test_where_it_is_narrow_a_bar_with_slider_and_answer_stays_in_sight(lens: Any) -> None:
    page = lens.page
    lens.kernel("lens.gates.controls.sliders['z'].value = 0.5")
    bar = page.locator(".grulens-bar")
    assert not bar.is_visible()
    page.set_viewport_size({"width": 760 if lens.flavour == "lab" else 560, "height": 700})
    bar.locator(".noUi-handle").wait_for()
    page.get_by_role("status").filter(has_text="→").first.wait_for()
    panel = page.locator(".grulens-panel").first
    into_view(panel.locator(".slick-row").first)
    box = until(page, bar.bounding_box, "a bar")
    assert 0 < box["y"] < 350, "it stays where the screen is scrolled"
    bar.locator(".noUi-handle").first.press("ArrowLeft")
    lens.until("print(session.slots[0].edit.amount)", "0.49")
    page.set_viewport_size({"width": 1700, "height": 900})
    bar.wait_for(state="hidden")
    hand = page.locator(".grulens-area-hand").bounding_box()
    text = page.locator(".grulens-area-words").bounding_box()
    assert hand["x"] > text["x"] + text["width"] - 1, "the sliders stand beside the text"


@pytest.mark.parametrize("flavour", ["notebook"])
def test_an_error_shows_and_the_lens_lives_on(lens: Any) -> None:
    lens.kernel("session.add(grulens.ablate('rnn.l0', 3))")
    lens.kernel("handle = model.rnn.register_forward_hook(lambda *_: 1 / 0)")
    lens.page.get_by_role("button", name="run", exact=True).first.click()
    alert = lens.page.locator(".grulens-failed").first
    alert.wait_for()
    assert "ZeroDivisionError" in alert.inner_text()
    lens.kernel("handle.remove()")
    lens.page.locator(".grulens-panel textarea").first.fill("short")
    lens.page.get_by_role("button", name="run", exact=True).first.click()
    lens.until("print(session.steps)", "5")
    alert.wait_for(state="detached")


@pytest.mark.parametrize("flavour", ["lab"])
def test_an_edit_that_reaches_past_a_shorter_text_waits_for_a_longer_one(lens: Any) -> None:
    lens.kernel("session.add(grulens.ablate('rnn.l0', 3, at=[40, 41]))")
    box = lens.page.locator(".grulens-panel textarea").first
    run = lens.page.get_by_role("button", name="run", exact=True).first
    box.fill("short")
    run.click()
    mark = lens.page.locator(".grulens-note", has_text="does not fit this input")
    mark.wait_for()
    assert mark.inner_text() == "does not fit this input: steps 40, 41 of 5"
    switch = lens.page.locator(".grulens-line input[type=checkbox]")
    assert not switch.is_checked()
    assert switch.is_disabled()
    box.fill("x" * 42)
    run.click()
    mark.wait_for(state="detached")
    lens.until("print(session.on)", "[ablate('rnn.l0', 3, to=0.0, at=[40, 41])]")
    lens.page.locator(".grulens-line input[type=checkbox]:checked").wait_for()


TRAINED = """
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
for _ in range(3):
    optimizer.zero_grad()
    model(encode("def f(x):")).logsumexp(-1).mean().backward()
    optimizer.step()
"""


@pytest.mark.parametrize("flavour", ["notebook"])
def test_training_goes_on_under_an_open_lens(open_notebook: Any) -> None:
    notebook = open_notebook(SETUP, TRAINED)
    notebook.run_cell(0)
    page = notebook.page
    page.locator(".grulens-panel canvas:visible").first.wait_for()
    notebook.kernel("session.add(grulens.scale('rnn.l0', 'z', 137, by=1.0))")
    note = page.get_by_text("the model has changed since this run", exact=True)
    assert not note.is_visible()
    notebook.run_cell(1)
    note.first.wait_for()
    assert note.count() == 1  # once for the whole screen
    old = canvases(picture(notebook))
    notebook.until("print(torch.equal(session.baseline.output, model(*session.args)))", "False")
    page.get_by_role("button", name="run again", exact=True).click()
    notebook.until("print(torch.equal(session.baseline.output, model(*session.args)))", "True")
    note.wait_for(state="hidden")
    assert float(notebook.kernel("print(float(session.moved.max()))")) < 1e-6
    painted_anew(notebook, old)
    # a hand on a slider makes both runs anew, too
    notebook.run_cell(1)
    note.wait_for()
    slider(notebook, "z").focus()
    page.keyboard.press("ArrowLeft")
    notebook.until("print(len(session.slots))", "2")
    note.wait_for(state="hidden")
    notebook.until("print(torch.equal(session.baseline.output, model(*session.args)))", "True")


def painted_anew(notebook: Any, old: list[str]) -> None:
    """Wait until the figures show something else."""
    until(notebook.page, lambda: canvases(picture(notebook)) != old, "another picture")


WORDS = """
import grulens, torch
from torch import nn
torch.manual_seed(0)
words = ["the", "film", "was", "not", "bad", "good"]
class Words(nn.Module):
    labels = ["neg", "pos"]
    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(6, 4), nn.GRU(4, 8, batch_first=True)
        self.drop, self.out = nn.Dropout(0.5), nn.Linear(8, 2)
    def encode(self, text):
        return torch.tensor([[words.index(word) for word in text.split()]])
    def decode(self, ids):
        return [words[i] for i in ids.flatten().tolist()]
    def forward(self, ids):
        return self.out(self.drop(self.rnn(self.embed(ids))[0]))
model = Words()
lens = grulens.Lens(model, "the film  was not bad")
session = lens.session
lens
"""


@pytest.mark.parametrize("flavour", ["lab"])
def test_a_word_model_is_typed_into_and_can_be_looked_at_in_eval(open_notebook: Any) -> None:
    notebook = open_notebook(WORDS)
    notebook.run_all()
    page = notebook.page
    page.locator(".grulens-panel canvas:visible").first.wait_for()
    box = page.locator(".grulens-panel textarea").first
    assert box.input_value() == "the film  was not bad"
    box.fill("not  good ")
    page.get_by_role("button", name="run", exact=True).first.click()
    notebook.until("print(session.tokens)", "['not', 'good']")
    assert box.input_value() == "not  good "
    notebook.kernel("session.set_input('good film')")
    page.wait_for_function(
        "document.querySelector('.grulens-panel textarea').value === 'good film'"
    )
    page.get_by_text("training mode: dropout is on", exact=True).wait_for()
    page.get_by_role("button", name="run in eval mode", exact=True).click()
    said = "these runs are in eval mode; the model itself is in training mode"
    page.get_by_text(said, exact=True).wait_for()
    notebook.until("print(session.evaluate, model.training, model.drop.training)",
                   "True True True")  # fmt: skip
    plain = "model.eval(); print(torch.equal(session.baseline.output, model(*session.args)))"
    notebook.until(plain, "True")


SHAPED = """
import grulens, torch
torch.manual_seed(0)
class Picture(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.drop = torch.nn.GRU(3, 8, batch_first=True), torch.nn.Dropout(0.5)
    def forward(self, x):
        return self.drop(self.rnn(x)[0]).view(2, -1, 2, 4)
model, x = Picture(), torch.randn(2, 12, 3)
lens = grulens.Lens(model, x)
session = lens.session
lens
"""


@pytest.mark.parametrize(("flavour", "theme"), [("lab", "light"), ("notebook", "dark")])
def test_what_must_be_known_is_seen_in_both_themes(open_notebook: Any, theme: str) -> None:
    notebook = open_notebook(SHAPED)
    notebook.run_all()
    page = notebook.page
    page.locator(".grulens-panel canvas:visible").first.wait_for()
    page.get_by_text("No answer is shown", exact=False).first.wait_for()
    assert page.locator("code", has_text="readout=lambda output: output.flatten(2)").count() == 1
    notebook.kernel("session.add(grulens.ablate('rnn.l0', 3, at=[10, 11]))")
    notebook.kernel("session.set_input(x[:, :5])")
    notebook.kernel("torch.nn.init.orthogonal_(model.rnn.weight_hh_l0)")
    page.get_by_text("the model has changed since this run", exact=True).wait_for()
    page.locator(".grulens-note", has_text="does not fit this input").wait_for()
    notebook.theme(theme)
    page.set_viewport_size({"width": 1330, "height": 1700})
    shown = page.locator(".grulens-panel").first
    notebook.screenshot(f"notices-{theme}", of=shown)
    width = shown.evaluate("e => [e.scrollWidth, e.clientWidth]")
    assert width[0] <= width[1] + 1, "nothing sticks out at the side"


@pytest.mark.parametrize("flavour", ["lab"])
def test_the_code_makes_the_same_numbers_in_a_new_cell(lens: Any) -> None:
    lens.kernel(
        "x = encode(lens.text.value); session.units = (137,); session.times = range(20, 30);"
        "lens.gates.controls.sliders['z'].value = 0.5; session.add(grulens.ablate('rnn.l0', 5))"
    )
    lens.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    lens.page.get_by_role("button", name="copy as code", exact=True).first.click()
    lens.page.get_by_text("copied", exact=True).wait_for()
    copied = lens.page.evaluate("navigator.clipboard.readText()")
    assert copied == lens.kernel("print(session.code())")
    lens.page.get_by_role("button", name="into a new cell", exact=True).first.click()
    lens.cell(1).wait_for()
    lens.run_cell(1)
    lens.until("print(torch.equal(run.output, session.edited.output))", "True")


def test_two_displays_are_equal_and_rerunning_leaves_nothing(open_notebook: Any) -> None:
    counts = (
        "from ipywidgets.widgets.widget import _instances\n"
        "hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + ('forward' in m.__dict__)"
        " for m in model.modules())\n"
        "print(len(_instances), hooks)"
    )
    notebook = open_notebook(SETUP.replace("\nlens\n", "\n"), "display(lens); display(lens)")
    notebook.run_all()
    notebook.page.set_viewport_size({"width": 1200, "height": 1500})
    views = notebook.page.locator(".grulens-area-map .grulens-bokeh")
    last = notebook.page.locator(".grulens-bokeh").last  # the table of the second
    views.nth(1).locator("canvas:visible").first.wait_for()
    last.locator(".slick-row").first.wait_for()
    documents = 'globalThis[Symbol.for("grulens.bokehjs")].scope.Bokeh.documents.length'
    first, shown = notebook.kernel(counts), notebook.page.evaluate(documents)
    settled(views.nth(0))
    before = canvases(views.nth(0))
    assert len(before) > 1
    notebook.kernel("session.units = (137,); lens.gates.controls.sliders['z'].value = 0.5")
    painted_anew(notebook, before)

    def equal() -> bool:
        one, other = (canvases(views.nth(i)) for i in (0, 1))
        return one == other != before

    until(notebook.page, equal, "two displays that show the same")
    for _ in range(3):
        notebook.run_cell(0)
        notebook.run_cell(1)
    assert notebook.kernel(counts) == first
    last.locator("canvas, .slick-row").first.wait_for()
    assert notebook.page.evaluate(documents) == shown == 6


def test_a_page_that_takes_long_to_load_the_scripts_shows_all_the_same(open_notebook: Any) -> None:
    notebook = open_notebook(SETUP, fresh=True)
    page = notebook.page
    # anywidget gives up at once, and not after two seconds
    page.evaluate("""() => {
      const timeout = AbortSignal.timeout.bind(AbortSignal);
      AbortSignal.timeout = (ms) => timeout(ms === 2000 ? 0 : ms);
    }""")
    gave_up: list[str] = []
    page.on("pageerror", lambda error: gave_up.append(str(error)))
    notebook.run_all()
    page.locator(".grulens-panel canvas:visible").first.wait_for()
    page.locator(".grulens-text [data-i]").first.wait_for()
    page.locator(".slick-row").first.wait_for()
    assert any("Failed to initialize" in error for error in gave_up)
    before = settled(picture(notebook))
    notebook.kernel("session.units = (137,); lens.gates.controls.sliders['z'].value = 0.5")
    changed(notebook, before)
    # what a script was told, and what only its state says
    page.get_by_role("button", name="copy as code").click()
    page.get_by_text("copied", exact=True).wait_for()


def test_figures_and_table_have_names(lens: Any) -> None:
    name = "units by steps: state h · rnn.l0"
    lens.page.get_by_role("figure", name=name, exact=True).wait_for()
    lens.page.get_by_role("listbox", name="steps: click or drag").wait_for()
    lens.page.get_by_role("group", name="table of units", exact=True).wait_for()
    lens.kernel("lens.gates.signal = 'z'")
    name = "units by steps: update gate z · rnn.l0"
    lens.page.get_by_role("figure", name=name, exact=True).wait_for()


@pytest.mark.parametrize("flavour", ["notebook"])
def test_a_hostile_token_is_text(open_notebook: Any) -> None:
    hostile = "<img src=x onerror=window.hacked=1>"
    notebook = open_notebook(
        "import grulens, torch\n"
        f"bad = {hostile!r}\n"
        "model = torch.nn.GRU(3, 4, batch_first=True)\n"
        "lens = grulens.Lens(model, torch.ones(1, 4, 3), tokens=[bad] * 4,"
        " labels=[bad, 'b', 'c', 'd'])\n"
        "lens"
    )
    notebook.run_all()
    notebook.page.locator(".grulens-panel canvas:visible").first.wait_for()
    into_view(picture(notebook))
    settled(picture(notebook))
    notebook.page.mouse.move(*spot(notebook, 2, 2))
    notebook.page.locator(".bk-Tooltip:visible").get_by_text("x␣onerror").wait_for()
    assert notebook.page.evaluate("window.hacked") is None
    assert notebook.page.locator("img[src='x']").count() == 0
    assert not notebook.outside


@pytest.mark.parametrize(("flavour", "theme"), [("lab", "light"), ("notebook", "dark")])
def test_it_is_drawn_in_both_themes_and_when_narrow(lens: Any, theme: str) -> None:
    lens.kernel(
        "session.units = (137, 115); session.times = tuple(range(28, 60));"
        "lens.gates.controls.mode.value = 'set'; lens.gates.controls.sliders['z'].value = 1;"
        "session.step = 60"
    )
    lens.theme(theme)
    lens.page.set_viewport_size({"width": 1330, "height": 2100})
    shown = lens.page.locator(".grulens-panel").first
    settled(shown)
    lens.screenshot(f"lens-{theme}", of=shown)
    if theme == "light" and lens.flavour == "lab" and os.environ.get("GRULENS_README_SHOT"):
        shots = Path(__file__).parent / "shots"
        docs = Path(__file__).parents[2] / "docs"
        shutil.copy(shots / "lens-light-lab.png", docs / "lens.png")
    lens.page.set_viewport_size({"width": 868, "height": 2300})
    settled(shown)
    # what stands beside the notebook is of one width
    beside = 868 - round(shown.bounding_box()["width"])
    lens.page.set_viewport_size({"width": beside + 500, "height": 2300})
    fits = "e => e.scrollWidth <= e.clientWidth + 1"
    until(lens.page, lambda: shown.evaluate(fits), "nothing that sticks out at the side")
    settled(shown)
    assert shown.evaluate(fits)
    lens.screenshot(f"lens-{theme}-narrow", of=shown)


def test_the_table_measures_effects_at_a_click(lens: Any) -> None:
    page = lens.page
    by = page.get_by_role("columnheader", name="mean z", exact=True)
    by.click()
    longest = lens.kernel("print(int(lens.table.to_frame()['mean_z'].idxmax()))")
    top = page.locator(".slick-row").first.locator(".slick-cell").first
    until(page, lambda: top.inner_text().strip() == longest, "what keeps its memory at the top")
    button = page.get_by_role("button", name="measure effects")
    into_view(button)
    button.click()
    status = page.locator("[role=status]", has_text="measured 192 of 192 units, in bits a step")
    status.wait_for(timeout=60000)
    effect = page.locator(".slick-header-column", has_text="effect").first
    effect.wait_for()
    # the order is as it was, and the new column is offered
    assert by.get_attribute("aria-sort") == "descending"
    assert top.inner_text().strip() == longest
    page.get_by_role("button", name="sort by effect", exact=True).click()
    strongest = lens.kernel("print(int(lens.table.to_frame()['effect'].idxmax()))")
    until(page, lambda: top.inner_text().strip() == strongest, "the strongest unit at the top")
    effect.click()  # rising
    least = float(lens.kernel("print(lens.table.to_frame()['effect'].min())"))
    shown = page.locator(".slick-row").first.locator(".slick-cell").nth(1)
    # small as it is, it is not written as none

    def said() -> float:
        return float(shown.inner_text().replace("−", "-"))

    until(page, lambda: 0 < said() < 2.1 * least, "the least effect")
    assert button.inner_text().strip() == "measure effects"


def test_the_table_fits_its_place_and_is_read_out(lens: Any) -> None:
    page = lens.page
    table = page.get_by_role("grid", name="table of units", exact=True)
    into_view(table)
    heads = table.get_by_role("columnheader")
    rows = table.locator(".slick-viewport-top.slick-viewport-left")
    reach = "of => [of.clientWidth, of.querySelector('.slick-row .slick-cell:last-child')"
    reach += ".getBoundingClientRect().right - of.getBoundingClientRect().left]"

    def filled() -> bool:
        there, used = rows.evaluate(reach)
        return abs(there - used) < 2

    more = page.locator(".grulens-more-columns")
    until(page, filled, "columns as wide as the table")
    page.set_viewport_size({"width": {"lab": 800, "notebook": 480}[lens.flavour], "height": 900})
    more.filter(has_text="more column").wait_for()
    folded = lambda: filled() and "r < 0.1" not in heads.all_inner_texts()  # noqa: E731
    until(page, folded, "fewer columns as wide as the table")
    fewer = heads.count()
    more.focus()
    page.keyboard.press("Enter")
    until(page, lambda: heads.count() > fewer, "the other columns")
    assert more.get_attribute("aria-expanded") == "true"
    more.click()
    until(page, lambda: heads.count() == fewer, "only those that fit")

    # with keys: sort by the second column, then choose the unit at the top
    page.get_by_role("group", name="table of units: heads").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    lens.until("print(lens.table._table.sorted_by)", "(('mean_h', False),)")
    table.get_by_role("status").filter(has_text="mean h, sorted downwards").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    highest = lens.kernel("print(int(lens.table.to_frame()['mean_h'].idxmax()))")
    lens.until("print(session.units)", f"({highest},)")
    table.get_by_role("row", selected=True).get_by_role("gridcell").first.wait_for()
    table.get_by_role("status").filter(has_text=f"unit {highest}").wait_for()
    # a chosen row is marked in the columns that come back, too
    more.click()
    until(page, lambda: heads.count() > fewer, "the other columns")
    marked = table.locator(".slick-row").first.locator(".slick-cell.selected")
    until(page, lambda: marked.count() == heads.count(), "the whole row marked")
    more.click()
