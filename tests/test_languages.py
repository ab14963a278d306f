"""What is there in Chinese as well does the same as in English: only the words differ.

The Chinese notebooks are not run by the check: their code and their stored outputs are those of the
English ones to the letter, which are run, and no code of them asks in which folder it stands. So
it is with the manual's pages in Chinese.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from docs import languages

ROOT = Path(__file__).parents[1]
CHINESE = sorted(path.name for path in ROOT.glob("notebooks/zh/*.ipynb"))
# what a text must share with its translation
SHARED = re.compile(r"\$\$.+?\$\$", re.DOTALL)
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS / "zh") for path in DOCS.glob("zh/**/*.md"))
FENCE = re.compile(r"^(`{3,}).*?^\1$", re.DOTALL | re.MULTILINE)


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["cells"]
    return found


def test_these_are_there() -> None:
    assert CHINESE == [
        "00_the_article_answered.ipynb",
        "01_tour.ipynb",
        "02_how_a_gru_works.ipynb",
        "09_a_cell_nobody_knows.ipynb",
        "10_what_units_encode.ipynb",
    ]


@pytest.mark.parametrize("name", CHINESE)
def test_a_chinese_notebook_runs_the_same_code(name: str) -> None:
    english, chinese = cells(ROOT / "notebooks" / name), cells(ROOT / "notebooks/zh" / name)
    assert [cell["cell_type"] for cell in chinese] == [cell["cell_type"] for cell in english]
    for ours, theirs in zip(english, chinese, strict=True):
        if ours["cell_type"] == "code":
            assert theirs["source"] == ours["source"]
            assert not re.search(
                r"\bPath\b|\bopen\(|\bos\b|__file__|\.\./", "".join(ours["source"])
            )
            assert theirs["outputs"] == ours["outputs"]
        else:
            before, after = "".join(ours["source"]), "".join(theirs["source"])
            assert re.search(r"[\u4e00-\u9fff]", after), after
            assert SHARED.findall(after) == SHARED.findall(before)
            assert after.count("\n## ") == before.count("\n## ")


def test_the_chinese_readme_has_the_same_code_and_pictures() -> None:
    english, chinese = ((ROOT / name).read_text() for name in ("README.md", "README.zh.md"))
    for pattern in (r"```.+?```", r"\]\((docs/[^)]+|benchmarks|C\w+\.md)\)", r"\n## "):
        found = [re.findall(pattern, text, re.DOTALL) for text in (english, chinese)]
        assert found[0] == found[1] != []
    links = re.findall(r"\]\((?!https?:)([^)#]+)", chinese)
    assert links
    assert all((ROOT / link).exists() for link in links)


def same_in_both(text: str) -> dict[str, object]:
    """What a page shares with its translation, by what it is."""
    blocks = [found[0] for found in FENCE.finditer(text)]
    return {
        "code": [block for block in blocks if not re.match(r"`+\{", block)],
        "names": sorted(re.findall(r"<(grulens\.[\w.]+)>", text)),
        "numbers": sorted(re.findall(r"\d+(?:\.\d+)+", text)),
        "headings": text.count("\n## "),
    }


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_chinese_page_of_the_manual_has_the_same_code_and_names(page: Path) -> None:
    english, chinese = ((folder / page).read_text() for folder in (DOCS, DOCS / "zh"))
    assert re.search(r"[\u4e00-\u9fff]", chinese)
    assert same_in_both(chinese) == same_in_both(english)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_chinese_page_leads_to_chinese_pages_where_there_are_any(page: Path) -> None:
    folder = Path("docs/zh") / page.parent
    for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", (DOCS / "zh" / page).read_text()):
        to = Path(os.path.normpath(folder / link)).relative_to("docs").as_posix()
        there = ROOT if to.startswith("notebooks/") else DOCS
        assert (there / to).exists(), link
        assert languages.is_chinese(to) or not (there / languages.twin(to)).exists(), link
