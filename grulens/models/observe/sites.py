"""Where in somebody's code an operation stands, and how that code calls what it makes there."""

from __future__ import annotations

import ast
import dis
import functools
import inspect
import itertools
import linecache
import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType, FunctionType
from typing import Any

import torch

_TORCH = os.path.dirname(torch.__file__) + os.sep
_OWN = os.path.dirname(os.path.dirname(os.path.dirname(__file__))) + os.sep
_CHECKS = (f"{os.sep}jaxtyping{os.sep}", f"{os.sep}beartype{os.sep}", "<@beartype")
_CALL = torch.nn.Module._call_impl.__code__
_TAP = os.path.join(_OWN, "models", "instrument", "tap.py")
_DEMO = os.path.join(_OWN, "demo") + os.sep

Chain = tuple[tuple[int, int], ...]
"""The calls that lead to an operation, the innermost first: the id of each one's code, and the
instruction in it."""

_CODES: dict[int, CodeType] = {}
"""Code by its id. It is held here, so that no other code comes to have that id."""


@dataclass(frozen=True)
class Site:
    """One place in the code at which an operation stands.

    A loop comes by the same site at every step. Two modules of one class have different sites.

    Attributes:
        path: the dotted path of the module whose forward runs.
        chain: the calls that lead there from the beginning of the run.
        function: the name of torch's function.
    """

    path: str
    chain: Chain
    function: str

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        # a look asks for it again and again
        return hash((self.path, self.chain, self.function))

    @property
    def code(self) -> tuple[CodeType, int]:
        """The innermost code of the model itself and the instruction in it.

        A library whose functions it calls is skipped; one of which it is made is not.
        """
        number, instruction = self.chain[_own(self.chain)]
        return _CODES[number], instruction

    @property
    def codes(self) -> tuple[CodeType, ...]:
        """The code of the calls that lead there."""
        return tuple(_CODES[number] for number, _ in self.chain)

    @property
    def line(self) -> int:
        """The number of the line."""
        return span(*self.code)[0]

    def line_apart(self, others: Iterable[Site]) -> int:
        """The number of the line of the outermost call that leads to none of some others."""
        lines = [span(_CODES[number], instruction)[0] for number, instruction in self.chain]
        theirs = [[span(_CODES[n], i)[0] for n, i in one.chain] for one in others]
        for depth in range(1, len(lines) + 1):
            if all(one[-depth:] != lines[-depth:] for one in theirs):
                return lines[-depth]
        return self.line

    @property
    def file(self) -> str:
        """The name of the file, without its folder; of a notebook's cell no number of IPython's."""
        folder, name = os.path.split(self.code[0].co_filename)
        in_notebook = os.path.basename(folder).startswith("ipykernel_")
        return "a notebook cell" if in_notebook else name

    @property
    def text(self) -> str:
        """The expression as it stands in the code; empty where nobody has that."""
        first, last, begin, end = span(*self.code)
        lines = [linecache.getline(self.code[0].co_filename, n) for n in range(first, last + 1)]
        if not all(lines) or begin is None or end is None:
            return ""
        # columns are counted in bytes
        joined = [line.encode() for line in lines]
        joined[-1] = joined[-1][:end]
        joined[0] = joined[0][begin:]
        return " ".join(b" ".join(joined).decode(errors="replace").split())

    def argument(self, given: Sequence[bool], part: int, keyword: str = "") -> str:
        """One argument as it stands in the code; the whole expression where that cannot be told.

        Args:
            given: of each argument of torch's function whether it is a tensor.
            part: its place among them.
            keyword: by what name it is given; empty if by its place.
        """
        try:
            node = ast.parse(self.text, mode="eval").body
        except SyntaxError:
            return self.text
        parts: list[ast.expr] = []
        if isinstance(node, ast.BinOp):
            parts = [node.left, node.right]
            if not all(given):  # a number stands on either side
                parts = [one for one in parts if not isinstance(one, ast.Constant)]
                parts = parts if len(parts) == 1 else []
            elif self.function.startswith("__r"):
                parts.reverse()
        elif isinstance(node, ast.Call) and keyword:
            parts = [one.value for one in node.keywords if one.arg == keyword]
            part = 0
        elif isinstance(node, ast.Call):
            method = isinstance(node.func, ast.Attribute) and len(node.args) == len(given) - 1
            parts = [node.func.value] if method and isinstance(node.func, ast.Attribute) else []
            parts += node.args
        return ast.unparse(parts[part]) if part < len(parts) else self.text

    def name(self, part: int = 0, depth: int = 0) -> str:
        """The variable to which the code gives what it makes here; empty if it gives it none.

        Args:
            part: which part of a tuple.
            depth: how many calls further out to look.
        """
        depth += _own(self.chain)
        if depth >= len(self.chain):
            return ""
        number, instruction = self.chain[depth]
        code = _CODES[number]
        return _targets(code).get((*span(code, instruction), part), "")

    def __repr__(self) -> str:
        return f"line {self.line} of {self.file}, {self.function.strip('_')}"


@functools.lru_cache(1 << 12)
def _own(chain: Chain) -> int:
    """The place of the innermost code that is no other library's: of the model, or around it."""
    codes = [_CODES[number] for number, _ in chain]
    # a library in which a forward stands has a part of the model
    models = {library_of(code) for code in codes if code.co_name == "forward"}
    own = (n for n, code in enumerate(codes) if (library_of(code) or None) in (None, *models))
    return next(own, 0)


def library_of(code: CodeType) -> str:
    """The installed package to which code belongs; empty where it is none's."""
    parts = code.co_filename.split(os.sep)
    inside = [n for n, part in enumerate(parts) if part in ("site-packages", "dist-packages")]
    return parts[inside[-1] + 1] if inside and inside[-1] + 1 < len(parts) else ""


def methods_of(kind: type[Any]) -> Iterator[FunctionType]:
    """All methods that somebody wrote for a class, but the one that makes it."""
    for base in kind.__mro__:
        if base.__module__.startswith(("torch.", "builtins")):
            continue
        for value in vars(base).values():
            if isinstance(value, FunctionType) and not value.__name__.startswith("__init"):
                yield inspect.unwrap(value)


_USERS: dict[int, bool] = {}
"""Whether code is somebody's own, by its id."""


def is_users(code: CodeType) -> bool:
    """Whether a piece of code is neither torch's nor grulens' own, nor what checks annotations.

    A demo's model is a user's.
    """
    name = code.co_filename
    if name.startswith(_DEMO):
        return True
    return not (name.startswith((_TORCH, _OWN)) or any(mark in name for mark in _CHECKS))


def is_users_frame(frame: Any) -> bool:
    """Whether a frame runs a user's own code."""
    code = frame.f_code
    own = _USERS.get(id(code))
    if own is None:
        own = _USERS[id(code)] = is_users(code)
        _CODES[id(code)] = code
    return own


def innermost(frame: Any, end: CodeType) -> Any:
    """The innermost frame, from one on outwards, that runs a user's own code.

    Args:
        frame: where to begin.
        end: the code that began the run.

    Returns:
        The frame; None if there is none inside the run.
    """
    while frame is not None:
        code = frame.f_code
        if code is end:
            return None
        own = _USERS.get(id(code))
        if own or (own is None and is_users_frame(frame)):
            return frame
        frame = frame.f_back
    return None


def is_stood_in(frame: Any, user: Any) -> bool:
    """Whether a layer that is opened by its weights runs between a frame and the user's one.

    What is computed there stands in the user's code nowhere.
    """
    while frame is not user:
        if frame.f_code.co_filename == _TAP:
            return True
        frame = frame.f_back
    return False


class Chains:
    """Says by which calls a run comes to an operation.

    A function that calls itself is in them once: it comes by its lines as a loop does.

    Args:
        end: the code that begins the run.
    """

    def __init__(self, end: CodeType) -> None:
        self._end = end
        self._frame: Any = None
        self._around: Chain = ()

    def of(self, frame: Any) -> Chain:
        """The user's calls from a user's frame out to the code that began the run."""
        # while a frame lives, those around it wait where they are
        if frame is not self._frame:
            self._frame, self._around = frame, self._walked(frame)
        return (_where(frame), *self._around)

    def _walked(self, inner: FrameType) -> Chain:
        found, within, frame = [], {id(inner.f_code)}, inner.f_back
        while frame is not None and (code := frame.f_code) is not self._end:
            if code is _CALL:
                within = set()  # of another module, whose class may be the same
            elif is_users_frame(frame) and id(code) not in within:
                within.add(id(code))
                found.append(_where(frame))
            frame = frame.f_back
        return tuple(found)

    def forget(self) -> None:
        """Let go of the frame that was met last, and of what it holds."""
        self._frame = None


def _where(frame: FrameType) -> tuple[int, int]:
    """A frame's code and the instruction in it, the same however often that has run."""
    code, instruction = frame.f_code, frame.f_lasti
    calls = _CALLS.get(id(code))
    if calls is None:
        calls = _CALLS[id(code)] = _calls(code)
        _CODES[id(code)] = code
    return id(code), calls.get(instruction, instruction)


_CALLS: dict[int, dict[int, int]] = {}
"""What `_calls` says of code, by its id: code itself takes long to be looked up."""


def steps_of(number: int, instruction: int) -> tuple[int, ...]:
    """The instructions of a call, by the id of its code and the one by which a site names it."""
    return instruction, *(a for a, b in _calls(_CODES[number]).items() if b == instruction)


@functools.cache
def _calls(code: CodeType) -> dict[int, int]:
    """By the instruction that prepares a call the one that makes it: Python 3.11 has two for one.

    Of calls that it has met often the first of the two makes them.
    """
    every = [*dis.get_instructions(code)]
    return {
        one.offset: then.offset
        for one, then in itertools.pairwise(every)
        if one.opname == "PRECALL" and then.opname == "CALL"
    }


@functools.cache
def _positions(code: CodeType) -> tuple[Any, ...]:
    return tuple(code.co_positions())


def span(code: CodeType, instruction: int) -> tuple[int, int, int | None, int | None]:
    """First and last line of an instruction's expression, and its first and last column."""
    first, last, begin, end = _positions(code)[instruction // 2]
    first = code.co_firstlineno if first is None else first
    return first, first if last is None else last, begin, end


@functools.cache
def _targets(code: CodeType) -> dict[tuple[int | None, ...], str]:
    """By lines and columns of an expression and part of its value, the name that it is given."""
    begin, lines = code.co_firstlineno, lines_of(code)
    text = textwrap.dedent("".join(lines))
    shift = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return {}
    found: dict[tuple[int | None, ...], str] = {}

    def place(node: ast.expr | ast.AugAssign) -> tuple[int | None, ...]:
        lines = (n and begin + n - 1 for n in (node.lineno, node.end_lineno))
        return *lines, node.col_offset + shift, (node.end_col_offset or 0) + shift

    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        for value, names in _given(target, node.value):
            for part, name in enumerate(names):
                found.setdefault((*place(value), part), name)
            if isinstance(node, ast.AugAssign):
                found.setdefault((*place(node), 0), names[0])
    return found


def _given(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, list[str]]]:
    """The expressions of an assignment, each with the names of what it gives."""
    if isinstance(target, ast.Tuple | ast.List):
        if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts):
            pairs = zip(target.elts, value.elts, strict=True)
            return [found for t, v in pairs for found in _given(t, v)]
        return [(value, [_word(part) for part in target.elts])]
    return [(value, [_word(target)])]


def _word(target: ast.expr) -> str:
    if isinstance(target, ast.Name):
        return target.id
    return target.attr if isinstance(target, ast.Attribute) else ""


def lines_of(code: CodeType) -> list[str]:
    """The lines of a function's code; none where nobody has them."""
    begin = code.co_firstlineno
    numbers = range(max(1, begin), begin + 2000)
    lines = itertools.takewhile(bool, (linecache.getline(code.co_filename, n) for n in numbers))
    return _block(list(lines))


@functools.lru_cache(1 << 10)
def parsed(code: CodeType) -> ast.FunctionDef | None:
    """The source of a function; None where nobody has it, or it is another. Nobody changes it."""
    lines = lines_of(code)
    inside = bool(lines) and lines[0][:1].isspace()
    try:
        whole = ast.parse(("if True:\n" if inside else "\n") + "".join(lines))
    except (SyntaxError, ValueError):
        return None
    ast.increment_lineno(whole, code.co_firstlineno - 2)
    for node in ast.walk(whole):
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = []
            return node if node.name == code.co_name else None
    return None


def _block(lines: list[str]) -> list[str]:
    """The lines of one function: until one that stands no further in than its first."""
    if not lines:
        return []
    depth = len(lines[0]) - len(lines[0].lstrip())
    found = [lines[0]]
    opened = lines[0].lstrip().startswith(("def ", "async ", "lambda"))
    for line in lines[1:]:
        text = line.strip()
        if opened and text and len(line) - len(line.lstrip()) <= depth and text[0] not in ")]}#":
            break
        opened = opened or line.lstrip().startswith(("def ", "async "))
        found.append(line)
    return found
