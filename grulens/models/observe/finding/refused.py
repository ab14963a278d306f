"""What is said of a state that is not opened: the reason, the nearest equation, and the way out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._C._functorch import is_batchedtensor

from grulens.models.observe.finding.algebra import RANGES, adds_up, bends, same_numbers
from grulens.models.observe.finding.carried import ancestors, lags, parents
from grulens.models.observe.finding.two_ways import older
from grulens.models.observe.sites import Site
from grulens.models.observe.trace import Node, Value

ONE_BATCH = "Tensors cannot be looked at there: give it one batch with all rows instead"
"""What can be done about a state that is made inside torch.vmap."""
SHOWN = 3
"""How many states of a model are spoken of, at most."""
NUMBERS = 256
"""How many numbers of a state are compared with the nearest equation, at most."""
GATES, VALUES = 24, 48
"""How many values of a step may be a gate or a candidate of the nearest equation, at most."""
ROUNDING = 1e-5
"""An equation that is off by less holds."""

_MIXING = {
    "linear", "matmul", "rmatmul", "mm", "bmm", "addmm", "addbmm", "baddbmm", "mv", "bilinear",
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "einsum", "tensordot", "scaled_dot_product_attention",
}  # fmt: skip
"""Functions that add up several units."""
_MOVING = {
    "getitem", "setitem", "index_select", "index_put", "index_copy", "index_add", "gather",
    "masked_select", "masked_scatter", "scatter", "take", "take_along_dim", "flip", "roll", "sort",
    "cat", "stack", "pad", "transpose", "permute", "t", "T", "mT",
}  # fmt: skip
"""Functions that put rows or units elsewhere."""
_CUTTING = {"chunk", "split", "tensor_split", "split_with_sizes", "unbind"}
"""Functions that cut a value into parts."""


_SHUTTING = {name for name, bounds in RANGES.items() if bounds == (0.0, 1.0)}
"""Functions whose values lie between 0 and 1."""


@dataclass(frozen=True)
class Nearest:
    """The gated equation that comes nearest to what a state does.

    Attributes:
        equation: "h = z h_prev + (1 - z) n".
        where: which values of the code stand in it.
        off: how far off it is at each step that was looked at, the first one being the second of
            its run.
    """

    equation: str
    where: str
    off: tuple[float, ...]

    def __str__(self) -> str:
        most = max(self.off)
        if most <= ROUNDING:
            steps = f"all {len(self.off)} steps" if len(self.off) > 1 else "the one step"
            held = f"holds to {most:.1e} at {steps} compared"
            return f"{self.equation} ({self.where}) {held}; it is not opened for the reason above"
        return f"nearest: {self.equation} ({self.where}), {by_step(self.off)}"


def by_step(off: Sequence[float], first: int = 1) -> str:
    """How far an equation is off, step by step.

    >>> by_step([0.0, 0.25], first=0)
    'off by 0 at step 0, 0.25 at step 1'
    """
    listed = ", ".join(f"{size:.2g} at step {first + n}" for n, size in enumerate(off[:6]))
    most = max(range(len(off)), key=lambda n: off[n])
    rest = f", and by {off[most]:.2g} at most, at step {first + most}" if len(off) > 6 else ""
    return f"off by {listed}{rest}"


@dataclass(frozen=True)
class NotFound:
    """A state that is carried from step to step, and that no gated form explains.

    Attributes:
        site: where it is made.
        why: the reason, in words.
        nearest: the gated equation that comes nearest; None if there is nothing to compare.
        kind: the class of the module in whose forward it is made.
        advice: what can be done; empty if only what can be done of any.
        beside: whether the run shows others that are opened; this one is listed then, and of later
            runs only longer ones are looked into for it.
    """

    site: Site
    why: str
    nearest: Nearest | None = None
    kind: str = ""
    advice: str = ""
    beside: bool = False

    @property
    def name(self) -> str:
        """The path of the module in whose forward it is made."""
        return ".".join(part for part in self.site.path.split(".") if part != "_orig_mod")

    @property
    def reason(self) -> str:
        """Where the state is made, and why it is not opened."""
        text = f" (`{self.site.text}`)" if self.site.text else ""
        return f"the state of {self.site}{text}{self._of}: {self.why}"

    @property
    def _of(self) -> str:
        inside = f", in {self.name!r}" if self.name else ""
        if not self.kind:
            return inside
        return f"{inside} ({self.kind})" if inside else f", in {self.kind}"

    def __str__(self) -> str:
        return "\n    ".join(map(str, filter(None, (self.reason, self.nearest, self.advice))))


def said(refused: Sequence[NotFound]) -> str:
    """Some states that are not opened, in words, and what can be done."""
    lines = [str(one) for one in refused[:SHOWN]]
    if (more := len(refused) - SHOWN) > 0:
        lines.append(f"and {more} more")
    return "\n".join([*lines, WAYS])


WAYS = (
    "A class that computes what a known cell computes can be opened by its weights: "
    "grulens.adapters.register. Where another method or part of the model is the recurrent one, "
    'record that: call="its name"'
)


class Remade:
    """States that steps make of the ones before, but not number by number.

    Args:
        series: the calls of a run by site.
        known: the sites that carry a state number by number.
    """

    def __init__(self, series: Mapping[Site, list[Node]], known: Iterable[Site]) -> None:
        self.series = series
        self.numbers = {site: 1 << number for number, site in enumerate(series)}
        self.known = sum(self.numbers[site] for site in known)
        nodes = sorted((n for nodes in series.values() for n in nodes), key=lambda n: n.number)
        self.reach: dict[int, int] = {}
        for node in nodes:
            made = 0
            for value in node.values:
                if (by := value.node) is not None and id(by) in self.reach:
                    made |= self.reach[id(by)] | self.numbers[by.site]
            self.reach[id(node)] = made

    def found(self, weighed: bool) -> Iterator[NotFound]:
        """Each of them, with the reason why it is no gated cell.

        Args:
            weighed: whether only what weights add up on the way is asked for. What else comes back
                may be a list of outputs, or a sum.
        """
        loops = [site for site in self.series if self._reaches(site, self.numbers[site])]
        taken = 0
        for site in sorted(loops, key=lambda one: -self.series[one][0].number):
            mask = self.numbers[site]
            together = [
                one
                for one in loops
                if self._reaches(site, self.numbers[one]) and self._reaches(one, mask)
            ]
            cycle = sum(self.numbers[one] for one in together)
            if cycle & (taken | self.known) or not self._is_state(site):
                continue
            if weighed and not any(self.series[one][-1].function in _MIXING for one in together):
                continue
            taken |= cycle
            if (why := self._why(site)) is not None:
                yield NotFound(site, why[0], advice=why[1])

    def _reaches(self, site: Site, mask: int) -> bool:
        return bool(self.reach[id(self.series[site][-1])] & mask)

    def _is_state(self, site: Site) -> bool:
        nodes = self.series[site][-2:]
        values = [node.results[0] for node in nodes if len(node.results) == 1]
        if len(values) < 2 or any(one.node not in nodes for one in values):
            return False
        one, other = (value.tensor for value in values)
        numbers = other.is_floating_point() or other.is_complex()
        return numbers and other.dim() > 0 and one.shape[1:] == other.shape[1:]

    def _why(self, site: Site) -> tuple[str, str] | None:
        """Why it is not opened, and what can be done; None if it goes through layers."""
        before, node = self.series[site][-2:]
        earlier = self._reads(before, self.series[site][0])
        if not self._reads(node, before) <= earlier and len(self.series[site]) > 2:
            return None
        if len({*(ages := lags(self.series[site])).values()}) > 1:
            return older(ages)
        tensor = node.results[0].tensor
        if tensor.is_complex():
            return (
                f"it is complex ({str(tensor.dtype).removeprefix('torch.')}), and the signals of a "
                "layer are real numbers",
                "Carry its real and its imaginary part as two real tensors",
            )
        through = [one for one in self._through(before, node) if one.function != "dropout"]
        places = ", ".join(
            dict.fromkeys(f"{one.function} (line {one.site.line})" for one in through)
        )
        functions = {one.function for one in through}
        if side_by_side := self._beside(through):
            return (
                f"the state before comes into it through {places}, where it is laid beside other "
                f"values (line {side_by_side.site.line}, `{side_by_side.site.text}`) and added up "
                "with them by weights, which is not taken apart",
                "Write the mix as products and sums: w[0] * h + w[1] * n",
            )
        if functions and functions <= _MIXING - {"einsum"}:
            alone = (
                f"the state before comes into it through {places} alone, where units are added up: "
                "no unit keeps a share of its own, as in h = a h_prev + b with a = 0"
            )
            if gates := self._gates(before, node):
                lines = ", ".join(dict.fromkeys(str(one.site.line) for one in gates))
                return f"{alone}. Its gates (line {lines}) open and shut new values only", ""
            return (
                f"{alone}. A plain recurrent network is such a cell, and has no gates",
                "If it computes what nn.RNN computes, say so: grulens.adapters.register with a "
                "StepAdapter or SequenceAdapter that makes kinds.RNN of its weights",
            )
        if "einsum" in functions:
            return (
                f"the state before comes into it through {places}, and no product of numbers one "
                "by one is read out of that",
                "Write the mix as a product: z * h + (1 - z) * n",
            )
        if functions & _MOVING:
            last = [one for one in through if one.function in _MOVING][-1]
            what = _EITHER
            if not last.in_place:  # what is written over is no longer what it was
                made, given = last.results[0], same_numbers(last.values[0])
                source = given if given.shape.numel() >= made.shape.numel() else before.results[0]
                what = _moved(made.tensor, source.tensor)
            advice = "Keep the rows where they are, with a mask: h = torch.where(mask, new, h)"
            return (
                f"the state before comes into it through {places}, where {what} change places or "
                "are cut out, so that no unit's own state is followed from step to step",
                advice * (what != _UNITS),
            )
        product = ", and a division by a tensor as a product: h * (1 / s) for h / s"
        return (
            f"the state before comes into it through {places or 'no call that was seen'}, which "
            "is not taken apart",
            "Write the mix as products and sums: z * h + (1 - z) * n"
            + product * ("div" in functions),
        )

    def _beside(self, through: Sequence[Node]) -> Node | None:
        """The call that lays the state beside other values on an axis of its own, for a product."""
        for node in through:
            for value in node.values if node.function in _MIXING else ():
                by = same_numbers(value).node
                if by is not None and by.function == "stack":
                    return by
        return None

    def _gates(self, before: Node, node: Node) -> list[Node]:
        """The calls of a step that make one number between 0 and 1 for each of its state's."""
        shape = node.results[0].shape
        made = (
            one
            for nodes in self.series.values()
            for one in nodes
            if before.number < one.number <= node.number and one is not node
        )
        found = [one for one in made if one.function in _SHUTTING and one.results[0].shape == shape]
        return sorted(found, key=lambda one: one.number)

    def _reads(self, node: Node, before: Node) -> set[int]:
        """The parameters that a step reads."""
        return {
            id(value.tensor)
            for one in ancestors(node.results[0], before.number + 1)
            for value in one.values
            if value.node is None and isinstance(value.tensor, nn.Parameter)
        }

    def _through(self, before: Node, node: Node) -> list[Node]:
        """The calls by which a state is made of the one before, and not number by number."""
        moved = {id(before)}
        every = (n for nodes in self.series.values() for n in nodes)
        for one in sorted(every, key=lambda n: n.number):
            inside = before.number < one.number <= node.number
            if inside and any(id(value.node) in moved for value in one.values):
                moved.add(id(one))
        found, seen = dict[int, Node](), {id(node)}
        stack: list[tuple[Node, Node | None]] = [(node, None)]
        while stack:
            one, cut = stack.pop()
            inner = parents(one)
            if _cuts(one):
                # what it is cut out of says more, unless that is the state before
                inner, cut = one.values[:1], cut or one
            elif not (bends(one) or adds_up(one)):
                found[id(one)] = one
                continue
            for value in inner:
                by = same_numbers(value).node
                if by is before and cut is not None:
                    found[id(cut)] = cut
                if by is not None and by is not before and id(by) in moved - seen:
                    seen.add(id(by))
                    stack.append((by, cut))
        return sorted(found.values(), key=lambda one: one.number)


_UNITS, _EITHER = "units of a row", "rows or units"


def _moved(made: Tensor, before: Tensor) -> str:
    """What stands elsewhere in what was made of a state: rows, units, or either.

    >>> h = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> _moved(h.roll(1, 1), h), _moved(h.roll(1, 0), h), _moved(h[:1], h), _moved(h[:, :1], h)
    ('units of a row', 'rows', 'rows', 'units of a row')
    """
    if made.dim() < 2 or before.dim() != 2:
        return _EITHER  # along which axis its rows lie is not known
    if len(made) == len(before) and made.shape != before.shape:
        return _UNITS
    if made.shape[1:] != before.shape[1:] or torch.equal(made, before):
        return _EITHER
    if len(made) != len(before):
        return "rows"
    rows = [one.detach().abs().flatten(1).sort(1).values for one in (made, before)]
    if torch.equal(*rows):
        return _UNITS
    # of rows that change places each is one of those that there were
    alike = (made[:, None] == before[None]).flatten(2).all(2).any(1)
    return "rows" if bool(alike.all()) else _EITHER


def _cuts(node: Node) -> bool:
    """Whether a call cuts a part out of a value, and leaves what is in it in order."""
    if node.function != "getitem":
        return node.function in _CUTTING
    index = node.argument(1, "index")
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is ... or isinstance(part, int | slice) for part in parts)


def from_elsewhere(series: Mapping[Site, list[Node]]) -> Iterator[NotFound]:
    """Sites that read at every step another tensor, which no call made that was seen."""
    batched = [site for site, nodes in series.items() if any(map(_is_batched, nodes[-1].values))]
    if batched:
        yield NotFound(batched[-1], "it is made inside torch.vmap", advice=ONE_BATCH)
        return
    away = [site for site, nodes in series.items() if _leaves(nodes)]
    # of several places that at which the state does so: no call that was seen has made it
    away.sort(key=lambda site: not any(map(_is_fresh, map(same_numbers, series[site][-1].values))))
    if away:
        yield NotFound(
            away[0],
            "its numbers are taken out of torch here, and what is made of them elsewhere, as by "
            "numpy, is seen by nobody",
            advice="Mix the state with torch's own functions: z * h + (1 - z) * n",
        )
        return
    for site, nodes in series.items():
        if len(nodes) < 3 or site.function.startswith("__get"):
            continue
        for place in range(len(nodes[-1].args)):
            given = [node.args[place] for node in nodes if len(node.args) > place]
            fresh = {id(value.tensor) for value in given if _is_fresh(value)}
            if len(fresh) >= len(nodes) - 1 and len({value.shape for value in given}) == 1:
                yield NotFound(
                    site,
                    f"argument {place + 1} is another tensor at every step, and none of torch's "
                    "functions that Python called made it. If that is the state, it is made where "
                    "nobody looks: in scripted or compiled code, in numpy, in an extension",
                    advice="Let its step run as it is written in Python (of a scripted function "
                    "the function that was scripted), in torch's own functions",
                )
                return


def _leaves(nodes: Sequence[Node]) -> bool:
    """Whether the calls of a site hand a step's numbers of several axes to another library."""
    last = nodes[-1]
    out = last.function in ("numpy", "array", "tolist") and len(nodes) > 2
    return out and any(one.tensor.dim() and one.tensor.is_floating_point() for one in last.values)


def _is_batched(value: Value) -> bool:
    return is_batchedtensor(value.tensor)


def _is_fresh(value: object) -> bool:
    if not isinstance(value, Value) or value.node is not None:
        return False
    tensor = value.tensor
    return tensor.is_floating_point() and tensor.dim() > 0 and not isinstance(tensor, nn.Parameter)


def nearest(series: Mapping[Site, list[Node]], site: Site, lag: int = 1) -> Nearest | None:
    """The gated equation that comes nearest to a state, of all that a step's values could make.

    Args:
        series: the calls of a run by site.
        site: where the state is made.
        lag: how many states the same lines carry in turn.
    """
    nodes = series[site]
    shape = nodes[-1].results[0].shape
    pairs = [
        (nodes[i - 1], nodes[i - lag], nodes[i])
        for i in range(lag, len(nodes))
        if nodes[i].results[0].shape == nodes[i - lag].results[0].shape == shape
    ]
    if not pairs or nodes[-1].results[0].tensor.is_complex():
        return None
    steps = [_made(series, old, node) for _, old, node in pairs]
    after = torch.stack([_few(node.results[0].tensor, shape) for _, _, node in pairs])
    before = torch.stack([_few(old.results[0].tensor, shape) for _, old, _ in pairs])
    every: dict[tuple[Site, int, int], Tensor] = {}
    for key in steps[-1]:
        if all(key in step and _broad(step[key], shape) is not None for step in steps):
            made = torch.stack([_few(step[key], shape) for step in steps])
            if not torch.allclose(made, after) and not torch.allclose(made, before):
                every[key] = made
    gates = {k: v for k, v in every.items() if v.min() >= 0 and v.max() <= 1}
    values = dict(list(every.items())[-VALUES:])
    best: tuple[float, Nearest] | None = None
    for equation, mix in _FORMS:
        for gate_key, z in list(gates.items())[-GATES:]:
            for key, n in values.items():
                off = (mix(z, before, n) - after).abs().amax(1)
                most = float(off.max())
                # of those that hold the first one: its two shares sum to 1
                worse = best is not None and (best[0] <= ROUNDING or most > 0.9 * best[0])
                if key != gate_key and not worse:
                    where = f"z: {gate_key[0]}; n: {key[0]}"
                    best = most, Nearest(f"h = {equation}", where, tuple(off.tolist()))
    return None if best is None else best[1]


_FORMS: tuple[tuple[str, Callable[[Tensor, Tensor, Tensor], Tensor]], ...] = (
    ("z h_prev + (1 - z) n", lambda z, h, n: z * h + (1 - z) * n),
    ("(1 - z) h_prev + z n", lambda z, h, n: (1 - z) * h + z * n),
    ("z h_prev + n", lambda z, h, n: z * h + n),
)


def _made(
    series: Mapping[Site, list[Node]], before: Node, node: Node
) -> dict[tuple[Site, int, int], Tensor]:
    """What a step makes by its site, which time it is there, and its part of the result.

    What is made of the state before number by number is a part of a mix, and no value in one.
    """
    found = {}
    carries = {id(before)}
    nodes = sorted((n for nodes in series.values() for n in nodes), key=lambda one: one.number)
    times = Counter[Site]()
    for one in nodes:
        if not before.number < one.number <= node.number:
            continue
        time, times[one.site] = times[one.site], times[one.site] + 1
        if any(id(same_numbers(value).node) in carries for value in parents(one)):
            carries.add(id(one))
            continue
        for part, value in enumerate(one.results):
            kind = value.tensor.dtype
            is_view = same_numbers(value).node in (before, None)
            if (kind.is_floating_point or kind is torch.bool) and not is_view:
                found[one.site, time, part] = value.tensor
    return found


def _broad(value: Tensor, shape: torch.Size) -> Tensor | None:
    """A value in the shape of a state, if it is one number for each of its, or for some."""
    if value.numel() == shape.numel():
        return value.reshape(shape)
    if value.shape == shape[: value.dim()]:
        value = value.reshape(*value.shape, *(1 for _ in shape[value.dim() :]))
    try:
        return value.expand(shape)
    except RuntimeError:
        return None


def _few(value: Tensor, shape: torch.Size) -> Tensor:
    whole = _broad(value.detach(), shape)
    flat = (value if whole is None else whole).double().flatten()
    return flat[:: max(1, flat.numel() // NUMBERS)]
