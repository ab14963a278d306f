"""What an edit costs in a saved page that runs: from the edit to the drawn page, in Chromium.

python -m benchmarks.page [--edits 25]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from grulens import Lens
from grulens.demo import load
from tests.browser.jupyter import chromium

TEXT = "def f(x):\n    return [x for x in range(10) if x % 2]\n" * 2
# one drag of a slider: the update gate of one unit, times a little more each time
DRAG = """count => Array.from({length: count}, (_, i) => {
  const begun = performance.now();
  grulens.change([{layer: "rnn.l0", signal: "z", how: "scale", value: i / 9, units: [3],
                   steps: null, on: true, key: 1}], {now: true});
  return performance.now() - begun;
})"""


def measure(edits: int) -> list[float]:
    """How long each edit took, milliseconds."""
    lens = Lens(load().model, TEXT)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        path = lens.save(Path(folder) / "lens.html")
        page = browser.new_page(viewport={"width": 1000, "height": 1400})
        page.goto(path.as_uri())
        page.locator("canvas.map").wait_for()
        took: list[float] = page.evaluate(DRAG, edits)
    lens.close()
    return took


def main(argv: Sequence[str] | None = None) -> None:
    """Print the median and the quartiles."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page")
    parser.add_argument("--edits", type=int, default=25, help="two or more")
    options = parser.parse_args(argv)
    low, middle, high = statistics.quantiles(measure(options.edits), n=4)
    print(f"bundled model, {len(TEXT)} characters, {options.edits} edits")
    print(f"  an edit   {middle:.1f} ms  ({low:.1f} to {high:.1f})   goal 50")


if __name__ == "__main__":
    main()
