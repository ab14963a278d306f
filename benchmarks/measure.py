"""Timings that hold on a noisy machine: the candidates in turn, in one process, medians, ratios."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def ratio(
    candidate: Callable[[], object], base: Callable[[], object], *, seconds: float, least: int = 9
) -> tuple[float, float, float, float]:
    """A candidate's time over that of `base`, called in turn: A B A B.

    Each pair has a run of its own, so that no third candidate has filled the caches in between.

    Returns:
        Lower quartile, median and upper quartile of the ratios of the rounds, and the median
        seconds of `base`.
    """
    over, plain = [], []
    base(), candidate()
    end = time.perf_counter() + seconds
    while len(over) < least or time.perf_counter() < end:
        began = time.perf_counter()
        base()
        between = time.perf_counter()
        candidate()
        over.append((time.perf_counter() - between) / (between - began))
        plain.append(between - began)
    low, middle, high = statistics.quantiles(over, n=4)
    return low, middle, high, statistics.median(plain)


def status(field: str) -> int:
    """Bytes, by Linux' own account of this process: VmRSS, or VmHWM for its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def peak(call: Callable[[], object]) -> int:
    """Bytes by which the resident set of this process grows at most while a call runs.

    Linux only: the kernel's own high-water mark, set back just before the call. What a first call
    makes for good, imports and thread pools, should have been made.
    """
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    call()
    return max(0, status("VmHWM") - before)


def fresh(module: str, *arguments: object) -> str:
    """The last line that a benchmark prints in a process of its own.

    There glibc gives large blocks back at once, so that what was freed is not counted as in use.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    malloc = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | malloc
    )
    return done.stdout.splitlines()[-1]  # a package may print on import
