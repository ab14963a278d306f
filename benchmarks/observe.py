"""What it costs to open a cell by its equation, as ratios to the module's own forward.

python -m benchmarks.observe [--threads 1] [--seconds 4] [--size BATCH TIME HIDDEN] [--memory]

"the first time" finds the cell and then records it; "record" reads it where it was found. TorchLens
logs every operation of the same forwards, where it is installed. It comes last, because it wraps
torch's functions at its first trace and leaves them so. With `--memory` each line has the peak of a
process of its own.
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
from benchmarks.measure import fresh, peak, ratio
from benchmarks.others.job import MB, missing

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
    """TorchLens on its forward: the trace with its graph, and the leaner record.

    Both keep what every sigmoid and tanh made.
    """
    lens = torchlens()
    save = lens.func("sigmoid") | lens.func("tanh")
    return {
        "TorchLens: trace": (lambda: lens.trace(model, x, save=save), None),
        "TorchLens: record": (lambda: lens.record(model, x, save=save), None),
    }


def torchlens() -> Any:
    """The package, which not everybody has."""
    return import_module("torchlens")


def held(model: nn.Module, x: Tensor) -> str:
    """Where the update gate that grulens found stands among the values that TorchLens traces."""
    (layer,) = grulens.record(model, x).values()
    values = [one for one in torchlens().trace(model, x).layer_list if isinstance(one.out, Tensor)]
    places: dict[str, float] = {}
    for z in layer.z.unbind(1):
        alike = [(float((one.out.reshape(z.shape) - z).abs().max()), one.label)
                 for one in values if one.out.numel() == z.numel()]  # fmt: skip
        places |= {label: off for off, label in sorted(alike)[:1] if off < 1e-6}
    ends = " to ".join([*places][:: max(1, len(places) - 1)])
    named = f" ({ends}, {max(places.values()):.1g} apart at most)" if places else ""
    return (
        f"  of {len(values)} values that TorchLens traces, {len(places)} are z, of "
        f"{layer.z.shape[1]} steps{named}; grulens: {layer.cell.equation}"
    )


def made(kind: type[nn.Module], size: Sequence[int]) -> tuple[nn.Module, Tensor]:
    """A cell and its input."""
    batch, time, hidden = size
    torch.manual_seed(0)
    return kind(hidden).eval(), torch.randn(batch, time, hidden)


def measure(
    size: Sequence[int],
    seconds: float,
    candidates: Callable[[nn.Module, Tensor], Goals],
    memory: bool = False,
) -> None:
    """Print one line a candidate and cell."""
    for kind in CELLS:
        model, x = made(kind, size)
        own = partial(model, x)
        print("\n{}, batch {}, time {}, hidden {}".format(kind.__name__, *size))
        with torch.no_grad():
            for name, (candidate, goal) in candidates(model, x).items():
                low, middle, high, base = ratio(candidate, own, seconds=seconds)
                word = "met" if goal and middle <= goal else "MISSED"
                kept = f"goal {goal:.1f} {word}" if goal else ""
                if memory:
                    kept += "   peak " + fresh(
                        "benchmarks.observe", "--peak", kind.__name__, name, "--size", *size
                    )
                print(
                    f"  {name:22s} {middle:6.2f} x   ({low:.2f} to {high:.2f})   "
                    f"own forward {base * 1e3:6.1f} ms   {kept}"
                )
            if candidates is traced:
                print(held(model, x))
        sys.stdout.flush()


def peak_of(kind: str, name: str, size: Sequence[int]) -> str:
    """By how much this process grows at most while a cell is run in one of the ways.

    A run of three steps goes first, so that imports are not counted.
    """
    of = next(one for one in CELLS if one.__name__ == kind)
    candidates = traced if name.startswith("TorchLens") else opened
    batch, _, hidden = size
    with torch.no_grad():
        candidates(*made(of, (batch, 3, hidden)))[name][0]()
        return f"{peak(candidates(*made(of, size))[name][0]) / MB:.1f} MB"


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
    parser.add_argument("--memory", action="store_true", help="the peak memory of each line too")
    parser.add_argument("--peak", nargs=2, metavar=("CELL", "LINE"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    if options.peak:
        print(peak_of(*options.peak, options.size or SIZES[0]))
        return
    print(f"grulens {grulens.__version__}, torch {torch.__version__}, Python "
          f"{platform.python_version()}, {torch.get_num_threads()} threads, float32")  # fmt: skip
    sizes = [options.size] if options.size else SIZES
    absent = missing("torchlens")
    if absent:
        print('TorchLens is not installed (pip install -e ".[bench]"): it is left out')
    for candidates in (opened, *([] if absent else [traced])):
        for size in sizes:
            measure(size, options.seconds, candidates, options.memory)


if __name__ == "__main__":
    main()
