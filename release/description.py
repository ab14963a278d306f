"""The README as PyPI shows it: without the files that its relative links and pictures lead to.

Where pyproject.toml names the repository's address they lead to those files in the release's tag.
While it names none a link in a sentence is its words alone, and a line that is nothing but a
picture or a link is left out. hatchling asks for it whenever it builds.
"""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

HERE = r"\((?![a-z]+:|#)(?P<path>[^)\s]+)\)"
LINK = re.compile(rf"(?P<picture>!?)\[(?P<words>[^\]]*)\]{HERE}")
LINE = re.compile(rf"^!?\[[^\]]*\]{HERE}\n+", re.MULTILINE)


def alone(readme: str, address: str, version: str) -> str:
    """A README's text with nothing in it that leads to a file beside it.

    Args:
        readme: its text.
        address: of the repository, https://github.com/OWNER/NAME, or "".
        version: whose tag the files are taken from.
    """
    if not address:
        return LINK.sub(r"\g<words>", LINE.sub("", readme))
    raw = address.replace("github.com", "raw.githubusercontent.com", 1)

    def absolute(found: re.Match[str]) -> str:
        picture, words, path = found.group("picture", "words", "path")
        base = f"{raw}/v{version}" if picture else f"{address}/blob/v{version}"
        return f"{picture}[{words}]({base}/{path})"

    return LINK.sub(absolute, readme)


class Description(MetadataHookInterface):
    """Where hatchling asks for the README."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Say what the long description is."""
        root = Path(self.root)
        repository = runpy.run_path(str(root / "release/address.py"))["repository"]
        address = repository((root / "pyproject.toml").read_text(encoding="utf-8"))
        readme = (root / "README.md").read_text(encoding="utf-8")
        text = alone(readme, address, metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
