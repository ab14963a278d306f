"""What is true of Python source at each character, so that units can be compared with it.

Python's own `tokenize` is the judge of what is a string, a comment or a bracket. Every answer is
about the moment *after* a character was read, as a unit's state is: the opening quote is inside its
string, the closing one no longer is.
"""

from __future__ import annotations

import io
import tokenize
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

from grulens.errors import DemoError
from grulens.words import so_many

# f-strings, and t-strings from Python 3.14, are several tokens from Python 3.12 on and one before:
# the whole literal counts as string in either case, its replacement fields too
_STARTS = frozenset(
    getattr(tokenize, name)
    for name in ("FSTRING_START", "TSTRING_START")
    if hasattr(tokenize, name)
)
_ENDS = frozenset(
    getattr(tokenize, name) for name in ("FSTRING_END", "TSTRING_END") if hasattr(tokenize, name)
)
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What holds after each character of a source text.

    Attributes:
        in_string: (time,) bool, from the opening quote to just before the last closing one.
        in_comment: (time,) bool, from the # to the end of its line, without the newline.
        depth: (time,) int64, brackets open; brackets inside strings and comments do not count.
        column: (time,) int64, characters read since the line began, less one: 0 is a line's first.
        indentation: (time,) int64, leading spaces of the line the character stands in; a line of
            spaces alone has none.
    """

    in_string: Bool[ndarray, " time"]
    in_comment: Bool[ndarray, " time"]
    depth: Int[ndarray, " time"]
    column: Int[ndarray, " time"]
    indentation: Int[ndarray, " time"]

    @property
    def in_text(self) -> Bool[ndarray, " time"]:
        """Inside a string or a comment, (time,) bool: what people read."""
        either: Bool[ndarray, " time"] = self.in_string | self.in_comment
        return either

    def __repr__(self) -> str:
        return f"GroundTruth({so_many(len(self.depth), 'character')})"


def ground_truth(source: str) -> GroundTruth:
    r"""Say for each character of Python source what it stands in.

    Args:
        source: Python source that `tokenize` accepts, newlines as ``\n``.

    Returns:
        Arrays (time,), one entry a character.

    Raises:
        DemoError: the source does not tokenize, or closes a bracket that was never opened.

    >>> truth = ground_truth("f('a')  # b")
    >>> truth.in_string.astype(int)
    array([0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    >>> truth.in_comment.astype(int)
    array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1])
    >>> truth.depth
    array([0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    """
    lines = source.split("\n")
    starts = [0, *accumulate(len(line) + 1 for line in lines)]
    in_string, in_comment = np.zeros((2, len(source)), dtype=bool)
    change = np.zeros(len(source), dtype=np.int64)
    nested, opened = 0, 0
    for token in _tokens(source):
        start, end = (starts[row - 1] + column for row, column in (token.start, token.end))
        if token.type in _STARTS:
            if nested == 0:
                opened = start + len(token.string) - len(token.string.lstrip("fFrRbBuUtT"))
            nested += 1
        elif token.type in _ENDS:
            nested -= 1
            if nested == 0:
                in_string[opened : end - 1] = True
        elif nested:
            continue
        elif token.type == tokenize.STRING:
            prefix = len(token.string) - len(token.string.lstrip("fFrRbBuUtT"))
            in_string[start + prefix : end - 1] = True
        elif token.type == tokenize.COMMENT:
            in_comment[start:end] = True
        elif token.type == tokenize.OP:
            change[start] = _BRACKETS.get(token.string, 0)
    depth = np.cumsum(change)
    if (depth < 0).any():
        where = int(np.argmax(depth < 0))
        raise DemoError(f"a bracket that was never opened closes at {_place(starts, where)}")
    widths = [len(line) - len(line.lstrip(" ")) if line.strip(" ") else 0 for line in lines]
    column = [position for line in lines for position in range(len(line) + 1)]
    indentation = [
        width for line, width in zip(lines, widths, strict=True) for _ in range(len(line) + 1)
    ]
    # the split gave the last line a newline that is not there
    return GroundTruth(
        in_string=in_string,
        in_comment=in_comment,
        depth=depth,
        column=np.array(column[:-1], dtype=np.int64),
        indentation=np.array(indentation[:-1], dtype=np.int64),
    )


def _tokens(source: str) -> list[tokenize.TokenInfo]:
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source, newline="\n").readline))
    except (tokenize.TokenError, SyntaxError) as error:
        raise DemoError(f"this is not Python source that tokenizes: {error.args[0]}") from error
    for token in tokens:
        # Python before 3.12 goes on after a stray character; later ones raise
        if token.type == tokenize.ERRORTOKEN and not token.string.isspace():
            raise DemoError(
                f"this is not Python source that tokenizes: {token.string!r} "
                f"at line {token.start[0]}, column {token.start[1]}"
            )
    return tokens


def _place(starts: list[int], index: int) -> str:
    line = int(np.searchsorted(starts, index, side="right"))
    return f"line {line}, column {index - starts[line - 1]}"
