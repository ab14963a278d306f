"""What products of Jacobians cost, as ratios to the plain forward in the same process.

    python -m benchmarks.flow [--threads 2] [--seconds 2]

The gradient of one state with respect to all states before it is one way back: it should cost what
grows with time, as the forward does, so that its ratio stays where it is. Along one direction that
is two products of a matrix and a vector a step; for all directions, of matrices. All in float64,
where the forward runs in float32.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence

import torch
from torch import nn

import grulens
from benchmarks.measure import ratio

TIMES = (128, 256, 512, 1024, 2048)
UNITS = (64, 128)


def measure(units: int, time: int, seconds: float) -> None:
    """Print one line for a length."""
    torch.manual_seed(0)
    model = nn.GRU(units, units, batch_first=True).eval()
    x = torch.randn(1, time, units)
    run = grulens.record(model, x)
    flow, toward = grulens.memory.gradient_flow(run), torch.randn(units)
    candidates = {
        "slopes": lambda: grulens.memory.gradient_flow(run),
        "one direction": lambda: flow.at(-1, toward=toward),
        "all directions": lambda: flow.at(-1),
        "lyapunov": lambda: grulens.dynamics.lyapunov(run["l0"].cell, x[0]),
    }
    line = [f"{units:5d} {time:6d}"]
    for candidate in candidates.values():
        with torch.no_grad():
            _, middle, _, base = ratio(candidate, lambda: model(x), seconds=seconds)
        line.append(f"{middle:8.2f} {middle * base * 1e6 / time:8.1f}")
    print("  ".join([*line, f"{base * 1e6 / time:8.1f}"]), flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the versions and every size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0, help="a candidate at each length")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--units", type=int, nargs="+", default=UNITS)
    parser.add_argument("--times", type=int, nargs="+", default=TIMES)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    print(
        f"torch {torch.__version__}, {options.threads} threads, Python {platform.python_version()}"
    )
    print("ratio to the plain forward, and microseconds a step; last the forward's own")
    print("units   time  gates and slopes   one direction     all directions    lyapunov spectrum")
    for units in options.units:
        for time in options.times:
            measure(units, time, options.seconds)


if __name__ == "__main__":
    main()
