"""A cell that one steps through: its numbers are torch's, and the keyboard reaches all of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import CellPage, record
from grulens.demo import last_capital

pytestmark = pytest.mark.browser

SIGNALS = """() => {
  const {before, after} = grulens.runs(), name = grulens.network.layers.at(-1).name;
  return [before, after].map((run) => Object.fromEntries(
    Object.entries(run.layers[name].signals).map(([one, of]) => [one, [...of]])));
}"""
LEFT = "(u) => [...grulens.left(u)[0].entries()].sort((a, b) => a[0] - b[0])"
WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SHOTS = Path(__file__).parent / "shots"


@contextmanager
def opened(browser: Any, **options: Any) -> Iterator[Any]:
    page = browser.new_page(**options)
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text))
    yield page
    assert not errors  # nor anything that the page's policy would not let be done
    assert all(url.startswith("file:") for url in asked)
    page.close()


def by_hand(rnn: nn.GRU, x: Tensor, h: Tensor, held: dict[int, dict[str, float]]) -> dict[str, Any]:
    """Every signal (time, unit) as torch's documentation writes the cell, with these gates held."""
    made: dict[str, list[Tensor]] = {name: [] for name in "rznh"}
    for step in x:
        given = nn.functional.linear(step, rnn.weight_ih_l0, getattr(rnn, "bias_ih_l0", None))
        kept = nn.functional.linear(h, rnn.weight_hh_l0, getattr(rnn, "bias_hh_l0", None))
        (x_r, x_z, x_n), (h_r, h_z, h_n) = given.chunk(3), kept.chunk(3)
        gates = {"r": torch.sigmoid(x_r + h_r), "z": torch.sigmoid(x_z + h_z)}
        for unit, of in held.items():
            for name, value in of.items():
                gates[name][unit] = value
        n = torch.tanh(x_n + gates["r"] * h_n)
        h = (1 - gates["z"]) * n + gates["z"] * h
        for name, value in {**gates, "n": n, "h": h}.items():
            made[name].append(value)
    return {name: torch.stack(values) for name, values in made.items()}


def test_drawn_cells_with_held_gates_are_torchs_to_1e_6(browser: Any, tmp_path: Path) -> None:
    draw, path = random.Random(0), tmp_path / "cell.html"
    with opened(browser) as page, torch.no_grad():
        for _ in range(5):
            inputs, units, steps = draw.randint(1, 3), draw.randint(1, 6), draw.randint(1, 9)
            rnn = nn.GRU(inputs, units, bias=draw.random() < 0.8, batch_first=True)
            for weight in rnn.parameters():
                weight.mul_(draw.choice((1, 3)))
            x, start = torch.randn(1, steps, inputs), torch.randn(1, 1, units)
            page.goto(CellPage(rnn, x, start).save(path).as_uri())
            held: dict[int, dict[str, float]] = {}
            for _ in range(draw.randint(2, 5)):
                unit, gate, value = draw.randrange(units), draw.choice("rz"), draw.random()
                held.setdefault(unit, {})[gate] = value
                page.evaluate(f"grulens.choose({unit}), grulens.hold('{gate}', {value})")
            exact = rnn.double()
            x, start = x.double(), start.double()
            there = by_hand(exact, x[0], start[0, 0], {}), by_hand(exact, x[0], start[0, 0], held)
            assert (there[0]["h"] - exact(x, start)[0][0]).abs().max() < 1e-12
            for found, said in zip(page.evaluate(SIGNALS), there, strict=True):
                for name, value in said.items():
                    assert (torch.tensor(found[name]).double() - value.flatten()).abs().max() < 1e-6
            # what is still there of each state is the product of every z since
            page.evaluate(f"grulens.go({steps - 1})")
            z = torch.cat([there[1]["z"][1:], torch.ones(1, units).double()])
            left = z.flip(0).cumprod(0).flip(0)
            for unit in range(units):
                shares = page.evaluate(LEFT, unit)
                assert [k for k, _ in shares] == [*range(steps)]
                shown = torch.tensor([share for _, share in shares]).double()
                assert (shown - left[:, unit]).abs().max() < 1e-6


def test_the_page_is_worked_by_the_keyboard_alone(browser: Any, tmp_path: Path) -> None:
    model = last_capital.load()
    path = CellPage(model, "aBab?bAa?", about=last_capital.ABOUT).save(tmp_path / "cell.html")
    z = float(record(model, model.encode("aBab?"))["rnn.l0"].z[0, 4, 1])
    with opened(browser, viewport={"width": 390, "height": 900}, locale="en-GB") as page:
        page.goto(path.as_uri())
        status = page.get_by_role("status")
        assert page.get_by_role("button", name="step back").is_disabled()
        for _ in range(4):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        said = status.inner_text()
        assert "Unit 1 keeps what it held." in said
        assert f"z of unit 1 is {z:.3f}: it keeps {100 * z:.1f} % of what it held (0.92)" in said
        assert "The network answers B" in said
        assert "was written at step 1 (B)" in said
        drawn = page.get_by_role("img", name="The cell at step 4 (?): x is ?; of unit 1")
        assert f"z {z:.3f}" in drawn.get_attribute("aria-label")
        # to the slider of z with Tab, and its gate shut with Home
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "hold-z":
                break
        assert f"{z:.3f}, its own" == page.evaluate("document.activeElement.ariaValueText")
        page.keyboard.press("Home")
        assert page.evaluate("grulens.state.held") == {"1": {"z": 0}}
        said = status.inner_text()
        assert "Unit 1 writes something new." in said
        assert "You hold z at 0.00; let go, it would be" in said
        assert "With no gate held it would answer B" in said
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert "You hold" not in status.inner_text()
        # in Chinese, and another sequence; nothing is wider than the page
        page.get_by_role("button", name="中文").press("Enter")
        assert "单元 1 保留原来的值。" in status.inner_text()
        assert page.evaluate("document.documentElement.lang") == "zh-CN"
        assert page.evaluate(WIDE) <= 0
        typed = page.get_by_role("textbox", name="换一个序列")
        typed.fill("xB")
        typed.press("Enter")
        assert "网络不认识 x" in page.get_by_role("alert").inner_text()
        typed.fill("Abb?")
        typed.press("Enter")
        page.get_by_role("button", name="第 3 步（?）").press("Enter")
        assert "网络的回答：A（" in status.inner_text()
        assert page.evaluate("document.activeElement.dataset.step") == "3"
        # a value beside Chinese has a space, unless it is Chinese
        page.evaluate("say.words['{a} of {b}'] = '{b}的 {a}'")
        of = [
            page.evaluate("b => say('{a} of {b}', { a: '门', b })", b) for b in ("单元 3", "全部")
        ]
        assert of == ["单元 3 的门", "全部的门"]


def test_it_is_seen_in_both_widths_themes_and_languages(browser: Any, tmp_path: Path) -> None:
    made = CellPage(last_capital.load(), "aBab?", about=last_capital.ABOUT)
    path = made.save(tmp_path / "cell.html")
    for width, scheme, locale in ((390, "light", "zh-CN"), (900, "dark", "en-GB")):
        size = {"width": width, "height": 900}
        with opened(browser, viewport=size, color_scheme=scheme, locale=locale) as page:
            page.goto(path.as_uri())
            page.keyboard.press("End")
            assert page.evaluate("document.documentElement.lang") == locale.replace("-GB", "")
            assert page.evaluate(WIDE) <= 0
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(17, 17, 17)")
            page.screenshot(path=str(SHOTS / f"cell-{width}-{scheme}.png"), full_page=True)


def test_layers_that_read_backward_and_others_states(browser: Any, tmp_path: Path) -> None:
    rnn = nn.GRU(2, 3, num_layers=2, bidirectional=True, batch_first=True)
    x = torch.randn(1, 4, 2)
    with opened(browser, locale="en-GB") as page:
        made = CellPage(rnn, x, layer="l1_reverse", units=[1])
        page.goto(made.save(tmp_path / "cell.html").as_uri())
        assert "The cell at step 3: x is h l0, h l0_reverse" in page.locator("svg").get_attribute(
            "aria-label"
        )
        page.keyboard.press("End")
        h = float(rnn(x)[0].detach()[0, 0, 4])
        assert page.evaluate(SIGNALS)[0]["h"][1] == pytest.approx(h, abs=1e-6)
        assert f"h now {h:.2f}".replace("-", "−") in page.locator("svg").get_attribute("aria-label")
