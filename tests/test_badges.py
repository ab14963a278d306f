"""Addresses: no page sends anybody to a repository that the project does not name as its own."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType
from urllib.parse import parse_qs, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
HELD = [p for p in ROOT.iterdir() if p.is_file() and p.suffix in {".md", ".toml", ".txt"}]
FOLDERS = ("benchmarks", "binder", "docs", "grulens", "notebooks", "tests")
WRITTEN = {".cfg", ".css", ".html", ".ipynb", ".js", ".md", ".py", ".toml", ".yml", ""}
HOSTS = r"(?:github|gitlab|codeberg|bitbucket|mybinder|colab|nbviewer|jsdelivr|unpkg|readthedocs)"
REST = r"[^\s\\)\]>\"'`]*"
# an address on a host of code that names this project, and whatever Binder is told to fetch
ADDRESS = re.compile(
    rf"{HOSTS}[\w.-]*[:/]{REST}grulens{REST}|grulens\.{HOSTS}\.\w+{REST}"
    rf"|mybinder\.org/v2/\w+/[\w.-]+{REST}",
    re.IGNORECASE,
)
OURS = "https://github.com/someone/grulens"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("badges", ROOT / "binder/badges.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


badges = load()
NAMED = badges.repository((ROOT / "pyproject.toml").read_text())


def foreign(text: str, address: str) -> list[str]:
    """The addresses in a text that lead to this project somewhere else than where it says it is."""
    ours = address.removeprefix("https://github.com/")
    here = rf"(?:github\.com|mybinder\.org/v2/gh)/{re.escape(ours)}(?![\w.-])" if ours else "(?!)"
    return [found for found in ADDRESS.findall(text) if not re.match(here, found)]


def opened(readme: str) -> list[str]:
    """What the badges of a README open."""
    links = re.findall(r"\]\((https://mybinder\.org/v2/[^)]+)\)", readme)
    return [parse_qs(urlsplit(link).query)["urlpath"][0] for link in links]


def texts() -> list[Path]:
    inside = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    built = (ROOT / "docs/built", ROOT / "docs/notebooks")
    kept = [p for p in inside if not any(map(p.is_relative_to, built)) and p != Path(__file__)]
    return HELD + [p for p in kept if p.is_file() and p.suffix in WRITTEN]


def test_no_page_leads_to_an_address_that_the_project_does_not_name() -> None:
    looked = texts()
    assert {"README.md", "environment.yml", "01_tour.ipynb", "start.md"} <= {p.name for p in looked}
    found = {
        str(path): foreign(path.read_text(encoding="utf-8", errors="replace"), NAMED)
        for path in looked
    }
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "[a](https://mybinder.org/v2/gh/grulens/grulens/HEAD?urlpath=lab)",
        "https://mybinder.org/v2/gl/someone%2Fgrulens/HEAD",
        "https://colab.research.google.com/github/someone/grulens/blob/main/notebooks/01_tour.ipynb",
        "pip install git+https://github.com/grulens/grulens",
        "git clone git@github.com:else/grulens.git",
        "[the manual](https://grulens.readthedocs.io/en/latest)",
        "https://raw.githubusercontent.com/else/grulens/main/README.md",
        "https://github.com/someone/grulens-too",
    ],
)
def test_such_an_address_is_found(line: str) -> None:
    assert foreign(line, "")
    assert foreign(line, OURS)


def test_other_peoples_addresses_and_ours_are_left_alone() -> None:
    assert foreign("https://github.com/Kyubyong/g2p and https://mybinder.org, grulens", "") == []
    assert foreign(f"{OURS} and https://mybinder.org/v2/gh/someone/grulens/HEAD", OURS) == []


@pytest.mark.parametrize("name", badges.WORDS)
def test_a_readme_has_the_badges_of_the_address_that_is_named(name: str) -> None:
    readme = (ROOT / name).read_text(encoding="utf-8")
    assert badges.with_badges(readme, NAMED, badges.WORDS[name]) == readme


def test_with_an_address_there_is_a_badge_for_every_notebook(tmp_path: Path) -> None:
    for name in (*badges.WORDS, "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    project = tmp_path / "pyproject.toml"
    address = re.compile(r'^repository = ".*"$', re.MULTILINE)
    badges.ROOT = tmp_path

    def write(repository: str) -> list[str]:
        named = address.sub(f'repository = "{repository}"', project.read_text())
        project.write_text(named)
        badges.main()
        return [(tmp_path / name).read_text(encoding="utf-8") for name in badges.WORDS]

    try:
        plain, badged = write(""), write(f"{OURS}.git")
        again, back = write(f"{OURS}/"), write("")
    finally:
        badges.ROOT = ROOT
    assert badged == again
    assert back == plain
    assert [opened(readme) for readme in plain] == [[], []]
    there = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("notebooks/**/[0-9]*.ipynb")}
    assert {link for readme in badged for link in opened(readme)} == {
        f"lab/tree/{p}" for p in there
    }
    english = sorted(path for path in there if "/zh/" not in path)
    assert sorted(opened(badged[0])) == [f"lab/tree/{path}" for path in english]
    assert "![Open 01_tour on Binder](https://mybinder.org/badge_logo.svg)" in badged[0]
    assert "![在 Binder 上打开 01_tour]" in badged[1]
    assert [foreign(readme, OURS) for readme in badged] == [[], []]
    assert all(foreign(readme, "") for readme in badged)


@pytest.mark.parametrize("address", ["someone/grulens", "https://github.com/grulens", "http://x"])
def test_an_address_that_binder_cannot_be_sent_to_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=f"expected https://github.com/OWNER/NAME .* '{address}'"):
        badges.with_badges("", address, "{}")
