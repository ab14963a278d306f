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
from collections.abc import Sequence

import torch
from torch import nn

import grulens
from benchmarks.measure import fresh, peak, ratio

TIMES = (128, 256, 512, 1024, 2048)
UNITS = (128, 512)


def prepared(units: int, time: int) -> tuple[nn.GRU, torch.Tensor]:
    torch.manual_seed(0)
    return nn.GRU(units, units, batch_first=True).eval(), torch.randn(1, time, units)


def forget_nothing(model: nn.GRU) -> None:
    with torch.no_grad():
        model.bias_hh_l0[model.hidden_size : 2 * model.hidden_size] += 10  # z is almost 1


def held(units: int, time: int) -> int:
    """Bytes that a map takes at most, in a process of its own."""
    model, x = prepared(units, time)
    forget_nothing(model)
    keeps = grulens.memory.attention(grulens.record(model, x))
    grulens.memory.attention(grulens.record(model, x[:, :8])).map(torch.randn(units))
    return peak(lambda: keeps.map(torch.randn(units)))


def measure(units: int, time: int, seconds: float) -> None:
    """Print one line for a length."""
    model, x = prepared(units, time)
    forgets = grulens.memory.attention(grulens.record(model, x))
    forget_nothing(model)
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
    line += [f"{base * 1e3:8.2f} ms", f"{float(line[3]) * base * 1e9 / time**2:7.1f} ns"]
    maps = int(fresh("benchmarks.attention", "--held", units, time)) / (4 * time * time)
    line += [f"{maps:7.1f}"]
    print("  " + "  ".join(line))
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> None:
    """Print the versions and every size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0, help="a candidate at each length")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--units", type=int, nargs="+", default=UNITS)
    parser.add_argument("--times", type=int, nargs="+", default=TIMES)
    parser.add_argument("--held", type=int, nargs=2, help="print bytes for one size, and no more")
    asked = parser.parse_args(argv)
    torch.set_num_threads(asked.threads)
    if asked.held:
        print(held(*asked.held))
        return
    print(
        f"grulens {grulens.__version__}, torch {torch.__version__}, Python "
        f"{platform.python_version()}, {torch.get_num_threads()} threads, float32, batch 1"
    )
    for units in asked.units:
        print(f"\n{units} units, ratios to the plain forward (median)")
        print("                                    map, if   forward    map over  memory")
        print("   time  +gates      at      map   toward  it forgets           time²   in maps")
        for time in asked.times:
            measure(units, time, asked.seconds)


if __name__ == "__main__":
    main()
