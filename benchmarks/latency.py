"""From a key press on a slider to the repainted picture, in real JupyterLab, with its parts.

    python -m benchmarks.latency [--presses 25] [--setup SETUP]

One value, moment by moment, on one clock (the page and the kernel share a machine):

    key ─ browser, transport ─→ kernel ─ Python ─→ [edited forward] ─ Python ─→ patch sent
        ─ transport ─→ page ─ drawing ─→ the heatmap is painted

"Python, after" is what the kernel does once the picture is on its way: table, lines, effects.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

from tests.browser.jupyter import Notebook, chromium, serve

SETUPS = {
    "bundled model, 200 characters": """
from grulens.demo import load
from grulens.demo.corpus import read_sources
model, encode, decode = load()
text = next(iter(read_sources(["gzip.py"]).values()))[:200]
given = (text,)
""",
    "hidden 8, 20 steps": """
model = torch.nn.GRU(3, 8, batch_first=True).eval()
given = (torch.randn(1, 20, 3),)
""",
    "hidden 512, 1,000 steps": """
model = torch.nn.GRU(64, 512, batch_first=True).eval()
given = (torch.randn(1, 1000, 64),)
""",
}
LENS = """
import time, torch, grulens
torch.manual_seed(0)
{setup}
lens = grulens.Lens(model, *given)
session, slider = lens.session, lens.gates.controls.sliders["z"]
session.units = (3,)
stamps = []
def watched(owner, name, before=None, after=None):
    inner = getattr(owner, name)
    def call(*a, **k):
        if before:
            stamps.append((before, time.time() * 1e3))
        try:
            return inner(*a, **k)
        finally:
            if after:
                stamps.append((after, time.time() * 1e3))
    setattr(owner, name, call)
watched(slider, "set_state", before="kernel")
watched(session, "put", after="done")
watched(lens.gates.picture, "send", after="sent")
runs = session.runs
class Timed(type(runs)):
    def __call__(self, *a):
        stamps.append(("run", time.time() * 1e3))
        try:
            return super().__call__(*a)
        finally:
            stamps.append(("ran", time.time() * 1e3))
runs.__class__ = Timed
lens
"""
# every paint of a figure and every patch that arrives leaves its time
WATCH = """() => {
  const { Bokeh } = globalThis[Symbol.for("grulens.bokehjs")].scope;
  const doc = Bokeh.documents.find((doc) => doc.all_models.size && [...doc.all_models].some(
    (model) => model.type === "ColorBar"));
  const heat = [...doc.all_models].find((m) => m.type === "Figure" && m.right.length);
  globalThis.stamps = [];
  const now = () => performance.timeOrigin + performance.now();
  doc.on_change(() => stamps.push(["arrived", now()]));
  const { PlotView } = Bokeh.require("models/plots/plot_canvas");
  const paint = PlotView.prototype._actual_paint;
  PlotView.prototype._actual_paint = function () {
    paint.call(this);
    if (this.model === heat) stamps.push(["painted", now()]);
  };
}"""
PRESS = """async () => {
  const handle = [...document.querySelectorAll(".grulens-signal-z .noUi-handle")]
    .find((handle) => handle.offsetParent);
  stamps.length = 0;
  stamps.push(["key", performance.timeOrigin + performance.now()]);
  handle.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true }));
  await new Promise((resolve) => setTimeout(resolve, 700));
  return stamps;
}"""


def parts(page: list[Any], kernel: list[Any]) -> dict[str, float]:
    """The milliseconds between the moments of one press."""
    first: dict[str, float] = {}
    for name, at in sorted(page + kernel, key=lambda stamp: float(stamp[1])):
        # a paint counts once the new picture has arrived
        if name != "painted" or "arrived" in first:
            first.setdefault(name, at)
    whole, run = first["painted"] - first["key"], first["ran"] - first["run"]
    return {
        "whole": whole,
        "edited forward": run,
        "over the edited forward": whole - run,
        "browser and transport, there": first["kernel"] - first["key"],
        "Python, before": first["run"] - first["kernel"],
        "Python, to the picture": first["sent"] - first["ran"],
        "transport, back": first["arrived"] - first["sent"],
        "drawing": first["painted"] - first["arrived"],
        "Python, after": first["done"] - first["sent"],
    }


def measure(name: str, setup: str, count: int) -> None:
    """Print the medians of one setup."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serve(Path(folder)) as server,
        chromium() as browser,
    ):
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LENS.format(setup=setup))])
        made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(made, server.root / "latency.ipynb")
        notebook = Notebook(server, browser, "lab", "latency.ipynb")
        notebook.run_all()
        notebook.page.locator(".grulens-panel canvas:visible").first.wait_for(timeout=120_000)
        notebook.page.wait_for_timeout(2000)
        notebook.page.evaluate(WATCH)
        presses = []
        for _ in range(count):
            notebook.kernel("stamps.clear()")
            notebook.page.wait_for_timeout(1800)  # the still picture has been drawn
            page = notebook.page.evaluate(PRESS)
            kernel = json.loads(notebook.kernel("import json; print(json.dumps(stamps))"))
            presses.append(parts(page, kernel))
        notebook.close()
    print(f"\n{name} (ms, median and quartiles of {count})")
    for part in presses[0]:
        low, middle, high = statistics.quantiles([press[part] for press in presses], n=4)
        print(f"  {part:30}{middle:6.0f}   {low:4.0f} to {high:.0f}")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every setup, or one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency")
    parser.add_argument("--presses", type=int, default=25, help="two or more")
    parser.add_argument("--setup", choices=SETUPS, help="this one alone")
    options = parser.parse_args(argv)
    for name in [options.setup] if options.setup else SETUPS:
        measure(name, SETUPS[name], options.presses)


if __name__ == "__main__":
    main()
