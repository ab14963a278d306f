"""Which of the ends of a search are one point.

Two ends that are near are one. At a bifurcation nearness is not enough: n(h) - h vanishes there
like a power of the distance, and ends stay as far from the point, and from each other, as rounding
lets them. They are one point where no barrier lies between them (on the way from one to the other
n(h) - h never rises above what it is at the ends, or above rounding) and it does rise beyond them,
as a power of the distance. Where it does not rise, or all at once, every state is a fixed point of
its own: a line attractor stays as many points as were found of it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from grulens.cells.dynamics.stationary import Standstill

REACH = 0.05
"""Ends further apart than this are not one point: a zero of order 5 spreads over 0.005."""
ON_THE_WAY = 7
"""Places between two ends at which a barrier is looked for."""
RISEN = 1e3
"""n(h) - h has left rounding where it is so many times as large."""
HIGHEST = 10
"""Twice as far away, a zero of this order has 2 ** HIGHEST times the size."""
RISES = 3
"""So often it must rise like that, each time twice as far away."""
DISTANCES = 2**20
"""Distances that are held at a time."""
ROWS = 256
"""Points that are looked at together, at most."""


def points(
    still: Standstill,
    ends: Float[Tensor, "end unit"],
    speed: Float[Tensor, " end"],
    unique: float,
    memory: int,
) -> tuple[Float[Tensor, "point unit"], Int[Tensor, " point"]]:
    """The points that ends stand for, and how many ends each has.

    Args:
        still: the map whose zeros they are.
        ends: where a search ended.
        speed: how fast each still moves: the slowest stands for its point.
        unique: ends nearer than this are one point.
        memory: bytes that may be held.
    """
    chunk = still.fitting(memory)
    chosen, of = distinct(ends, speed, unique)
    states, count = ends[chosen], torch.bincount(of, minlength=len(chosen))
    # what is as good as it gets, and has no other near, need not be looked at
    rough = _each(lambda h: still.off(h).norm(dim=1) > still.rounding(h), chunk, states)
    loose = (rough | _near(states, REACH)).nonzero()[:, 0]
    loose = loose[_each(still.blur, chunk, states[loose]) > unique / 100]
    if not len(loose):
        return states, count
    states[loose] = _each(still.polished, chunk, states[loose])
    worth = _each(lambda h: still.off(h).norm(dim=1), chunk, states)
    chosen, of = distinct(states, worth, unique)
    count = torch.zeros_like(chosen).index_add(0, of, count)
    place = torch.full_like(of, -1)
    place[chosen] = torch.arange(len(chosen), device=of.device)
    loose = place[loose]
    into = _same(still, states[chosen], loose[loose >= 0].sort().values, chunk)
    stays = into == torch.arange(len(into), device=into.device)
    return states[chosen][stays], torch.zeros_like(count).index_add(0, into, count)[stays]


def distinct(
    points: Float[Tensor, "point unit"], worth: Float[Tensor, " point"], unique: float
) -> tuple[Int[Tensor, " chosen"], Int[Tensor, " point"]]:
    """The best of each cluster of points, and of which cluster each point is.

    Args:
        points: the points.
        worth: the less, the better (point,).
        unique: points nearer than this to a better one belong to it.

    >>> places = torch.tensor([[0.0], [1.0], [1.1]]).double()
    >>> distinct(places, torch.tensor([0.0, 2.0, 1.0]), 0.2)
    (tensor([0, 2]), tensor([0, 1, 1]))
    """
    order = worth.argsort(stable=True)
    of, chosen = torch.empty_like(order), torch.empty_like(order)
    found = begin = 0
    while begin < len(order):
        some = order[begin : begin + max(1, min(ROWS, DISTANCES // max(1, found)))]
        begin += len(some)
        here = points[some]
        away, nearest = here.new_full((len(some),), torch.inf), torch.zeros_like(some)
        if found:
            away, nearest = _distances(here, points[chosen[:found]]).min(1)
        own = _distances(here, here)
        # who has somebody before it in this part must hear first whether that one was chosen
        waits = (own <= unique).tril(-1).any(1)
        new: list[int] = []
        for place in (away > unique).nonzero()[:, 0].tolist():
            if bool(waits[place]) and new:
                closest = int(own[place, new].argmin())
                if float(own[place, new[closest]]) <= unique:
                    nearest[place] = found + closest
                    continue
            nearest[place] = found + len(new)
            new.append(place)
        chosen[found : found + len(new)] = some[new]
        found += len(new)
        of[some] = nearest
    return chosen[:found], of


def _same(still: Standstill, states: Tensor, loose: Tensor, chunk: int) -> Int[Tensor, " state"]:
    """Into which state each goes, by number; the states are in order, the best first.

    Args:
        still: the map whose zeros they are.
        states: (state, unit).
        loose: those that may be another's zero (some,), rising.
        chunk: how many states go at once.
    """
    into = torch.arange(len(states), device=states.device)
    loose = loose[_near(states[loose], REACH)]
    if not len(loose):
        return into
    away, nearest = _before(states[loose])
    later = away <= REACH
    better, worse = loose[nearest[later]], loose[later]
    one = _each(lambda a, b: _together(still, a, b), chunk, states[better], states[worse])
    for first, second in zip(better[one].tolist(), worse[one].tolist(), strict=True):
        into[second] = into[first]
    return into


def _together(still: Standstill, one: Tensor, other: Tensor) -> Bool[Tensor, " pair"]:
    """Whether two states (pair, unit) are one zero of n(h) - h, as far as can be seen."""
    way = other - one
    far = way.norm(dim=1, keepdim=True)
    way = way / far
    level = torch.stack(
        [f(h) for h in (one, other) for f in (still.rounding, lambda h: still.off(h).norm(dim=1))]
    ).amax(0)
    found = torch.ones(len(one), dtype=torch.bool, device=one.device)
    for place in torch.linspace(0, 1, ON_THE_WAY + 2)[1:-1].tolist():
        between = still.off(still.beside(one + place * far * way, way))
        found &= between.norm(dim=1) <= 2 * level
    for end, sign in ((one, -1.0), (other, 1.0)):
        some = found.nonzero()[:, 0]
        if len(some):
            found[some] = _rises(still, end[some], sign * way[some], far[some], level[some])
    return found


def _rises(
    still: Standstill, h: Tensor, way: Tensor, far: Tensor, level: Tensor
) -> Bool[Tensor, " pair"]:
    """Whether n(h) - h grows beyond a level like a power of the distance, on a way from h."""
    found = torch.zeros(len(h), dtype=torch.bool, device=h.device)
    seen = torch.zeros(len(h), dtype=torch.long, device=h.device)
    going, last = torch.arange(len(h), device=h.device), torch.zeros_like(level)
    while len(going):
        there = still.beside(h[going] + far[going] * way[going], way[going])
        size = still.off(there).norm(dim=1)
        edge = RISEN * torch.maximum(level[going], still.rounding(there))
        before = torch.where(seen[going] > 0, last[going], edge)
        least = torch.where(seen[going] > 0, 2 * before, edge)
        rose = (size > least) & (size <= 2.0**HIGHEST * before)
        ends = ~rose & ((size > least) | (seen[going] > 0)) | (far[going, 0] > 1)
        seen[going] += rose.long()
        last[going] = size
        found[going] = seen[going] == RISES
        far = 2 * far
        going = going[~ends & ~found[going]]
    return found


def _near(points: Tensor, reach: float) -> Bool[Tensor, " point"]:
    """Which points have another one within a distance."""
    found = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    rows = max(1, DISTANCES // max(1, len(points)))
    for begin in range(0, len(points), rows):
        some = points[begin : begin + rows]
        found[begin : begin + rows] = (torch.cdist(some, points) <= reach).sum(1) > 1
    return found


def _before(points: Tensor) -> tuple[Tensor, Tensor]:
    """The distance of each point to the nearest of those before it, and which that is."""
    away = points.new_full((len(points),), torch.inf)
    nearest = torch.zeros(len(points), dtype=torch.long, device=points.device)
    rows = max(1, DISTANCES // max(1, len(points)))
    for begin in range(0, len(points), rows):
        some = points[begin : begin + rows]
        apart = _distances(some, points[: begin + len(some)])
        apart.masked_fill_(torch.ones_like(apart, dtype=torch.bool).triu(begin), torch.inf)
        away[begin : begin + rows], nearest[begin : begin + rows] = apart.min(1)
    return away, nearest


def _distances(one: Tensor, other: Tensor) -> Tensor:
    """Exact ones: by products they would be wrong by the root of rounding."""
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")


def _each(of: Callable[..., Tensor], chunk: int, *states: Tensor) -> Tensor:
    """What a function says of states (state, unit), some at a time."""
    found: Tensor | None = None
    for begin in range(0, len(states[0]), chunk):
        part = of(*(some[begin : begin + chunk] for some in states))
        if found is None:  # in place: between many small results large memory would lie idle
            found = part.new_empty(len(states[0]), *part.shape[1:])
        found[begin : begin + chunk] = part
    return of(*states) if found is None else found
