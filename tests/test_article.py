"""The page that answers an article: each number on it is printed by the cell that it leads to."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from mdit_py_plugins.anchors.index import slugify

ROOT = Path(__file__).parents[1]
NAME = "00_the_article_answered.ipynb"
PAGES = {"": "docs/the-article.md", "zh/": "docs/zh/the-article.md"}
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\w)")
LINK = re.compile(r"\[[^]]*\]\([^)#]*#([^)]+)\)")


def rows(page: str) -> list[tuple[str, list[str]]]:
    """Of each claim where its cell stands, and its numbers."""
    table = re.findall(r"^\| .* \| .* \| (.*) \|$", (ROOT / page).read_text(), re.MULTILINE)
    found = []
    for number in table[1:]:
        (there,) = LINK.findall(number)
        found.append((there, NUMBER.findall(LINK.sub("", number))))
    return found


def printed(folder: str) -> dict[str, set[str]]:
    """The numbers that are printed under each heading of the notebook."""
    found: dict[str, set[str]] = {}
    for cell in json.loads((ROOT / "notebooks" / folder / NAME).read_text())["cells"]:
        if cell["cell_type"] == "markdown":
            for title in re.findall(r"^#+ (.+)$", "".join(cell["source"]), re.MULTILINE):
                heading = slugify(title)
                found[heading] = set()
        else:
            for out in cell["outputs"]:
                found[heading].update(NUMBER.findall("".join(out.get("text", ""))))
    return found


@pytest.mark.parametrize("folder", PAGES)
def test_the_cell_that_a_claim_leads_to_prints_its_numbers(folder: str) -> None:
    there = printed(folder)
    assert len(rows(PAGES[folder])) == 12
    for heading, numbers in rows(PAGES[folder]):
        assert numbers
        assert set(numbers) <= there[heading], heading


def test_both_languages_give_the_same_numbers() -> None:
    english, chinese = (rows(page) for page in PAGES.values())
    assert [sorted(numbers) for _, numbers in english] == [
        sorted(numbers) for _, numbers in chinese
    ]
