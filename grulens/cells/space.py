"""A state over space, (channel, y, x), folded to a number a channel: mean, largest or one place.

Which axis is the channel tells the code that makes the state: (y, x, channel) has it last. Of two
axes of which nothing is known, each part along the first one is called a slice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from jaxtyping import Float
from torch import Tensor

from grulens.arguments import Space
from grulens.errors import PositionError, shown
from grulens.words import message, say


@dataclass(frozen=True)
class Fold:
    """How the units of a state over space become one number a channel.

    Attributes:
        shape: of one row's state.
        how: "mean" or "max" over all places, or one place: (y, x).
        channel: the axis of channels; None where that is not known, and the first one is taken, as
            it is in torch's convolutions.

    >>> import torch
    >>> fold = Fold.of((2, 2, 3), "mean")
    >>> fold(torch.arange(12.0)).tolist(), fold.words
    ([2.5, 8.5], 'mean over 2 × 3 places')
    >>> fold.units([1]), fold.channels([0, 6, 7, 8, 9, 10, 11])
    ((6, 7, 8, 9, 10, 11), (1,))
    >>> Fold.of((2, 2, 3), (1, 0)).units([1]), Fold.of((2, 3, 2), (1, 0), channel=2).units([1])
    ((9,), (7,))
    >>> last = Fold.of((2, 3, 2), "mean", channel=2)
    >>> last(torch.arange(12.0)).tolist(), last.words, last.units([1]), last.where(7)
    ([5.0, 6.0], 'mean over 2 × 3 places', (1, 3, 5, 7, 9, 11), (1, (1, 0)))
    """

    shape: tuple[int, ...]
    how: str | tuple[int, ...]
    channel: int | None = None

    @classmethod
    def of(cls, shape: tuple[int, ...], space: Space, channel: int | None = None) -> Fold:
        """The fold that a user asked for.

        Raises:
            PositionError: it is none, or no place of such a state.
        """
        if isinstance(space, str) and space in ("mean", "max"):
            return cls(shape, space, channel)
        sizes = cls(shape, "mean", channel).sizes
        place = tuple(space) if isinstance(space, tuple | list) else ()
        inside = [
            type(at) is int and 0 <= at < size for at, size in zip(place, sizes, strict=False)
        ]
        if not sizes or len(place) != len(sizes) or not all(inside):
            raise PositionError(
                f"space must be 'mean', 'max' or a place in {sizes}, got {shown(space)}"
            )
        return cls(shape, place, channel)

    @property
    def noun(self) -> str:
        """What is made: a "channel"; a "slice" where the first of two axes may be anything."""
        channels = len(self.shape) > 2 or self.channel is not None
        return message("channel") if channels else message("slice")

    @property
    def axis(self) -> int:
        """The axis of channels, or the one that is taken for it."""
        return self.channel or 0

    @property
    def count(self) -> int:
        """How many channels there are."""
        return self.shape[self.axis]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of space."""
        return self.shape[: self.axis] + self.shape[self.axis + 1 :]

    @property
    def places(self) -> int:
        """How many places a channel has."""
        return prod(self.sizes)

    @property
    def words(self) -> str:
        """What a number is: "mean over 14 × 16 places", "at (7, 8)"."""
        if not isinstance(self.how, str):
            inside = ", ".join(map(str, self.how))
            return say("at {place}", place=f"({inside})" if len(self.how) > 1 else inside)
        size = " × ".join(map(str, self.sizes))
        if self.how == "mean":
            return say("mean over {size} places", size=size)
        return say("largest over {size} places", size=size)

    def __call__(self, values: Float[Tensor, "*before unit"]) -> Float[Tensor, "*before channel"]:
        """Values of units as values of channels."""
        whole = values.reshape(*values.shape[:-1], *self.shape)
        axis = self.axis - len(self.shape)
        over = whole.movedim(axis, -len(self.shape)).reshape(*values.shape[:-1], self.count, -1)
        if self.how == "mean":
            return over.mean(-1)
        return over.amax(-1) if self.how == "max" else over[..., self._number]

    def units(self, channels: Iterable[int]) -> tuple[int, ...]:
        """The units that channels are made of: all their places, or the one place."""
        inside = range(self.places) if isinstance(self.how, str) else (self._number,)
        return tuple(self._unit(channel, at) for channel in channels for at in inside)

    def where(self, unit: int) -> tuple[int, tuple[int, ...]]:
        """The channel of a unit, and its place."""
        at = []
        for size in reversed(self.shape):
            unit, here = divmod(unit, size)
            at.append(here)
        at.reverse()
        return at.pop(self.axis), tuple(at)

    def channels(self, units: Iterable[int]) -> tuple[int, ...]:
        """The channels of which these have just the units that they are made of.

        Where one place is shown, a channel of which other places are among these is none of them.
        """
        held: list[set[int]] = [set() for _ in range(self.count)]
        for unit in units:
            held[unit // self._inner % self.count].add(unit)
        return tuple(one for one, has in enumerate(held) if has == {*self.units([one])})

    def moved(self, units: Iterable[int], before: Fold | None) -> tuple[int, ...]:
        """What is chosen here where these units were, when the state was shown in another way.

        A channel stays the same channel. What is no channel, of either way, is chosen no longer.

        Args:
            units: the units that were chosen.
            before: how the state was folded; None where every unit was shown.

        >>> mean, place = Fold.of((2, 2, 3), "mean"), Fold.of((2, 2, 3), (1, 0))
        >>> place.moved(range(6, 12), mean), mean.moved((9,), place), mean.moved((9,), None)
        ((9,), (6, 7, 8, 9, 10, 11), ())
        """
        chosen = tuple(units)
        whole = Fold(self.shape, "mean", self.channel)
        for fold in (self, before or whole):
            channels = fold.channels(chosen)
            if {*fold.units(channels)} == {*chosen}:
                return self.units(channels)
        return ()

    @property
    def _inner(self) -> int:
        """How many units stand between one channel and the next."""
        return prod(self.shape[self.axis + 1 :])

    def _unit(self, channel: int, place: int) -> int:
        """The unit of a channel at a place, counted along the axes of space."""
        outer, inner = divmod(place, self._inner)
        return (outer * self.count + channel) * self._inner + inner

    @property
    def _number(self) -> int:
        """The place, counted as the units are."""
        number, place = 0, () if isinstance(self.how, str) else self.how
        for at, size in zip(place, self.sizes, strict=True):
            number = number * size + at
        return number
