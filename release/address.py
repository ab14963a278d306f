"""Everywhere the repository's address stands, written by one command: `python release/address.py`.

A badge runs code from its address under the README's name, and a link sends people there. So no
address is guessed: it stands in one place, `repository` under `[tool.grulens]` in pyproject.toml,
and while that is empty nothing here leads anywhere. With the address of a GitHub repository there,
the command writes the READMEs' badges, and the parts of files that are marked as written by it;
with none there, it takes them away, and the READMEs say how to start Binder's image on a copy.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
GITHUB = re.compile(r"(https://github\.com/([\w.-]+/[\w.-]+?))(?:\.git)?/?")
# what stands between these two lines is this file's
PART = re.compile(
    r"(?P<first>^(?:# |<!-- )written by release/address\.py(?: -->)?\n).*?(?=^(?:# |<!-- )end\b)",
    re.MULTILINE | re.DOTALL,
)
PICTURE = "https://mybinder.org/badge_logo.svg"
# a line of the list of notebooks, with or without a badge
BADGE = r"\[!\[[^\]]*\]\([^)]*\)\]\([^)]*\) "
LINE = re.compile(rf"^- (?:{BADGE})?(\[[^\]]+\]\((notebooks/\S+?)\.ipynb\))", re.MULTILINE)
SAYS = {"README.md": "Open {} on Binder", "README.zh.md": "在 Binder 上打开 {}"}
REPO2DOCKER = "pip install jupyter-repo2docker && jupyter-repo2docker"
WHY = "docs/how-to/show-it-to-others.md#binder"


def repository(project: str) -> str:
    """The address in the text of a pyproject.toml, as https://github.com/OWNER/NAME, or "".

    Raises:
        ValueError: it names one that Binder cannot be sent to.
    """
    named: str = tomllib.loads(project)["tool"]["grulens"]["repository"]
    found = GITHUB.fullmatch(named)
    if named and found is None:
        raise ValueError(f"expected https://github.com/OWNER/NAME or nothing, not {named!r}")
    return found[1] if found else ""


def with_part(text: str, part: str) -> str:
    """A file's text with its marked part written anew."""
    new, count = PART.subn(lambda found: found["first"] + part, text)
    if count != 1:
        raise ValueError(f"expected one part written by release/address.py, not {count}")
    return new


def with_badges(readme: str, address: str, says: str) -> str:
    """A README with a badge before each notebook, or with none where there is no address.

    Args:
        readme: its text.
        address: of the repository, or "".
        says: what a badge says to who cannot see it, with {} for the notebook's name.
    """
    if not address:
        return LINE.sub(r"- \1", readme)
    name = address.removeprefix("https://github.com/")
    start = f"https://mybinder.org/v2/gh/{name}/HEAD?urlpath=lab/tree"

    def line(found: re.Match[str]) -> str:
        words = says.format(found[2].rpartition("/")[2])
        return f"- [![{words}]({PICTURE})]({start}/{found[2]}.ipynb) {found[1]}"

    return LINE.sub(line, readme)


def english(address: str) -> str:
    """How to start Binder's image, for README.md."""
    if address:
        return (
            "On [Binder](https://mybinder.org) they run with nothing installed: a badge opens its "
            f"notebook. On a machine with Docker, `{REPO2DOCKER} {address}` builds the same image "
            "and starts it.\n"
        )
    return (
        "To run them with nothing installed, put a copy of this repository on a public host and "
        "give [Binder](https://mybinder.org) its address. On a machine with Docker, "
        f"`{REPO2DOCKER} .` in your copy builds the same image and starts it. No badge stands here "
        f"while pyproject.toml names no address ([why]({WHY})).\n"
    )


def chinese(address: str) -> str:
    """How to start Binder's image, for README.zh.md."""
    if address:
        return (
            "在 [Binder](https://mybinder.org) 上无需安装即可运行：点击徽章就能打开对应的笔记本。"
            f"如果本机装有 Docker，`{REPO2DOCKER} {address}` 会构建同样的镜像并启动。\n"
        )
    return (
        "如果不想安装任何东西，可以把本仓库的副本放到公开的代码托管平台，再把地址交给 "
        "[Binder](https://mybinder.org)。如果本机装有 Docker，在副本的目录里运行 "
        f"`{REPO2DOCKER} .`，就会构建同样的镜像并启动。pyproject.toml 里还没有填写仓库地址，"
        f"所以这里暂时没有徽章（[原因]({WHY})）。\n"
    )


def urls(address: str) -> str:
    """The links of the package, for pyproject.toml."""
    if not address:
        return ""
    return (
        f'[project.urls]\nRepository = "{address}"\nIssues = "{address}/issues"\n'
        f'Changelog = "{address}/blob/HEAD/CHANGELOG.md"\n'
    )


def security(address: str) -> str:
    """Where a hole is reported, for SECURITY.md."""
    if address:
        return f"Report it privately, at {address}/security/advisories/new, and not as an issue.\n"
    return (
        "Tell whoever gave you your copy, privately: this project has no public repository yet, "
        "so it has no address of its own for this.\n"
    )


def contact(address: str) -> str:
    """Where a hole is reported, among the issue forms."""
    if not address:
        return ""
    return (
        "contact_links:\n  - name: A hole in security\n"
        f"    url: {address}/security/advisories/new\n"
        "    about: Report it privately, not as an issue.\n"
    )


def citation(address: str) -> str:
    """The line of CITATION.cff."""
    return f'repository-code: "{address}"\n' if address else ""


def recipe(address: str) -> str:
    """The lines of the conda recipe, under `about`."""
    return f"  homepage: {address}\n  repository: {address}\n" if address else ""


PARTS: dict[str, Callable[[str], str]] = {
    "README.md": english,
    "README.zh.md": chinese,
    "pyproject.toml": urls,
    "SECURITY.md": security,
    "CITATION.cff": citation,
    ".github/ISSUE_TEMPLATE/config.yml": contact,
    "release/conda/recipe.yaml": recipe,
}


def written(name: str, text: str, address: str) -> str:
    """The text of one of the files with this address in it.

    Args:
        name: of the file, one of `PARTS`.
        text: what it says now.
        address: of the repository, or "".
    """
    new = with_part(text, PARTS[name](address))
    return with_badges(new, address, SAYS[name]) if name in SAYS else new


def main() -> None:
    """Write the address of pyproject.toml, or that there is none, into every file of `PARTS`."""
    address = repository((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for name in PARTS:
        path = ROOT / name
        path.write_text(written(name, path.read_text(encoding="utf-8"), address), encoding="utf-8")


if __name__ == "__main__":
    main()
