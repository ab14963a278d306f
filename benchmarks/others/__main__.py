"""grulens against the tools that come nearest: can they do it, is it the same, time and memory.

python -m benchmarks.others

Prints the tables of benchmarks/README.md. A tool that is not installed is left out by name; all
of them: pip install -e ".[bench]".
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version

import torch

from benchmarks.measure import ratio
from benchmarks.others import ablation, gates, interchange
from benchmarks.others.job import (
    PINNED,
    Job,
    Size,
    difference,
    missing,
    peak,
    peak_in_a_fresh_process,
)

# TorchLens wraps torch's functions at its first trace and leaves them so: it comes last
JOBS = {"interchange": interchange.JOB, "ablation": ablation.JOB, "gates": gates.JOB}

COLUMNS = (
    "batch, time, input, hidden",
    "largest difference",
    "time, ratio",
    "ours",
    "memory, peak",
    "ours",
)


def compare(name: str, job: Job, size: Size, seconds: float, threads: int, memory: bool) -> None:
    """Print a line of the table for each candidate."""
    ours, *others = job.candidates
    with torch.no_grad():
        base = ours.prepare(size)
        answer = base()
        for row, candidate in enumerate(others, start=1):
            if missing(candidate.package):
                continue
            call = candidate.prepare(size)
            far = difference(call(), answer)
            low, middle, high, plain = ratio(call, base, seconds=seconds, least=5)
            grown = (
                [peak_in_a_fresh_process(name, r, size, threads) for r in (row, 0)]
                if memory
                else ["?", "?"]
            )
            print(
                f"| {candidate.name} | {size} | {far} | {middle:.3g} ({low:.3g} to {high:.3g}) | "
                f"{plain * 1e3:.3g} ms | {grown[0]} MB | {grown[1]} MB |"
            )
            sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> None:
    """Print versions, what came of trying, and the table of each question."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.others")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each line of the tables")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--size", type=int, nargs=4, help="this batch, time, input, hidden alone")
    parser.add_argument("--quick", action="store_true", help="no memory, and nothing tried")
    parser.add_argument("--peak", nargs=6, metavar=("JOB", "ROW", "B", "T", "I", "H"))
    asked = parser.parse_args(argv)
    torch.set_num_threads(asked.threads)
    if asked.peak:
        name, row, *numbers = asked.peak
        candidate = JOBS[name].candidates[int(row)]
        print(f"{peak(candidate, Size(*(int(number) for number in numbers))):.1f}")
        return

    here = [package for package in PINNED if not missing(package)]
    packages = ["grulens", "torch", *here]
    print(", ".join(f"{package} {version(package)}" for package in packages), end=", ")
    print(f"Python {platform.python_version()}, {asked.threads} threads, float32")
    for package in PINNED:
        if package not in here:
            print(f"not installed: pip install {package}=={PINNED[package]}")
    jobs = {name: job for name, job in JOBS.items() if name in asked.jobs}
    for name, job in jobs.items():
        print(f"\n### {job.question}\n")
        print(f"Times are ratios (median, quartiles) to {job.candidates[0].name}.\n")
        print(f"| | {' | '.join(COLUMNS)} |\n|---{'|---' * len(COLUMNS)}|")
        for size in [Size(*asked.size)] if asked.size else job.sizes:
            compare(name, job, size, asked.seconds, asked.threads, not asked.quick)
    if asked.quick:
        return
    print("\n### Tried\n\n| tool | what | what came of it |\n|---|---|---|")
    for job in jobs.values():
        needed = {candidate.package for candidate in job.candidates}
        if not any(missing(package) for package in needed):
            with torch.no_grad():
                for line in job.tried():
                    print(f"| {' | '.join(line)} |")
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
