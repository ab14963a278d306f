"""The notebooks under other seeds: the script that tries them, and what it needs of them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(ROOT.glob("notebooks/[0-9]*.ipynb"))


@pytest.fixture(scope="module")
def other_seeds() -> ModuleType:
    path = ROOT / "notebooks/other_seeds.py"
    spec = importlib.util.spec_from_file_location("other_seeds", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def notebook(path: Path, *sources: str, printed: str = "") -> Path:
    """A notebook as it is stored: its first cell printed this."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    if printed:
        cells[0].outputs = [nbformat.v4.new_output("stream", name="stdout", text=printed)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_it_tells_what_holds_from_what_the_seed_did(
    other_seeds: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = (
        "SEED = 0\n"
        "print('larger than minus one:', SEED > -1)\n"
        "print('it is ≈', SEED, 'or so')\n"
        "print('nothing at all:', SEED == 0)\n"
        "if SEED:\n    print('one line more')"
    )
    printed = "larger than minus one: True\nit is ≈ 0 or so\nnothing at all: True\n"
    failing = "if SEED:\n    raise ValueError('not with this one')"
    path = notebook(tmp_path / "small.ipynb", source, failing, printed=printed)
    stored = path.read_bytes()
    assert other_seeds.main([str(path), "--seeds", "7"]) == 1
    said = capfd.readouterr().out.splitlines()
    assert "small: seeds 7" in said
    assert "  yes  larger than minus one: True" in said
    assert "  yes  it is ≈ NUMBER or so" in said
    place = said.index("  NO   nothing at all: True")
    assert said[place + 1] == "        seed 7: nothing at all: False"
    assert said[place + 2] == f"  NO   {other_seeds.MISSING}"
    assert said[place + 3] == "        seed 7: one line more"
    assert said[place + 4] == f"  NO   {other_seeds.MISSING}"
    assert said[place + 5] == "        seed 7: ValueError: not with this one"
    assert said[-1] == "3 claims do not hold with every seed"
    assert path.read_bytes() == stored


def test_every_seed_is_a_run_of_its_own(
    other_seeds: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = notebook(tmp_path / "even.ipynb", "SEED = 4\nprint(SEED % 2 == 0)", printed="True\n")
    assert other_seeds.main([str(path), "--seeds", "2", "3"]) == 1
    assert "  yes NO   True" in capfd.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("sources", "code", "words"),
    [
        (["print(1)"], 0, "nothing in it is drawn"),
        (["import random; random.seed(3)"], 1, "it draws random numbers, and has no line SEED = "),
        (["SEED = 1", "SEED = 2"], 1, "it has 2 lines SEED = "),
    ],
)
def test_a_notebook_without_its_line_is_not_run(
    other_seeds: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sources: list[str],
    code: int,
    words: str,
) -> None:
    assert other_seeds.main([str(notebook(tmp_path / "other.ipynb", *sources))]) == code
    assert words in capsys.readouterr().out


def test_all_notebooks_are_meant_where_none_is_named(
    other_seeds: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[tuple[str, list[int]]] = []

    def report(path: Path, seeds: list[int]) -> int:
        asked.append((path.stem, seeds))
        return 0

    monkeypatch.setattr(other_seeds, "report", report)
    assert other_seeds.main([]) == 0
    assert asked == [(path.stem, [1, 2]) for path in NOTEBOOKS]
    assert other_seeds.main(["01_tour"]) == 0
    assert asked[-1] == ("01_tour", [1, 2])
    assert capsys.readouterr().out.splitlines()[-1] == "all of it holds"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_takes_its_randomness_from_one_line(other_seeds: ModuleType, path: Path) -> None:
    cells = other_seeds.code(nbformat.read(path, as_version=4))
    source = "\n".join(cell.source for cell in cells)
    lines = other_seeds.SEED.findall(source)
    if other_seeds.DRAWS.search(source):
        assert lines == ["SEED = 0"]
        assert not re.search(r"(?:seed|default_rng)\(\s*\d", source)
        assert not re.search(r"seed=\d", source)
    else:
        assert lines == []
