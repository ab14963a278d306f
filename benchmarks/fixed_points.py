"""Fixed points of trained flip-flops: against the search that everybody uses.

    python -m benchmarks.fixed_points [--seeds 5] [--starts 512] [--apart]

The same networks, the same starts, the same process. FixedPointFinder (Golub and Sussillo 2018,
doi:10.21105/joss.01003) is on no registry: where its torch version can be imported it is run
itself; else what it does stands in: Adam on q = |F(h) - h|^2 / 2 for all starts jointly, from rate
0.05, times 0.7 every 500 iterations, until every q is below 1e-12 or changes by less than 1e-20, at
most 5,000 times, in float32, which is its default; and once more in float64 until every q is below
1e-20, which float32 cannot reach.

converged: share of the starts whose q is below 1e-20 (float32: below 1e-12, the most it promises).
spurious: points handed out, those nearer than 1e-3 to another being one, that are none: |h| >= 1
somewhere, or no point with n(h) = h within 1e-2. stable: how many of the 8 memories were found.

--apart measures something else: what a search costs that ends at thousands of points, over the cost
of all pairwise distances of them (torch.cdist): on a continuum where every state is a point of its
own and its slope is singular, and with every end twice. What is not in it is the way there.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

import grulens
from benchmarks.measure import ratio
from grulens.demo.flip_flop import FlipFlopModel, flip_flop_data, train_flip_flop

GOAL = 10
TRAINING = 600  # as train_flip_flop's own


class Found(NamedTuple):
    """What a search handed out.

    Attributes:
        seconds: how long it took.
        ends: where each start ended (start, unit).
        points: the points it hands out (point, unit).
        precise: the q below which a start counts as converged.
    """

    seconds: float
    ends: Tensor
    points: Tensor
    precise: float


def ours(model: FlipFlopModel, starts: Tensor) -> Found:
    cell = grulens.record(model, torch.zeros(1, 2, 3))["rnn.l0"].cell
    began = time.perf_counter()
    found = grulens.dynamics.find_fixed_points(cell, starts=starts, progress=False)
    return Found(time.perf_counter() - began, found.ends, found.states, 1e-20)


def adam(dtype: torch.dtype, tol: float, steps: int) -> Callable[[FlipFlopModel, Tensor], Found]:
    def search(model: FlipFlopModel, starts: Tensor) -> Found:
        rnn = nn.GRU(3, model.rnn.hidden_size, batch_first=True, dtype=dtype)
        rnn.load_state_dict(model.rnn.state_dict())
        rnn.requires_grad_(False)
        began = time.perf_counter()
        h = starts.to(dtype)[None].clone().requires_grad_()
        still = torch.zeros(len(starts), 1, 3, dtype=dtype)
        optimizer = torch.optim.Adam([h], lr=0.05)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 500, 0.7)
        before = torch.full((len(starts),), torch.nan, dtype=dtype)
        for _ in range(steps):
            optimizer.zero_grad()
            q = (rnn(still, h)[1] - h)[0].square().sum(1) / 2
            q.mean().backward()
            now = q.detach()
            if bool(((now < tol) | ((now - before).abs() < 1e-20)).all()):
                break
            optimizer.step()
            schedule.step()
            before = now
        ends = h.detach()[0].double()
        seconds = time.perf_counter() - began
        return Found(seconds, ends, distinct(ends[q_of(model, ends) < tol]), tol)

    return search


def itself(model: FlipFlopModel, starts: Tensor) -> Found:
    """FixedPointFinder's own torch version, found where the user put it."""
    from FixedPointFinderTorch import FixedPointFinderTorch  # noqa: PLC0415

    finder = FixedPointFinderTorch(model.rnn, verbose=False)
    began = time.perf_counter()
    points, every = finder.find_fixed_points(starts.float().numpy(), torch.zeros(1, 3).numpy())
    seconds = time.perf_counter() - began
    ends, points = (torch.from_numpy(each.xstar).double() for each in (every, points))
    return Found(seconds, ends, points, 1e-12)


def q_of(model: FlipFlopModel, h: Tensor) -> Tensor:
    """|F(h) - h|^2 / 2 by torch's own cell in float64."""
    cell = nn.GRUCell(3, h.shape[1], dtype=torch.float64)
    cell.load_state_dict({n.removesuffix("_l0"): w for n, w in model.rnn.state_dict().items()})
    with torch.no_grad():
        return (cell(torch.zeros(len(h), 3, dtype=torch.float64), h) - h).square().sum(1) / 2


def distinct(points: Tensor) -> Tensor:
    kept: list[Tensor] = []
    for point in points:
        if all(float((point - other).abs().max()) >= 1e-3 for other in kept):
            kept.append(point)
    return torch.stack(kept) if kept else points


def judged(model: FlipFlopModel, found: Found, true: grulens.dynamics.FixedPoints) -> str:
    """Converged share, spurious points, memories: all by what torch's own cell says."""
    share = float((q_of(model, found.ends) < found.precise).double().mean())
    apart = torch.cdist(found.points, true.states)
    nearest, which = apart.min(1) if len(found.points) else (apart.new_zeros(0), apart.new_zeros(0))
    none = (found.points.abs() >= 1).any(1) | (nearest > 1e-2)
    stable = len(set(which[~none].tolist()) & set(true.stable.nonzero()[:, 0].tolist()))
    return f"{share:9.1%} {int(none.sum()):9d} {len(found.points):7d} {stable:7d}"


def apart(sizes: Sequence[tuple[int, int]], seconds: float) -> None:
    """Print what a search costs that begins where it ends, over all pairwise distances."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; ratio (quartiles)")
    for units, count in sizes:
        weight = torch.zeros(3 * units, units, dtype=torch.float64)
        weight[2 * units :] = 2 * torch.eye(units)
        cell = grulens.Cell(
            torch.zeros(3 * units, 1, dtype=torch.float64), weight, None, None,
            candidate=torch.relu,
        )  # fmt: skip
        ends = torch.rand(count, units, dtype=torch.float64)
        for name, some in (("one each", ends), ("each twice", ends[: count // 2].repeat(2, 1))):
            low, middle, high, base = ratio(
                partial(grulens.dynamics.find_fixed_points, cell, starts=some, progress=False),
                partial(torch.cdist, some, some),
                seconds=seconds, least=3,
            )  # fmt: skip
            print(
                f"{units:3d} units, {count:6d} ends, {name:10}  {middle:5.2f} "
                f"({low:.2f} to {high:.2f}); all distances {1e3 * base:.0f} ms",
                flush=True,
            )


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each network and search, and the goals."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--starts", type=int, default=512)
    parser.add_argument("--units", type=int, nargs="+", default=(16, 64))
    parser.add_argument("--training", type=int, default=TRAINING, help="steps of each network")
    parser.add_argument("--steps", type=int, default=5000, help="the most that Adam takes")
    parser.add_argument("--ends", type=int, nargs="+", default=(3000,), help="for --apart")
    parser.add_argument("--seconds", type=float, default=2.0, help="for --apart, each line")
    parser.add_argument("--apart", action="store_true", help="what telling ends apart costs")
    options = parser.parse_args(argv)
    if options.apart:
        apart([(n, count) for n in options.units for count in options.ends], options.seconds)
        return
    searches: dict[str, Callable[[FlipFlopModel, Tensor], Found]] = {"grulens": ours}
    if importlib.util.find_spec("FixedPointFinderTorch"):
        searches["FixedPointFinder"] = itself
    else:
        searches["Adam on q, float32"] = adam(torch.float32, 1e-12, options.steps)
    searches["Adam on q, float64"] = adam(torch.float64, 1e-20, options.steps)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, Python {sys.version[:6]}")
    print(
        f"{'':34} {'seconds':>8} {'ratio':>6} {'converged':>9} {'spurious':>9} {'points':>7} stable"
    )
    for units in options.units:
        for seed in range(options.seeds):
            model = train_flip_flop(seed=seed, units=units, steps=options.training, progress=False)
            generator = torch.Generator().manual_seed(seed)
            inputs, _ = flip_flop_data(64, 64, generator=generator)
            layer = grulens.record(model, inputs)["rnn.l0"]
            states = layer.h.flatten(0, 1)
            order = torch.randperm(len(states), generator=generator)
            # what is true: from many more starts than anybody is given, and noise on them
            many = states[order[: 4 * options.starts]].double()
            many = (many + 0.1 * torch.randn(many.shape, generator=generator)).clamp(-1, 1)
            true = grulens.dynamics.find_fixed_points(layer.cell, starts=many, progress=False)
            starts = states[order[: options.starts]].double()
            first = 0.0
            for name, search in searches.items():
                found = search(model, starts)
                first = first or found.seconds
                print(
                    f"{units:3d} units, seed {seed}  {name:18} {found.seconds:8.2f} "
                    f"{found.seconds / first:6.1f} {judged(model, found, true)}",
                    flush=True,
                )
    print(f"goals: {GOAL} times faster, 99% converged, 0 spurious, 8 stable on every seed")


if __name__ == "__main__":
    main()
