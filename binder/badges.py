"""The READMEs' Binder badges: one for each notebook, once pyproject.toml names an address.

A badge runs code from its address under the README's name. So no address is guessed: it stands in
one place, `repository` under `[tool.grulens]`, and while that is empty there is no badge. With the
address of a GitHub repository there, `python binder/badges.py` writes the badges; with none there,
it takes them away.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = "https://mybinder.org/badge_logo.svg"
WORDS = {"README.md": "Open {} on Binder", "README.zh.md": "在 Binder 上打开 {}"}
# a line of the list of notebooks, with or without a badge
BADGE = r"\[!\[[^\]]*\]\([^)]*\)\]\([^)]*\) "
LINE = re.compile(rf"^- (?:{BADGE})?(\[[^\]]+\]\((notebooks/\S+?)\.ipynb\))", re.MULTILINE)
GITHUB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")


def repository(project: str) -> str:
    """The address in the text of a pyproject.toml, "" where it names none."""
    found: str = tomllib.loads(project)["tool"]["grulens"]["repository"]
    return found


def with_badges(readme: str, address: str, words: str) -> str:
    """A README with a badge before each notebook, or with none where there is no address.

    Args:
        readme: its text.
        address: of a GitHub repository, or "".
        words: what a badge says to who cannot see it, with {} for the notebook's name.

    Raises:
        ValueError: Binder cannot be sent to this address.
    """
    if not address:
        return LINE.sub(r"- \1", readme)
    github = GITHUB.fullmatch(address)
    if github is None:
        raise ValueError(f"expected https://github.com/OWNER/NAME or nothing, not {address!r}")
    start = f"https://mybinder.org/v2/gh/{github[1]}/HEAD?urlpath=lab/tree"

    def line(found: re.Match[str]) -> str:
        says = words.format(found[2].rpartition("/")[2])
        return f"- [![{says}]({PICTURE})]({start}/{found[2]}.ipynb) {found[1]}"

    return LINE.sub(line, readme)


def main() -> None:
    """Write the badges of both READMEs anew."""
    address = repository((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for name, words in WORDS.items():
        path = ROOT / name
        readme = path.read_text(encoding="utf-8")
        path.write_text(with_badges(readme, address, words), encoding="utf-8")


if __name__ == "__main__":
    main()
