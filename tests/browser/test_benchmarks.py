"""The benchmarks that need a browser run, at their smallest size."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

PARTS = (
    *("whole", "edited forward", "over the edited forward", "browser and transport, there"),
    *("Python, before", "Python, to the picture", "transport, back", "drawing", "Python, after"),
)


def test_a_press_is_followed_to_the_picture(browser: object) -> None:
    command = [sys.executable, "-m", "benchmarks.latency", "--presses", "2"]
    done = subprocess.run(
        [*command, "--setup", "hidden 8, 20 steps"], cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for part in PARTS:
        assert re.search(rf"\n  {part} +-?\d+ +-?\d+ to -?\d+", done.stdout), done.stdout


def test_an_edit_of_a_page_is_timed(browser: object) -> None:
    command = [sys.executable, "-m", "benchmarks.page", "--edits", "3"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\n  an edit +[\d.]+ ms  \([\d.]+ to [\d.]+\)", done.stdout), done.stdout
