"""The manual: built with warnings as errors, whole, and readable without eyes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from grulens.views.figure.palette import ACCENT
from tests.public import HOME, SUBJECTS

DOCS = Path(__file__).parents[1] / "docs"


class Page(HTMLParser):
    """What a page names and links to, and what stands on it without words."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.wordless: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids.update(value for key in ("id", "name") if (value := found.get(key)))
        self.links += [value for key in ("href", "src") if (value := found.get(key))]
        words = {"img": "alt", "iframe": "title"}
        if tag in words and not found.get(words[tag]):
            self.wordless.append(f"{tag} {found.get('src', '')[:80]}")


@pytest.fixture(scope="module")
def pages(built: Path) -> dict[Path, Page]:
    written = [path for path in built.rglob("*.html") if not path.is_relative_to(built / "live")]
    return {path: Page(path) for path in written}


def test_every_link_inside_leads_somewhere(built: Path, pages: dict[Path, Page]) -> None:
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = pages.get(to)
            if not to.exists() or (parts.fragment and there and parts.fragment not in there.ids):
                dead.append(f"{path.relative_to(built)}: {link}")
    assert dead == []


def test_every_page_has_the_icon_which_has_the_colours_of_signals(built: Path, pages: Any) -> None:
    for path, page in pages.items():
        icon = Path(os.path.relpath(built / "_static" / "icon.svg", path.parent)).as_posix()
        assert icon in [link.partition("?")[0] for link in page.links], path
    colors = re.findall(r'="(#\w+)"', (built / "_static" / "icon.svg").read_text())
    assert colors
    assert set(colors) <= set(ACCENT.values())


def test_the_manual_cites_as_the_citation_file_does() -> None:
    facts = dict(
        re.findall(r"^([a-z-]+): \"?([^\"\n]+)", (DOCS.parent / "CITATION.cff").read_text(), re.M)
    )
    (author,) = re.findall(r'- name: "(.+)"', (DOCS.parent / "CITATION.cff").read_text())
    said = dict(re.findall(r"^  (\w+) +=\s\{+([^}]+)\}", (DOCS / "cite.md").read_text(), re.M))
    assert said == {
        "author": author,
        **{key: facts[key] for key in ("title", "version", "license")},
    }


def test_every_picture_says_what_it_shows(pages: dict[Path, Page]) -> None:
    assert {str(path): page.wordless for path, page in pages.items() if page.wordless} == {}


def test_every_public_name_is_in_a_how_to_page_and_in_the_reference(pages: Any) -> None:
    guides = [DOCS / "start.md", *DOCS.glob("how-to/*.md")]
    text = "".join(map(Path.read_text, guides))
    told = set(re.findall(r"[<`](grulens\.[\w.]+)[>`]", text))
    names = {f"{home.__name__}.{name}" for name, home in HOME.items()}
    assert told == names
    (api,) = (page for path, page in pages.items() if path.name == "api.html")
    written = re.sub(r"<[^>]+>", "", api.path.read_text(encoding="utf-8"))
    assert "units: UnitGroups" in written  # types by the names that the page spells out
    names |= {subject.__name__ for subject in SUBJECTS}
    assert {name for name in names if not {name, f"module-{name}"} & api.ids} == set()


def test_every_how_to_page_can_be_reached_from_the_first(built: Path, pages: Any) -> None:
    first = pages[built / "index.html"]
    for guide in [*DOCS.glob("how-to/*.md"), DOCS / "start.md"]:
        assert f"{guide.relative_to(DOCS).with_suffix('').as_posix()}.html" in first.links


def test_chinese_pages_say_so_and_stand_in_a_tree_of_their_own(built: Path, pages: Any) -> None:
    first = pages[built / "zh" / "index.html"]
    for path in DOCS.glob("zh/**/*.md"):
        name = path.relative_to(DOCS / "zh").with_suffix(".html").as_posix()
        chinese, english = (built / "zh" / name).read_text(), (built / name).read_text()
        assert '<html class="no-js" lang="zh-CN"' in chinese
        assert '<html class="no-js" lang="en"' in english
        assert name in first.links or name == "index.html"
        up = "../" * (name.count("/") + 1)
        assert f"{up}{name}" in pages[built / "zh" / name].links
        assert f"{up[3:]}zh/{name}" in pages[built / name].links
        (tree,) = re.findall(r'<div class="sidebar-tree">.*?</div>', chinese, re.DOTALL)
        assert 'placeholder="搜索"' in chinese
        assert 'placeholder="Search"' in english
        assert "从这里开始" in tree
        assert "Look up" not in tree
        beside = re.findall(r'<link rel="(?:prev|next)"[^>]*href="([^"]+)"', chinese)
        where = [Path(os.path.normpath(Path("zh", name).parent / to)) for to in beside]
        assert all("zh" in path.parts for path in where)


def test_the_live_pages_ask_for_nothing_from_outside(built: Path) -> None:
    saved = sorted(built.glob("live/**/*.html"))
    trained = [path.stem for path in DOCS.glob("lenses/*.json")]
    assert len(trained) >= 5
    both = ["cell", "held", "tour", "10_what_units_encode"]
    chinese = [*both, "00_the_article_answered", "02_how_a_gru_works"]
    assert sorted(
        path.relative_to(built / "live").with_suffix("").as_posix() for path in saved
    ) == (
        sorted([*both, "03_units_that_track_code", *trained, *(f"zh/{name}" for name in chinese)])
    )
    # whoever opens a page of the manual loads its lens
    assert max(path.stat().st_size for path in saved) < 2**21
    for path in saved:
        assert ('<html lang="zh' in path.read_text()) == (path.parent.name == "zh")
        assert not [link for link in Page(path).links if urlsplit(link).netloc]


def test_a_page_that_runs_stands_in_place_of_its_screen_alone(built: Path) -> None:
    page = (built / "notebooks" / "00_the_article_answered.html").read_text(encoding="utf-8")
    drawn = page.index('alt="What the network says over 36 steps')
    assert "grulens-still" not in page[drawn : page.index('src="../live/00_the_article', drawn)]


def test_a_formula_that_cannot_be_drawn_is_named_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(DOCS)!r})\n"
        "extensions, html_math_renderer = ['mathml', 'myst_parser'], 'mathml'\n"
        "myst_enable_extensions = ['dollarmath']\n"
    )
    (tmp_path / "index.md").write_text("# Formulas\n\n$a^2$ and\n\n$$\n\\nosuch{x}\n$$\n")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(tmp_path)]
    built = tmp_path / "built"
    done = subprocess.run([*command, str(built)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "index.md:5: WARNING: " in done.stderr
    assert "nosuch" in done.stderr
    assert "<msup>" in (built / "index.html").read_text()


def test_the_versions_of_the_front_ends_are_those_of_the_check() -> None:
    text = (DOCS / "how-to" / "where-it-works.md").read_text()
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| ")]
    said = {name.strip().lower(): version.strip() for name, version in rows}
    said |= dict(re.findall(r"(ipywidgets|anywidget|bokeh) (\d[\d.]*\d)", text))
    lines = (DOCS.parent / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and line[0] != "#")
    for name in ("jupyterlab", "notebook", "nbconvert", "ipywidgets", "anywidget", "bokeh"):
        assert said[name] == pinned[name], name
    # what is in no extra has its version in its own test
    assert said["marimo"] in (Path(__file__).parent / "browser" / "test_marimo.py").read_text()
