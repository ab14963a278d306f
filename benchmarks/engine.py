"""What recording and editing cost, as ratios to the plain forward in the same process.

python -m benchmarks.engine [--threads 2] [--seconds 4] [--size BATCH TIME INPUT HIDDEN]
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence

import torch
from torch import nn

import grulens
from benchmarks.measure import ratio

SIZES = [(1, 200, 64, 128), (32, 200, 128, 256), (32, 512, 256, 512), (256, 100, 64, 128)]
UNITS = 256  # from here up an edited run has a goal


def cell_loop(cell: nn.GRUCell, x: torch.Tensor) -> list[torch.Tensor]:
    """What people write by hand: a loop of cells that keeps its gates."""
    h = x.new_zeros(len(x), cell.hidden_size)
    kept = []
    for t in range(x.shape[1]):
        i = x[:, t] @ cell.weight_ih.t() + cell.bias_ih
        g = h @ cell.weight_hh.t() + cell.bias_hh
        i_r, i_z, i_n = i.chunk(3, 1)
        h_r, h_z, h_n = g.chunk(3, 1)
        r, z = torch.sigmoid(i_r + h_r), torch.sigmoid(i_z + h_z)
        n = torch.tanh(i_n + r * h_n)
        h = (1 - z) * n + z * h
        kept.append(torch.stack([r, z, n, h]))
    return kept


def measure(batch: int, time: int, inputs: int, hidden: int, seconds: float) -> None:
    """Print one line a candidate."""
    torch.manual_seed(0)
    model = nn.GRU(inputs, hidden, batch_first=True).eval()
    cell = nn.GRUCell(inputs, hidden)
    x = torch.randn(batch, time, inputs)
    edit = grulens.scale("l0", "z", [0, 1, 2], by=0.5)
    candidates = {
        "record": lambda: grulens.record(model, x),
        "record and all gates": lambda: grulens.record(model, x)["l0"].z,
        "edited run": lambda: grulens.record(model, x, edits=edit),
        "loop of cells": lambda: cell_loop(cell, x),
    }
    goals = {
        "record": 1.2 if batch == 1 else 1.05,
        "record and all gates": 1.3 if batch == 1 else 1.9,
        "edited run": 1.3 if hidden >= UNITS else None,
    }
    print(f"\nbatch {batch}, time {time}, input {inputs}, hidden {hidden}")
    for name, candidate in candidates.items():
        with torch.no_grad():
            low, middle, high, base = ratio(candidate, lambda: model(x), seconds=seconds)
        goal = goals.get(name)
        said = "" if goal is None else f"goal {goal:.2f} {'met' if middle <= goal else 'MISSED'}"
        print(
            f"  {name:22s} {middle:6.2f} x   ({low:.2f} to {high:.2f})   "
            f"plain forward {base * 1e3:6.1f} ms   {said}"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Print the versions and every size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each candidate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=4, help="this batch, time, input, hidden alone")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    print(f"grulens {grulens.__version__}, torch {torch.__version__}, Python "
          f"{platform.python_version()}, {torch.get_num_threads()} threads, float32")  # fmt: skip
    for size in [options.size] if options.size else SIZES:
        measure(*size, options.seconds)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
