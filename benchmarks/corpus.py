"""What a scan of a corpus costs beside the model's forward, and how soon it answers.

    python -m benchmarks.corpus [--units 192 512] [--tokens 400000] [--steps 100000000]
        [--beside 4000000] [--numpy]

A scan is compared with the batched forward over the same rows, both in process time, in turn. Then
matches and top windows are asked of an index of as many steps as asked for: a scan of a million
steps whose part stands there many times, as links. There a label covers whole windows, so that no
row is run again; what a label inside windows costs is measured on the scan itself.

Beside them the same match of the same states without an index: over float32 states in HDF5, block
by block in numpy, as LSTMVis does it (h5py), and by SQL over parquet (duckdb). Both find as many
places, or it is an error; what is not installed is named.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measure import peak
from grulens.corpus import open_scan, scan

LABELS = 14
PART = 1_000_000
CHOSEN = 16
ROW = 2000
ON = -0.3


class Reader(nn.Module):
    """Reads ids, as the bundled character model does."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(128, 64)
        self.rnn = nn.GRU(64, units, batch_first=True)

    def forward(self, ids: Tensor) -> Tensor:
        states: Tensor = self.rnn(self.embedding(ids))[0]
        return states


def times(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Process seconds of each of these, in turn."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.process_time()
            call()
            found[name].append(time.process_time() - began)
    return found


def scanning(units: int, tokens: int, rounds: int, folder: Path) -> None:
    """Print what scans cost, as ratios to the forward, and what they leave on disk."""
    torch.manual_seed(0)
    model, rng = Reader(units).eval(), np.random.default_rng(0)
    each = 512
    ids = torch.from_numpy(rng.integers(0, 128, tokens))
    rows = [ids[i : i + each] for i in range(0, len(ids) - each + 1, each)]
    batches = torch.stack(rows).split(64)
    labels = {f"label {i}": lambda ids, i=i: ids % LABELS == i for i in range(LABELS)}

    def forward() -> None:
        with torch.no_grad():
            for batch in batches:
                model(batch)

    made = iter(range(10**9))

    def scanned(**options: Any) -> Any:
        out = folder / f"{units}-{next(made)}"
        return scan(model, [rows], out, progress=False, **options)

    calls: dict[str, Callable[[], object]] = {
        "forward": forward,
        "scan": scanned,
        "scan, 14 labels": lambda: scanned(labels=labels),
        "scan, 14 labels and gates": lambda: scanned(labels=labels, gates=True),
    }
    found = times(calls, rounds)
    base = statistics.median(found["forward"])
    speed = len(rows) * each / base
    print(f"\n{units} units, {len(rows) * each:,} steps: forward {speed:,.0f} steps a second")
    for name, seconds in list(found.items())[1:]:
        over = [a / b for a, b in zip(seconds, found["forward"], strict=True)]
        print(
            f"  {name:28s} {statistics.median(over):6.2f} x  ({min(over):.2f} to {max(over):.2f})"
        )
    done = scanned()
    sizes = [
        (file.name, file.stat().st_size)
        for file in done.parts[0].place.rglob("*.npy") if file.is_file()
    ]  # fmt: skip
    print(f"  disk {sum(size for _, size in sizes) / done.steps:.1f} bytes a step, without labels")
    print(f"  memory {peak(lambda: scanned(labels=labels)) / 1e6:,.0f} MB more at the peak")
    held = scanned(labels=labels)
    held.top(0, 20)
    questions: dict[str, Callable[[], object]] = {
        "top 20": lambda: held.top(3, 20),
        "top 20, a label": lambda: held.top(3, 20, where="label 3"),
    }
    ask("  scanned: ", questions, rounds)


def many(folder: Path, steps: int) -> Path:
    """A scan of so many steps: one that was made of a million of them, many times over."""
    torch.manual_seed(0)
    model, rng = Reader(CHOSEN).eval(), np.random.default_rng(0)
    each = max(1, min(PART, steps) // ROW)
    rows = torch.from_numpy(rng.integers(0, 128, (each, ROW)))
    labels = {
        f"label {i}": lambda ids, i=i: np.arange(len(ids)) // 64 % LABELS == i
        for i in range(LABELS)
    }
    # low, so that units are on at most steps
    scan(model, [[*rows]], folder, labels=labels, on=ON, steps=ROW, progress=False)
    first = folder / "parts" / f"{0:06d}"
    for number in range(1, -(-steps // (each * ROW))):
        shutil.copytree(first, first.with_name(f"{number:06d}"), copy_function=os.link)
    return folder


def ask(where: str, calls: dict[str, Callable[[], object]], rounds: int) -> None:
    """Print how long questions take."""
    for call in calls.values():
        call()  # what is opened is open, what is compiled is compiled
    for name, seconds in times(calls, rounds).items():
        print(f"{where}{name:34s} {statistics.median(seconds) * 1e3:8.1f} ms")


def asking(folder: Path, steps: int, rounds: int) -> None:
    """Print how long matches and tops take over a scan of many steps."""
    began = time.perf_counter()
    done = open_scan(many(folder / "many", steps))
    print(f"\na scan of {done.steps:,} steps, made in {time.perf_counter() - began:.0f} s")
    units = list(range(CHOSEN))
    found = {least: done.match(units, 5, at_least=least).found for least in (16, 14)}
    calls: dict[str, Callable[[], object]] = {
        f"match {least} of 16: {count:,} places": lambda least=least: done.match(
            units, 5, at_least=least
        )
        for least, count in found.items()
    }
    calls["top 20"] = lambda: done.top(3, 20)
    calls["top 20, a label of whole windows"] = lambda: done.top(3, 20, where="label 3")
    ask("  ", calls, rounds)


def places(on: np.ndarray, least: int, length: int) -> int:
    """How many runs of so many steps have so many units on (row, step, unit), in numpy."""
    many = on.sum(-1) >= least
    lasts = many[:, : 1 - length or None].copy()
    for shift in range(1, length):
        lasts &= many[:, shift : many.shape[1] - length + 1 + shift]
    return int(lasts[:, 0].sum() + (lasts[:, 1:] & ~lasts[:, :-1]).sum())


def beside(folder: Path, steps: int, rounds: int) -> None:
    """Print how long the same match takes in other ways, over that of a scan."""
    here = open_scan(many(folder / "beside", steps))
    rows = max(1, min(PART, steps) // ROW)
    torch.manual_seed(0)
    model, rng = Reader(CHOSEN).eval(), np.random.default_rng(0)
    with torch.no_grad():
        states = model(torch.from_numpy(rng.integers(0, 128, (rows, ROW)))).numpy()
    copies, length, least = here.steps // (rows * ROW), 5, 14
    units, on = list(range(CHOSEN)), np.float32(ON)
    found = here.match(units, length, at_least=least).found
    calls: dict[str, Callable[[], object]] = {
        "here": lambda: here.match(units, length, at_least=least).found
    }
    missing = [name for name in ("h5py", "duckdb") if find_spec(name) is None]
    if "h5py" not in missing:
        import h5py  # noqa: PLC0415 - not everybody has it

        with h5py.File(folder / "states.h5", "w") as file:
            kept = file.create_dataset("h", (copies * rows, ROW, CHOSEN), "f4")
            for copy in range(copies):
                kept[copy * rows : (copy + 1) * rows] = states

        def hdf5() -> int:
            with h5py.File(folder / "states.h5") as file:
                kept = file["h"]
                blocks = range(0, len(kept), 100)
                return sum(places(kept[i : i + 100] > on, least, length) for i in blocks)

        calls["HDF5 and numpy"] = hdf5
    if "duckdb" not in missing:
        import duckdb  # noqa: PLC0415 - not everybody has it

        base = duckdb.connect(config={"threads": 1})
        table = dict(enumerate(states.reshape(-1, CHOSEN).T))
        columns = {f"u{unit}": np.ascontiguousarray(values) for unit, values in table.items()}
        columns["line"] = np.repeat(np.arange(rows), ROW)
        columns["step"] = np.tile(np.arange(ROW), rows)
        base.register("states", columns)
        for copy in range(copies):
            base.execute(f"copy states to '{folder}/{copy}.parquet' (format parquet)")
        several = " + ".join(f"(u{unit} > {float(on)!r}::float)::int" for unit in units)
        query = f"""
            with counted as (select filename, line, step, {several} >= {least} as many
                             from read_parquet('{folder}/*.parquet', filename=true)),
            lasting as (select filename, line, step, bool_and(many) over stretch
                               and count(*) over stretch = {length} as lasts from counted
                        window stretch as (partition by filename, line order by step
                                           rows between current row and {length - 1} following)),
            begun as (select lasts and not coalesce(lag(lasts) over
                             (partition by filename, line order by step), false) as begins
                      from lasting)
            select count(*) from begun where begins"""
        calls["parquet and duckdb"] = lambda: base.execute(query).fetchone()[0]
    for name, call in calls.items():
        if call() != found:
            raise SystemExit(f"{name} finds {call()} places, a scan {found}")
    seconds = times(calls, rounds)
    print(f"\na match of {least} of {CHOSEN} units over {here.steps:,} steps: {found:,} places")
    for name, took in seconds.items():
        over = statistics.median(took) / statistics.median(seconds["here"])
        print(f"  {name:34s} {statistics.median(took) * 1e3:8.1f} ms, {over:6.1f} x")
    for name in missing:
        print(f"  {name} is not installed")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the versions, what scans cost, and how soon they answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--units", type=int, nargs="+", default=(192, 512))
    parser.add_argument("--tokens", type=int, default=400_000, help="steps that are scanned")
    parser.add_argument("--steps", type=int, default=100_000_000, help="steps of the index")
    parser.add_argument("--beside", type=int, default=4_000_000, help="steps that others look at")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--numpy", action="store_true", help="count without numba")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, numpy {np.__version__}, 1 thread, process time")
    before = sys.modules.get("numba")
    if options.numpy:
        sys.modules["numba"] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        with TemporaryDirectory() as folder:
            for units in options.units:
                scanning(units, options.tokens, options.rounds, Path(folder))
            asking(Path(folder), options.steps, options.rounds)
            beside(Path(folder), options.beside, options.rounds)
    finally:
        if options.numpy:
            del sys.modules["numba"]
            if before is not None:
                sys.modules["numba"] = before


if __name__ == "__main__":
    main()
