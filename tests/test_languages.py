"""What is there in Chinese as well does the same as in English: only the words differ.

The Chinese notebooks are not run by the check: their code and their stored outputs are those of the
English ones to the letter, which are run, and no code of them asks in which folder it stands.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CHINESE = sorted(path.name for path in ROOT.glob("notebooks/zh/*.ipynb"))
# what a text must share with its translation
SHARED = re.compile(r"\$\$.+?\$\$", re.DOTALL)


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
