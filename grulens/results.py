"""What every result of an analysis can do: be drawn, be a table, be saved and be read again.

A file holds tensors as safetensors and everything else as JSON beside them; it never holds code.
The fields of the result's own class say what is read: a file chooses at most the kind of cell.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from jaxtyping import jaxtyped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from grulens.arguments import Frame
from grulens.errors import FileError, MissingPackageError, PositionError, shown

#: The version of the format; a file of another one is refused.
FORMAT: Final = 1
R = TypeVar("R", bound="Result")


class Result:
    """A frozen dataclass that an analysis gave."""

    def plot(self, **options: Any) -> Any:
        """The figure of this result: `grulens.plot(result, ...)`, which says what it takes."""
        # by name: analysis knows no screens, and a figure loads bokeh
        return import_module("grulens.widgets.plot.plot").plot(self, **options)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write this result to a file, which `load` of the same class reads.

        Args:
            path: where to; a file that is there is overwritten. Tensors stand in it as
                safetensors, the rest as JSON in its metadata; no pickle, and no graph.

        Raises:
            FileError: it holds a value that cannot be written.
            OSError: the file cannot be written.
        """
        tensors: dict[str, Tensor] = {}
        plain = {f.name: _plain(getattr(self, f.name), f.name, tensors) for f in _fields(self)}
        head = {"format": FORMAT, "kind": type(self).__name__, "fields": plain}
        place = _path(path)
        place.write_bytes(save(tensors, {"grulens": json.dumps(head)}))
        return place

    @classmethod
    def load(cls: type[R], path: str | os.PathLike[str]) -> R:
        """Read what `save` wrote.

        Args:
            path: the file.

        Raises:
            FileError: it holds no such result, or is damaged.
            OSError: the file cannot be read.
        """
        place = _path(path)
        try:
            with safe_open(place, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                head = json.loads((file.metadata() or {}).get("grulens", "null"))
            if not isinstance(head, dict) or head.get("format") != FORMAT:
                raise FileError(f"{place} holds no result of grulens, or one of another version")
            kind = _kind(head.get("kind"), (cls,))
            if kind is None:
                raise FileError(f"{place} holds a {shown(head.get('kind'))}, not a {cls.__name__}")
            made: R = _made(kind, head.get("fields"), tensors)
        except (SafetensorError, ValueError, RuntimeError) as error:
            if isinstance(error, FileError):
                raise
            raise FileError(f"{place} holds no {cls.__name__}: {error}") from error
        return made


def frame(columns: Mapping[str, Any] | Tensor, /, **names: str) -> Frame:
    """A pandas DataFrame of columns by name, or of a table (line, column).

    Args:
        columns: lists or tensors by name; or a tensor of two dimensions.
        names: `index` and `columns`, what the lines and the columns of it are called.

    Raises:
        MissingPackageError: pandas is not installed.
    """
    try:
        pd = import_module("pandas")
    except ImportError as error:
        raise MissingPackageError("to_frame needs pandas: pip install pandas") from error
    if isinstance(columns, Tensor):
        made = pd.DataFrame(columns.detach().cpu().double().numpy())
    else:
        made = pd.DataFrame(
            {
                name: column.detach().cpu().numpy() if isinstance(column, Tensor) else column
                for name, column in columns.items()
            }
        )
    return made.rename_axis(**names) if names else made


def row_of(row: Any, rows: int) -> int:
    """A row of the batch, counted from the start.

    Raises:
        PositionError: there is no such row.
    """
    if isinstance(row, bool) or not isinstance(row, int) or not -rows <= row < rows:
        raise PositionError(f"row must be a whole number below {rows}, got {shown(row)}")
    return row % rows


def by_name(**functions: Any) -> None:
    """Let a file name these functions, and these classes of functions that are dataclasses."""
    _FUNCTIONS.update(functions)


_FUNCTIONS: Final[dict[str, Any]] = {}


def _path(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike) or "\0" in os.fspath(path):
        raise FileError(f"path must be the name of a file, got {shown(path)}")
    return Path(path)


def _fields(thing: Any) -> Iterable[Any]:
    return fields(thing)


def _plain(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON; its tensors are put beside it, by the name of where they stand."""
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Tensor):
        held = value.detach().cpu().resolve_conj().resolve_neg()
        kind = "complex" if held.is_complex() else "tensor"
        held = torch.view_as_real(held) if held.is_complex() else held
        tensors[name] = held.clone(memory_format=torch.contiguous_format)
        return {kind: name}
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_plain(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]}
    if isinstance(value, slice):
        return {"slice": [value.start, value.stop, value.step]}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"dict": {k: _plain(item, f"{name}/{k}", tensors) for k, item in value.items()}}
    for known, function in _FUNCTIONS.items():
        if value is function:
            return {"function": known}
        if isinstance(function, type) and type(value) is function:
            parts = {f.name: getattr(value, f.name) for f in fields(function)}
            return {"function": [known, _plain(parts, name, tensors)]}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: getattr(value, f.name) for f in fields(value)}
        made = {k: _plain(v, f"{name}/{k}", tensors) for k, v in parts.items()}
        return {"made": [type(value).__name__, made]}
    raise FileError(f"{name} is {shown(value)}, which no file can hold")


def _made(kind: Any, plain: Any, tensors: dict[str, Tensor]) -> Any:
    """An instance of a dataclass from its fields."""
    names = [f.name for f in fields(kind)]
    if not isinstance(plain, dict) or set(plain) != set(names):
        raise FileError(f"a {kind.__name__} has the fields {', '.join(names)}; these are others")
    hints = get_type_hints(kind, localns={"_": "_"})  # jaxtyping's size of any kind
    values = {name: _value(plain[name], hints[name], tensors) for name in names}
    with jaxtyped("context"):
        for name, value in values.items():
            if not _fits(value, hints[name]):
                raise FileError(f"the {name} of a {kind.__name__} is not {shown(value)}")
    return kind(**values)


def _kind(name: Any, hints: Iterable[Any]) -> Any:
    """The dataclass of a name: one that is expected, or a kind of it; None if there is none."""
    for hint in hints:
        if isinstance(hint, type) and is_dataclass(hint):
            found = hint if hint.__name__ == name else _kind(name, hint.__subclasses__())
            if found is not None:
                return found
    return None


def _value(plain: Any, hint: Any, tensors: dict[str, Tensor]) -> Any:
    """What JSON stands for."""
    if not isinstance(plain, dict):
        return plain
    hints = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    ((tag, inside),) = plain.items() if len(plain) == 1 else ((None, None),)
    of = partial(_value, tensors=tensors)
    if tag == "made" and isinstance(inside, list) and len(inside) == 2:
        kind = _kind(inside[0], hints)
        if kind is not None:
            return _made(kind, inside[1], tensors)
        wanted = [hint.__name__ for hint in hints if isinstance(hint, type) and is_dataclass(hint)]
        if wanted:
            raise FileError(
                f"the file holds a {shown(inside[0])}, and no such {wanted[0]} is loaded: import "
                "what defines that class first"
            )
    elif tag in ("tensor", "complex") and isinstance(inside, str) and inside in tensors:
        return tensors[inside] if tag == "tensor" else torch.view_as_complex(tensors[inside])
    elif tag == "function" and isinstance(inside, str) and inside in _FUNCTIONS:
        return _FUNCTIONS[inside]
    elif tag == "function" and isinstance(inside, list) and len(inside) == 2:
        kind = _FUNCTIONS.get(inside[0]) if isinstance(inside[0], str) else None
        if isinstance(kind, type) and isinstance(inside[1], dict):
            return _made(kind, inside[1].get("dict"), tensors)
    elif tag == "float" and inside in ("nan", "inf", "-inf"):
        return float(inside)
    elif tag in ("tuple", "list") and isinstance(inside, list):
        items = [of(item, one) for item, one in zip(inside, _items(hints, inside), strict=True)]
        return tuple(items) if tag == "tuple" else items
    elif tag == "slice" and isinstance(inside, list) and len(inside) == 3:
        return slice(*inside)
    elif tag == "dict" and isinstance(inside, dict):
        return {key: of(item, Any) for key, item in inside.items()}
    raise FileError(f"no value of this version of grulens is written as {shown(plain)}")


def _items(hints: Iterable[Any], inside: Sequence[Any]) -> list[Any]:
    """What is expected of each item of a tuple or list."""
    for hint in hints:
        kinds = get_args(hint)
        if get_origin(hint) in (tuple, list) and kinds:
            if kinds[-1] is Ellipsis or get_origin(hint) is list:
                return [kinds[0]] * len(inside)
            if len(kinds) == len(inside):
                return list(kinds)
    return [Any] * len(inside)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, its sizes those of the other fields."""
    origin, kinds = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, kind) for kind in kinds)
    if origin is Literal:
        return any(type(value) is type(kind) and value == kind for kind in kinds)
    if origin in (tuple, list):
        items = _items([hint], value) if isinstance(value, origin) else []
        whole = origin is list or kinds[-1] is Ellipsis or len(kinds) == len(items)
        return isinstance(value, origin) and whole and all(map(_fits, value, items))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_fits(item, kinds[1]) for item in value.values())
    if origin is Callable:
        return callable(value)
    if hint in (int, float):
        return type(value) is int or (hint is float and type(value) is float)
    return hint is Any or not isinstance(hint, type) or isinstance(value, hint)
