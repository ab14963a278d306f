"""The solutions: one for every exercise of every notebook, linked there, and run by the check."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from notebooks import solutions

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(ROOT.glob("notebooks/**/[0-9]*.ipynb"))


def last(notebook: Path) -> str:
    cells = json.loads(notebook.read_text())["cells"]
    return "".join(cells[-1]["source"])


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_exercise_has_a_solution_and_the_way_there(notebook: Path) -> None:
    exercises = re.findall(r"^\d+\. ", last(notebook), re.MULTILINE)
    (link,) = re.findall(r"\]\((\S+/solutions/\S+\.md)\)", last(notebook))
    page = (notebook.parent / link).resolve()
    assert page.stem == notebook.stem
    assert ("zh" in page.parts) == ("zh" in notebook.parts)
    sections = re.findall(r"^## \d+\. ", page.read_text(), re.MULTILINE)
    assert [one[3:] for one in sections] == exercises != []


@pytest.mark.parametrize(
    "page",
    [page for folder in solutions.PAGES for page in sorted(folder.glob("*.md"))],
    ids=lambda path: path.relative_to(ROOT / "docs").as_posix(),
)
def test_all_code_of_a_page_is_run_and_what_it_prints_is_kept(page: Path) -> None:
    text = page.read_text()
    language = "zh" if "zh" in page.parts else ""
    notebook = ROOT / "notebooks" / language / f"{page.stem}.ipynb"
    assert solutions.page_of(notebook) == page
    cells = solutions.solutions(notebook)
    assert len(cells) == text.count("```python\n") == text.count("```text\n") > 0
    said = [cell.outputs[0].text for cell in cells]
    assert solutions._told(text, said) == text
    assert solutions._told(text, [f"not {one}" for one in said]) != text


def test_the_check_has_them_behind_the_notebook() -> None:
    name = "notebooks/01_tour.ipynb"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        name,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    collected = re.findall(r"ipynb::(\w+) \d+", done.stdout)
    count = len(solutions.solutions(ROOT / name))
    assert collected[-count:] == ["Solution"] * count
    assert set(collected[:-count]) == {"Cell"}
