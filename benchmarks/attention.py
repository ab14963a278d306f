"""What gate attention costs, as ratios to the plain forward in the same process, over growing time.

python -m benchmarks.attention

One state's weights should cost what grows with time, as the forward does: their ratio stays where
it is. The map has time squared numbers, so its ratio grows with time. That is a layer that forgets
nothing, the worst case; where the gates forget, what is too old to be left is never multiplied.
"""

from __future__ import annotations

import argparse
import platform
import sys

import torch
from torch import nn

import grulens
from benchmarks.measure import ratio
from grulens.probing.units.peak_memory import PeakMemory

TIMES = (128, 256, 512, 1024, 2048)
UNITS = (128, 512)


def measure(units: int, time: int, seconds: float) -> None:
    """Print one line for a length."""
    torch.manual_seed(0)
    model = nn.GRU(units, units, batch_first=True).eval()
    x = torch.randn(1, time, units)
    forgets = grulens.memory.attention(grulens.record(model, x))
    with torch.no_grad():
        model.bias_hh_l0[units : 2 * units] += 10  # every update gate is almost 1
    keeps, toward = grulens.memory.attention(grulens.record(model, x)), torch.randn(units)
    candidates = {
        "gates": lambda: grulens.record(model, x)["l0"].z,
        "at": lambda: keeps.at(-1),
        "map": keeps.map,
        "toward": lambda: keeps.map(toward),
        "forgets": forgets.map,
    }
    line, base = [f"{time:5d}"], 0.0
    for candidate in candidates.values():
        with torch.no_grad():
            _, middle, _, base = ratio(candidate, lambda: model(x), seconds=seconds)
        line.append(f"{middle:7.3f}")
    with PeakMemory() as memory:
        keeps.map(toward)
    line += [f"{base * 1e3:8.2f} ms", f"{float(line[3]) * base * 1e9 / time**2:7.1f} ns"]
    line += [f"{memory.peak / (4 * time * time):7.1f}"]
    print("  " + "  ".join(line))
    sys.stdout.flush()


def main() -> None:
    """Print the versions and every size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0, help="a candidate at each length")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(
        f"grulens {grulens.__version__}, torch {torch.__version__}, Python "
        f"{platform.python_version()}, {torch.get_num_threads()} threads, float32, batch 1"
    )
    for units in UNITS:
        print(f"\n{units} units, ratios to the plain forward (median)")
        print("                                    map, if   forward    map over  memory")
        print("   time  +gates      at      map   toward  it forgets           time²   in maps")
        for time in TIMES:
            measure(units, time, asked.seconds)


if __name__ == "__main__":
    main()
