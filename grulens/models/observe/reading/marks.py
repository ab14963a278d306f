"""Reads values where a forward makes them: a copy of its code, with a mark around some expressions.

A mode is asked at every call of torch, which costs a small cell more than its own arithmetic. What
is read of a cell are mostly expressions of its own forward, and a copy of that code hands them over
at next to no cost.
"""

from __future__ import annotations

import functools
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import CellType, CodeType, FunctionType, MethodType, ModuleType, NoneType
from typing import Any

from torch import Tensor, nn
from torch._C import _len_torch_function_stack
from torch.overrides import _get_current_function_mode_stack

from grulens.errors import RecordingError
from grulens.models.observe.reading.kept import Noted
from grulens.models.observe.reading.marked import (
    Place,
    Role,
    calls_torchs,
    copy_of,
    forward_of,
    met_otherwise,
)
from grulens.models.observe.reading.reading import Key, Reading, Series, key_of
from grulens.models.observe.sites import Chain, Chains, Site, innermost
from grulens.models.observe.trace import Trace
from grulens.models.restore import added


@dataclass(eq=False)
class _Read:
    """What was read at one place in a run."""

    made: Noted = field(default_factory=Noted)
    given: dict[tuple[int, str], Noted] = field(default_factory=dict)
    calls: list[tuple[int, int]] = field(default_factory=list)
    """The number of each call of the forward, and how much had been made before it."""
    others: list[Any] = field(default_factory=list)
    """What else than torch's function may have been called there: of what, by its class."""

    def numbers(self) -> list[int]:
        """Of each value the number of the call in which it was made."""
        if not self.calls:  # the run did not come by
            return []
        ends = [begin for _, begin in self.calls[1:]] + [len(self.made.values)]
        pairs = zip(self.calls, ends, strict=True)
        return [number for (number, begin), end in pairs for _ in range(begin, end)]


class _Way:
    """One way by which a run comes to a module's forward, and what is read there.

    Args:
        around: the calls that lead to it.
        module: the module.
        function: its forward; None if that is none of its class.
        places: what is read, by site.
    """

    def __init__(
        self,
        around: Chain,
        module: nn.Module,
        function: FunctionType | None,
        places: Mapping[Key, Place],
    ) -> None:
        self.around, self.module, self._function, self.places = around, module, function, places
        self.copy = function and copy_of(function, module, tuple(places.values()))

    def noting(
        self, read: Sequence[_Read], copies: Sequence[bool], graph: bool
    ) -> Callable[..., Any]:
        """The forward with marks, which note what they meet at each place.

        Args:
            read: where to note it.
            copies: at which places to note copies.
            graph: whether what is noted must be part of autograd's graph.
        """
        function, copy = self._function, self.copy
        assert function is not None, "asked for only where it is possible"
        assert copy is not None, "asked for only where it is possible"
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        here = [*self.places.values()]
        firsts = defaultdict[tuple[int, tuple[int, str] | None], list[Any]](list)
        for name, mark in copy.marks.items():
            at, first = read[mark.place], firsts[mark.place, mark.given]
            note = _first(first)
            if mark.role == Role.OWNER:
                place = here[mark.place]
                by_place = any(not keyword for _, keyword in place.given)
                note = _checked(place.function, at.others.append, is_given=by_place)
            if mark.role in (Role.VALUE, Role.SECOND):
                noted = at.made if mark.given is None else at.given.setdefault(mark.given, Noted())
                note = noted.noting(copies=copies[mark.place], graph=graph)
                if mark.given and mark.role == Role.SECOND:
                    note = _second(first, mark.given[0], note)
            cells[name] = CellType(note)
        closure = tuple(cells[name] for name in copy.code.co_freevars)
        found = FunctionType(
            copy.code, function.__globals__, function.__name__, function.__defaults__, closure
        )
        found.__kwdefaults__ = function.__kwdefaults__
        return MethodType(found, self.module)


class Marks:
    """Reads spots in a run, by what stands in for the forwards that make them.

    Args:
        series: what to read.
        modules: by path the modules whose forwards hold the sites.
        end: the code that begins the run.
        is_here: whether the code that runs is to be read.
        graph: whether what is kept is part of autograd's graph.

    Attributes:
        possible: whether the spots can all be read so.
    """

    def __init__(
        self,
        series: Iterable[Series],
        modules: Mapping[str, nn.Module],
        end: CodeType,
        *,
        is_here: Callable[[], bool],
        graph: bool = False,
    ) -> None:
        self._end, self._is_here, self._graph = end, is_here, graph
        self._here = defaultdict[Key, list[Series]](list)
        self._read: dict[Key, _Read] = {}
        self._counts: dict[Key, int] = {}
        self._apart = False
        given = defaultdict[Key, dict[tuple[int, str], None]](dict)
        for one in series:
            spot = one.spot
            self._here[key_of(spot.site)].append(one)
            given[key_of(spot.site)] |= {(spot.part, spot.keyword): None} if spot.given else {}
        by_way = defaultdict[tuple[str, Chain], dict[Key, Place]](dict)
        for (path, chain, name), parts in given.items():
            place = Place(*chain[0], name, tuple(parts))
            by_way[path, chain[1:]][path, chain, name] = place
        self._ways = [
            _Way(around, modules[path], forward_of(modules[path]), places)
            for (path, around), places in by_way.items()
        ]
        # a chain that goes through marked code is another than was met without marks
        inner = {place.code for way in self._ways for place in way.places.values()}
        self.possible = (
            not _is_read_by_a_mode()
            and not any(number in inner for way in self._ways for number, _ in way.around)
            and all(way.copy is not None for way in self._ways)
        )

    def follow(self) -> Iterator[Callable[[], None]]:
        """Stand in for the forwards; each thing that is done comes with what undoes it."""
        of = defaultdict[nn.Module, list[_Way]](list)
        for way in self._ways:
            of[way.module].append(way)
        for module, ways in of.items():
            yield added.put(module, "forward", self._stand_in(module, ways))

    def _stand_in(self, module: nn.Module, ways: Sequence[_Way]) -> Callable[..., Any]:
        """A forward that runs with marks where a run that is read comes by it."""
        plain: Any = module.forward
        chains, calls = Chains(self._end), 0
        marked: dict[Chain, Callable[..., Any]] = {}
        reads: list[_Read] = []
        for way in ways:
            here = [self._read.setdefault(key, _Read()) for key in way.places]
            copies = [any(s.alone for s in self._here[key]) for key in way.places]
            marked[way.around] = way.noting(here, copies, self._graph)
            reads += here

        @functools.wraps(plain.__func__)  # who asks for its signature is told that of the forward
        def forward(_: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            if not self._is_here():
                return plain(*args, **kwargs)
            frame = innermost(sys._getframe(1), self._end)
            around = () if frame is None else chains.of(frame)
            chains.forget()
            if _is_read_by_a_mode():  # which knows the sites of the code itself
                # what a run inside this one comes by is another's
                self._apart = self._apart or around in marked
                return plain(*args, **kwargs)
            calls += 1
            for one in reads:
                one.calls.append((calls, len(one.made.values)))
            return marked.get(around, plain)(*args, **kwargs)

        return MethodType(forward, module)

    def finish(self) -> None:
        """Hand out what was read, when the run is over.

        Raises:
            RecordingError: a call of torch was given what is read, and made nothing; or some steps
                were read by a block that was opened inside the run; or the code wrote over a value.
        """
        if self._apart:
            raise RecordingError(
                "the run opened a block of its own that reads or edits its observed cells, so not "
                "all of its steps were read: record inside that block"
            )
        for key, read in self._read.items():
            if read.others:
                for way in self._ways:
                    if key in way.places:
                        met_otherwise(way.places[key])
                raise RecordingError(
                    f"what is called at {Site(*key)!r} is no method of a tensor, as was taken for "
                    f"granted, but one of a {read.others[0].__name__}: its arguments are not known "
                    "for certain. Record once more: it is read in another way from now on"
                )
            made = read.made.values
            if any(len(noted.values) != len(made) for noted in read.given.values()):
                raise RecordingError(
                    f"{Site(*key)!r} was begun and not ended: its value is not known"
                )
            # what is made of numbers alone is no call of torch
            of: Sequence[int] = range(len(made))
            if set(map(type, made)) - {Tensor}:
                of = [i for i in of if _holds_tensor(made[i])]
            self._counts[key] = len(of)
            numbers = read.numbers() if key[0] else [0] * len(made)
            for one in self._here[key]:
                spot = one.spot
                noted = read.given[spot.part, spot.keyword] if spot.given else read.made
                here = of[spot.ordinal :: spot.each] if one.keep else range(0)
                values, witnesses = (_taken(each, here) for each in (noted.values, noted.witnesses))
                if not spot.given:
                    values, witnesses = _parts(values, spot.part), _parts(witnesses, spot.part)
                    one.calls += _taken(numbers, here)
                one.take(values, witnesses, graph=self._graph)
        self._read.clear()

    def times(self, site: Site) -> int:
        """How often the run came by a site."""
        return self._counts.get(key_of(site), 0)


def _holds_tensor(made: Any) -> bool:
    if isinstance(made, tuple | list):
        return any(isinstance(part, Tensor) for part in made)
    return isinstance(made, Tensor)


def _taken(values: list[Any], here: Sequence[int]) -> list[Any]:
    """Those that stand at some places."""
    if isinstance(here, range):
        return values[here.start : here.stop : here.step]
    return [values[i] for i in here]


def _parts(values: list[Any], part: int) -> list[Any]:
    if not set(map(type, values)) - {Tensor, int, NoneType}:
        return values
    return [value[part] if isinstance(value, tuple | list) else value for value in values]


def _is_read_by_a_mode() -> bool:
    if not _len_torch_function_stack():
        return False
    modes: Iterable[object] = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    return any(isinstance(mode, Reading | Trace) for mode in modes)


def _first(seen: list[Any]) -> Callable[[Any], Any]:
    def note(value: Any) -> Any:
        seen[:] = [value]
        return value

    return note


def _second(seen: list[Any], part: int, keep: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Notes an operand when the second one is known: a number in front makes it the first one."""

    def note(value: Any) -> Any:
        first = seen.pop()
        keep((first, value)[part] if isinstance(first, Tensor) else (value, first)[part])
        return value

    return note


def _checked(
    function: str, other: Callable[[Any], None], *, is_given: bool
) -> Callable[[Any], Any]:
    """Notes that of which a method is called. It raises nothing: the code may catch that.

    Args:
        function: the name of the method.
        other: notes the class of what has another one.
        is_given: whether arguments are read by their place, which is another one of a function.
    """

    def note(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value
        if (is_given and isinstance(value, ModuleType)) or not calls_torchs(value, function):
            other(type(value))
        return value

    return note
