"""Every benchmark runs, at its smallest size: what it prints is looked at, not how fast it was."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import benchmarks
from grulens import record
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
    "corpus": (
        [
            "--units",
            "8",
            "--tokens",
            "6000",
            "--steps",
            "9000",
            "--beside",
            "9000",
            "--rounds",
            "1",
            "--numpy",
        ],
        [
            rf"scan, 14 labels and gates +{NUMBER} x",
            rf"disk {NUMBER} bytes a step",
            r"memory \d+ MB",
            rf"top 20, a label +{NUMBER} ms",
            rf"match 14 of 16: [\d,]+ places +{NUMBER} ms",
            rf"whole windows +{NUMBER} ms",
            rf"HDF5 and numpy +{NUMBER} ms, +{NUMBER} x|h5py is not installed",
            rf"parquet and duckdb +{NUMBER} ms, +{NUMBER} x|duckdb is not installed",
        ],
    ),
    "library": (
        ["--workers", "0", "--files", "7"],
        [r"7 files, [\d,]+ characters, 0 workers: \d+ s", r"text +\d+( +0\.\d{3}){3}"],
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
    elsewhere = {"measure", "latency", "page"}  # what they share; tests/browser/test_benchmarks.py
    names = {path.stem for path in ROOT.glob("[a-z]*.py")} - elsewhere
    assert names == set(RUNS)
    assert {path.stem for path in (ROOT / "others").glob("[a-z]*.py")} == {
        *("ablation", "gates", "interchange", "job")
    }


def test_they_use_public_names_alone() -> None:
    public = {"grulens", "grulens.demo", "grulens.errors", *(part.__name__ for part in SUBJECTS)}
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


def test_torchlens_is_beside_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    observe = import_module("benchmarks.observe")
    monkeypatch.setattr(observe, "opened", lambda *_: {})
    options = [*SMALL, "--size", "1", "3", "16"]
    monkeypatch.setattr(observe, "missing", lambda package: package == "torchlens")
    out = run("observe", options, capsys)
    assert "TorchLens is not installed" in out
    assert "TorchLens:" not in out

    class Op(NamedTuple):
        out: object
        label: str

    def trace(model: nn.Module, x: Tensor, save: object = None) -> SimpleNamespace:
        (layer,) = record(model, x).values()
        ops = [Op(z, f"gate:{t}") for t, z in enumerate(layer.z.unbind(1))]
        return SimpleNamespace(layer_list=[Op(None, "none"), Op(x[0, 0, :3], "short"), *ops[1:]])

    lens = SimpleNamespace(func=lambda name: {name}, trace=trace, record=trace)
    monkeypatch.setattr(observe, "missing", lambda _: False)
    monkeypatch.setattr(observe, "torchlens", lambda: lens)
    out = run("observe", options, capsys)
    assert "not installed" not in out
    assert re.search(rf"TorchLens: trace +{NUMBER} x", out), out
    assert re.search(rf"TorchLens: record +{NUMBER} x", out), out
    assert "of 3 values that TorchLens traces, 2 are z, of 3 steps (gate:1 to gate:2, " in out


def test_the_memory_of_observing_is_measured_in_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    observe, asked, ran = import_module("benchmarks.observe"), [], []
    monkeypatch.setattr(observe, "peak", lambda call: ran.append(call()) or 3 * 2**20)
    size = ["--size", "2", "4", "16"]
    assert run("observe", ["--peak", "PerGate", "record", *size], capsys) == "3.0 MB\n"
    assert ran[0]["cell"].shape == (2, 4, 16)
    monkeypatch.setattr(observe, "fresh", lambda *args: asked.append(args) or "7.5 MB")
    monkeypatch.setattr(observe, "missing", lambda _: True)
    out = run("observe", [*SMALL, "--size", "1", "4", "16", "--memory"], capsys)
    assert len(re.findall("peak 7.5 MB", out)) == len(asked) == 12
    assert asked[1] == ("benchmarks.observe", "--peak", "NormedGRU", "record", "--size", 1, 4, 16)
