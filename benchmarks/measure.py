"""Timings that hold on a noisy machine: the candidates in turn, in one process, medians, ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def interleaved(
    candidates: Mapping[str, Callable[[], object]], *, seconds: float = 6.0, least: int = 9
) -> dict[str, list[float]]:
    """Seconds of every call; each round calls each candidate once, beginning with another."""
    names = list(candidates)
    for call in candidates.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in names}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < least or time.perf_counter() < end:
        for name in names[rounds % len(names) :] + names[: rounds % len(names)]:
            began = time.perf_counter()
            candidates[name]()
            times[name].append(time.perf_counter() - began)
        rounds += 1
    return times


def ratios(times: Mapping[str, list[float]], base: str) -> dict[str, tuple[float, float, float]]:
    """Median and quartiles of each candidate's time over `base`'s of the same round."""
    found = {}
    for name, values in times.items():
        over = [one / other for one, other in zip(values, times[base], strict=True)]
        low, middle, high = statistics.quantiles(over, n=4)
        found[name] = (low, middle, high)
    return found
