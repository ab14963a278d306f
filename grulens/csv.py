"""Columns as CSV: numbers that read back as they were, texts that no spreadsheet takes for code.

A spreadsheet runs what begins with an equals sign, a plus, a minus or an at sign. So a text that
begins with one of those, with a tab or with an end of line has an apostrophe before it; so has a
text that begins with an apostrophe: whoever takes one away there has every text as it was.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from grulens.errors import FileError, shown

#: With these begins what a spreadsheet would run, in the wide forms of Chinese fonts too; then
#: what some leave away before they look, and the mark itself.
_GUARDED: Final = tuple("=+-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}"
                        "\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}\t\r\n'")  # fmt: skip


def text_of(columns: Mapping[str, Sequence[Any] | np.ndarray]) -> str:
    """A head and a line a row, with commas, as RFC 4180 has it.

    Args:
        columns: texts and numbers by name, all of one length. A number is as short as it can be
            and still the same in its own type; what is none is "nan".

    >>> print(text_of({"token": ["=", "a,b"], "h": np.array([0.1, -2.0], np.float32)}), end="")
    token,h
    '=,0.1
    "a,b",-2.0
    """
    out = io.StringIO(newline="")
    rows = csv.writer(out, lineterminator="\r\n")
    rows.writerow([_guarded(name) for name in columns])
    rows.writerows(zip(*map(_cells, columns.values()), strict=True))
    return out.getvalue()


def written(text: str, path: str | os.PathLike[str] | None) -> str:
    """The same text, which now stands in a file too if there is a path, in UTF-8.

    Raises:
        FileError: the path is no name of a file.
    """
    if path is not None:
        if not isinstance(path, str | os.PathLike) or "\0" in os.fspath(path):
            raise FileError(f"path must be the name of a file, got {shown(path)}")
        Path(path).write_text(text, encoding="utf-8", newline="")
    return text


def _cells(values: Sequence[Any] | np.ndarray) -> list[str]:
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        # numpy's own shortest text, of float32 for float32: Python's would be of a float64
        return [str(value) for value in values]
    return [_guarded(str(value)) for value in values]


def _guarded(text: str) -> str:
    # half of a surrogate pair is no character, and UTF-8 has none for it
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return f"'{whole}" if whole.startswith(_GUARDED) else whole
