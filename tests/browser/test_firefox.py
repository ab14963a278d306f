"""A saved page that runs, from disk in Firefox."""

from __future__ import annotations

from pathlib import Path

import pytest

from grulens import Lens, ablate, scale
from grulens.demo import load
from tests.browser.firefox import firefox
from tests.browser.jupyter import SHOTS
from tests.browser.running import is_torchs

pytestmark = pytest.mark.browser


def test_a_saved_page_runs_in_firefox(tmp_path: Path) -> None:
    model, text = load().model, "x = (1, 2)"
    lens = Lens(model, text)
    lens.session.units = (3, 17)
    path = lens.save(tmp_path / "lens.html")
    lens.close()
    ids = model.encode(text)
    with firefox(tmp_path) as page:
        page.size(1000, 1400)
        page.goto(path.as_uri())
        is_torchs(page, model, ids, answers=10)
        # a slider, by the keyboard
        page.press("#slider-z", "Home")
        held = scale("rnn.l0", "z", [3, 17], by=0.0)
        is_torchs(page, model, ids, held, answers=10)
        # chosen steps and a button, by the mouse
        page.click("[data-i='4']")
        page.click("[title^='set the state']")
        is_torchs(page, model, ids, held, ablate("rnn.l0", [3, 17], at=[4]), answers=10)
        page.click("[title^='take the last change']")
        is_torchs(page, model, ids, held, answers=10)
        # another text
        page.evaluate("() => { document.querySelector('textarea').value = 'def f(x):' }")
        page.click("[title^='run the network']")
        is_torchs(page, model, model.encode("def f(x):"), held, answers=9)
        # drawn, and in as many colours as there are
        shades = page.evaluate(
            """() => {
              const map = document.querySelector("canvas.map"), {width, height} = map;
              const {data} = map.getContext("2d").getImageData(0, 0, width, height);
              return new Set(new Uint32Array(data.buffer)).size;
            }"""
        )
        assert shades > 50
        SHOTS.mkdir(exist_ok=True)
        page.screenshot(SHOTS / "firefox.png")
        assert page.errors == []
