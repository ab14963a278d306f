"""Whether what the notebooks say holds with other seeds than their own.

A notebook that draws random numbers takes all of them from one line, `SEED = 0`. This runs each
notebook again with other seeds in that line, and holds what its cells print against what is stored:
a line that comes out otherwise is a claim about the seed, not about networks. The solutions to its
exercises go on from its last cell, and are run with it. Pictures, and numbers
after ≈, claim nothing (sanitize.cfg).

    python notebooks/other_seeds.py                           all of them, with seeds 1 and 2
    python notebooks/other_seeds.py 07_forecasting --seeds 5  one of them, with another
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from configparser import RawConfigParser
from itertools import zip_longest
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

sys.path.insert(0, str(Path(__file__).parent))
from solutions import solutions

HERE = Path(__file__).parent
SEED = re.compile(r"^SEED = \d+$", re.MULTILINE)
# ways to draw random numbers that a notebook may use
DRAWS = re.compile(r"\b(?:manual_seed|Generator|randn?|randint|randperm|default_rng|random\.\w+)\(")
MISSING = "(nothing is printed here)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the notebooks, print which claims hold; 1 where one does not, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", help="paths or names; all English ones if none")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2], help="1 and 2 if not given")
    options = parser.parse_args(argv)
    paths = [find(name) for name in options.notebooks] or sorted(HERE.glob("[0-9]*.ipynb"))
    failed = 0
    for path in paths:
        failed += report(path, options.seeds)
    print(f"\n{failed} claims do not hold with every seed" if failed else "\nall of it holds")
    return int(failed > 0)


def find(name: str) -> Path:
    """A notebook by its path, or by its name in this folder."""
    path = Path(name)
    return path if path.suffix == ".ipynb" else HERE / f"{name}.ipynb"


def report(path: Path, seeds: Sequence[int]) -> int:
    """Print what a notebook claims, each with yes or no for every seed; how many fail."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells += solutions(path)
    print(f"\n{path.stem}: seeds {', '.join(map(str, seeds))}", flush=True)
    source = "\n".join(cell.source for cell in code(notebook))
    lines = len(SEED.findall(source))
    if lines != 1:
        drawn = lines > 1 or DRAWS.search(source) is not None
        print(f"  not run: {complaint(lines) if drawn else 'nothing in it is drawn'}")
        return int(drawn)
    stored = claims(notebook)
    runs = [claims(run(notebook, path.parent, seed)) for seed in seeds]
    failed = 0
    for lines_of_cell in zip_longest(stored, *runs, fillvalue=[]):
        for said, *others in zip_longest(*lines_of_cell, fillvalue=MISSING):
            holds = [other == said for other in others]
            print(" ", *("yes" if held else "NO " for held in holds), "", said)
            for seed, other in zip(seeds, others, strict=True):
                if other != said:
                    print(f"        seed {seed}: {other}")
            failed += not all(holds)
    sys.stdout.flush()
    return failed


def complaint(lines: int) -> str:
    """What is wrong with a notebook that has so many lines SEED = ..., and not one."""
    if lines:
        return f"it has {lines} lines SEED = ..., and one is needed"
    return "it draws random numbers, and has no line SEED = ..."


def code(notebook: Any) -> list[Any]:
    """The cells that run."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def claims(notebook: Any) -> list[list[str]]:
    """What each cell printed, or failed with, line by line, as the check compares it."""
    told = []
    for cell in code(notebook):
        printed = "".join(
            out.text if out.output_type == "stream" else f"{out.ename}: {out.evalue}\n"
            for out in cell.outputs
            if out.output_type in {"stream", "error"}
        )
        told.append([line for line in plain(printed).splitlines() if line.strip()])
    return told


def plain(text: str) -> str:
    """A text as the check compares it."""
    rules = RawConfigParser()
    rules.read(HERE / "sanitize.cfg", encoding="utf-8")
    for name in rules.sections():
        text = re.sub(rules[name]["regex"], rules[name]["replace"], text)
    return text


def run(notebook: Any, folder: Path, seed: int) -> Any:
    """A notebook, run with another seed in its line; the one given stays as it is."""
    other = nbformat.from_dict(notebook)
    for cell in code(other):
        cell.source = SEED.sub(f"SEED = {seed}", cell.source)
    where = {"metadata": {"path": str(folder)}}
    return NotebookClient(other, timeout=None, allow_errors=True, resources=where).execute()


if __name__ == "__main__":
    sys.exit(main())
