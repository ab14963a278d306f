"""Check shapes when the tests run: conftest.py asks for it before anything is imported.

Each call of a function in a module that names shapes is checked against its annotations. Modules
without shapes are left to mypy: jaxtyping's wrapper costs some 20 µs a call, and on functions that
have no shapes that was half of the time of all tests.
"""

from pathlib import Path

from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[1]


def shaped() -> list[str]:
    """Name each module of grulens whose annotations may hold shapes."""
    files = (ROOT / "grulens").rglob("[!_]*.py")
    found = (f for f in files if "jaxtyping" in f.read_text(encoding="utf-8"))
    return [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in found]


def check_shapes() -> None:
    """Check what is imported from now on."""
    install_import_hook(shaped(), "beartype.beartype")
