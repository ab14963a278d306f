"""The oldest versions that pyproject.toml allows: `python release/oldest.py > oldest.txt`.

`pip install -c oldest.txt -e ".[lab,test]"` installs them all together, or says which cannot be.
"""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]
REQUIREMENT = re.compile(r"(?P<name>[\w-]+)(?:>=|==)(?P<version>[\d.]+)(?:,<[\d.]+)?")


def oldest(project: str) -> list[str]:
    """The lines for pip, each NAME==VERSION, from the text of a pyproject.toml.

    Raises:
        ValueError: something is required without a lower bound, or with two.
    """
    said = tomllib.loads(project)
    table, built_with = said["project"], said["build-system"]["requires"]
    groups = (built_with, table["dependencies"], *table["optional-dependencies"].values())
    found: dict[str, str] = {}
    for one in chain.from_iterable(groups):
        if one.startswith(f"{table['name']}["):
            continue  # extras of ours
        read = REQUIREMENT.fullmatch(one)
        if read is None or found.setdefault(read["name"], read["version"]) != read["version"]:
            raise ValueError(f"expected one lower bound everywhere, not {one!r}")
    return sorted(f"{name}=={version}" for name, version in found.items())


if __name__ == "__main__":
    print(*oldest((ROOT / "pyproject.toml").read_text(encoding="utf-8")), sep="\n")
