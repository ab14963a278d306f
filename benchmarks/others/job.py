"""What is compared: one question, several ways to answer it, and how much memory each takes.

Every way is a `Candidate`: from a size it prepares a call that returns the numbers asked for, so
that results can be subtracted and not only timed.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks import measure

PINNED = {"torchlens": "2.36.1", "captum": "0.9.0", "pyvene": "0.1.8"}
MB = 2**20


class Size(NamedTuple):
    """What a candidate is prepared for."""

    batch: int
    time: int
    inputs: int
    hidden: int

    def __str__(self) -> str:
        return ", ".join(str(number) for number in self)


class Candidate(NamedTuple):
    """One way to answer.

    Attributes:
        name: what stands in the table.
        package: the distribution it needs, or None.
        prepare: gives the call that is timed; the call returns the answer.
    """

    name: str
    package: str | None
    prepare: Callable[[Size], Callable[[], Tensor]]


class Job(NamedTuple):
    """One question; the first candidate is grulens, and the others are held against it.

    Attributes:
        question: what stands above the table.
        sizes: what it is asked for.
        candidates: ways to answer.
        tried: what each tool can and cannot do here, found out by trying: (package, what was
            tried, what came of it).
    """

    question: str
    sizes: tuple[Size, ...]
    candidates: tuple[Candidate, ...]
    tried: Callable[[], list[tuple[str, str, str]]]


def missing(package: str | None) -> bool:
    """Whether a package that a candidate needs is not here."""
    if package is None:
        return False
    try:
        version(package)
    except PackageNotFoundError:
        return True
    return False


def difference(one: Tensor, other: Tensor) -> str:
    """The largest difference of two results, as a word for the table."""
    return f"{float((one - other).abs().max()):.1g}"


def peak(candidate: Candidate, size: Size) -> float:
    """Megabytes by which this process grows at most while a candidate runs.

    A run of two steps goes first, so that imports and thread pools are not counted.
    """
    with torch.no_grad():
        candidate.prepare(size._replace(time=2))()
        return measure.peak(candidate.prepare(size)) / MB


def peak_in_a_fresh_process(job: str, row: int, size: Size, threads: int) -> str:
    """`peak` in a process of its own, as a word for the table."""
    if not Path("/proc/self/clear_refs").exists():
        return "Linux only"
    return measure.fresh("benchmarks.others", "--threads", threads, "--peak", job, row, *size)
