"""How a step mixes the state before it with something new, as a sum of products.

A gated cell ends in a mix: h = z h_prev + (1 - z) n, or with a decay, a mask, two gates. Multiplied
out, every such step is h = a h_prev + b, where a and b are sums of products of what the cell made
in that step. Here these sums are held and taken apart again, as symbols and as tensors.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Product = tuple[str, ...]
"""Symbols that are multiplied, sorted; one that stands twice is squared."""


@dataclass(frozen=True)
class Polynomial:
    """A sum of products of symbols, each with a number before it.

    >>> z, n = Polynomial.of("z"), Polynomial.of("n")
    >>> (1 - z) * n
    Polynomial(n - n z)
    >>> ((1 - z) * n).divided(1 - z)
    Polynomial(n)
    """

    terms: Mapping[Product, float]

    @staticmethod
    def of(symbol: str) -> Polynomial:
        """One symbol."""
        return Polynomial({(symbol,): 1.0})

    @staticmethod
    def number(value: int | float) -> Polynomial:
        """A number."""
        return Polynomial({(): float(value)} if value else {})

    def __add__(self, other: Polynomial | int | float) -> Polynomial:
        return self._plus(_lifted(other), 1.0)

    __radd__ = __add__

    def __mul__(self, other: Polynomial | int | float) -> Polynomial:
        terms = dict[Product, float]()
        for product, factor in _lifted(other).terms.items():
            for mine, f in self.terms.items():
                both = tuple(sorted(mine + product)) if mine and product else mine or product
                terms[both] = terms.get(both, 0.0) + f * factor
        return Polynomial({p: f for p, f in terms.items() if abs(f) > 1e-12})

    __rmul__ = __mul__

    def __neg__(self) -> Polynomial:
        return Polynomial({product: -factor for product, factor in self.terms.items()})

    def __sub__(self, other: Polynomial | int | float) -> Polynomial:
        return self._plus(_lifted(other), -1.0)

    def __rsub__(self, other: Polynomial | int | float) -> Polynomial:
        return _lifted(other)._plus(self, -1.0)

    def _plus(self, other: Polynomial, times: float) -> Polynomial:
        terms = dict(self.terms)
        for product, factor in other.terms.items():
            terms[product] = terms.get(product, 0.0) + times * factor
        return Polynomial({p: f for p, f in terms.items() if abs(f) > 1e-12})

    def __bool__(self) -> bool:
        return bool(self.terms)

    def equals(self, other: Polynomial) -> bool:
        """Whether both are the same sum, to the rounding of the numbers in them."""
        return not self - other

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols in it, in the order in which they come."""
        return tuple(dict.fromkeys(symbol for product in self.terms for symbol in product))

    def split(self, symbol: str) -> tuple[Polynomial, Polynomial] | None:
        """What is multiplied by a symbol, and the rest; None if its square is in it.

        >>> z, h = Polynomial.of("z"), Polynomial.of("h")
        >>> (z * h + 1 - z).split("h")
        (Polynomial(z), Polynomial(1 - z))
        """
        by, rest = dict[Product, float](), dict[Product, float]()
        for product, factor in self.terms.items():
            count = product.count(symbol)
            if count > 1:
                return None
            left = tuple(part for part in product if part != symbol)
            (by if count else rest)[left] = factor
        return Polynomial(by), Polynomial(rest)

    def at(self, symbol: str, value: int | float) -> Polynomial:
        """The sum with a number in place of a symbol.

        >>> z, n = Polynomial.of("z"), Polynomial.of("n")
        >>> (z + (1 - z) * n).at("z", 1)
        Polynomial(1)
        """
        made = Polynomial({})
        for product, factor in self.terms.items():
            left = tuple(part for part in product if part != symbol)
            made = made + Polynomial({left: factor * value ** (len(product) - len(left))})
        return made

    def divided(self, other: Polynomial) -> Polynomial | None:
        """The sum that gives this one when it is multiplied by `other`; None if there is none."""
        if not other:
            return None
        left, found = self, Polynomial({})
        lead, by = max(other.terms.items(), key=_rank)
        for _ in range(len(self.terms) * 4):
            if not left:
                return found
            product, factor = max(left.terms.items(), key=_rank)
            rest = list(product)
            for symbol in lead:
                if symbol not in rest:
                    return None
                rest.remove(symbol)
            part = Polynomial({tuple(rest): factor / by})
            found, left = found + part, left - part * other
        return None

    def value(self, values: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """Its value where each symbol is a tensor that broadcasts with `like`.

        Returns:
            A tensor of the dtype of `like` and of its shape.
        """
        total: Tensor | float = self.terms.get((), 0.0)
        for product, factor in self.terms.items():
            part: Tensor | None = None
            for symbol in product:
                one = values[symbol].to(like.dtype)
                part = one if part is None else part * one
            if part is None:
                continue
            if isinstance(total, Tensor):
                total = torch.add(total, part, alpha=factor)
            elif total == 0:
                total = part if factor == 1 else part * factor
            else:
                total = total - part if factor == -1 else part * factor + total
        if not isinstance(total, Tensor):
            return like.new_full((), total).expand(like.shape)
        return total if total.shape == like.shape else total.expand(like.shape)

    @property
    def absolute(self) -> Polynomial:
        """The same sum with all numbers positive."""
        return Polynomial({product: abs(factor) for product, factor in self.terms.items()})

    def named(self, names: Mapping[str, str] | Callable[[str], str]) -> Polynomial:
        """The same sum with other names for its symbols."""
        name = names if callable(names) else lambda symbol: names.get(symbol, symbol)
        return Polynomial({
            tuple(sorted(map(name, product))): factor for product, factor in self.terms.items()
        })  # fmt: skip

    def text(self, order: Sequence[str] = ()) -> str:
        """The sum as it is written.

        Args:
            order: the order of the symbols in a product; the others stand before them.

        >>> (Polynomial.of("g") * Polynomial.of("i") * 2).text(("i", "g"))
        '2 i g'
        """
        place = {symbol: number for number, symbol in enumerate(order)}
        parts: list[str] = []
        for product, factor in sorted(self.terms.items(), key=_reading):
            size = abs(factor)
            number = [] if size == 1 and product else [f"{size:g}"]
            symbols = sorted(product, key=lambda symbol: place.get(symbol, -1))
            text = " ".join([*number, *symbols])
            sign = "-" if factor < 0 else "+"
            parts.append(f"{sign} {text}" if parts else f"{'-' if factor < 0 else ''}{text}")
        return " ".join(parts) or "0"

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"Polynomial({self})"


@dataclass(frozen=True)
class GatedForm:
    """A step as h = a h_prev + b, and what a and b are made of.

    Attributes:
        keep: a, the share of the state before that is kept.
        write: b, what is added.
        gate: the share that is kept of the decayed state, where the step is a mix whose two shares
            sum to 1; None if it is no such mix.
        candidate: what that mix takes the other share of.
        decay: what the state is multiplied by before the mix.
        outside: what the whole mix is multiplied by.
    """

    keep: Polynomial
    write: Polynomial
    gate: Polynomial | None = None
    candidate: Polynomial | None = None
    decay: Polynomial = Polynomial({(): 1.0})
    outside: Polynomial = Polynomial({(): 1.0})

    def value(self, values: Mapping[str, Tensor], before: Tensor) -> Tensor:
        """The state after a step: a h_prev + b.

        Args:
            values: what the symbols stand for; each broadcasts with `before`.
            before: the state before the step.
        """
        if self.gate is None or self.candidate is None:
            write = self.write.value(values, before)
            return torch.addcmul(write, self.keep.value(values, before), before)
        candidate = self.candidate.value(values, before)
        if not _is_one(self.decay):
            before = self.decay.value(values, before) * before
        if (let_in := self._let_in) is None:
            mix = torch.lerp(candidate, before, self.gate.value(values, before))
        else:
            mix = torch.lerp(before, candidate, let_in.value(values, before))
        return mix if _is_one(self.outside) else self.outside.value(values, mix) * mix

    @functools.cached_property
    def _let_in(self) -> Polynomial | None:
        """The share of the candidate, where it is simpler than the gate: z of 1 - z."""
        share = None if self.gate is None else 1 - self.gate
        simpler = share and self.gate and len(share.terms) < len(self.gate.terms)
        return share if simpler else None

    @functools.cached_property
    def symbols(self) -> tuple[str, ...]:
        """All symbols in it."""
        return tuple(dict.fromkeys((*self.keep.symbols, *self.write.symbols)))

    @property
    def is_convex(self) -> bool:
        """Whether the shares of the state and of the candidate sum to 1."""
        return self.gate is not None

    @staticmethod
    def of(step: Polynomial, state: str) -> GatedForm | None:
        """The gated form of a step; None if the step is not affine in the state.

        Args:
            step: the state after the step.
            state: the symbol of the state before it.

        >>> z, n, h, d = map(Polynomial.of, "znhd")
        >>> form = GatedForm.of((1 - z) * d * h + z * n, "h")
        >>> form.gate, form.candidate, form.decay
        (Polynomial(1 - z), Polynomial(n), Polynomial(d))
        >>> GatedForm.of((1 - 0.1) * h + 0.1 * n, "h").said()
        '0.9 h_prev + 0.1 n'
        >>> GatedForm.of((1 - 0.1) * h + 0.1 * n, "h").is_convex
        True
        """
        parts = step.split(state)
        if parts is None or not parts[0]:
            return None
        keep, write = parts
        for outside in (Polynomial.number(1), *_common(step)):
            inner, new = keep.divided(outside), write.divided(outside)
            if inner is None or new is None:
                continue
            for gate, candidate, decay in _convex(inner, new):
                return GatedForm(keep, write, gate, candidate, decay, outside)
        return GatedForm(keep, write)

    def named(self, names: Mapping[str, str]) -> GatedForm:
        """The same form with other names for its symbols."""
        gate, candidate = self.gate, self.candidate
        return GatedForm(
            self.keep.named(names),
            self.write.named(names),
            None if gate is None else gate.named(names),
            None if candidate is None else candidate.named(names),
            self.decay.named(names),
            self.outside.named(names),
        )

    def said(self, state: str = "h_prev", order: Sequence[str] = ()) -> str:
        """The step in words of algebra, without what stands before the equal sign.

        Args:
            state: what the state before is called.
            order: the order of the symbols in a product.

        >>> z, n, h = map(Polynomial.of, "znh")
        >>> GatedForm.of(n + z * (h - n), "h").said()
        'z h_prev + (1 - z) n'
        """
        if self.gate is None or self.candidate is None:
            kept = f"{_factor(self.keep, order)} {state}".removeprefix("1 ")
            return f"{kept} + {self.write.text(order)}" if self.write else kept
        before = " ".join([*([] if _is_one(self.decay) else [_factor(self.decay, order)]), state])
        new = f"{_factor(1 - self.gate, order)} {_factor(self.candidate, order)}"
        mix = f"{_factor(self.gate, order)} {before} + {new}"
        return mix if _is_one(self.outside) else f"{_factor(self.outside, order)} ({mix})"


def _convex(
    keep: Polynomial, write: Polynomial
) -> Iterable[tuple[Polynomial, Polynomial, Polynomial]]:
    """Gate, candidate and decay with keep = gate * decay and write = (1 - gate) * candidate."""
    masks = [1 - Polynomial.of(symbol) for symbol in keep.symbols]
    decays = [Polynomial.number(1), *_common(keep), *masks]
    for decay in decays:
        gate = keep.divided(decay)
        if gate is None or not (gate.symbols or 0 < gate.terms.get((), 0) < 1):
            continue
        candidate = write.divided(1 - gate)
        # a gate that stands in the candidate too is no gate: the step is no mix of two things
        if not candidate or set(candidate.symbols) & {*gate.symbols, *decay.symbols}:
            continue
        if not gate.symbols:
            # by a number anything can be divided: its candidate must come out plain, but for the
            # rounding of the numbers: 0.1 / (1 - 0.9) is not quite 1
            if not all(len(p) == 1 and math.isclose(f, 1) for p, f in candidate.terms.items()):
                continue
            candidate = Polynomial(dict.fromkeys(candidate.terms, 1.0))
        yield gate, candidate, decay


def _common(total: Polynomial) -> list[Polynomial]:
    """The products of symbols that stand in every term."""
    if not total.terms:
        return []
    shared = set.intersection(*(set(product) for product in total.terms))
    single = [Polynomial.of(symbol) for symbol in total.symbols if symbol in shared]
    every = Polynomial.number(1)
    for one in single:
        every = every * one
    return [*single, every] if len(single) > 1 else single


def _lifted(value: Polynomial | int | float) -> Polynomial:
    return value if isinstance(value, Polynomial) else Polynomial.number(value)


def _rank(term: tuple[Product, float]) -> tuple[int, Product]:
    return len(term[0]), term[0]


def _reading(term: tuple[Product, float]) -> tuple[bool, int, Product]:
    return term[1] < 0, len(term[0]), term[0]


_ONE = {(): 1.0}


def _is_one(value: Polynomial) -> bool:
    # a run asks this again and again of the same sums
    return value.terms == _ONE or value.equals(Polynomial.number(1))


def _factor(value: Polynomial, order: Sequence[str]) -> str:
    """A sum as it is written before something that it multiplies."""
    text = value.text(order)
    return text if len(value.terms) == 1 and not text.startswith("-") else f"({text})"
