"""Names that are loaded when they are first asked for: a screen costs bokeh and ipywidgets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


def lazy(
    module: str,
    names: Iterable[str],
    late: Mapping[str, str],
    subjects: Iterable[ModuleType] = (),
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and the `__dir__` of a module that loads some of its names late.

    Args:
        module: the name of that module.
        names: all of its public names.
        late: for each name that is loaded late, the module it comes from.
        subjects: modules that have a missing name perhaps; the error says which.

    >>> get, names = lazy("here", ["Fraction", "one"], {"Fraction": "fractions"})
    >>> get("Fraction")(1, 2), names()
    (Fraction(1, 2), ['Fraction', 'one'])
    >>> get("two")
    Traceback (most recent call last):
    AttributeError: module 'here' has no attribute 'two'
    """

    def get(name: str) -> Any:
        if name in late:
            return getattr(import_module(late[name]), name)
        words = f"module {module!r} has no attribute {name!r}"
        owner = next((subject for subject in subjects if name in subject.__all__), None)
        words += f"; it stands in {owner.__name__}" if owner else ""
        raise AttributeError(words, name=name)

    return get, lambda: sorted(names)
