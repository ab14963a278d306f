"""Reads the signals of observed cells while their model runs, and changes them on the way."""

from __future__ import annotations

import inspect
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, NoneType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from grulens.errors import RecordingError
from grulens.models.observe.form import Spot
from grulens.models.observe.paths import Paths
from grulens.models.observe.reading.kept import Noted, are_written_over, kept
from grulens.models.observe.rivals import Rival
from grulens.models.observe.sites import Chain, Chains, Site, innermost, is_stood_in, steps_of
from grulens.models.observe.trace import name_of, writes

Change = Callable[[int, Tensor], Tensor]
"""From a step and the value there to the value that goes on."""


Key = tuple[str, Chain, str]
"""A site as it is looked up: its path, its chain and its function."""


def key_of(site: Site) -> Key:
    """A site as it is looked up."""
    return site.path, site.chain, site.function


def began(run: Callable[[], Any]) -> Any:
    """What a run returns. The calls that lead to a site are counted from here."""
    return run()


BEGAN: CodeType = inspect.unwrap(began).__code__


class Enough(BaseException):
    """A run has shown what it was made for."""


@dataclass(eq=False)
class Series:
    """What was read at one spot, step by step.

    Attributes:
        spot: the spot.
        values: what was read, when the run is over.
        change: what is done to it before.
        keep: whether it is kept.
        unchanged: whether it is kept as it was before any change.
        alone: whether no equation shows that it was written over since, so that copies are kept.
        calls: at each step, how often the module whose forward it is had been called.
    """

    spot: Spot
    values: list[Tensor] = field(default_factory=list)
    change: Change | None = None
    keep: bool = True
    unchanged: bool = False
    alone: bool = False
    calls: list[int] = field(default_factory=list)

    def take(self, values: Sequence[Any], witnesses: Sequence[Any], *, graph: bool) -> None:
        """Take what was noted in a run.

        Args:
            values: what it made.
            witnesses: of each what tells whether it is still what it was.
            graph: whether it is part of autograd's graph.

        Raises:
            RecordingError: the code has written over a value.
        """
        if not graph and set(map(type, witnesses)) - {NoneType, int}:
            # what is a copy stands for its value
            pairs = zip(values, witnesses, strict=True)
            values = [one if then is None or type(then) is int else then for one, then in pairs]
        if are_written_over(values, witnesses):
            away = (
                "with grad=False" if isinstance(witnesses[0], Tensor) else "again, with this input"
            )
            raise RecordingError(
                f"the code wrote over what it had made at {self.spot!r}, so what that was is not "
                f"known any more: record {away}, and copies are kept"
            )
        self.values += kept(values, graph=graph)


class Reading(TorchFunctionMode):
    """Reads spots in a run.

    Args:
        spots: what to read, and what to change there.
        paths: says which module's forward runs.
        end: the code that begins the run.
        is_here: whether the code that runs is to be read.
        copies: whether the code writes over values, so that copies must be kept.
        graph: whether what is kept is part of autograd's graph.
        until: spots, and how many steps of each are enough: after them the run ends by `Enough`.
        rivals: what may stand in for the lines that are read, and is noted where it does.
        alias: the sites that are read as if they were others.

    Attributes:
        ran: of each of these that ran the shape of what it made last.
    """

    def __init__(
        self,
        series: Iterable[Series],
        paths: Paths,
        end: CodeType,
        *,
        is_here: Callable[[], bool],
        copies: bool = False,
        graph: bool = False,
        until: Mapping[Spot, int] | None = None,
        rivals: Collection[Rival] = (),
        alias: Mapping[Site, Site] | None = None,
    ) -> None:
        super().__init__()
        self._paths, self._end, self._graph = paths, end, graph
        self._is_here, self._chains = is_here, Chains(end)
        self._here = defaultdict[Key, list[Series]](list)
        self._noted: dict[Series, Noted] = {}
        self._note: dict[Series, Callable[[Any], Any]] = {}
        for one in series:
            self._here[key_of(one.spot.site)].append(one)
            noted = self._noted[one] = Noted()
            self._note[one] = noted.noting(copies=copies or one.alone, graph=graph)
        # what is looked at first, because it costs least: the function, and the innermost code
        self._alias = {key_of(one): key_of(other) for one, other in (alias or {}).items()}
        every = [*self._here, *(one for one in self._alias if self._alias[one] in self._here)]
        self._names = {name for _, _, name in every}
        self._wanted: dict[Any, str] = {}
        """Names of the functions that stand at a site, as they were met; "" of all others."""
        self._inner = {
            (name, chain[0][0], step) for _, chain, name in every for step in steps_of(*chain[0])
        }
        self._left = {key_of(spot.site): spot.each * steps for spot, steps in (until or {}).items()}
        self._ends = bool(self._left)
        self.counts = Counter[Key]()
        self._rivals = rivals
        self.ran: dict[Rival, torch.Size] = {}
        self._at = {
            (id(one.code), step)
            for one in rivals
            for instruction in one.instructions
            for step in steps_of(id(one.code), instruction)
        }
        self._clear: Any = None
        """A frame that runs nothing of them, but where they stand in its own code."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if self._rivals:
            return self._noted_rivals(func, self._read(func, args, kwargs))
        return self._read(func, args, kwargs)

    def _noted_rivals(self, func: Any, result: Any) -> Any:
        """The result of a call, which is noted where it stands in for what is read."""
        made = result[0] if isinstance(result, tuple) and result else result
        if not (isinstance(made, Tensor) and made.is_floating_point() and made.dim()):
            return result
        frame = innermost(sys._getframe(2), self._end)
        if frame is None or not self._is_here():
            return result
        if frame is not self._clear or (id(frame.f_code), frame.f_lasti) in self._at:
            site = Site(self._paths.now, self._chains.of(frame), name_of(func))
            ran = {one: made.shape for one in self._rivals if one.holds(site)}
            if ran and is_stood_in(sys._getframe(2), frame):
                return result
            self.ran |= ran
            # while a frame lives, so do the calls around it
            self._clear = None if ran else frame
        return result

    def _read(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        name = self._wanted.get(func)
        if name is None:
            name = name_of(func)
            name = self._wanted[func] = name if name in self._names else ""
        frame = innermost(sys._getframe(2), self._end) if name else None
        if frame is None or (name, id(frame.f_code), frame.f_lasti) not in self._inner:
            return func(*args, **kwargs) if kwargs else func(*args)
        kwargs = kwargs or {}
        key = self._paths.now, self._chains.of(frame), name
        key = self._alias.get(key, key)
        series = self._here.get(key)
        if series is None or not self._is_here():
            return func(*args, **kwargs)
        count = self.counts[key]
        self.counts[key] = count + 1
        now = [
            (one, count // one.spot.each)
            for one in series
            if one.spot.each == 1 or count % one.spot.each == one.spot.ordinal
        ]
        # what several change is kept as all of them leave it
        for one, step in now:
            if one.spot.given and one.change is not None:
                args, kwargs = _given_changed(one, one.change, step, args, kwargs)
        for one, _ in now:
            if one.spot.given and one.keep:
                spot = one.spot
                self._note[one](kwargs[spot.keyword] if spot.keyword else args[spot.part])
        result = func(*args, **kwargs)
        self._keep_made(now, result, unchanged=True)
        for one, step in now:
            if not one.spot.given and one.change is not None:
                result = _changed(one, one.change, step, result, in_place=writes(name))
        self._keep_made(now, result, unchanged=False)
        if self._ends and self._left.get(key, count + 2) <= count + 1:
            del self._left[key]
            if not self._left:
                raise Enough
        return result

    def _keep_made(
        self, now: Iterable[tuple[Series, int]], result: Any, *, unchanged: bool
    ) -> None:
        for one, _ in now:
            if not one.spot.given and one.keep and one.unchanged is unchanged:
                several = isinstance(result, tuple | list)
                self._note[one](result[one.spot.part] if several else result)
                one.calls.append(self._paths.calls.get(one.spot.site.path, 0))

    def __exit__(self, *error: Any) -> None:
        self._chains.forget()
        self._clear = None
        super().__exit__(*error)  # type: ignore[no-untyped-call]  # torch's

    def finish(self) -> None:
        """Hand out what was read, when the run is over.

        Raises:
            RecordingError: the code wrote over some of it.
        """
        for one, noted in self._noted.items():
            # nobody asks what the values of a run were that was ended early
            witnesses = [None] * len(noted.values) if self._ends else noted.witnesses
            one.take(noted.values, witnesses, graph=self._graph)
        self._noted.clear()

    def times(self, site: Site) -> int:
        """How often the run came by a site."""
        return self.counts[key_of(site)]


def _given_changed(
    one: Series, change: Change, step: int, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call after the change of one of them."""
    part, keyword, among = one.spot.part, one.spot.keyword, one.spot.among
    value = kwargs[keyword] if keyword else args[part]
    if among >= 0 and isinstance(value, tuple | list) and among < len(value):
        if isinstance(value[among], Tensor):
            parts = [*value]
            parts[among] = change(step, parts[among])
            value = parts if isinstance(value, list) else tuple(parts)
    elif isinstance(value, Tensor):
        value = change(step, value)
    else:
        return args, kwargs
    if keyword:
        return args, {**kwargs, keyword: value}
    return (*args[:part], value, *args[part + 1 :]), kwargs


def _changed(one: Series, change: Change, step: int, result: Any, *, in_place: bool) -> Any:
    """The result of a call after the change of it, or of a part of it."""
    part = one.spot.part
    several = isinstance(result, tuple | list)
    value = result[part] if several else result
    changed = change(step, value)
    if changed is value:
        return result
    if in_place:
        return value.copy_(changed)
    if not several:
        return changed
    parts = [*result]
    parts[part] = changed
    return type(result)(parts) if type(result) in (tuple, list) else tuple(parts)
