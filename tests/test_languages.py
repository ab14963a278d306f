"""What is there in Chinese as well does the same as in English: only the words differ.

The Chinese notebooks and solutions are not run by the check. Their code is that of the English
ones, which are run, but for words: a comment, and a text that is in Chinese, the same wherever it
stands for the same; and the line that has grulens speak Chinese. So what they have printed has the
same numbers, and is Chinese. No code of them asks in which folder it stands. With the manual's
other pages in Chinese the code is the same to the letter.
"""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from docs import languages
from notebooks import solutions

ROOT = Path(__file__).parents[1]
CHINESE = sorted(path.name for path in ROOT.glob("notebooks/zh/*.ipynb"))
# what a text must share with its translation
SHARED = re.compile(r"\$\$.+?\$\$", re.DOTALL)
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS / "zh") for path in DOCS.glob("zh/**/*.md"))
#: Chinese, or its punctuation.
HAN = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
#: What only a Chinese notebook says, in its first cell that runs.
IN_CHINESE = re.compile(r'^(?:import grulens|grulens\.language\("zh"\) .*)\n', re.MULTILINE)
#: What is another number on another day, and numbers.
ABOUT = re.compile(r"≈ ?[−-]?\d+(?:\.\d+)?|[−-]?\d(?:\.\d+)?e[−-]\d+")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
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


class Words(ast.NodeTransformer):
    """Take the texts out of code; what stood there is in `plain`, and in `woven` of f-strings."""

    def __init__(self) -> None:
        self.plain: list[str] = []
        self.woven: list[str] = []

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.JoinedStr:
        self.woven.append(
            "".join(str(one.value) for one in node.values if isinstance(one, ast.Constant))
        )
        kept: list[ast.expr] = []
        for one in node.values:
            if isinstance(one, ast.FormattedValue):  # how it is written out stays as it is
                one.value = self.visit(one.value)
                kept.append(one)
        return ast.JoinedStr(kept)

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, str):
            self.plain.append(node.value)
        return ast.Constant("") if isinstance(node.value, str) else node


def without_words(code: str) -> tuple[str, Words]:
    """Code without its texts and comments, and its texts."""
    words = Words()
    tree = words.visit(ast.parse(re.sub("^%", "#", code, flags=re.MULTILINE)))
    return ast.dump(tree), words


def check_words(words: Words, in_chinese: Words) -> None:
    """A text that is another one in Chinese is Chinese."""
    for text, other in zip(words.plain, in_chinese.plain, strict=True):
        assert other == text or HAN.search(other), other
    for text, other in zip(words.woven, in_chinese.woven, strict=True):
        assert other == text or HAN.search(other) or not re.search("[A-Za-z]", text), other


def check_printed(english: str, chinese: str) -> None:
    """What was printed has the same numbers, and is Chinese."""
    numbers = [sorted(NUMBER.findall(ABOUT.sub("", said))) for said in (english, chinese)]
    assert numbers[1] == numbers[0]
    # what is the same in both is no sentence: a name, a result's own line, a table of numbers
    for line in {*english.splitlines()} & {*chinese.splitlines()}:
        assert not re.search(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}", line) or "Error: " in line, line


def printed(cell: dict[str, Any]) -> str:
    return "".join(
        "".join(out["text"]) for out in cell["outputs"] if out["output_type"] == "stream"
    )


@pytest.mark.parametrize("name", CHINESE)
def test_a_chinese_notebook_runs_the_same_code(name: str) -> None:
    english, chinese = cells(ROOT / "notebooks" / name), cells(ROOT / "notebooks/zh" / name)
    assert [cell["cell_type"] for cell in chinese] == [cell["cell_type"] for cell in english]
    said: dict[str, str] = {}
    meant: dict[str, str] = {}
    first = True
    for ours, theirs in zip(english, chinese, strict=True):
        before, after = "".join(ours["source"]), "".join(theirs["source"])
        if ours["cell_type"] == "code":
            if first:
                after, lines = IN_CHINESE.subn("", after)
                assert lines == 2
                first = False
            (code, words), (same, in_chinese) = without_words(before), without_words(after)
            assert same == code
            for text, other in zip(words.plain, in_chinese.plain, strict=True):
                # a text may be a key: it is one text in the whole notebook
                assert said.setdefault(text, other) == other, text
                assert meant.setdefault(other, text) == text, other
            check_words(words, in_chinese)
            assert not re.search(r"\bPath\b|\bopen\(|\bos\b|__file__|\.\./", before)
        else:
            assert HAN.search(after), after
            assert SHARED.findall(after) == SHARED.findall(before)
            assert after.count("\n## ") == before.count("\n## ")


@pytest.mark.parametrize("name", CHINESE)
def test_a_chinese_notebook_stores_the_same_numbers_in_chinese(name: str) -> None:
    english, chinese = cells(ROOT / "notebooks" / name), cells(ROOT / "notebooks/zh" / name)
    for ours, theirs in zip(english, chinese, strict=True):
        if ours["cell_type"] != "code":
            continue
        kinds = [[sorted(out["data"]) for out in cell["outputs"] if "data" in out]
                 for cell in (ours, theirs)]  # fmt: skip
        assert kinds[1] == kinds[0]
        check_printed(printed(ours), printed(theirs))
        for out in theirs["outputs"]:
            for page in "".join(out.get("data", {}).get("text/html", "")).split("<img alt=")[1:]:
                assert HAN.search(page.partition(" src=")[0]), page[:80]


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
        "code": [block for block in blocks if not re.match(r"`+\{(?!still)", block)],
        "names": sorted(re.findall(r"<(grulens\.[\w.]+)>", text)),
        "numbers": sorted(re.findall(r"\d+(?:\.\d+)+", text)),
        "headings": text.count("\n## "),
    }


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_chinese_page_of_the_manual_has_the_same_code_and_names(page: Path) -> None:
    english, chinese = ((folder / page).read_text() for folder in (DOCS, DOCS / "zh"))
    assert re.search(r"[\u4e00-\u9fff]", chinese)
    if page.parent.name == "solutions":
        blocks = [solutions.BLOCK.findall(text) for text in (english, chinese)]
        for (ours, said), (theirs, in_chinese) in zip(*blocks, strict=True):
            (code, words), (same, other_words) = without_words(ours), without_words(theirs)
            assert same == code
            check_words(words, other_words)
            check_printed(said, in_chinese)
        english, chinese = (solutions.BLOCK.sub("", text) for text in (english, chinese))
    assert same_in_both(chinese) == same_in_both(english)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_chinese_page_leads_to_chinese_pages_where_there_are_any(page: Path) -> None:
    folder = Path("docs/zh") / page.parent
    for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", (DOCS / "zh" / page).read_text()):
        to = Path(os.path.normpath(folder / link)).relative_to("docs").as_posix()
        there = ROOT if to.startswith("notebooks/") else DOCS
        assert (there / to).exists(), link
        assert languages.is_chinese(to) or not (there / languages.twin(to)).exists(), link
