"""The solutions to a notebook's exercises: code cells that go on from its last one.

They stand in the manual, a page a notebook (docs/solutions), each block of code with what it
printed below it. The check runs them behind the notebook, in its kernel, so nothing is trained
twice; `other_seeds.py` runs them with other seeds.

    python notebooks/solutions.py 05_flip_flop_dynamics      run it, and write down what is printed
    python notebooks/solutions.py zh/05_flip_flop_dynamics   the same for the Chinese page
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Final

import nbformat
from nbclient import NotebookClient

HERE: Final = Path(__file__).parent
PAGES: Final = (HERE.parent / "docs" / "solutions", HERE.parent / "docs" / "zh" / "solutions")
BLOCK: Final = re.compile(
    r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL
)


def page_of(notebook: Path) -> Path:
    """The page of a notebook: of one in zh/ the Chinese page."""
    return PAGES[notebook.parent.name == "zh"] / f"{notebook.stem}.md"


def solutions(notebook: Path) -> list[Any]:
    """The cells of a notebook's page, with what they printed; none if it has no page."""
    page = page_of(notebook)
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    cells = []
    for code, printed in BLOCK.findall(text):
        cell = nbformat.v4.new_code_cell(code.rstrip("\n"), execution_count=1)
        if printed:
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=printed)]
        cells.append(cell)
    return cells


def write(notebook: Path) -> None:
    """Run a notebook and its solutions, and write what these print into their page.

    The Chinese page of a notebook that is in English alone goes on from that one, in Chinese.
    """
    cells, page = solutions(notebook), page_of(notebook)
    if notebook.exists():
        whole = nbformat.read(notebook, as_version=4)
    else:
        whole = nbformat.read(HERE / notebook.name, as_version=4)
        whole.cells.append(nbformat.v4.new_code_cell('import grulens\ngrulens.language("zh")'))
    whole.cells += cells
    NotebookClient(whole, timeout=None, resources={"metadata": {"path": str(HERE)}}).execute()
    said = ["".join(out.get("text", "") for out in cell.outputs) for cell in cells]
    page.write_text(_told(page.read_text(encoding="utf-8"), said), encoding="utf-8")


def _told(text: str, said: list[str]) -> str:
    """A page whose blocks printed this."""
    parts = BLOCK.split(text)
    blocks = [
        f"```python\n{code}```\n" + (f"\n```text\n{printed}```\n" if printed else "")
        for code, printed in zip(parts[1::3], said, strict=True)
    ]
    return "".join(one for pair in zip(parts[::3], [*blocks, ""], strict=True) for one in pair)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        write(HERE / f"{name}.ipynb")
