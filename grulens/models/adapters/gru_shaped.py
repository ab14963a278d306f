"""Which weights of a module are of a GRU's shapes, and the code that packs them as a Cell does.

There are as many ways to write a GRU as people who did: one weight of 3 H rows for the input and
one for the state; one a gate and source; one a gate over input and state side by side; as Linears,
as parameters that are multiplied from the right, in lists, dicts or helper modules of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

CONTAINERS = (nn.ParameterList, nn.ParameterDict)
LISTS = (nn.ModuleList, nn.Sequential, nn.ParameterList)
DICTS = (nn.ModuleDict, nn.ParameterDict)


@dataclass(frozen=True)
class Weight:
    """A matrix of a module, as the code that reads it.

    Attributes:
        code: the expression, of a module `m`.
        rows: number of rows, as torch's linear takes it.
        columns: number of columns.
        bias: the expression of its bias, or None.
        transposable: whether it may be meant the other way round: a parameter, and no Linear's.
    """

    code: str
    rows: int
    columns: int
    bias: str | None
    transposable: bool

    def transposed(self) -> Weight:
        """The other way round."""
        if not self.transposable:
            return self
        return replace(self, code=f"{self.code}.t()", rows=self.columns, columns=self.rows)


@dataclass(frozen=True)
class Shaped:
    """Weights of a GRU's shapes.

    Attributes:
        units: how many units they are for.
        words: what was found.
        lines: code of the line or lines that define `cell`.
    """

    units: int
    words: str
    lines: tuple[str, ...]


def gru_shaped(module: nn.Module, *, from_right: bool | None, state_first: bool) -> Shaped | None:
    """The weights of a module that are of a GRU's shapes, or None.

    Args:
        module: the module.
        from_right: whether its parameters multiply from the right (`x @ W`) or as torch's linear
            does; None is either.
        state_first: whether the state stands before the input, where it lays them side by side.

    >>> gru_shaped(nn.ModuleList([nn.Linear(2, 9), nn.Linear(3, 9)]), from_right=None,
    ...            state_first=False).lines
    ('cell = lambda m: Cell(m[0].weight, m[1].weight, m[0].bias, m[1].bias)',)
    """
    weights = list(_weights(module))
    either = {True: [weight.transposed() for weight in weights], False: weights}
    ways = list(either.values()) if from_right is None else [either[from_right]]
    for read in (_packed, _split, partial(_joined, state_first=state_first)):
        for each in ways:
            if (found := read(each)) is not None:
                return found
    return None


def _weights(module: nn.Module) -> Iterator[Weight]:
    """The matrices of a module and of its helpers, in the order in which they were defined."""
    for code, part in _parts(module, "m"):
        if isinstance(part, nn.Linear):
            bias: str | None = None if part.bias is None else f"{code}.bias"
            rows, columns = part.weight.shape
            yield Weight(f"{code}.weight", rows, columns, bias, transposable=False)
            continue
        if type(part).__module__.startswith("torch.nn.") and not isinstance(part, CONTAINERS):
            continue  # an embedding, a norm
        own = dict(part.named_parameters(recurse=False))
        for name, weight in own.items():
            if weight.dim() == 2:
                other = _bias(name, own)
                bias = None if other is None else _code(code, part, other)
                rows, columns = weight.shape
                yield Weight(_code(code, part, name), rows, columns, bias, transposable=True)


def _parts(module: nn.Module, code: str) -> Iterator[tuple[str, nn.Module]]:
    """A module and all that it holds, with the code that reads them."""
    yield code, module
    for name, child in module.named_children():
        yield from _parts(child, _code(code, module, name))


def _code(code: str, holder: nn.Module, name: str) -> str:
    if isinstance(holder, LISTS) and name.isdecimal():
        return f"{code}[{name}]"
    return f"{code}[{name!r}]" if isinstance(holder, DICTS) else f"{code}.{name}"


def _bias(weight: str, own: Mapping[str, Tensor]) -> str | None:
    """The bias that goes with a weight, by its name."""
    changes = {"weight": "bias", "W_x": "b_", "W_i": "b_", "W": "b", "w": "b"}
    names = [weight.replace(old, new) for old, new in changes.items() if old in weight]
    return next((n for n in names if n in own and own[n].dim() == 1), None)


def _packed(weights: Sequence[Weight]) -> Shaped | None:
    """One weight of 3 H rows for the input and one for the state."""
    for one, other in pairwise(weights):
        both = [one, other] if other.rows == 3 * other.columns else [other, one]
        if one.rows != other.rows or both[1].rows != 3 * both[1].columns:
            continue
        if one.columns == other.columns and _of_state(one) and not _of_state(other):
            both = [other, one]
        units = both[1].columns
        cell = _cell([[both[0]], [both[1]]])
        return Shaped(units, f"weights of 3 x {units} rows", (cell,))
    return None


def _split(weights: Sequence[Weight]) -> Shaped | None:
    """Three weights for the input and three square ones for the state."""
    for units in sorted({weight.rows for weight in weights}):
        mine = [weight for weight in weights if weight.rows == units]
        state = [weight for weight in mine if weight.columns == units]
        inputs = [weight for weight in mine if weight.columns != units]
        if len(state) == 6 and not inputs:  # as many inputs as units
            inputs, state = _halves(state)
        if len(state) == len(inputs) == 3 and len({w.columns for w in inputs}) == 1:
            cell = _cell([_ordered(inputs), _ordered(state)])
            return Shaped(units, f"three pairs of weights of {units} rows", (cell,))
    return None


def _joined(weights: Sequence[Weight], state_first: bool) -> Shaped | None:
    """Weights over input and state side by side: one a gate, or one for both gates."""
    for units in sorted({weight.rows for weight in weights}):
        single = [w for w in weights if w.rows == units and w.columns > units]
        double = [w for w in weights if w.rows == 2 * units and w.columns > units]
        if len(single) == 1 and len(double) == 1 and single[0].columns == double[0].columns:
            found, words = [double[0], single[0]], f"weights of 2 x {units} and {units} rows"
        elif len(single) == 3 and len({w.columns for w in single}) == 1:
            found, words = _ordered(single), f"three weights of {units} rows"
        else:
            continue
        # the candidate is made of the state after the reset gate, so that is before the product
        cut = units if state_first else found[0].columns - units
        x, h = f"w(m)[:, :{cut}]", f"w(m)[:, {cut}:]"
        if state_first:
            x, h = h, x
        lines = (
            f"w = lambda m: {_stacked([w.code for w in found])}",
            f"cell = lambda m: Cell({x}, {h}, {_biases(found)}, None, reset_after=False)",
        )
        return Shaped(units, f"{words} over input and state side by side", lines)
    return None


def _cell(pair: list[list[Weight]]) -> str:
    parts = [_stacked([w.code for w in weights]) for weights in pair]
    biases = [_biases(weights) for weights in pair]
    if biases[0] == biases[1]:
        biases[1] = "None"  # one bias for both
    return f"cell = lambda m: Cell({', '.join(parts + biases)})"


def _biases(weights: Sequence[Weight]) -> str:
    codes = [weight.bias for weight in weights if weight.bias is not None]
    return _stacked(codes) if len(codes) == len(weights) else "None"


def _stacked(codes: Sequence[str]) -> str:
    return codes[0] if len(codes) == 1 else f"torch.cat([{', '.join(codes)}])"


def _of_state(weight: Weight) -> bool:
    """Whether its name says that it is the state's."""
    found = re.search(r"hh|h2h|rec|hid|state|[._]U|[._]u_|[._]h(?![a-z]{2})|_h|Wh", weight.code)
    return found is not None


def _halves(six: list[Weight]) -> tuple[list[Weight], list[Weight]]:
    """Six square weights as the input's and the state's: by name, by container, or in turn."""
    state = [weight for weight in six if _of_state(weight)]
    if len(state) == 3:
        return [weight for weight in six if weight not in state], state
    holders = [re.split(r"[.\[]", weight.code)[1] for weight in six]
    if len(set(holders[:3])) == len(set(holders[3:])) == 1 != len(set(holders)):
        return six[:3], six[3:]
    return six[::2], six[1::2]


GATES: tuple[Callable[[str], bool], ...] = (
    lambda core: core.startswith("r"),
    lambda core: core.startswith(("z", "u")),
    lambda core: not core.startswith(("r", "z", "u")),
)


def _ordered(three: list[Weight]) -> list[Weight]:
    """Three weights in the order r, z, n, where their names tell it; as they stand otherwise."""
    names = [weight.code for weight in three]
    start = len(_common(names))
    end = len(_common([name[start:][::-1] for name in names]))
    cores = [name[start : len(name) - end].lower().lstrip("_.[\"'") for name in names]
    found = [[w for w, core in zip(three, cores, strict=True) if is_(core)] for is_ in GATES]
    return [w for each in found for w in each] if all(len(e) == 1 for e in found) else three


def _common(texts: Sequence[str]) -> str:
    """What they all begin with."""
    size = min(map(len, texts))
    same = (len({text[:length] for text in texts}) == 1 for length in range(size, -1, -1))
    return texts[0][: size - next(index for index, equal in enumerate(same) if equal)]
