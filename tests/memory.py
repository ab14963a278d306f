"""How much memory a piece of code takes at its peak, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

STATUS = Path("/proc/self/status")
needs_peak = pytest.mark.skipif(not STATUS.exists(), reason="the peak is read from /proc")

_HEAD = """
import json
from pathlib import Path

marks = {}


def mark(name):
    # of this process alone: what getrusage says may be the peak of the one that started it
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    marks[name] = kilobytes * 1024
"""


def peaks(code: str) -> dict[str, Any]:
    """The peaks so far, in bytes, at each `mark(name)` in the code.

    A process's peak never falls, so each is the largest since the process began.
    """
    whole = f"{_HEAD}\n{code}\nprint(json.dumps(marks))"
    done = subprocess.run(
        [sys.executable, "-c", whole], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
