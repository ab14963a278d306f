"""Timings that hold on a noisy machine: the candidates in turn, in one process, medians, ratios."""

from __future__ import annotations

import statistics
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
