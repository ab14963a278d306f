"""`lens.save()`: the page from disk makes the runs itself, as torch makes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import Lens, ablate, clamp, close_up, record, scale, shift
from grulens.demo import load
from grulens.views.figure.raster import REACHES, reach
from grulens.widgets.gates.out_of_range import out_of_range
from tests.browser.jupyter import FRAMES, until
from tests.browser.running import is_torchs

pytestmark = pytest.mark.browser

SHOTS = Path(__file__).parent / "shots"


@contextmanager
def opened(browser: Any, path: Path, width: int = 1000, scheme: str = "light") -> Iterator[Any]:
    page = browser.new_page(viewport={"width": width, "height": 1400}, color_scheme=scheme)
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text))
    page.goto(path.as_uri())
    page.locator("canvas.map").wait_for()
    yield page
    assert not errors  # nor anything that the page's policy would not let be done
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    page.close()


def test_a_page_runs_the_bundled_model(browser: Any, tmp_path: Path) -> None:
    model, text = load().model, 'x = "text"\n'
    lens = Lens(model, text)
    lens.session.add(ablate("rnn.l0", 137))
    lens.session.units = (3, 17)
    path = lens.save(tmp_path / "lens.html")
    lens.close()
    ids = model.encode(text)
    with opened(browser, path) as page:
        said = page.locator(".said")
        map_, before = page.locator("canvas.map"), said.text_content()
        is_torchs(page, model, ids, ablate("rnn.l0", 137), answers=11)
        # a slider, by the keyboard
        picture = map_.screenshot()
        slider = page.get_by_label("z  update gate")
        slider.focus()
        slider.press("Home")
        until(page, lambda: said.text_content() != before, "another answer")
        both = (ablate("rnn.l0", 137), scale("rnn.l0", "z", [3, 17], by=0.0))
        is_torchs(page, model, ids, *both, answers=11)
        assert map_.screenshot() != picture
        assert "update gate of units 3, 17 times 0" in page.locator(".edits").inner_text()
        # chosen steps, and a shift
        page.locator("[data-i='4']").click()
        page.get_by_role("button", name="shift", exact=True).click()
        page.get_by_label("n  candidate").press("End")
        one = shift("rnn.l0", "n", [3, 17], by=8.0, at=[4])
        is_torchs(page, model, ids, *both, one, answers=11)
        # off, undone, taken away
        page.get_by_role("checkbox").first.uncheck()
        is_torchs(page, model, ids, both[1], one, answers=11)
        page.get_by_role("button", name="undo").click()
        page.get_by_role("button", name="undo").click()
        is_torchs(page, model, ids, *both, answers=11)
        page.get_by_role("button", name="remove").first.click()
        is_torchs(page, model, ids, both[1], answers=11)
        # the text is coloured by the change
        color = "document.querySelector('[data-i=\"6\"]').style.background"
        plain = page.evaluate(color)
        page.get_by_role("button", name="edited − baseline").click()
        assert page.evaluate(color) != plain
        # another text; one with a letter that the model has not is refused by it
        page.get_by_label("another text").fill("def é")
        page.get_by_role("button", name="run", exact=True).click()
        assert "no character é" in page.get_by_role("alert").inner_text()
        page.get_by_label("another text").fill("for i in range(3):")
        page.get_by_role("button", name="run", exact=True).click()
        is_torchs(page, model, model.encode("for i in range(3):"), both[1], answers=18)
        assert "Click chooses" in page.locator(".under").inner_text()
        page.get_by_role("button", name="pin").click()
        assert page.locator("figure").count() == 2


class Tagger(nn.Module):
    """Words through two levels of both directions; the labels would be HTML if they were let."""

    labels = ("<b>good</b>", "bad & worse")

    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = ["<script>alert(1)</script>", "film", "was", "not"]
        self.table = nn.Embedding(4, 3)
        self.low = kind(3, 5, batch_first=True, bidirectional=True)
        self.high = kind(10, 4, batch_first=True)
        self.out = nn.Linear(4, 2)

    def encode(self, text: str) -> list[int]:
        return [self.words.index(word) for word in text.split()]

    def decode(self, ids: Tensor) -> list[str]:
        return [self.words[int(i)] for i in ids]

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.out(self.high(self.low(self.table(ids))[0])[0][:, -1])
        return out


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_page_runs_another_model_and_shows_its_words_as_they_are(
    browser: Any, tmp_path: Path, kind: type[nn.RNNBase]
) -> None:
    model = Tagger(kind)
    lens = Lens(model, "<script>alert(1)</script> film was not", scale="logits")
    held = clamp("low.l0_reverse", "h", [1], value=[[0.5] * 5, [1.0] * 5, [0.0] * 5, [0.25] * 5])
    lens.session.add(held)
    path = lens.save(tmp_path / "lens.html")
    lens.close()
    with opened(browser, path, 900) as page:
        is_torchs(page, model, torch.tensor([[0, 1, 2, 3]]), held, answers=1)
        assert page.locator("[data-i='0']").inner_text() == "<script>alert(1)</script>"
        assert "<b>good</b>" in page.locator(".classes").inner_text()
        page.get_by_label("layer").select_option("high.l0")
        page.locator("canvas.map").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="ablate").click()
        unit = page.evaluate("grulens.state.units[0]")
        is_torchs(
            page, model, torch.tensor([[0, 1, 2, 3]]), held, ablate("high.l0", unit), answers=1
        )
        # the cell, close up, of what a run with the edits holds
        page.locator(".cell summary").click()
        page.locator(".sum").first.wait_for()
        assert page.locator(".sum").count() == len(lens.session.before.cell.blocks)
        run = record(model, torch.tensor([[0, 1, 2, 3]]), edits=(held, ablate("high.l0", unit)))
        for name, step in (("low.l0_reverse", 1), ("high.l0", 2), ("low.l0", 0)):
            said = close_up(run, name, step=step, unit=1)
            ask = f"grulens.network.closeUp(grulens.runs().after, '{name}', {step}, 1).parts"
            for i, part in enumerate(page.evaluate(ask)):
                whole = [*part["inputs"], *part["units"], *part["biases"]]
                there = torch.cat([said.inputs[i], said.units[i], said.biases[i]])
                assert (torch.tensor(whole) - there).abs().max() < 1e-5
        page.get_by_label("another text").fill("not not film")
        page.get_by_role("button", name="run", exact=True).click()
        assert "off: its values are of another input" in page.locator(".edits").inner_text()
        is_torchs(page, model, torch.tensor([[3, 3, 1]]), ablate("high.l0", unit), answers=1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_narrow_screen(browser: Any, tmp_path: Path, scheme: str) -> None:
    lens = Lens(load().model, "def greet(name):\n    return name\n")
    lens.session.add(ablate("rnn.l0", 137))
    path = lens.save(tmp_path / "lens.html")
    lens.close()
    for width in (360, 900):
        with opened(browser, path, width, scheme) as page:
            page.get_by_role("button", name="pin").click()
            assert page.evaluate("document.documentElement.scrollWidth") == width
            # columns fold where they do not fit, but for the one that is sorted by
            table, more = page.locator(".units"), page.locator(".more")
            over = "(table) => table.scrollWidth - table.clientWidth"
            assert table.evaluate(over) == 0
            assert more.is_visible() == (width == 360)
            if width == 360:
                assert not page.get_by_role("button", name="last h").is_visible()
                more.click()
                assert table.evaluate(over) > 0
                page.get_by_role("button", name="last h").click()
                more.click()
                assert table.evaluate(over) == 0
                assert page.get_by_role("button", name="last h").is_visible()
            page.screenshot(path=str(SHOTS / f"running-page-{scheme}-{width}.png"), full_page=True)


def test_a_page_opens_with_what_its_sliders_did_and_bars_begin_at_nought(
    browser: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    lens = Lens(nn.GRU(2, 4, batch_first=True), torch.randn(1, 6, 2), scale="value")
    lens.session.units = range(4)
    lens.gates.controls.mode.value = "set"
    lens.gates.controls.sliders["z"].value = 0.75
    path = lens.save(tmp_path / "lens.html")
    before = lens.session.answer_before.values[-1]
    lens.close()
    with opened(browser, path) as page:
        slider = page.get_by_label("z  update gate")
        assert float(slider.input_value()) == 0.75
        slider.focus()
        slider.press("End")
        assert page.locator(".edits li").all_inner_texts() == [
            "update gate of all units set to 1\nremove"
        ]
        # both bars of a number end where they begin, or begin where they end: at nought
        assert before.min() < 0 < before.max()
        ends = page.evaluate("""() => [...document.querySelectorAll(".was")].map((bar) => {
          const [one, all] = [bar, bar.parentNode].map((of) => of.getBoundingClientRect());
          return [one.left, one.right].map((at) => Math.round(at - all.left));
        })""")
        noughts = {right if value < 0 else left for (left, right), value in zip(
            ends, before.sort(descending=True).values.tolist(), strict=True)}  # fmt: skip
        assert len(noughts) == 1
        assert min(noughts) > 0


@pytest.mark.parametrize("over", REACHES)
def test_pins_colours_and_numbers_of_the_input_are_as_in_the_notebook(
    browser: Any, tmp_path: Path, over: str
) -> None:
    torch.manual_seed(0)
    model, x = nn.GRU(3, 5, batch_first=True), torch.randn(1, 40, 3)
    lens = Lens(model, x)
    lens.session.pin(2, name="<b>in a string</b>")
    lens.gates.colors = over
    path = lens.save(tmp_path / "lens.html")
    lens.close()
    with opened(browser, path) as page:
        assert "unit 2 · <b>in a string</b>" in page.locator("figcaption").inner_text()
        assert page.get_by_label("Colours over").input_value() == over
        run = record(model, x)["l0"]
        for signal in run.cell.signals:
            page.locator(f'.signals [data-value="{signal.name}"]').click()
            there = reach(signal, run.signal(signal.name)[0].numpy(), over)
            assert page.evaluate("grulens.span()") == pytest.approx(there, abs=1e-5)
        assert "3 numbers a step" in page.locator("canvas.fed").get_attribute("title")
        page.screenshot(path=str(SHOTS / "running-page-input.png"))


class Large(nn.Module):
    """States of many thousands, in float32, and logarithms of probabilities."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.RNN(2, 6, num_layers=2, nonlinearity="relu", batch_first=True)
        self.out = nn.Linear(6, 3)
        for weight in self.rnn.parameters():
            weight.data = weight.data.abs() * 2

    def forward(self, x: Tensor) -> Tensor:
        said: Tensor = self.out(self.rnn(x)[0]).log_softmax(-1)
        return said


def test_states_of_any_size_and_logarithms_of_probabilities_run(
    browser: Any, tmp_path: Path
) -> None:
    model, x = Large(), torch.randn(1, 14, 2)
    lens = Lens(model, x, scale="logits")
    assert lens.session.before.h.abs().max() > 1e4
    lens.session.add(ablate("rnn.l0", 1, at=[3]))
    path = lens.save(tmp_path / "lens.html")
    lens.close()
    with opened(browser, path) as page:
        is_torchs(page, model, x, ablate("rnn.l0", 1, at=[3]), answers=14)


class Regressor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out = nn.GRU(2, 3, batch_first=True), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        said: Tensor = self.out(self.rnn(x)[0])[..., 0]
        return said


def test_a_gate_beyond_its_range_is_remarked_as_in_the_notebook(
    browser: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model, x = nn.GRU(3, 5, batch_first=True), torch.randn(1, 40, 3)
    lens = Lens(model, x)
    path = lens.save(tmp_path / "lens.html")
    lens.session.add(scale("l0", "z", by=2.0))
    told, plain = (out_of_range(lens.session, cut=cut) for cut in (True, False))
    assert "z is out of 0 to 1 at " in told
    lens.close()
    with opened(browser, path) as page:
        assert not page.get_by_text("out of 0 to 1").is_visible()
        page.locator("#slider-z").fill("2")
        page.get_by_text(told, exact=True).wait_for()
        page.screenshot(path=str(SHOTS / "running-page-out-of-range.png"))
        page.get_by_label("Colours over").select_option(REACHES[2])
        page.get_by_text(plain, exact=True).wait_for()
        page.get_by_role("button", name="undo").click()
        page.get_by_text("out of 0 to 1").wait_for(state="hidden")


def test_what_one_hand_does_to_a_slider_is_one_undo(browser: Any, tmp_path: Path) -> None:
    lens = Lens(Regressor(), torch.randn(1, 5, 2))
    path = lens.save(tmp_path / "lens.html")
    lens.close()
    with opened(browser, path) as page:
        slider, undos = page.get_by_label("z  update gate"), "grulens.state.history.length"
        slider.focus()
        for _ in range(9):
            slider.press("ArrowLeft")
        assert page.evaluate(undos) == 1
        for end in (0.6, 0.9):
            box = slider.bounding_box()
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            page.mouse.down()
            page.mouse.move(box["x"] + end * box["width"], box["y"] + box["height"] / 2, steps=5)
            page.mouse.up()
        assert page.evaluate(undos) == 3
        for _ in range(3):
            page.get_by_role("button", name="undo").click()
        edits = page.locator(".edits")
        until(page, lambda: "none yet" in edits.inner_text(), "no edits")


IN_SIGHT = """(i) => {
  const box = document.querySelector(".grulens-text-body").getBoundingClientRect();
  const one = document.querySelector(`[data-i="${i}"]`).getBoundingClientRect();
  return one.top >= box.top && one.bottom <= box.bottom;
}"""


def test_a_long_text_stands_where_it_is_looked_at(browser: Any, tmp_path: Path) -> None:
    lens = Lens(Regressor(), torch.randn(1, 4000, 2))
    path = lens.save(tmp_path / "lens.html")
    lens.close()
    with opened(browser, path) as page:
        until(page, lambda: page.evaluate(IN_SIGHT, 3999), "the last step in sight")
        body, cursors = page.locator(".grulens-text-body"), page.locator(".grulens-cursor")
        body.evaluate("(body) => { body.scrollTop = body.scrollHeight / 2 }")
        there = """() => {
          const box = document.querySelector(".grulens-text-body").getBoundingClientRect();
          const one = document.elementFromPoint(box.left + 60, box.top + 80);
          return one.closest("[data-i]")?.dataset.i;
        }"""

        def in_the_middle() -> int:
            page.evaluate(FRAMES)
            return int(page.evaluate(there) or -1)

        middle = until(page, lambda: (i := in_the_middle()) == in_the_middle() > 0 and i, "rest")
        page.locator(f"[data-i='{middle}']").click()
        assert page.evaluate("grulens.state.times") == [middle]
        assert page.evaluate(IN_SIGHT, middle)
        # the keyboard's place is where the mouse was, and is marked once
        page.keyboard.press("ArrowRight")
        assert page.evaluate("grulens.state.times") == [middle + 1]
        assert cursors.count() == 1
        page.locator(f"[data-i='{middle - 2}']").click()
        page.get_by_label("z  update gate").focus()
        assert cursors.count() == 0
        body.focus()
        page.keyboard.press("Home")
        until(page, lambda: page.evaluate(IN_SIGHT, 0), "the first step in sight")
        page.keyboard.press("End")
        until(page, lambda: page.evaluate(IN_SIGHT, 3999), "the last step in sight")
        assert cursors.count() == 1
