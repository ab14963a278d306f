"""What a scan of a corpus costs beside the model's forward, and how soon it answers.

    python -m benchmarks.corpus [--units 192 512] [--tokens 400000] [--steps 100000000]

A scan is compared with the batched forward over the same rows, both in process time, in turn. Its
parts are timed by themselves, on the states of one run. Then matches and top windows are asked of
an index of as many steps as asked for, which is made of random words: bits that are on at 9 steps
of 10, in stretches, and parts of a million steps. There a label covers whole windows, so that no
row is run again; what a label inside windows costs is measured on the scan itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measure import peak
from grulens.corpus import open_scan, scan
from grulens.probing.corpus.scan import bits
from grulens.probing.corpus.scan.codes import Code
from grulens.probing.corpus.scan.manifest import Manifest, ScannedLayer, ScannedSignal, weights_of
from grulens.probing.corpus.scan.part import FORMAT, WINDOW, extremes, packed

LABELS = 14
PART = 1_000_000
CHOSEN = 16


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

    values = model(batches[0]).detach().numpy()
    flat, on = values.reshape(-1, units), values > 0.3
    ones = on.reshape(-1, units).astype(np.float32)
    mask, code = np.ones(values.shape[:2], bool), Code(-1.0, 1.0)
    share = len(rows) / len(batches[0])
    calls: dict[str, Callable[[], object]] = {
        "forward": forward,
        "scan": scanned,
        "scan, 14 labels": lambda: scanned(labels=labels),
        "scan, 14 labels and gates": lambda: scanned(labels=labels, gates=True),
    }
    parts: dict[str, Callable[[], object]] = {
        "bits": lambda: packed(on),
        "least and largest": lambda: extremes(values, mask),
        "codes of the histograms": lambda: code.of(flat),
        "covariance": lambda: flat.T @ flat,
        "on together": lambda: ones.T @ ones,
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
    for name, seconds in times(parts, rounds).items():
        print(f"    {name:26s} {statistics.median(seconds) * share / base:6.3f}")
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


def made_up(folder: Path, steps: int) -> Path:
    """An index of so many steps, as a scan would have written it."""
    rng = np.random.default_rng(0)
    signal = ScannedSignal("h", -1.0, 1.0)
    layer = ScannedLayer("rnn.l0", "GRU", CHOSEN, ("h",), (signal,), (0.0,) * CHOSEN)
    names = tuple(f"label {i}" for i in range(LABELS))
    weights = weights_of(nn.Linear(1, 1))
    folder.mkdir(parents=True)
    Manifest("Reader", weights, (layer,), names, 0.3, False, 2048, 64, None).write(folder)
    for number in range(-(-steps // PART)):
        length = min(PART, steps - number * PART)
        windows = -(-length // WINDOW)
        place = folder / "parts" / f"{number:06d}"
        (place / "0").mkdir(parents=True)
        full = np.uint64(2**64 - 1)
        noise = rng.integers(0, 2**63, (CHOSEN, windows), dtype=np.uint64)
        on = np.where(rng.random((CHOSEN, windows)) < 0.9, full, noise)
        on[:, -1] &= full >> np.uint64(windows * WINDOW - length)
        labels = np.where(rng.random((LABELS, windows)) < 0.1, full, np.uint64(0))
        labels[:, -1] = 0
        high = rng.random((CHOSEN, windows), np.float32)
        for name, array in {
            "rows": np.array([[0, 0, length, 0]]), "labels": labels, "0/on": on, "0/high": high,
            "0/low": -high, "0/anchors": np.zeros((0, CHOSEN), np.float32),
        }.items():  # fmt: skip
            np.save(place / f"{name}.npy", array)
        head = {"format": FORMAT, "windows": windows, "sizes": {}}
        (place / "part.json").write_text(json.dumps(head), encoding="utf-8")
    return folder


def ask(where: str, calls: dict[str, Callable[[], object]], rounds: int) -> None:
    """Print how long questions take."""
    for call in calls.values():
        call()  # what is opened is open, what is compiled is compiled
    for name, seconds in times(calls, rounds).items():
        print(f"{where}{name:34s} {statistics.median(seconds) * 1e3:8.1f} ms")


def asking(folder: Path, steps: int, rounds: int) -> None:
    """Print how long matches and tops take over an index that was made up."""
    began = time.perf_counter()
    done = open_scan(made_up(folder / "made up", steps))
    print(f"\nan index of {done.steps:,} steps, made in {time.perf_counter() - began:.0f} s")
    units, pays = list(range(CHOSEN)), bits.PAYS

    def match(numba: bool, **options: Any) -> None:
        bits.PAYS = 0 if numba else 10**12
        done.match(units, 5, **options)

    try:
        ask("  ", {
            "match 16 of 16, numpy": lambda: match(False),
            "match 16 of 16, numba": lambda: match(True),
            "match 14 of 16, numpy": lambda: match(False, at_least=14),
            "match 14 of 16, numba": lambda: match(True, at_least=14),
            "top 20": lambda: done.top(3, 20),
            "top 20, a label of whole windows": lambda: done.top(3, 20, where="label 3"),
        }, rounds)  # fmt: skip
    finally:
        bits.PAYS = pays


def main(argv: Sequence[str] | None = None) -> None:
    """Print the versions, what scans cost, and how soon they answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--units", type=int, nargs="+", default=(192, 512))
    parser.add_argument("--tokens", type=int, default=400_000, help="steps that are scanned")
    parser.add_argument("--steps", type=int, default=100_000_000, help="steps of the index")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, numpy {np.__version__}, 1 thread, process time")
    with TemporaryDirectory() as folder:
        for units in options.units:
            scanning(units, options.tokens, options.rounds, Path(folder))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asking(Path(folder), options.steps, options.rounds)


if __name__ == "__main__":
    main()
