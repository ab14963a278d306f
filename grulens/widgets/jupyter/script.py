"""The scripts of widgets, each with what comes before it: see heard.js."""

from __future__ import annotations

from pathlib import Path
from typing import Final

HEARD: Final = Path(__file__).with_name("heard.js").read_text(encoding="utf-8")


def script(*places: Path) -> str:
    """The module that an anywidget runs: it takes one, so what a script uses comes before it.

    Args:
        places: the script, after the files with what it uses.

    >>> script(Path(__file__).with_name("copy_code.js")).splitlines()[-1]
    'export default heard({ render });'
    """
    return "\n".join([HEARD, *(place.read_text(encoding="utf-8") for place in places)])
