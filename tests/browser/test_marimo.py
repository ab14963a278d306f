"""marimo shows a screen as the page that runs, in the theme that marimo has.

marimo is none of the project's requirements: it is larger than all other front ends together. Where
it is missing, this says so and skips.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grulens import scale
from grulens.demo import load
from tests.browser.jupyter import PATIENCE, SHOTS, until, wait_until
from tests.browser.running import is_torchs

pytestmark = pytest.mark.browser

NOTEBOOK = """
import marimo
app = marimo.App()

@app.cell
def _():
    import torch
    from torch import nn
    from grulens import Lens
    from grulens.demo import load
    lens = Lens(load().model, "x = (1, 2)")
    lens.session.units = (3, 17)
    lens
    return Lens, lens, nn, torch

@app.cell
def _(lens):
    lens.table
    return

@app.cell
def _(lens):
    lens.gates.picture
    return

@app.cell
def _(Lens, nn, torch):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.new = nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, x):
            h = x.new_zeros(len(x), 3)
            for step in x.unbind(1):
                both = torch.cat([step, h], 1)
                z = torch.sigmoid(self.gate(both))
                h = z * h + (1 - z) * torch.tanh(self.new(both))
            return h

    Lens(Own(), torch.randn(1, 4, 2))
    return

if __name__ == "__main__":
    app.run()
"""


# what marimo does when a person changes its theme
LIGHT = """(at) => {
  for (; at; at = at.parentElement ?? at.getRootNode().host) {
    if (at.classList.contains("dark")) at.classList.replace("dark", "light");
    at.classList.replace("dark-theme", "light-theme");
  }
}"""


@contextlib.contextmanager
def marimo(folder: Path, theme: str) -> Iterator[str]:
    """A marimo that runs the notebook: its address."""
    pytest.importorskip("marimo", reason="marimo is not installed: pip install marimo==0.25.2")
    (folder / "notebook.py").write_text(NOTEBOOK)
    (folder / "marimo").mkdir()
    (folder / "marimo" / "marimo.toml").write_text(f'[display]\ntheme = "{theme}"\n')
    env = os.environ | {"XDG_CONFIG_HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "marimo", "run", "notebook.py", "--headless", "--no-token",
               "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    with (folder / "log").open("wb") as out:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=out, stderr=out)
        try:

            def listens() -> bool:
                with socket.socket() as asked:
                    return asked.connect_ex(("127.0.0.1", port)) == 0

            wait_until(listens, PATIENCE, "marimo")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def test_a_screen_is_a_page_that_runs(browser: Any, tmp_path: Path) -> None:
    with marimo(tmp_path, "dark") as address:
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme="light")
        page.set_default_timeout(1000 * PATIENCE)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)

        def frame(of: int) -> Any:
            page.locator("iframe").nth(of).wait_for(state="attached")
            found = page.locator("iframe").nth(of).element_handle().content_frame()
            found.locator("canvas").first.wait_for()
            return found

        lens, table, own = frame(0), frame(1), frame(2)
        # a figure is an anywidget, and lives as it does in Jupyter
        page.locator(".grulens-bokeh canvas:visible").first.wait_for()

        model = load().model
        said = lens.locator(".said")
        before = said.text_content()
        lens.get_by_label("z  update gate").press("Home")
        until(page, lambda: said.text_content() != before, "another answer")
        held = scale("rnn.l0", "z", [3, 17], by=0.0)
        is_torchs(lens, model, model.encode("x = (1, 2)"), held, answers=10)
        assert table.locator(".units tr").count() == 193
        assert "cannot run here, because layer" in own.locator("pre").first.text_content()

        ink = "getComputedStyle(document.body).color"
        shade = lens.evaluate(ink)
        page.screenshot(path=str(SHOTS / "marimo-dark.png"))
        page.locator("iframe").first.evaluate(LIGHT)
        until(page, lambda: lens.evaluate(ink) != shade, "the other theme")
        assert not errors
        page.close()
