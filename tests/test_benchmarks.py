"""Every benchmark runs, at its smallest size: what it prints is looked at, not how fast it was."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest
import torch

import benchmarks
from tests.public import SUBJECTS

ROOT = Path(benchmarks.__file__).parent
SMALL = ["--seconds", "0.01"]
GRU = ["--size", "1", "4", "3", "5"]
NUMBER = r"\d[\d.]*"
RUNS: dict[str, tuple[list[str], list[str]]] = {
    "engine": (
        [*SMALL, *GRU, "--threads", "1"],
        [
            rf"{name} +{NUMBER} x +\({NUMBER} to {NUMBER}\) +plain forward"
            for name in ("record", "record and all gates", "edited run", "loop of cells")
        ],
    ),
    "sweep": (
        [*SMALL, *GRU, "--busy"],
        [r"hidden 5: 5 runs", rf"against a loop +{NUMBER} x", r"peak memory +\d+ MB .* held"],
    ),
    "attention": (
        [*SMALL, "--threads", "1", "--units", "4", "--times", "8"],
        [rf"\n +8( +{NUMBER}){{5}} +{NUMBER} ms +{NUMBER} ns +{NUMBER}"],
    ),
    "flow": (
        [*SMALL, "--threads", "1", "--units", "4", "--times", "8"],
        [rf"\n +4 +8( +{NUMBER} +{NUMBER}){{4}} +{NUMBER}"],
    ),
    "fixed_points": (
        ["--seeds", "1", "--starts", "4", "--units", "3", "--training", "2", "--steps", "2"],
        [rf"3 units, seed 0  grulens +{NUMBER} +1\.0 +100\.0% +0 ", r"Adam on q, float64"],
    ),
    "automata": (
        [
            *("--seeds", "1", "--units", "3", "--languages", "6", "--training", "2"),
            *("--longest", "4", "--lengths", "3", "5", "--clusters", "2", "--tries", "20"),
        ],
        [
            r"Tomita 6: .*, 3 states",
            rf"L\* +\d+ .* (held|refused) +{NUMBER} s +\d+",
            rf"2 clusters +\d+ .* determinism {NUMBER}",
        ],
    ),
    "observe": (
        [*SMALL, "--size", "1", "4", "16"],
        [rf"the first time +{NUMBER} x", rf"record +{NUMBER} x", rf"edited run +{NUMBER} x"],
    ),
}


def run(name: str, argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a benchmark prints; the number of torch's threads is what it was."""
    threads = torch.get_num_threads()
    try:
        import_module(f"benchmarks.{name}").main(argv)
    finally:
        torch.set_num_threads(threads)
    return capsys.readouterr().out


@pytest.mark.parametrize("name", RUNS)
def test_a_benchmark_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv, wanted = RUNS[name]
    out = run(name, argv, capsys)
    for line in wanted:
        assert re.search(line, out), out


def test_what_thousands_of_ends_cost_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--apart", "--units", "2", "--ends", "4", *SMALL]
    out = run("fixed_points", options, capsys)
    assert re.search(rf" 2 units, +4 ends, one each +{NUMBER} ", out), out
    assert re.search(rf" 2 units, +4 ends, each twice +{NUMBER} ", out), out


@pytest.mark.parametrize(
    ("job", "package"), [("interchange", "pyvene"), ("ablation", "captum"), ("gates", "torchlens")]
)
def test_a_comparison_with_another_tool_runs(
    job: str, package: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if job != "gates":  # a loop written by hand needs nothing
        pytest.importorskip(package, reason=f'{package} is in the extra "bench", not in "test"')
    options = [*SMALL, "--threads", "1", "--quick", "--jobs", job, "--size", "1", "4", "5", "5"]
    out = run("others.__main__", options, capsys)
    assert re.search(rf"\n\| [^|]+ \| 1, 4, 5, 5 \| [-\de.]+ \| {NUMBER} ", out), out


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def test_every_benchmark_is_run() -> None:
    elsewhere = {"measure", "latency"}  # what they share; tests/browser/test_benchmarks.py
    names = {path.stem for path in ROOT.glob("[a-z]*.py")} - elsewhere
    assert names == set(RUNS)
    assert {path.stem for path in (ROOT / "others").glob("[a-z]*.py")} == {
        *("ablation", "gates", "interchange", "job")
    }


def test_they_use_public_names_alone() -> None:
    public = {"grulens", "grulens.demo", *(part.__name__ for part in SUBJECTS)}
    public |= {f"grulens.demo.{path.stem}" for path in (ROOT.parent / "grulens/demo").glob("*.py")}
    for path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        taken: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                taken |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                taken.add(node.module or "")
        used = {name for name in taken if name.partition(".")[0] == "grulens"}
        assert used <= public, path
