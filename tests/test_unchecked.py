"""Some tests must meet grulens as users have it: without the checks of annotations.

beartype refuses many a wrong argument before grulens sees it, but only in tests: what users see is
grulens' own error, or none. These tests are marked `unchecked` and run here, in a process of their
own. So are those that look for observed cells hundreds of times: a search calls short functions by
the million, and checks make it ten times as long; each kind of cell is searched once with them.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


# pytest would import every file to find the mark in a few
MARKED = sorted(
    str(path) for path in ROOT.glob("tests/**/test_*.py")
    if path != Path(__file__) and "mark.unchecked" in path.read_text(encoding="utf-8")
)  # fmt: skip


def test_what_is_marked_unchecked_passes() -> None:
    command = [sys.executable, "-m", "pytest", *MARKED, "-m", "unchecked", "-q", "-ra"]
    options = ["-o", "addopts=--strict-markers --strict-config --import-mode=importlib"]
    done = subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"GRULENS_UNCHECKED": "1"},
    )  # fmt: skip
    assert len(MARKED) > 3
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
