"""What a sweep costs: against a loop of single edited runs, and against the machine itself.

    python -m benchmarks.sweep

The loop is what one writes without `sweep`: one recorded, edited run a unit. The machine's own
speed is that of its best matrix product, measured in the same process, in turn with the sweep; the
useful work of a sweep is its recurrent products alone, 2 x 3 x unit x unit x batch x time a run.
Peak memory is that of a process of its own, less what it was after a sweep of one unit.

On a busy machine two threads wait for each other: `--busy` takes one thread and processor time.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

import grulens
from benchmarks.measure import fresh, peak

SIZES = [(1, 100, 64, 128), (1, 200, 64, 512), (8, 100, 64, 256)]
FASTER = {128: 30, 512: 8, 256: 4}
PEAK, PEAK_UNITS = 0.8, 256
BOUND = 2**29
BEST = (512, 1024, 2048)


class Model(nn.Module):
    """A GRU and a small head on its last state."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(inputs, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def prepared(batch: int, steps: int, inputs: int, hidden: int) -> tuple[Model, torch.Tensor]:
    torch.manual_seed(0)
    return Model(inputs, hidden).eval(), torch.randn(batch, steps, inputs)


def swept(model: Model, x: torch.Tensor, units: object = None) -> grulens.Sweep:
    found = grulens.sweep(
        model, x, layer="rnn.l0", units=units, memory=BOUND, progress=False
    )  # fmt: skip
    if not found.batched:
        raise SystemExit("the runs were not batched")
    return found


Clock = Callable[[], float]


def took(run: Callable[[], object], clock: Clock) -> float:
    began = clock()
    run()
    return clock() - began


def product_speed(size: int, clock: Clock) -> float:
    """FLOP a second of one square matrix product."""
    one, other, out = (torch.randn(size, size) for _ in range(3))
    return 2 * size**3 / min(took(lambda: torch.mm(one, other, out=out), clock) for _ in range(5))


def measure(batch: int, steps: int, inputs: int, hidden: int, seconds: float, clock: Clock) -> None:
    model, x = prepared(batch, steps, inputs, hidden)
    few = max(1, hidden // 32)

    def loop() -> None:
        for unit in range(few):
            grulens.record(model, x, edits=grulens.ablate("rnn.l0", unit))

    work = 2 * 3 * hidden * hidden * batch * steps * hidden
    swept(model, x), loop()
    faster, shares, speeds = [], [], []
    end = time.perf_counter() + seconds
    while len(shares) < 5 or time.perf_counter() < end:
        alone = took(loop, clock) * hidden / few
        together = took(lambda: swept(model, x), clock)
        best = max(product_speed(size, clock) for size in BEST)
        faster.append(alone / together)
        speeds.append(work / together)
        shares.append(work / together / best)
    low, middle, high = statistics.quantiles(faster, n=4)
    share = statistics.median(shares)
    used = memory(batch, steps, inputs, hidden)
    goal = FASTER.get(hidden)
    met = "" if goal is None else f"goal {goal} {'met' if middle >= goal else 'MISSED'}"
    said = f"goal {PEAK:.0%} {'met' if share >= PEAK else 'MISSED'}" if hidden >= PEAK_UNITS else ""
    print(f"\nbatch {batch}, time {steps}, hidden {hidden}: {hidden} runs")
    print(f"  against a loop    {middle:6.1f} x   ({low:.1f} to {high:.1f})   {met}")
    print(f"  of the product    {share:6.0%}     {statistics.median(speeds) / 1e9:.0f} GFLOP/s"
          f"   {said}")  # fmt: skip
    print(f"  peak memory       {used / 2**20:6.0f} MB  bound {BOUND / 2**20:.0f} MB  "
          f"{'held' if used <= BOUND else 'EXCEEDED'}")  # fmt: skip


def memory(batch: int, steps: int, inputs: int, hidden: int) -> int:
    """Bytes a sweep holds beyond the model and a sweep of one unit, from a process of its own."""
    return int(fresh("benchmarks.sweep", "--memory", batch, steps, inputs, hidden))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the versions and every size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to measure each")
    parser.add_argument("--busy", action="store_true", help="one thread, processor time")
    parser.add_argument("--size", type=int, nargs=4, help="this batch, time, input, hidden alone")
    parser.add_argument("--memory", type=int, nargs=4, help="print bytes for one size, and no more")
    options = parser.parse_args(argv)
    torch.set_num_threads(1 if options.busy else 2)
    clock = time.process_time if options.busy else time.perf_counter
    if options.memory:
        model, x = prepared(*options.memory)
        swept(model, x, [0])
        print(peak(lambda: swept(model, x)))
        return
    print(f"grulens {grulens.__version__}, torch {torch.__version__}, Python "
          f"{platform.python_version()}, {torch.get_num_threads()} threads, float32")  # fmt: skip
    for size in [options.size] if options.size else SIZES:
        measure(*size, options.seconds, clock)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
