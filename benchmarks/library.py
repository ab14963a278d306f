"""What the units of the bundled model encode over all of Python's library, and in what time.

    python -m benchmarks.library [--workers 2] [--files 0] [--tests]

The model runs over every file of the library but its own tests (some twelve million characters;
`--tests` takes them in, and makes it thirty), thirty files a part so
that rows run side by side, on so many worker processes with one torch thread each, or in this one
(0). Then the best unit for each label is named, with its area under the ROC curve over the files
that the model was trained on, over those that it was not, and with the labels of another file as a
control.
"""

from __future__ import annotations

import argparse
import os
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from glob import glob
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from grulens import corpus
from grulens.demo import load
from grulens.demo.corpus import TRAIN_FILES, read_sources
from grulens.demo.ground_truth import ground_truth
from grulens.errors import DemoError

FACTS: dict[str, Callable[[Any], Any]] = {
    "text": lambda truth: truth.in_text,
    "string": lambda truth: truth.in_string,
    "comment": lambda truth: truth.in_comment,
    "bracket": lambda truth: truth.depth > 0,
    "indented by 8": lambda truth: truth.indentation >= 8,
    "late": lambda truth: truth.column >= 50,
}
FILES = 30
TESTS = {"test", "tests", "idle_test"}
NAMES = [*FACTS, *(f"not {name}" for name in FACTS)]
"""The labels; "not text" is the text of another file, as a control."""


@lru_cache(maxsize=2)  # each file is its own, and the other one of the next
def facts(name: str) -> tuple[str, np.ndarray]:
    """A file of the library, and what holds after each of its characters (label, step)."""
    (text,) = read_sources([name]).values()
    truth = ground_truth(text)
    return text, np.stack([fact(truth) for fact in FACTS.values()])


def part(name: str, other: str) -> dict[str, Any]:
    """A file with its labels, and as a control those of another one, repeated to its length."""
    text, held = facts(name)
    _, wrong = facts(other)
    wrong = np.tile(wrong, (1, -(-len(text) // wrong.shape[1])))[:, : len(text)]
    return {"source": text} | dict(zip(NAMES, [*held, *wrong], strict=True))


def inputs(pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Some files, each with its labels and those of another one."""
    return [part(name, other) for name, other in pairs]


def readable(most: int, *, tests: bool = False) -> list[str]:
    """The first files of the library that hold something, and that Python's tokenizer takes.

    Args:
        most: how many; negative is all.
        tests: whether the library's own tests are among them.
    """
    root = sysconfig.get_path("stdlib")
    found = []
    for name in sorted(glob("**/*.py", root_dir=root, recursive=True)):
        if len(found) == most:
            break
        if not tests and TESTS & {*Path(name).parts}:
            continue
        if "-packages" in name or not (Path(root) / name).stat().st_size:
            continue
        try:
            found += [name] if facts(name)[1].shape[1] else []
        except DemoError:
            continue
    return found


def scanned(names: Sequence[str], folder: str, workers: int) -> tuple[corpus.Scan, float]:
    """The scan of these files, and how many seconds it took."""
    model, _, _ = load()
    pairs = [(name, names[i - 1]) for i, name in enumerate(names)]
    parts = [partial(inputs, pairs[i : i + FILES]) for i in range(0, len(pairs), FILES)]
    with cluster(workers) as client:
        start = time.perf_counter()
        made = corpus.scan(
            model, parts, folder, labels={name: name for name in NAMES}, column="source",
            client=client, progress=sys.stderr.isatty(),
        )  # fmt: skip
        return made, time.perf_counter() - start


@contextmanager
def cluster(workers: int) -> Iterator[Any]:
    """A client of so many processes, once they are there; None for none."""
    if not workers:
        yield None
        return
    import distributed  # noqa: PLC0415 - an extra

    options: dict[str, Any] = {
        "n_workers": workers, "threads_per_worker": 1, "dashboard_address": None,
    }  # fmt: skip
    with distributed.LocalCluster(**options) as made, distributed.Client(made) as client:
        client.run(os.getpid)
        yield client


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--files", type=int, default=0, help="the first files only; 0 is all")
    parser.add_argument("--tests", action="store_true", help="the library's own tests too")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    names = readable(options.files or -1, tests=options.tests)
    trained = {name for name in names if name in TRAIN_FILES}
    new = [name for name in names if name not in trained]
    with TemporaryDirectory() as folder:
        done, seconds = scanned(new, f"{folder}/new", options.workers)
        known, more = scanned(sorted(trained), f"{folder}/trained", options.workers)
        steps, took = done.steps + known.steps, seconds + more
        print(f"{len(names)} files, {steps:,} characters, {options.workers} workers: {took:.0f} s")
        print(f"{'label':15s} unit  not trained on  trained on  another file's")
        found, first = done.stats(), known.stats()
        for at, name in enumerate(FACTS):
            area = found.auc[at]
            unit = int((area - 0.5).abs().argmax())
            control = found.auc[len(FACTS) + at, unit]
            print(
                f"{name:15s} {unit:4d}  {area[unit]:14.3f}  {first.auc[at, unit]:10.3f}  "
                f"{control:14.3f}"
            )


if __name__ == "__main__":
    main()
