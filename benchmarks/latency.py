"""From a key press on a slider to the repainted picture, in real JupyterLab, with its parts.

    python -m benchmarks.latency

The parts: `edited forward`, the model's own edited run; `Python`, all that the kernel does for one
value (that run, readout, statistics, patches); `whole`, from the key press to the next frame after
the patch has been applied, in the browser. What is over the edited forward is the front end's.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import nbformat

from tests.browser.jupyter import Notebook, chromium, serve

PRESSES = 25
SETUPS = {
    "bundled model, 200 characters": """
from grulens.demo import load
from grulens.demo.corpus import read_sources
model, encode, decode = load()
text = next(iter(read_sources(["gzip.py"]).values()))[:200]
given = (text,)
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
runs, python = [], []
inner, outer = session._runs.__call__, session.put
class Timed(type(session._runs)):
    def __call__(self, *a):
        result = super().__call__(*a)
        runs.append(self.seconds)
        return result
session._runs.__class__ = Timed
def timed(*a):
    began = time.perf_counter()
    outer(*a)
    python.append(time.perf_counter() - began)
session.put = timed
lens
"""
PRESS = """async () => {
  const shared = globalThis[Symbol.for("grulens.bokehjs")];
  const doc = shared.scope.Bokeh.documents[0];
  const painted = new Promise((resolve) => {
    const heard = () => { doc.remove_on_change(heard); requestAnimationFrame(() =>
      requestAnimationFrame(() => resolve(performance.now()))); };
    doc.on_change(heard);
  });
  const handle = document.querySelector(".grulens-z .noUi-handle");
  const began = performance.now();
  handle.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true }));
  return (await painted) - began;
}"""


def measure(name: str, setup: str) -> None:
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
        notebook.page.locator(".grulens-panel canvas").first.wait_for()
        notebook.page.wait_for_timeout(2000)
        whole = []
        for _ in range(PRESSES):
            whole.append(notebook.page.evaluate(PRESS))
            notebook.page.wait_for_timeout(300)
        medians = "print(*(sorted(v)[len(v) // 2] * 1e3 for v in (runs, python)))"
        run, python = map(float, notebook.kernel(medians).split())
        notebook.close()
    total = statistics.median(whole)
    low, _, high = statistics.quantiles(whole, n=4)
    print(f"{name}: whole {total:.0f} ms ({low:.0f} to {high:.0f}) = edited forward {run:.0f} + "
          f"rest of Python {python - run:.0f} + transport, drawing and frame {total - python:.0f}; "
          f"over the edited forward {total - run:.0f} ms, goal 60")  # fmt: skip


def main() -> None:
    """Measure every setup."""
    for name, setup in SETUPS.items():
        measure(name, setup)


if __name__ == "__main__":
    main()
