"""Addresses: no page sends anybody to a repository that the project does not name as its own.

And where it names one, every file that has it was written by one command.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import tomllib
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[1]
HELD = [p for p in ROOT.iterdir() if p.is_file() and p.suffix in {".cff", ".md", ".toml", ".txt"}]
FOLDERS = (".github", "benchmarks", "binder", "docs", "grulens", "notebooks", "release", "tests")
WRITTEN = {".cfg", ".css", ".html", ".ipynb", ".js", ".md", ".py", ".toml", ".yaml", ".yml", ""}
HOSTS = r"(?:github|gitlab|codeberg|bitbucket|mybinder|colab|nbviewer|jsdelivr|unpkg|readthedocs)"
REST = r"[^\s\\)\]>\"'`]*"
# an address on a host of code that names this project, and whatever Binder is told to fetch
ADDRESS = re.compile(
    rf"{HOSTS}[\w.-]*[:/]{REST}grulens{REST}|grulens\.{HOSTS}\.\w+{REST}"
    rf"|mybinder\.org/v2/\w+/[\w.-]+{REST}",
    re.IGNORECASE,
)
OURS = "https://github.com/someone/grulens"


spec = importlib.util.spec_from_file_location("address", ROOT / "release/address.py")
assert spec is not None
assert spec.loader is not None
address = importlib.util.module_from_spec(spec)
spec.loader.exec_module(address)
NAMED = address.repository((ROOT / "pyproject.toml").read_text())


def foreign(text: str, named: str) -> list[str]:
    """The addresses in a text that lead to this project somewhere else than where it says it is."""
    ours = named.removeprefix("https://github.com/")
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
    names = {path.name for path in looked}
    assert {"README.md", "environment.yml", "01_tour.ipynb", "start.md", "CITATION.cff"} <= names
    assert {"recipe.yaml", "config.yml", "check.yml"} <= names
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


@pytest.mark.parametrize("name", address.PARTS)
def test_every_file_has_the_address_that_is_named(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert address.written(name, text, NAMED) == text, "run: python release/address.py"


@pytest.fixture(scope="module")
def versions(tmp_path_factory) -> list[dict[str, str]]:
    """Every file without an address, with one in three spellings, and without one again."""
    folder = tmp_path_factory.mktemp("copy")
    for name in address.PARTS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    project = folder / "pyproject.toml"
    line = re.compile(r'^repository = ".*"$', re.MULTILINE)

    def write(repository: str) -> dict[str, str]:
        project.write_text(line.sub(f'repository = "{repository}"', project.read_text()))
        address.main()
        kept = {name: (folder / name).read_text(encoding="utf-8") for name in address.PARTS}
        kept["pyproject.toml"] = line.sub("", kept["pyproject.toml"])
        return kept

    address.ROOT = folder
    try:
        return [write(one) for one in ("", OURS, f"{OURS}.git", f"{OURS}/", "")]
    finally:
        address.ROOT = ROOT


def test_one_command_writes_the_address_everywhere_and_takes_it_away(versions) -> None:
    none, ours, *same, back = versions
    assert same == [ours, ours]
    assert back == none
    for name, text in none.items():
        assert foreign(text, "") == [], name
        assert OURS not in text, name
        assert foreign(ours[name], OURS) == [], name
        assert OURS in ours[name], name


def test_every_kind_of_file_can_be_read_with_an_address_and_without(versions) -> None:
    for files, there in zip(versions[:2], ("", OURS), strict=True):
        project = tomllib.loads(files["pyproject.toml"])["project"]
        citation = yaml.safe_load(files["CITATION.cff"])
        about = yaml.safe_load(files["release/conda/recipe.yaml"])["about"]
        contact = yaml.safe_load(files[".github/ISSUE_TEMPLATE/config.yml"]).get("contact_links")
        assert project.get("urls", {}).get("Repository", "") == there
        assert citation.get("repository-code", "") == there
        assert about.get("homepage", "") == about.get("repository", "") == there
        assert ("security/advisories/new" in files["SECURITY.md"]) == bool(there)
        assert bool(contact) == bool(there)
        for name in address.SAYS:
            assert f"jupyter-repo2docker {there or '.'}`" in files[name]


def test_with_an_address_there_is_a_badge_for_every_notebook(versions) -> None:
    plain, badged = ([files[name] for name in address.SAYS] for files in versions[:2])
    assert [opened(readme) for readme in plain] == [[], []]
    there = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("notebooks/**/[0-9]*.ipynb")}
    assert {link for readme in badged for link in opened(readme)} == {
        f"lab/tree/{p}" for p in there
    }
    english = sorted(path for path in there if "/zh/" not in path)
    assert sorted(opened(badged[0])) == [f"lab/tree/{path}" for path in english]
    assert "![Open 01_tour on Binder](https://mybinder.org/badge_logo.svg)" in badged[0]
    assert "![在 Binder 上打开 01_tour]" in badged[1]


@pytest.mark.parametrize("wrong", ["someone/grulens", "https://github.com/grulens", "http://x"])
def test_an_address_that_binder_cannot_be_sent_to_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=f"expected https://github.com/OWNER/NAME .* '{wrong}'"):
        address.repository(f'[tool.grulens]\nrepository = "{wrong}"')


@pytest.mark.parametrize("text", ["", 2 * "# written by release/address.py\n# end\n"])
def test_a_file_without_its_one_part_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected one part written by release/address"):
        address.with_part(text, "")
