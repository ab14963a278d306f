"""What it costs to open a cell by its equation, as ratios to the module's own forward.

python -m benchmarks.observe [--threads 1] [--seconds 4] [--size BATCH TIME HIDDEN]

"the first time" finds the cell and then records it; "record" reads it where it was found. TorchLens
logs every operation of the same forwards, where it is installed. It comes last, because it wraps
torch's functions at its first trace and leaves them so.
"""

from __future__ import annotations

import argparse
import copy
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

import grulens
from benchmarks.measure import ratio
from benchmarks.others.job import missing

SIZES = [(1, 100, 64), (16, 100, 128), (32, 100, 256), (16, 400, 128)]


class NormedGRU(nn.Module):
    """The cell of DreamerV2: one product of both, normed."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.both = size, nn.Linear(2 * size, 3 * size, bias=False)
        self.norm = nn.LayerNorm(3 * size)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.size)
        states = []
        for now in x.unbind(1):
            reset, new, update = self.norm(self.both(torch.cat([now, h], -1))).chunk(3, -1)
            reset, update = torch.sigmoid(reset), torch.sigmoid(update - 1)
            new = torch.tanh(reset * new)
            h = update * new + (1 - update) * h
            states.append(h)
        return torch.stack(states, 1)


class PerGate(nn.Module):
    """A Linear for each gate, the reset before the product."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.update, self.reset, self.new = (nn.Linear(2 * size, size) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.size)
        for t in range(x.shape[1]):
            both = torch.cat([x[:, t], h], 1)
            z, r = torch.sigmoid(self.update(both)), torch.sigmoid(self.reset(both))
            n = torch.tanh(self.new(torch.cat([x[:, t], r * h], 1)))
            h = (1 - z) * h + z * n
        return h


class ConvGRU(nn.Module):
    """Convolutions in place of products, over pictures of 8 x 8."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.channels = max(1, size // 16)
        inside = 2 * self.channels
        self.gates = nn.Conv2d(inside, inside, 3, padding=1)
        self.new = nn.Conv2d(inside, self.channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = x[..., : self.channels, None, None].expand(*x.shape[:2], -1, 8, 8)
        h = torch.zeros_like(x[:, 0])
        for t in range(x.shape[1]):
            z, r = torch.sigmoid(self.gates(torch.cat([x[:, t], h], 1))).chunk(2, 1)
            n = torch.tanh(self.new(torch.cat([x[:, t], r * h], 1)))
            h = (1 - z) * h + z * n
        return h


CELLS = (NormedGRU, PerGate, ConvGRU)


Goals = dict[str, tuple[Callable[[], Any], float | None]]
"""By name what is measured, and the ratio that it is to keep to."""


def opened(model: nn.Module, x: Tensor) -> Goals:
    """The ways in which grulens runs a model."""
    fresh = [copy.deepcopy(model) for _ in range(40)]
    edit = grulens.clamp(next(iter(grulens.record(model, x))), "z", [0], value=0.5)
    return {
        "the first time": (lambda: grulens.record(taken(fresh, model), x), 5),
        "record": (lambda: grulens.record(model, x), 1.5),
        "record and all gates": (lambda: gates(model, x), None),
        "edited run": (lambda: grulens.record(model, x, edits=edit), None),
    }


def traced(model: nn.Module, x: Tensor) -> Goals:
    """TorchLens' trace of its forward, which keeps what every sigmoid and tanh made."""
    lens = import_module("torchlens")
    save = lens.func("sigmoid") | lens.func("tanh")
    return {"TorchLens": (lambda: lens.trace(model, x, save=save), None)}


def measure(
    size: Sequence[int], seconds: float, candidates: Callable[[nn.Module, Tensor], Goals]
) -> None:
    """Print one line a candidate and cell."""
    batch, time, hidden = size
    for kind in CELLS:
        torch.manual_seed(0)
        model, x = kind(hidden).eval(), torch.randn(batch, time, hidden)
        own = partial(model, x)
        print(f"\n{kind.__name__}, batch {batch}, time {time}, hidden {hidden}")
        with torch.no_grad():
            for name, (candidate, goal) in candidates(model, x).items():
                low, middle, high, base = ratio(candidate, own, seconds=seconds)
                word = "met" if goal and middle <= goal else "MISSED"
                kept = f"goal {goal:.1f} {word}" if goal else ""
                print(
                    f"  {name:22s} {middle:6.2f} x   ({low:.2f} to {high:.2f})   "
                    f"own forward {base * 1e3:6.1f} ms   {kept}"
                )
        sys.stdout.flush()


def gates(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Every signal of a run."""
    return [
        getattr(layer, name) for layer in grulens.record(model, x).values() for name in layer.names
    ]


def taken(fresh: list[nn.Module], model: nn.Module) -> nn.Module:
    """A copy of a model that nobody has looked at."""
    return fresh.pop() if fresh else copy.deepcopy(model)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the versions and every size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.observe")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each candidate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, nargs=3, help="this batch, time, hidden alone")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    print(f"grulens {grulens.__version__}, torch {torch.__version__}, Python "
          f"{platform.python_version()}, {torch.get_num_threads()} threads, float32")  # fmt: skip
    sizes = [options.size] if options.size else SIZES
    for candidates in (opened, *([] if missing("torchlens") else [traced])):
        for size in sizes:
            measure(size, options.seconds, candidates)


if __name__ == "__main__":
    main()
