"""What only some users install: said in one line where it is missing, with the command that helps.

Analysis needs torch and numpy; the screens need a notebook's packages, which come with
`pip install "grulens[lab]"`.
"""

from __future__ import annotations

from importlib.util import find_spec

from grulens.errors import MissingPackageError

SCREENS = ("anywidget", "bokeh", "IPython", "ipywidgets", "traitlets")


def need(extra: str, what: str, *packages: str) -> None:
    """Check that the packages of an extra are installed; imports none of them.

    Args:
        extra: its name in pyproject.toml.
        what: what needs them, as the subject of a sentence.
        *packages: the names under which they are imported.

    Raises:
        MissingPackageError: some are not.

    >>> need("lab", "the lens", "torch")
    >>> need("lab", "the lens", "torch", "not_here")
    Traceback (most recent call last):
    grulens.errors.MissingPackageError: the lens needs not_here: pip install "grulens[lab]"
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        *most, last = missing
        names = f"{', '.join(most)} and {last}" if most else last
        raise MissingPackageError(f'{what} needs {names}: pip install "grulens[{extra}]"')
