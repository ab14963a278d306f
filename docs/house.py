"""The drawing of the house in CONTRIBUTING.md: what stands where, and what may import what.

It is made of what is there: the layers of pyproject.toml, which lint-imports holds, and the first
sentence of each folder and file. `python docs/house.py` writes it anew.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOORS = ("widgets", "views", "probing", "models", "cells")
DRAWING = re.compile(r"(?<=<!-- the house -->\n```text\n).*?(?=```\n<!-- end -->)", re.DOTALL)


def layers(container: str) -> list[list[str]]:
    """The layers of a package as pyproject.toml has them, from the top."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in project["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers" and contract["containers"] == [container]:
            return [sorted(re.split(r"\W+", layer)) for layer in contract["layers"]]
    raise LookupError(f"pyproject.toml has no layers for {container}")


def place(name: str, folder: Path) -> Path:
    """The file or folder of a module."""
    return folder / name if (folder / name).is_dir() else folder / f"{name}.py"


def sentence(path: Path) -> str:
    """The first sentence of a file, or of a folder's `__init__.py`."""
    file = path / "__init__.py" if path.is_dir() else path
    text = " ".join((ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split())
    return re.split(r"(?<=\.)\s", text)[0].removesuffix(".")


def lines(package: str, indent: str = "") -> list[str]:
    """A line for everything in a package: its layers from the top, a mark where one begins."""
    folder, found = ROOT / package.replace(".", "/"), []
    for layer in layers(package):
        for number, name in enumerate(layer):
            path = place(name, folder)
            shown = f"{indent}{'  ' if number else '▼ '}{name}{'/' if path.is_dir() else '.py'}"
            found.append(f"{shown:24}{sentence(path)}")
            if name in FLOORS and package == "grulens":
                found += lines(f"grulens.{name}", f"{indent}    ")
    return found


def drawing() -> str:
    """The whole drawing."""
    return "\n".join(["grulens/", *lines("grulens")]) + "\n"


def main() -> None:
    """Write it into CONTRIBUTING.md."""
    path = ROOT / "CONTRIBUTING.md"
    text, count = DRAWING.subn(drawing().replace("\\", r"\\"), path.read_text(encoding="utf-8"))
    if count != 1:
        raise SystemExit("CONTRIBUTING.md has no place for it")
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
