"""Gated cells as people write them, each beside a reference that computes it again by hand.

They are written from their papers. A reference is given the model and its input in float64 and a
`Notes`; it says to that what every signal is, and goes on with what it is given back, so that a
signal can be held in it.
"""

from __future__ import annotations

import copy
import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, STEPS, INPUT, UNITS = 3, 7, 4, 5
sigmoid, tanh = torch.sigmoid, torch.tanh


@dataclass
class Hold:
    """One unit of a signal, held at a value from one step to another."""

    signal: str
    unit: int
    value: float
    start: int
    stop: int


@dataclass
class Notes:
    """What a reference computed, by signal: "z" of the only layer, "1:z" of the second one."""

    hold: Hold | None = None
    made: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))

    def __call__(self, name: str, value: Tensor, like: Tensor | None = None) -> Tensor:
        """Note a signal of the next step, and give it back as it is held.

        Args:
            name: the signal.
            value: its value.
            like: a state, where the signal is smaller and broadcasts to it.
        """
        if like is not None:
            value = value.expand_as(like)
        hold, step = self.hold, len(self.made[name])
        if hold is not None and hold.signal == name and hold.start <= step < hold.stop:
            value = value.clone(memory_format=torch.contiguous_format)
            value.view(len(value), -1)[:, hold.unit] = hold.value
        self.made[name].append(value)
        return value

    def signals(self) -> dict[str, Tensor]:
        """Every signal, (batch, time, unit)."""
        return {
            name: torch.stack([v.reshape(len(v), -1) for v in values], 1)
            for name, values in self.made.items()
        }


@dataclass(eq=False)
class Species:
    """One kind of cell.

    Attributes:
        name: what it is called.
        build: makes a small model of it.
        give: makes its input.
        reference: computes it again.
        held: the signals that can be held.
        layers: the names of its layers, in the order of the reference's numbers; "?" is any.
        call: the name of the method that is run.
        training: whether it runs in training mode.
        tolerance: how far float32 may be from the float64 of the reference.
        rows: whether its first axis is that of rows, and its second one time.
        exact: whether the reference is to be computed as the model is, and not in float64.
    """

    name: str
    build: Callable[[], nn.Module]
    give: Callable[[], tuple[Any, ...]]
    reference: Callable[..., None]
    held: tuple[str, ...]
    layers: tuple[str, ...] = ("cell",)
    call: str | None = None
    training: bool = False
    tolerance: float = 1e-5
    rows: bool = True
    exact: bool = False

    def __repr__(self) -> str:
        return self.name

    def made(self) -> tuple[nn.Module, tuple[Any, ...]]:
        """A model and its input, the same every time."""
        torch.manual_seed(7)
        model = self.build().train(self.training)
        return model, self.give()

    def run(self, model: nn.Module, args: tuple[Any, ...]) -> Any:
        """What the model returns."""
        torch.manual_seed(3)
        return getattr(model, self.call or "forward")(*args) if self.call else model(*args)

    def signals(
        self, model: nn.Module, args: tuple[Any, ...], hold: Hold | None = None
    ) -> dict[tuple[int, str], Tensor]:
        """What the reference computes, by the number of the layer and the signal."""
        notes = Notes(hold)
        if not self.exact:
            model = copy.deepcopy(model).double()
            args = tuple(a.double() if a.is_floating_point() else a for a in args)
        torch.manual_seed(3)
        with torch.no_grad():
            self.reference(model, notes, *args)
        found = {}
        for name, value in notes.signals().items():
            layer, _, signal = name.rpartition(":")
            found[int(layer or 0), signal] = value
        return found


SPECIES: list[Species] = []


def species(
    name: str,
    build: Callable[[], nn.Module],
    give: Callable[[], tuple[Any, ...]] | None = None,
    held: str = "z n r",
    layers: Sequence[str] = ("cell",),
    **more: Any,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a kind of cell, with the reference that this stands over."""

    def add(reference: Callable[..., None]) -> Callable[..., None]:
        SPECIES.append(
            Species(name, build, give or numbers, reference, tuple(held.split()), tuple(layers),
                    **more)
        )  # fmt: skip
        return reference

    return add


def numbers() -> tuple[Any, ...]:
    """Rows of numbers (batch, time, input)."""
    return (torch.randn(BATCH, STEPS, INPUT),)


def zeros(x: Tensor, *shape: int) -> Tensor:
    return x.new_zeros(len(x), *(shape or (UNITS,)))


def mixed(note: Notes, a: Tensor, b: Tensor, h: Tensor, at: str = "") -> Tensor:
    """The gated form of a step, noted, and the state that it makes."""
    return note(f"{at}h", note(f"{at}a", a, h) * h + note(f"{at}b", b, h))


# ------------------------------------------------------------ one GRU, written in many ways


class Plain(nn.Module):
    """A GRU as torch computes it (Cho et al. 2014), in a loop of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(INPUT, 3 * UNITS), nn.Linear(UNITS, 3 * UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h, states = zeros(x), []
        for t in range(x.shape[1]):
            h = self.step(x[:, t], h)
            states.append(h)
        return torch.stack(states, 1)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        x_r, x_z, x_n = self.x(x).chunk(3, 1)
        h_r, h_z, h_n = self.h(h).chunk(3, 1)
        r = torch.sigmoid(x_r + h_r)
        z = torch.sigmoid(x_z + h_z)
        n = torch.tanh(x_n + r * h_n)
        return (1 - z) * n + z * h


class PlainLerp(Plain):
    """The mix by `lerp`."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        x_r, x_z, x_n = self.x(x).chunk(3, 1)
        h_r, h_z, h_n = self.h(h).chunk(3, 1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        return torch.tanh(x_n + r * h_n).lerp(h, z)


class PlainDifference(Plain):
    """The mix as n + z (h - n)."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        x_r, x_z, x_n = self.x(x).chunk(3, 1)
        h_r, h_z, h_n = self.h(h).chunk(3, 1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        n = torch.tanh(x_n + r * h_n)
        return n + z * (h - n)


class PlainJoined(Plain):
    """Both gates in one sigmoid, cut apart after it."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        x, h_all = self.x(x), self.h(h)
        gates = torch.sigmoid(x[:, : 2 * UNITS] + h_all[:, : 2 * UNITS])
        n = torch.tanh(x[:, 2 * UNITS :] + gates[:, :UNITS] * h_all[:, 2 * UNITS :])
        z = gates[:, UNITS:]
        return (1 - z) * n + z * h


class PlainAddcmul(Plain):
    """The mix by `addcmul`, the gates by a module and a method."""

    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = nn.Sigmoid()

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        x_r, x_z, x_n = self.x(x).split(UNITS, -1)
        h_r, h_z, h_n = self.h(h).split(UNITS, -1)
        r, z = self.sigmoid(x_r + h_r), (x_z + h_z).sigmoid()
        n = F.tanh(torch.addcmul(x_n, r, h_n))
        return torch.addcmul(n * (1.0 - z), z, h)


class PlainEinsum(Plain):
    """The products of the mix by `einsum`."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        x_r, x_z, x_n = self.x(x).chunk(3, 1)
        h_r, h_z, h_n = self.h(h).chunk(3, 1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        n = torch.tanh(x_n + torch.einsum("bu, bu -> bu", r, h_n))
        return torch.einsum("bu,bu->bu", 1 - z, n) + torch.einsum("bu,bu->bu", z, h)


class PlainStacked(Plain):
    """The shares of the mix laid above each other and added up."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        x_r, x_z, x_n = self.x(x).chunk(3, 1)
        h_r, h_z, h_n = self.h(h).chunk(3, 1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        n = torch.tanh(x_n + r * h_n)
        return torch.stack([z * h, (1 - z) * n], 1).sum(dim=1)


class PlainInPlace(Plain):
    """The state written over."""

    def forward(self, x: Tensor) -> Tensor:
        h, states = zeros(x), []
        for t in range(x.shape[1]):
            x_r, x_z, x_n = self.x(x[:, t]).chunk(3, 1)
            h_r, h_z, h_n = self.h(h).chunk(3, 1)
            r = (x_r + h_r).sigmoid_()
            z = (x_z + h_z).sigmoid_()
            n = (x_n + r * h_n).tanh_()
            h.mul_(z).add_((1 - z) * n)
            states.append(h.clone())
        return torch.stack(states, 1)


class PlainTwice(Plain):
    """A gate that is computed twice in a step."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        x_r, x_z, x_n = self.x(x).chunk(3, 1)
        h_r, h_z, h_n = self.h(h).chunk(3, 1)
        z = x_z + h_z
        n = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
        return (1 - torch.sigmoid(z)) * n + torch.sigmoid(z) * h


class PlainBuffer(Plain):
    """Its states kept in one tensor, and read back from there."""

    def forward(self, x: Tensor) -> Tensor:
        states = x.new_zeros(x.shape[1] + 1, len(x), UNITS)
        for t in range(x.shape[1]):
            states[t + 1] = self.step(x[:, t], states[t])
        return states[1:]


class PlainList(Plain):
    """Its states kept in a list, the last one read back from there; time comes first."""

    def forward(self, x: Tensor) -> Tensor:
        states = [zeros(x)]
        for now in x.transpose(0, 1):
            states.append(self.step(now, states[-1]))
        return torch.stack(states[1:])


class PlainCalled(Plain):
    """A cell and a head: the loop stands in another module than the step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = PlainStep(self), nn.Linear(UNITS, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.head(h)


class PlainStep(nn.Module):
    def __init__(self, weights: Plain) -> None:
        super().__init__()
        self.x, self.h = weights.x, weights.h

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return Plain.step(self, x, h)  # type: ignore[arg-type]


class PlainRepeated(Plain):
    """The state is read out of the output: unsqueezed, joined, and its last step taken."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x).unsqueeze(0)
        states = []
        for t in range(x.shape[1]):
            h = self.step(x[:, t], h.squeeze(0)).unsqueeze(0)
            states.append(h)
        return torch.cat(states)


class PlainGenerating(Plain):
    """It has no forward: its way in is `generate`."""

    def generate(self, x: Tensor, steps: int) -> Tensor:
        h, made = zeros(x), []
        now = x[:, 0]
        for _ in range(steps):
            h = self.step(now, h)
            now = now * 0.9 + h[:, :INPUT]
            made.append(now)
        return torch.stack(made, 1)

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class PlainStates(Plain):
    """Returns states and last state, as nn.GRU does; its input is packed in a tuple."""

    def forward(self, given: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x, h = given
        states = []
        for now in x.unbind(1):
            h = self.step(now, h)
            states += [h]
        return torch.stack(states, 1), h


@species("Plain", Plain)
@species("PlainLerp", PlainLerp)
@species("PlainDifference", PlainDifference)
@species("PlainJoined", PlainJoined)
@species("PlainAddcmul", PlainAddcmul)
@species("PlainEinsum", PlainEinsum)
@species("PlainStacked", PlainStacked)
@species("PlainInPlace", PlainInPlace)
@species("PlainTwice", PlainTwice, held="z n")
@species("PlainBuffer", PlainBuffer)
@species("PlainList", PlainList)
@species("PlainCalled", PlainCalled)
@species("PlainRepeated", PlainRepeated)
def gru(m: Any, note: Notes, x: Tensor, h: Tensor | None = None, at: str = "") -> None:
    h = zeros(x) if h is None else h
    for t in range(x.shape[1]):
        h = gru_step(m, note, x[:, t], h, at)


def gru_step(m: Any, note: Notes, x: Tensor, h: Tensor, at: str = "") -> Tensor:
    """One step of torch's GRU, from weights laid out as torch does."""
    wx, wh, bx, bh = m.x.weight, m.h.weight, m.x.bias, m.h.bias
    units = h.shape[1]
    i, k = x @ wx.T + bx, h @ wh.T + bh
    r = note(f"{at}r", sigmoid(i[:, :units] + k[:, :units]))
    z = note(f"{at}z", sigmoid(i[:, units : 2 * units] + k[:, units : 2 * units]))
    n = note(f"{at}n", tanh(i[:, 2 * units :] + r * k[:, 2 * units :]))
    return mixed(note, z, (1 - z) * n, h, at)


class ResidualCandidate(Plain):
    """A GRU whose candidate is the state, moved by what is new."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        _, x_z, x_n = self.x(x).chunk(3, 1)
        _, h_z, h_n = self.h(h).chunk(3, 1)
        z = torch.sigmoid(x_z + h_z)
        n = h + torch.tanh(x_n + h_n)
        return z * h + (1 - z) * n


@species("ResidualCandidate", ResidualCandidate, held="z b2")
def residual_candidate(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x)
    for t in range(x.shape[1]):
        i, k = x[:, t] @ m.x.weight.T + m.x.bias, h @ m.h.weight.T + m.h.bias
        z = note("z", sigmoid(i[:, UNITS : 2 * UNITS] + k[:, UNITS : 2 * UNITS]))
        g = note("b2", tanh(i[:, 2 * UNITS :] + k[:, 2 * UNITS :]))
        h = mixed(note, torch.ones_like(z), (1 - z) * g, h)


def started() -> tuple[Any, ...]:
    return torch.randn(BATCH, 1, INPUT), torch.tensor(6)


@species("PlainGenerating", PlainGenerating, started, "0:z 0:n 0:r", ("cell.h", "cell.now"),
         call="generate")  # fmt: skip
def generating(m: Any, note: Notes, x: Tensor, steps: Tensor) -> None:
    h, now = zeros(x), x[:, 0]
    for _ in range(int(steps)):
        h = gru_step(m, note, now, h, "0:")
        now = mixed(note, torch.tensor(0.9, dtype=x.dtype), h[:, :INPUT], now, "1:")


class Autocast(Plain):
    """A GRU under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)


@species("Autocast", Autocast, tolerance=2e-2, exact=True)
def autocast(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x)
    with torch.autocast("cpu", torch.bfloat16):
        for t in range(x.shape[1]):
            h = gru_step(m, note, x[:, t], h)


class Half(Plain):
    """A GRU in bfloat16 altogether."""

    def __init__(self) -> None:
        super().__init__()
        self.bfloat16()


@species("Half", Half, lambda: (torch.randn(BATCH, STEPS, INPUT).bfloat16(),), tolerance=4e-2,
         exact=True)  # fmt: skip
def half(m: Any, note: Notes, x: Tensor) -> None:
    gru(m, note, x)


class Subclass(nn.GRU):
    """nn.GRU with a loop of its own, and no bias where torch has two."""

    def forward(self, x: Tensor, h: Tensor | None = None) -> Any:  # type: ignore[override]
        h = x.new_zeros(len(x), self.hidden_size)
        states = []
        for t in range(x.shape[1]):
            r_x, z_x, n_x = (x[:, t] @ self.weight_ih_l0.T).chunk(3, 1)
            r_h, z_h, n_h = (h @ self.weight_hh_l0.T).chunk(3, 1)
            r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
            n = torch.tanh(n_x + r * n_h)
            h = (1 - z) * n + z * h
            states.append(h)
        return torch.stack(states, 1), h


@species("Subclass", lambda: Subclass(INPUT, UNITS, bias=False))
def subclass(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x)
    for t in range(x.shape[1]):
        i, k = x[:, t] @ m.weight_ih_l0.T, h @ m.weight_hh_l0.T
        r = note("r", sigmoid(i[:, :UNITS] + k[:, :UNITS]))
        z = note("z", sigmoid(i[:, UNITS : 2 * UNITS] + k[:, UNITS : 2 * UNITS]))
        n = note("n", tanh(i[:, 2 * UNITS :] + r * k[:, 2 * UNITS :]))
        h = mixed(note, z, (1 - z) * n, h)


class CellSubclass(nn.Module):
    """nn.GRUCell with a forward of its own, whose update gate has a bias of 1 more."""

    class Cell(nn.GRUCell):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:  # type: ignore[override]
            i = F.linear(x, self.weight_ih, self.bias_ih).chunk(3, 1)
            k = F.linear(h, self.weight_hh, self.bias_hh).chunk(3, 1)
            r, z = torch.sigmoid(i[0] + k[0]), torch.sigmoid(i[1] + k[1] + 1)
            return z * h + (1 - z) * torch.tanh(i[2] + r * k[2])

    def __init__(self) -> None:
        super().__init__()
        self.cell = self.Cell(INPUT, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return h


@species("CellSubclass", CellSubclass)
def cell_subclass(m: Any, note: Notes, x: Tensor) -> None:
    h, c = zeros(x), m.cell
    for t in range(x.shape[1]):
        i, k = x[:, t] @ c.weight_ih.T + c.bias_ih, h @ c.weight_hh.T + c.bias_hh
        r = note("r", sigmoid(i[:, :UNITS] + k[:, :UNITS]))
        z = note("z", sigmoid(i[:, UNITS : 2 * UNITS] + k[:, UNITS : 2 * UNITS] + 1))
        n = note("n", tanh(i[:, 2 * UNITS :] + r * k[:, 2 * UNITS :]))
        h = mixed(note, z, (1 - z) * n, h)


# ------------------------------------------------------------------ many cells in one model


class Stack(nn.Module):
    """Cells in a ModuleList, one above the other."""

    def __init__(self) -> None:
        super().__init__()
        first, second = Plain(), Plain()
        second.x = nn.Linear(UNITS, 3 * UNITS)
        self.cells = nn.ModuleList([PlainStep(first), PlainStep(second)])

    def forward(self, x: Tensor) -> Tensor:
        states = [zeros(x) for _ in self.cells]
        for t in range(x.shape[1]):
            now = x[:, t]
            for level, cell in enumerate(self.cells):
                now = states[level] = cell(now, states[level])
        return torch.cat(states, 1)


@species("Stack", Stack, layers=("cells.0", "cells.1"), held="0:z 1:r 1:n")
def stack(m: Any, note: Notes, x: Tensor) -> None:
    states = [zeros(x), zeros(x)]
    for t in range(x.shape[1]):
        now = x[:, t]
        for level, cell in enumerate(m.cells):
            now = states[level] = gru_step(cell, note, now, states[level], f"{level}:")


class Two(nn.Module):
    """Two cells of one class by name; the upper one's input is what both made."""

    def __init__(self) -> None:
        super().__init__()
        upper = Plain()
        upper.x = nn.Linear(INPUT + UNITS, 3 * UNITS)
        self.lower, self.upper = PlainStep(Plain()), PlainStep(upper)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        one, two = zeros(x), zeros(x)
        for now in x.unbind(1):
            one = self.lower(now, one)
            two = self.upper(torch.cat([now, one], -1), two)
        return one, two


@species("Two", Two, layers=("lower", "upper"), held="0:z 1:n 0:r")
def two(m: Any, note: Notes, x: Tensor) -> None:
    one, other = zeros(x), zeros(x)
    for now in x.unbind(1):
        one = gru_step(m.lower, note, now, one, "0:")
        other = gru_step(m.upper, note, torch.cat([now, one], -1), other, "1:")


class LayersInside(nn.Module):
    """A loop over layers inside the loop over time, the weights in lists."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.ParameterList([nn.Parameter(torch.randn(3 * UNITS, INPUT) * 0.4),
                                   nn.Parameter(torch.randn(3 * UNITS, UNITS) * 0.4)])  # fmt: skip
        self.u = nn.ParameterList([nn.Parameter(torch.randn(3 * UNITS, UNITS) * 0.4)
                                   for _ in range(2)])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        hs = [zeros(x), zeros(x)]
        for t in range(x.shape[1]):
            now = x[:, t]
            for i in range(2):
                a, b = (now @ self.w[i].T).chunk(3, 1), (hs[i] @ self.u[i].T).chunk(3, 1)
                r, z = torch.sigmoid(a[0] + b[0]), torch.sigmoid(a[1] + b[1])
                n = torch.tanh(a[2] + r * b[2])
                hs[i] = (1 - z) * n + z * hs[i]
                now = hs[i]
        return now


@species("LayersInside", LayersInside, layers=("?", "?"), held="0:z 1:z")
def layers_inside(m: Any, note: Notes, x: Tensor) -> None:
    hs = [zeros(x), zeros(x)]
    for t in range(x.shape[1]):
        now = x[:, t]
        for i in range(2):
            a, b = (now @ m.w[i].T).chunk(3, 1), (hs[i] @ m.u[i].T).chunk(3, 1)
            r = note(f"{i}:r", sigmoid(a[0] + b[0]))
            z = note(f"{i}:z", sigmoid(a[1] + b[1]))
            n = note(f"{i}:n", tanh(a[2] + r * b[2]))
            now = hs[i] = mixed(note, z, (1 - z) * n, hs[i], f"{i}:")


class Ways(nn.Module):
    """Both directions by one method, called once for each."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead, self.back = Plain(), Plain()

    def one_way(self, x: Tensor, weights: Any) -> Tensor:
        h, states = zeros(x), []
        for t in range(x.shape[1]):
            h = Plain.step(weights, x[:, t], h)
            states.append(h)
        return torch.stack(states, 1)

    def forward(self, x: Tensor) -> Tensor:
        ahead = self.one_way(x, self.ahead)
        back = self.one_way(x.flip(1), self.back)
        return torch.cat([ahead, back.flip(1)], -1)


class WaysInLoop(Ways):
    """Both directions by one line."""

    def forward(self, x: Tensor) -> Tensor:
        both = [self.one_way(x.flip(1) if i else x, w)
                for i, w in enumerate((self.ahead, self.back))]  # fmt: skip
        return torch.cat([both[0], both[1].flip(1)], -1)


@species("Ways", Ways, layers=("?", "?"), held="0:z 1:r")
def ways(m: Any, note: Notes, x: Tensor) -> None:
    gru(m.ahead, note, x, at="0:")
    gru(m.back, note, x.flip(1), at="1:")


class LayersOutside(nn.Module):
    """Layers one after the other, each a module with a loop of its own."""

    def __init__(self) -> None:
        super().__init__()
        upper = Plain()
        upper.x = nn.Linear(UNITS, 3 * UNITS)
        self.layers = nn.Sequential(Plain(), upper)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@species("LayersOutside", LayersOutside, layers=("layers.0", "layers.1"), held="0:z 1:r")
def layers_outside(m: Any, note: Notes, x: Tensor) -> None:
    gru(m.layers[0], note, x, at="0:")
    gru(m.layers[1], note, torch.stack(note.made["0:h"], 1), at="1:")


# ------------------------------------------------------------------------------ world models


class NormedGRU(nn.Module):
    """The recurrent cell of DreamerV2 (Hafner et al. 2021): one normed product, a bias of -1."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = NormedCell(), nn.Linear(UNITS, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.head(h)


class NormedCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.both, self.norm = nn.Linear(INPUT + UNITS, 3 * UNITS, False), nn.LayerNorm(3 * UNITS)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        parts = self.norm(self.both(torch.cat([x, state], -1)))
        reset, cand, update = torch.split(parts, [UNITS] * 3, -1)
        reset = torch.sigmoid(reset)
        cand = torch.tanh(reset * cand)
        update = torch.sigmoid(update - 1)
        return update * cand + (1 - update) * state


def normed(m: Any, note: Notes, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """The update gate and the candidate of one step."""
    v = torch.cat([x, h], -1) @ m.both.weight.T
    v = (v - v.mean(-1, keepdim=True)) / (v.var(-1, correction=0, keepdim=True) + m.norm.eps).sqrt()
    reset, new, update = (v * m.norm.weight + m.norm.bias).split(UNITS, -1)
    r = note("r", sigmoid(reset))
    return note("z", sigmoid(update - 1)), note("n", tanh(r * new))


@species("NormedGRU", NormedGRU)
def normed_gru(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x)
    for t in range(x.shape[1]):
        z, n = normed(m.cell, note, x[:, t], h)
        h = mixed(note, 1 - z, z * n, h)


class BlockGRU(nn.Module):
    """The recurrent cell of DreamerV3 (Hafner et al. 2023): weights in diagonal blocks."""

    blocks, each = 2, 3

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, INPUT + 3, 9) * 0.5)
        self.bias = nn.Parameter(torch.randn(2, 9) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        deter = zeros(x, 6)
        for t in range(x.shape[1]):
            deter = self.core(deter, x[:, t])
        return deter

    def core(self, deter: Tensor, x: Tensor) -> Tensor:
        groups = deter.reshape(len(deter), self.blocks, self.each)
        groups = torch.cat([x[:, None].expand(-1, self.blocks, -1), groups], -1)
        gates = torch.einsum("bgi,gio->bgo", groups, self.weight) + self.bias
        reset, cand, update = (part.flatten(1) for part in gates.chunk(3, -1))
        reset = torch.sigmoid(reset)
        cand = torch.tanh(reset * cand)
        update = torch.sigmoid(update - 1)
        return update * cand + (1 - update) * deter


@species("BlockGRU", BlockGRU)
def block_gru(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x, 6)
    for t in range(x.shape[1]):
        made = []
        for g in range(2):
            given = torch.cat([x[:, t], h[:, 3 * g : 3 * g + 3]], 1)
            made.append(given @ m.weight[g] + m.bias[g])
        reset, new, update = (
            torch.cat([one[:, 3 * i : 3 * i + 3] for one in made], 1) for i in range(3)
        )
        r, z = note("r", sigmoid(reset)), note("z", sigmoid(update - 1))
        n = note("n", tanh(r * new))
        h = mixed(note, 1 - z, z * n, h)


class EpisodeStart(NormedGRU):
    """A state that an episode's first step puts to zero before the cell."""

    def forward(self, x: Tensor, is_first: Tensor) -> Tensor:  # type: ignore[override]
        h = zeros(x)
        for t in range(x.shape[1]):
            h = h * (1 - is_first[:, t : t + 1])
            h = self.cell(x[:, t], h)
        return self.head(h)


class EpisodeEnd(NormedGRU):
    """A state that an episode's last step puts to zero after the cell."""

    def forward(self, x: Tensor, done: Tensor) -> Tensor:  # type: ignore[override]
        h, states = zeros(x), []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            states.append(h)
            h = h * (1 - done[:, t]).unsqueeze(-1)
        return torch.stack(states, 1)


def episodes() -> tuple[Any, ...]:
    first = torch.zeros(BATCH, STEPS)
    first[0, 3] = first[1, 5] = first[2, 2] = 1
    return (*numbers(), first)


@species("EpisodeStart", EpisodeStart, episodes)
def episode_start(m: Any, note: Notes, x: Tensor, first: Tensor) -> None:
    h = zeros(x)
    for t in range(x.shape[1]):
        keep = 1 - first[:, t, None]
        z, n = normed(m.cell, note, x[:, t], keep * h)
        h = mixed(note, (1 - z) * keep, z * n, h)


@species("EpisodeEnd", EpisodeEnd, episodes)
def episode_end(m: Any, note: Notes, x: Tensor, done: Tensor) -> None:
    # the state is what is left of it after the step: that is what the next step reads
    h = zeros(x)
    for t in range(x.shape[1]):
        z, n = normed(m.cell, note, x[:, t], h)
        left = 1 - done[:, t, None]
        h = mixed(note, left * (1 - z), left * z * n, h)


# -------------------------------------------------------------------------- pictures, graphs


class ConvGRU(nn.Module):
    """Convolutions in place of products (Ballas et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 + 3, 2 * 3, 3, padding=1)
        self.new = nn.Conv2d(2 + 3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h, states = zeros(x, 3, 4, 5), []
        for t in range(x.shape[1]):
            both = torch.cat([x[:, t], h], 1)
            z, r = torch.sigmoid(self.gates(both)).chunk(2, 1)
            n = torch.tanh(self.new(torch.cat([x[:, t], r * h], 1)))
            h = (1 - z) * h + z * n
            states.append(h)
        return torch.stack(states, 1)


def frames() -> tuple[Any, ...]:
    return (torch.randn(2, 6, 2, 4, 5),)


@species("ConvGRU", ConvGRU, frames)
def conv_gru(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x, 3, 4, 5)
    for t in range(x.shape[1]):
        gates = F.conv2d(torch.cat([x[:, t], h], 1), m.gates.weight, m.gates.bias, padding=1)
        z, r = note("z", sigmoid(gates[:, :3])), note("r", sigmoid(gates[:, 3:]))
        new = F.conv2d(torch.cat([x[:, t], r * h], 1), m.new.weight, m.new.bias, padding=1)
        h = mixed(note, 1 - z, z * note("n", tanh(new)), h)


class SeparableConvGRU(nn.Module):
    """Two steps in one, first along rows and then along columns (RAFT, Teed and Deng 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.first = SeparableCell(), nn.Conv2d(2, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        net = torch.tanh(self.first(x[:, 0]))
        for t in range(x.shape[1]):
            net = self.gru(net, x[:, t])
        return net


class SeparableCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for way, size, pad in (("1", (1, 5), (0, 2)), ("2", (5, 1), (2, 0))):
            for gate in "zrq":
                setattr(self, f"conv{gate}{way}", nn.Conv2d(3 + 2, 3, size, padding=pad))

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        hx = torch.cat([h, x], dim=1)
        z = torch.sigmoid(self.convz1(hx))
        r = torch.sigmoid(self.convr1(hx))
        q = torch.tanh(self.convq1(torch.cat([r * h, x], dim=1)))
        h = (1 - z) * h + z * q
        hx = torch.cat([h, x], dim=1)
        z = torch.sigmoid(self.convz2(hx))
        r = torch.sigmoid(self.convr2(hx))
        q = torch.tanh(self.convq2(torch.cat([r * h, x], dim=1)))
        return (1 - z) * h + z * q


@species("SeparableConvGRU", SeparableConvGRU, frames, held="", layers=("gru",))
def separable(m: Any, note: Notes, x: Tensor) -> None:
    h = tanh(m.first(x[:, 0]))
    for t in range(x.shape[1]):
        a, b = torch.ones_like(h), torch.zeros_like(h)
        for way in "12":
            inner = a * h + b

            def conv(gate: str, v: Tensor, way: str = way, t: int = t) -> Tensor:
                return getattr(m.gru, f"conv{gate}{way}")(torch.cat([v, x[:, t]], 1))

            z, r = sigmoid(conv("z", inner)), sigmoid(conv("r", inner))
            q = tanh(conv("q", r * inner))
            a, b = (1 - z) * a, (1 - z) * b + z * q
        h = mixed(note, a, b, h)


class ConvLSTM(nn.Module):
    """An LSTM of pictures (Shi et al. 2015, without peepholes)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 + 3, 4 * 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = c = zeros(x, 3, 4, 5)
        for t in range(x.shape[1]):
            i, f, o, g = torch.split(self.conv(torch.cat([x[:, t], h], 1)), 3, 1)
            i, f, o, g = torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o), torch.tanh(g)
            c = f * c + i * g
            h = o * torch.tanh(c)
        return h


@species("ConvLSTM", ConvLSTM, frames, held="f i g o")
def conv_lstm(m: Any, note: Notes, x: Tensor) -> None:
    h = c = zeros(x, 3, 4, 5)
    for t in range(x.shape[1]):
        v = F.conv2d(torch.cat([x[:, t], h], 1), m.conv.weight, m.conv.bias, padding=1)
        i, f = note("i", sigmoid(v[:, :3])), note("f", sigmoid(v[:, 3:6]))
        o, g = note("o", sigmoid(v[:, 6:9])), note("g", tanh(v[:, 9:]))
        c = note("c", note("a", f) * c + note("b", i * g))
        h = note("h", o * tanh(c))


class DiffusionGRU(nn.Module):
    """Diffusion over a graph in place of products (DCRNN, Li et al. 2018); its state is flat."""

    nodes, order = 3, 2

    def __init__(self) -> None:
        super().__init__()
        walk = torch.rand(3, 3)
        self.register_buffer("walk", walk / walk.sum(1, keepdim=True))
        self.gates, self.new = nn.Linear(3 * (2 + 4), 8), nn.Linear(3 * (2 + 4), 4)

    def diffused(self, x: Tensor, state: Tensor, layer: nn.Module) -> Tensor:
        both = torch.cat([x, state.reshape(len(state), self.nodes, -1)], 2)
        hops = [both]
        for _ in range(self.order):
            hops.append(torch.matmul(self.walk, hops[-1]))
        return layer(torch.cat(hops, 2))

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x, 12)
        for t in range(x.shape[1]):
            value = torch.sigmoid(self.diffused(x[:, t], h, self.gates))
            r, u = torch.split(value, 4, dim=-1)
            r, u = r.reshape(-1, 12), u.reshape(-1, 12)
            c = torch.tanh(self.diffused(x[:, t], r * h, self.new)).reshape(-1, 12)
            h = u * h + (1.0 - u) * c
        return h


def graphs() -> tuple[Any, ...]:
    return (torch.randn(BATCH, STEPS, 3, 2),)


def hops(m: Any, x: Tensor, h: Tensor, layer: Any) -> Tensor:
    v = torch.cat([x, h], -1)
    v = torch.cat([v, m.walk @ v, m.walk @ (m.walk @ v)], -1)
    return v @ layer.weight.T + layer.bias


@species("DiffusionGRU", DiffusionGRU, graphs)
def diffusion(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x, 3, 4)
    for t in range(x.shape[1]):
        v = sigmoid(hops(m, x[:, t], h, m.gates))
        r, z = note("r", v[..., :4]), note("z", v[..., 4:])
        n = note("n", tanh(hops(m, x[:, t], r * h, m.new)))
        h = mixed(note, z, (1 - z) * n, h)


class NodeGRU(DiffusionGRU):
    """The same for one graph alone: its state is (node, channel)."""

    def diffused(self, x: Tensor, state: Tensor, layer: nn.Module) -> Tensor:
        hops = [torch.cat([x, state], 1)]
        for _ in range(self.order):
            hops.append(self.walk @ hops[-1])
        return layer(torch.cat(hops, 1))

    def forward(self, x: Tensor) -> Tensor:
        h, states = x.new_zeros(3, 4), []
        for now in x:
            r, u = torch.sigmoid(self.diffused(now, h, self.gates)).chunk(2, 1)
            c = torch.tanh(self.diffused(now, r * h, self.new))
            h = u * h + (1 - u) * c
            states.append(h)
        return torch.stack(states)


@species("NodeGRU", NodeGRU, lambda: (torch.randn(STEPS, 3, 2),), rows=False)
def node_gru(m: Any, note: Notes, x: Tensor) -> None:
    h = x.new_zeros(3, 4)
    for now in x:
        v = sigmoid(hops(m, now, h, m.gates))
        r, z = note("r", v[:, :4]), note("z", v[:, 4:])
        n = note("n", tanh(hops(m, now, r * h, m.new)))
        h = mixed(note, z, (1 - z) * n, h)


class BatchedNodes(DiffusionGRU):
    """The same with a state (batch, node, channel), its candidate by an einsum."""

    def diffused(self, x: Tensor, state: Tensor, layer: nn.Module) -> Tensor:
        hops = [torch.cat([x, state], -1)]
        for _ in range(self.order):
            hops.append(torch.einsum("ij,bjc->bic", self.walk, hops[-1]))
        return layer(torch.cat(hops, -1))

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x, 3, 4)
        for t in range(x.shape[1]):
            r, u = torch.sigmoid(self.diffused(x[:, t], h, self.gates)).split(4, -1)
            c = torch.tanh(self.diffused(x[:, t], r * h, self.new))
            h = u * h + (1 - u) * c
        return h


species("BatchedNodes", BatchedNodes, graphs)(diffusion)


class TurnedNodes(DiffusionGRU):
    """The same with a state (batch, channel, node), turned for every product."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x, 4, 3)
        for t in range(x.shape[1]):
            v = torch.sigmoid(self.turned(x[:, t], h, self.gates)).transpose(1, 2)
            r, u = v[:, :4], v[:, 4:]
            c = torch.tanh(self.turned(x[:, t], r * h, self.new)).transpose(1, 2)
            h = u * h + (1 - u) * c
        return h

    def turned(self, x: Tensor, h: Tensor, layer: nn.Module) -> Tensor:
        return self.diffused(x, h.permute(0, 2, 1).reshape(len(h), -1), layer)


@species("TurnedNodes", TurnedNodes, graphs)
def turned(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x, 4, 3)
    for t in range(x.shape[1]):
        v = sigmoid(hops(m, x[:, t], h.transpose(1, 2), m.gates)).transpose(1, 2)
        r, z = note("r", v[:, :4]), note("z", v[:, 4:])
        n = note("n", tanh(hops(m, x[:, t], (r * h).transpose(1, 2), m.new)).transpose(1, 2))
        h = mixed(note, z, (1 - z) * n, h)


# ------------------------------------------------------------------------- decay, attention


class GRUD(nn.Module):
    """A GRU for values that are missing: inputs and states decay (Che et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.rand(INPUT))
        self.register_buffer("mean", torch.randn(INPUT) * 0.1)
        self.decay = nn.Linear(INPUT, UNITS)
        self.z, self.r, self.n = (nn.Linear(2 * INPUT + UNITS, UNITS) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor, delta: Tensor) -> Tensor:
        h, last, states = zeros(x), zeros(x, INPUT), []
        for t in range(x.shape[1]):
            m, d = mask[:, t], delta[:, t]
            gamma_x = torch.exp(-torch.relu(self.w * d))
            gamma_h = torch.exp(-torch.relu(self.decay(d)))
            last = m * x[:, t] + (1 - m) * last
            now = m * x[:, t] + (1 - m) * (gamma_x * last + (1 - gamma_x) * self.mean)
            h = gamma_h * h
            both = torch.cat([now, h, m], 1)
            z, r = torch.sigmoid(self.z(both)), torch.sigmoid(self.r(both))
            n = torch.tanh(self.n(torch.cat([now, r * h, m], 1)))
            h = (1 - z) * h + z * n
            states.append(h)
        return torch.stack(states, 1)


def missing() -> tuple[Any, ...]:
    mask = (torch.rand(BATCH, STEPS, INPUT) > 0.5).float()
    return torch.randn(BATCH, STEPS, INPUT) * mask, mask, torch.rand(BATCH, STEPS, INPUT) * 2


@species("GRUD", GRUD, missing, layers=("cell.last", "cell.h"), held="1:z 1:n 1:r 0:z")
def gru_d(m: Any, note: Notes, x: Tensor, mask: Tensor, delta: Tensor) -> None:
    h, last = zeros(x), zeros(x, INPUT)
    for t in range(x.shape[1]):
        seen, d = note("0:z", mask[:, t]), delta[:, t]
        share = torch.exp(-(m.w * d).clamp(min=0))
        decay = torch.exp(-(d @ m.decay.weight.T + m.decay.bias).clamp(min=0))
        last = mixed(note, 1 - seen, note("0:n", x[:, t]) * seen, last, "0:")
        now = seen * x[:, t] + (1 - seen) * (share * last + (1 - share) * m.mean)
        both = torch.cat([now, decay * h, seen], 1)
        z = note("1:z", sigmoid(both @ m.z.weight.T + m.z.bias))
        r = note("1:r", sigmoid(both @ m.r.weight.T + m.r.bias))
        both = torch.cat([now, r * (decay * h), seen], 1)
        n = note("1:n", tanh(both @ m.n.weight.T + m.n.bias))
        h = mixed(note, (1 - z) * decay, z * n, h, "1:")


class Attended(nn.Module):
    """GRUs whose update gate attends to what is bought next (DIEN, Zhou et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.u, self.r = nn.Linear(INPUT + UNITS, UNITS), nn.Linear(INPUT + UNITS, UNITS)
        self.x, self.h = nn.Linear(INPUT, UNITS), nn.Linear(UNITS, UNITS)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        attention = torch.softmax((x * target[:, None]).sum(-1), 1)
        h = zeros(x)
        for t in range(x.shape[1]):
            both = torch.cat([x[:, t], h], 1)
            r = torch.sigmoid(self.r(both))
            n = torch.tanh(self.x(x[:, t]) + r * self.h(h))
            h = self.mixed(n, h, both, attention[:, t : t + 1])
        return h


class AGRU(Attended):
    """The attention is the update gate."""

    def mixed(self, n: Tensor, h: Tensor, both: Tensor, attention: Tensor) -> Tensor:
        return (1 - attention) * h + attention * n


class AUGRU(Attended):
    """The attention scales the update gate."""

    def mixed(self, n: Tensor, h: Tensor, both: Tensor, attention: Tensor) -> Tensor:
        u = torch.sigmoid(self.u(both))
        u = attention * u
        return (1.0 - u) * h + u * n


def bought() -> tuple[Any, ...]:
    return torch.randn(BATCH, STEPS, INPUT), torch.randn(BATCH, INPUT)


def attended(m: Any, note: Notes, x: Tensor, target: Tensor, scaled: bool) -> None:
    h = zeros(x)
    attention = torch.softmax(torch.einsum("bti,bi->bt", x, target), 1)
    for t in range(x.shape[1]):
        both, share = torch.cat([x[:, t], h], 1), attention[:, t, None]
        r = note("r", sigmoid(both @ m.r.weight.T + m.r.bias))
        new = x[:, t] @ m.x.weight.T + m.x.bias + r * (h @ m.h.weight.T + m.h.bias)
        n = note("n", tanh(new))
        u = note("z", sigmoid(both @ m.u.weight.T + m.u.bias)) if scaled else note("z", share, h)
        u = share * u if scaled else u
        h = mixed(note, 1 - u, u * n, h)


@species("AGRU", AGRU, bought)
def agru(m: Any, note: Notes, x: Tensor, target: Tensor) -> None:
    attended(m, note, x, target, False)


@species("AUGRU", AUGRU, bought)
def augru(m: Any, note: Notes, x: Tensor, target: Tensor) -> None:
    attended(m, note, x, target, True)


# -------------------------------------------------------------------------- lighter cells


class LiGRU(nn.Module):
    """A light GRU: one gate, relu, batch norm on the input (Ravanelli et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(INPUT, 2 * UNITS, False), nn.Linear(UNITS, 2 * UNITS, False)
        self.norm = nn.BatchNorm1d(2 * UNITS, momentum=0.05)

    def forward(self, x: Tensor) -> Tensor:
        w = self.w(x)
        w = self.norm(w.reshape(-1, 2 * UNITS)).reshape(w.shape)
        h, states = zeros(x), []
        for k in range(x.shape[1]):
            gates = w[:, k] + self.u(h)
            at, zt = gates.chunk(2, 1)
            zt = torch.sigmoid(zt)
            hcand = torch.relu(at)
            h = zt * h + (1 - zt) * hcand
            states.append(h)
        return torch.stack(states, dim=1)


@species("LiGRU", LiGRU, held="z n")
@species("LiGRU training", LiGRU, held="z n", training=True)
def li_gru(m: Any, note: Notes, x: Tensor) -> None:
    w = x @ m.w.weight.T
    flat = w.reshape(-1, 2 * UNITS)
    mean, var = flat.mean(0), flat.var(0, correction=0)
    if not m.training:
        mean, var = m.norm.running_mean, m.norm.running_var
    w = (w - mean) / (var + m.norm.eps).sqrt() * m.norm.weight + m.norm.bias
    h = zeros(x)
    for t in range(x.shape[1]):
        v = w[:, t] + h @ m.u.weight.T
        z, n = note("z", sigmoid(v[:, UNITS:])), note("n", v[:, :UNITS].clamp(min=0))
        h = mixed(note, z, (1 - z) * n, h)


class MinGRU(nn.Module):
    """Gates that read no state (Feng et al. 2024), step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.z, self.n = nn.Linear(INPUT, UNITS), nn.Linear(INPUT, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h, states = zeros(x), []
        for t in range(x.shape[1]):
            z = torch.sigmoid(self.z(x[:, t]))
            n = self.n(x[:, t])
            h = (1 - z) * h + z * n
            states.append(h)
        return torch.stack(states, 1)


class MinGRUAhead(MinGRU):
    """The same with its gates made before the loop."""

    def forward(self, x: Tensor) -> Tensor:
        z, n = torch.sigmoid(self.z(x)), self.n(x)
        h = zeros(x)
        for z_t, n_t in zip(z.unbind(1), n.unbind(1), strict=True):
            h = torch.lerp(h, n_t, z_t)
        return h


@species("MinGRU", MinGRU, held="z n")
@species("MinGRUAhead", MinGRUAhead, held="z n")
def min_gru(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x)
    for t in range(x.shape[1]):
        z = note("z", sigmoid(x[:, t] @ m.z.weight.T + m.z.bias))
        n = note("n", x[:, t] @ m.n.weight.T + m.n.bias)
        h = mixed(note, 1 - z, z * n, h)


class MGU(nn.Module):
    """One gate that forgets and resets (Zhou et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.n = nn.Linear(INPUT + UNITS, UNITS), nn.Linear(INPUT + UNITS, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t in range(x.shape[1]):
            f = torch.sigmoid(self.f(torch.cat([x[:, t], h], 1)))
            n = torch.tanh(self.n(torch.cat([x[:, t], f * h], 1)))
            h = (1 - f) * h + f * n
        return h


@species("MGU", MGU, held="z n")
def mgu(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x)
    for t in range(x.shape[1]):
        f = note("z", sigmoid(torch.cat([x[:, t], h], 1) @ m.f.weight.T + m.f.bias))
        n = note("n", tanh(torch.cat([x[:, t], f * h], 1) @ m.n.weight.T + m.n.bias))
        h = mixed(note, 1 - f, f * n, h)


class UGRNN(nn.Module):
    """One gate and no reset (Collins et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(INPUT + UNITS, 2 * UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t in range(x.shape[1]):
            g, c = self.both(torch.cat([x[:, t], h], 1)).chunk(2, 1)
            g, c = torch.sigmoid(g + 1.0), torch.tanh(c)
            h = g * h + (1 - g) * c
        return h


@species("UGRNN", UGRNN, held="z n")
def ugrnn(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x)
    for t in range(x.shape[1]):
        v = torch.cat([x[:, t], h], 1) @ m.both.weight.T + m.both.bias
        z, n = note("z", sigmoid(v[:, :UNITS] + 1)), note("n", tanh(v[:, UNITS:]))
        h = mixed(note, z, (1 - z) * n, h)


class PerGate(nn.Module):
    """A Linear for each gate, the reset before the product."""

    def __init__(self) -> None:
        super().__init__()
        self.update, self.reset, self.out = (nn.Linear(INPUT + UNITS, UNITS) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        state = zeros(x)
        for t in range(x.shape[1]):
            stacked = torch.cat([x[:, t], state], dim=1)
            update = torch.sigmoid(self.update(stacked))
            reset = torch.sigmoid(self.reset(stacked))
            out = torch.tanh(self.out(torch.cat([x[:, t], state * reset], dim=1)))
            state = state * (1 - update) + out * update
        return state


@species("PerGate", PerGate)
def per_gate(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x)
    for t in range(x.shape[1]):
        both = torch.cat([x[:, t], h], 1)
        z = note("z", sigmoid(both @ m.update.weight.T + m.update.bias))
        r = note("r", sigmoid(both @ m.reset.weight.T + m.reset.bias))
        both = torch.cat([x[:, t], r * h], 1)
        n = note("n", tanh(both @ m.out.weight.T + m.out.bias))
        h = mixed(note, 1 - z, z * n, h)


class ByHand(nn.Module):
    """A GRU from matrices, as textbooks write it ("Dive into Deep Learning", Zhang et al.)."""

    def __init__(self) -> None:
        super().__init__()
        for gate in "zrh":
            setattr(self, f"W_x{gate}", nn.Parameter(torch.randn(INPUT, UNITS) * 0.5))
            setattr(self, f"W_h{gate}", nn.Parameter(torch.randn(UNITS, UNITS) * 0.5))
            setattr(self, f"b_{gate}", nn.Parameter(torch.zeros(UNITS)))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        H, outputs = torch.zeros((len(inputs), UNITS)), []
        for X in inputs.transpose(0, 1):
            Z = torch.sigmoid((X @ self.W_xz) + (H @ self.W_hz) + self.b_z)
            R = torch.sigmoid((X @ self.W_xr) + (H @ self.W_hr) + self.b_r)
            H_tilde = torch.tanh((X @ self.W_xh) + ((R * H) @ self.W_hh) + self.b_h)
            H = Z * H + (1 - Z) * H_tilde
            outputs.append(H)
        return torch.cat(outputs, dim=0), H


@species("ByHand", ByHand)
def by_hand(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x)
    for t in range(x.shape[1]):
        z = note("z", sigmoid(x[:, t] @ m.W_xz + h @ m.W_hz + m.b_z))
        r = note("r", sigmoid(x[:, t] @ m.W_xr + h @ m.W_hr + m.b_r))
        n = note("n", tanh(x[:, t] @ m.W_xh + (r * h) @ m.W_hh + m.b_h))
        h = mixed(note, z, (1 - z) * n, h)


# --------------------------------------------------------- what a loop does to a GRU's state


class Zoneout(Plain):
    """Units keep their state at random (Krueger et al. 2017); without training, in part."""

    rate = 0.2

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t in range(x.shape[1]):
            new = self.step(x[:, t], h)
            if self.training:
                kept = torch.bernoulli(torch.full(new.shape, self.rate)).to(new.dtype)
                h = kept * h + (1 - kept) * new
            else:
                h = self.rate * h + (1 - self.rate) * new
        return h


@species("Zoneout", Zoneout)
@species("Zoneout training", Zoneout, training=True)
def zoneout(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x)
    for t in range(x.shape[1]):
        kept: Any = m.rate
        if m.training:
            kept = torch.bernoulli(torch.full(h.shape, m.rate)).to(h.dtype)
        i, k = x[:, t] @ m.x.weight.T + m.x.bias, h @ m.h.weight.T + m.h.bias
        (i_r, i_z, i_n), (k_r, k_z, k_n) = i.chunk(3, 1), k.chunk(3, 1)
        r, z = note("r", sigmoid(i_r + k_r)), note("z", sigmoid(i_z + k_z))
        n = note("n", tanh(i_n + r * k_n))
        h = mixed(note, kept + (1 - kept) * z, (1 - kept) * (1 - z) * n, h)


class MaskedWhere(Plain):
    """Steps behind a row's end leave its state as it is, by `where`."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        h = zeros(x)
        for t in range(x.shape[1]):
            h = torch.where(mask[:, t, None] > 0, self.step(x[:, t], h), h)
        return h


class MaskedProduct(Plain):
    """The same by products."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        h = zeros(x)
        for t in range(x.shape[1]):
            m = mask[:, t].unsqueeze(1)
            new = self.step(x[:, t], h)
            h = m * new + (1 - m) * h
        return h


class MaskedInPlace(Plain):
    """The same by `where` of another order and a method."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        h = zeros(x)
        for t in range(x.shape[1]):
            ended = mask[:, t : t + 1] == 0
            h = h.where(ended, self.step(x[:, t], h))
        return h


def lengths() -> tuple[Any, ...]:
    ends = torch.tensor([STEPS, 4, 6])
    return (*numbers(), (torch.arange(STEPS) < ends[:, None]).float())


@species("MaskedWhere", MaskedWhere, lengths)
@species("MaskedProduct", MaskedProduct, lengths)
@species("MaskedInPlace", MaskedInPlace, lengths)
def masked(m: Any, note: Notes, x: Tensor, mask: Tensor) -> None:
    h = zeros(x)
    for t in range(x.shape[1]):
        on = mask[:, t, None]
        i, k = x[:, t] @ m.x.weight.T + m.x.bias, h @ m.h.weight.T + m.h.bias
        (i_r, i_z, i_n), (k_r, k_z, k_n) = i.chunk(3, 1), k.chunk(3, 1)
        r, z = note("r", sigmoid(i_r + k_r)), note("z", sigmoid(i_z + k_z))
        n = note("n", tanh(i_n + r * k_n))
        h = mixed(note, 1 - on + on * z, on * (1 - z) * n, h)


class GRUODE(nn.Module):
    """The change of a state by time (De Brouwer et al. 2019), added up by Euler's rule."""

    def __init__(self) -> None:
        super().__init__()
        self.ode, self.dt = ODECell(), 0.1

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t in range(x.shape[1]):
            h = h + self.dt * self.ode(x[:, t], h)
        return h


class ODECell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(INPUT, 3 * UNITS), nn.Linear(UNITS, 2 * UNITS, False)
        self.n = nn.Linear(UNITS, UNITS, False)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        x_r, x_z, x_n = self.x(x).chunk(3, 1)
        h_r, h_z = self.h(h).chunk(2, 1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        u = torch.tanh(x_n + self.n(r * h))
        dh = (1 - z) * (u - h)
        return dh


@species("GRUODE", GRUODE, layers=("cell",))
def gru_ode(m: Any, note: Notes, x: Tensor) -> None:
    h, c = zeros(x), m.ode
    for t in range(x.shape[1]):
        i_r, i_z, i_n = (x[:, t] @ c.x.weight.T + c.x.bias).chunk(3, 1)
        k_r, k_z = (h @ c.h.weight.T).chunk(2, 1)
        r, z = note("r", sigmoid(i_r + k_r)), note("z", sigmoid(i_z + k_z))
        n = note("n", tanh(i_n + (r * h) @ c.n.weight.T))
        h = mixed(note, 1 - m.dt * (1 - z), m.dt * (1 - z) * n, h)


class Clipped(Plain):
    """States that are clipped after the step; the mix is what stands before that."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t in range(x.shape[1]):
            h = torch.clamp(self.step(x[:, t], h), -0.2, 0.2)
        return h


@species("Clipped", Clipped)
def clipped(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x)
    for t in range(x.shape[1]):
        i, k = x[:, t] @ m.x.weight.T + m.x.bias, h @ m.h.weight.T + m.h.bias
        (i_r, i_z, i_n), (k_r, k_z, k_n) = i.chunk(3, 1), k.chunk(3, 1)
        r, z = note("r", sigmoid(i_r + k_r)), note("z", sigmoid(i_z + k_z))
        n = note("n", tanh(i_n + r * k_n))
        h = note("h", (note("a", z) * h + note("b", (1 - z) * n)).clamp(-0.2, 0.2))


# --------------------------------------------------------------------------------- LSTMs


class CoupledLSTM(nn.Module):
    """An LSTM whose input gate is one minus its forget gate (CIFG, Greff et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(INPUT + UNITS, 3 * UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = c = zeros(x)
        for t in range(x.shape[1]):
            f, o, g = self.both(torch.cat([x[:, t], h], 1)).chunk(3, 1)
            f, o, g = torch.sigmoid(f), torch.sigmoid(o), torch.tanh(g)
            c = f * c + (1 - f) * g
            h = o * torch.tanh(c)
        return h


@species("CoupledLSTM", CoupledLSTM, held="f g o")
def coupled_lstm(m: Any, note: Notes, x: Tensor) -> None:
    h = c = zeros(x)
    for t in range(x.shape[1]):
        v = torch.cat([x[:, t], h], 1) @ m.both.weight.T + m.both.bias
        f, o = note("f", sigmoid(v[:, :UNITS])), note("o", sigmoid(v[:, UNITS : 2 * UNITS]))
        g = note("g", tanh(v[:, 2 * UNITS :]))
        c = note("c", note("a", f) * c + note("b", (1 - f) * g))
        h = note("h", o * tanh(c))


class PeepholeLSTM(nn.Module):
    """An LSTM whose gates see its cell state (Gers and Schmidhuber 2000)."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = PeepholeCell()

    def forward(self, x: Tensor) -> Tensor:
        state = zeros(x), zeros(x)
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return state[0]


class PeepholeCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(INPUT + UNITS, 4 * UNITS)
        self.peep = nn.Parameter(torch.randn(3, UNITS))

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = state
        i, f, g, o = torch.chunk(self.both(torch.cat((x, h), 1)), 4, 1)
        i = torch.sigmoid(i + self.peep[0] * c)
        f = torch.sigmoid(f + self.peep[1] * c)
        c = f * c + i * torch.tanh(g)
        o = torch.sigmoid(o + self.peep[2] * c)
        return o * torch.tanh(c), c


@species("PeepholeLSTM", PeepholeLSTM, held="f i g o")
def peephole(m: Any, note: Notes, x: Tensor) -> None:
    h, c, m = zeros(x), zeros(x), m.cell
    for t in range(x.shape[1]):
        v = torch.cat([x[:, t], h], 1) @ m.both.weight.T + m.both.bias
        v_i, v_f, v_g, v_o = v.chunk(4, 1)
        i, f = note("i", sigmoid(v_i + m.peep[0] * c)), note("f", sigmoid(v_f + m.peep[1] * c))
        g = note("g", tanh(v_g))
        c = note("c", note("a", f) * c + note("b", i * g))
        h = note("h", note("o", sigmoid(v_o + m.peep[2] * c)) * tanh(c))


# ------------------------------------------------------------------- additive recurrences


class RAN(nn.Module):
    """A recurrent additive network: the candidate reads no state (Lee et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.new = nn.Linear(INPUT + UNITS, 2 * UNITS), nn.Linear(INPUT, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = c = zeros(x)
        for t in range(x.shape[1]):
            i, f = torch.sigmoid(self.gates(torch.cat([x[:, t], h], 1))).chunk(2, 1)
            g = self.new(x[:, t])
            c = i * g + f * c
            h = torch.tanh(c)
        return h


@species("RAN", RAN, held="i f g")
def ran(m: Any, note: Notes, x: Tensor) -> None:
    h = c = zeros(x)
    for t in range(x.shape[1]):
        v = sigmoid(torch.cat([x[:, t], h], 1) @ m.gates.weight.T + m.gates.bias)
        i, f = note("i", v[:, :UNITS]), note("f", v[:, UNITS:])
        g = note("g", x[:, t] @ m.new.weight.T + m.new.bias)
        c = note("c", note("a", f) * c + note("b", i * g))
        h = note("h", tanh(c))


class LeakyRNN(nn.Module):
    """Leaky units of one time constant (Jaeger et al. 2007)."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h, self.alpha = nn.Linear(INPUT, UNITS), nn.Linear(UNITS, UNITS), 0.2

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t in range(x.shape[1]):
            h = (1 - self.alpha) * h + self.alpha * torch.tanh(self.x(x[:, t]) + self.h(h))
        return h


@species("LeakyRNN", LeakyRNN, held="")
def leaky(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x)
    for t in range(x.shape[1]):
        n = tanh(x[:, t] @ m.x.weight.T + m.x.bias + h @ m.h.weight.T + m.h.bias)
        h = mixed(note, torch.tensor(0.8, dtype=h.dtype), 0.2 * n, h)


class LearnedLeak(LeakyRNN):
    """Leaky units, each with a learned time constant."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.randn(UNITS))

    def forward(self, x: Tensor) -> Tensor:
        alpha, h = torch.sigmoid(self.rate), zeros(x)
        for t in range(x.shape[1]):
            n = torch.relu(self.x(x[:, t]) + self.h(h))
            h = (1 - alpha) * h + alpha * n
        return h


@species("LearnedLeak", LearnedLeak, held="z n")
def learned_leak(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x)
    for t in range(x.shape[1]):
        n = x[:, t] @ m.x.weight.T + m.x.bias + h @ m.h.weight.T + m.h.bias
        z, n = note("z", sigmoid(m.rate), h), note("n", n.clamp(min=0))
        h = mixed(note, 1 - z, z * n, h)


class SRU(nn.Module):
    """A simple recurrent unit, whose gates see the state unit by unit (Lei et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(INPUT, 3 * INPUT)
        self.v = nn.Parameter(torch.randn(2, INPUT))

    def forward(self, x: Tensor) -> Tensor:
        u_n, u_f, u_r = self.w(x).chunk(3, -1)
        c, outputs = zeros(x, INPUT), []
        for t in range(x.shape[1]):
            f = torch.sigmoid(u_f[:, t] + self.v[0] * c)
            r = torch.sigmoid(u_r[:, t] + self.v[1] * c)
            c = f * c + (1 - f) * u_n[:, t]
            outputs.append(r * c + (1 - r) * x[:, t])
        return torch.stack(outputs, 1)


@species("SRU", SRU, held="z n")
def sru(m: Any, note: Notes, x: Tensor) -> None:
    c = zeros(x, INPUT)
    for t in range(x.shape[1]):
        u_n, u_f, _ = (x[:, t] @ m.w.weight.T + m.w.bias).chunk(3, -1)
        z, n = note("z", sigmoid(u_f + m.v[0] * c)), note("n", u_n)
        c = mixed(note, z, (1 - z) * n, c)


class QRNN(nn.Module):
    """Pooling of what convolutions made (Bradbury et al. 2017): f-pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(INPUT, 3 * UNITS, 2)

    def forward(self, x: Tensor) -> Tensor:
        v = self.conv(F.pad(x.transpose(1, 2), (1, 0))).transpose(1, 2)
        z, f, o = v.chunk(3, -1)
        return self.pooled(torch.tanh(z), torch.sigmoid(f), torch.sigmoid(o), zeros(x))

    def pooled(self, z: Tensor, f: Tensor, o: Tensor, h: Tensor) -> Tensor:
        for t in range(z.shape[1]):
            h = f[:, t] * h + (1 - f[:, t]) * z[:, t]
        return h


class QRNNOut(QRNN):
    """fo-pooling, the gates taken apart before the loop."""

    def pooled(self, z: Tensor, f: Tensor, o: Tensor, h: Tensor) -> Tensor:
        states, c = [], h
        for z_t, f_t, o_t in zip(z.unbind(1), f.unbind(1), o.unbind(1), strict=True):
            c = f_t * c + (1 - f_t) * z_t
            states.append(o_t * c)
        return torch.stack(states, 1)


@species("QRNN", QRNN, held="z n")
@species("QRNNOut", QRNNOut, held="z n")
def qrnn(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x)
    padded = torch.cat([x[:, :1] * 0, x], 1)
    for t in range(x.shape[1]):
        v = padded[:, t] @ m.conv.weight[..., 0].T + padded[:, t + 1] @ m.conv.weight[..., 1].T
        v = v + m.conv.bias
        n, z = note("n", tanh(v[:, :UNITS])), note("z", sigmoid(v[:, UNITS : 2 * UNITS]))
        h = mixed(note, z, (1 - z) * n, h)


class GatedLinear(nn.Module):
    """Linear attention with a gate by channel (GLA, Yang et al. 2024): its state is a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.k, self.v, self.q, self.g = (nn.Linear(INPUT, 3) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        S, outputs = zeros(x, 3, 3), []
        for t in range(x.shape[1]):
            k, v, q = self.k(x[:, t]), self.v(x[:, t]), self.q(x[:, t])
            decay = torch.sigmoid(self.g(x[:, t])).unsqueeze(-1)
            S = decay * S + k.unsqueeze(-1) * v.unsqueeze(-2)
            outputs.append(torch.einsum("bk,bkv->bv", q, S))
        return torch.stack(outputs, 1)


@species("GatedLinear", GatedLinear, held="")
def gated_linear(m: Any, note: Notes, x: Tensor) -> None:
    S = zeros(x, 3, 3)
    for t in range(x.shape[1]):
        k, v = m.k(x[:, t]), m.v(x[:, t])
        S = mixed(note, sigmoid(m.g(x[:, t]))[:, :, None], k[:, :, None] * v[:, None], S)


class Selective(nn.Module):
    """A selective state space (Mamba, Gu and Dao 2023): a diagonal step that the input sets."""

    def __init__(self) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.randn(INPUT, 2) * 0.3)
        self.dt, self.B, self.C = nn.Linear(INPUT, INPUT), nn.Linear(INPUT, 2), nn.Linear(INPUT, 2)

    def forward(self, x: Tensor) -> Tensor:
        delta, A = F.softplus(self.dt(x)), -torch.exp(self.A)
        B, C = self.B(x), self.C(x)
        dA = torch.exp(delta[..., None] * A)
        dBx = delta[..., None] * B[:, :, None] * x[..., None]
        h, ys = zeros(x, INPUT, 2), []
        for t in range(x.shape[1]):
            h = dA[:, t] * h + dBx[:, t]
            ys.append(torch.einsum("bdn,bn->bd", h, C[:, t]))
        return torch.stack(ys, 1)


@species("Selective", Selective, held="")
def selective(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x, INPUT, 2)
    for t in range(x.shape[1]):
        now = x[:, t]
        dt = torch.log1p(torch.exp(m.dt(now)))[..., None]
        a = torch.exp(-dt * torch.exp(m.A))
        h = mixed(note, a, dt * m.B(now)[:, None] * now[..., None], h)


class RGLRU(nn.Module):
    """A real-gated linear recurrent unit (Griffin, De et al. 2024)."""

    def __init__(self) -> None:
        super().__init__()
        self.r, self.i = nn.Linear(INPUT, INPUT), nn.Linear(INPUT, INPUT)
        self.power = nn.Parameter(torch.randn(INPUT))

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x, INPUT)
        for t in range(x.shape[1]):
            r, i = torch.sigmoid(self.r(x[:, t])), torch.sigmoid(self.i(x[:, t]))
            log_a = -8 * r * F.softplus(self.power)
            a = torch.exp(log_a)
            h = a * h + torch.sqrt(1 - a**2) * (i * x[:, t])
        return h


@species("RGLRU", RGLRU, held="")
def rg_lru(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x, INPUT)
    for t in range(x.shape[1]):
        now = x[:, t]
        a = torch.exp(-8 * sigmoid(m.r(now)) * torch.log1p(torch.exp(m.power)))
        h = mixed(note, a, (1 - a * a).sqrt() * sigmoid(m.i(now)) * now, h)


class RWKV(nn.Module):
    """The time mixing of RWKV-4 in its plain form (Peng et al. 2023): two sums that decay."""

    def __init__(self) -> None:
        super().__init__()
        self.k, self.v, self.r = (nn.Linear(INPUT, UNITS) for _ in range(3))
        self.decay, self.first = nn.Parameter(torch.randn(UNITS)), nn.Parameter(torch.randn(UNITS))

    def forward(self, x: Tensor) -> Tensor:
        num, den, out = zeros(x), zeros(x), []
        for t in range(x.shape[1]):
            k, v, r = self.k(x[:, t]), self.v(x[:, t]), torch.sigmoid(self.r(x[:, t]))
            w = torch.exp(-torch.exp(self.decay))
            now = torch.exp(self.first + k)
            out.append(r * (num + now * v) / (den + now))
            num = w * num + torch.exp(k) * v
            den = w * den + torch.exp(k)
        return torch.stack(out, 1)


@species("RWKV", RWKV, held="", layers=("cell.num", "cell.den"))
def rwkv(m: Any, note: Notes, x: Tensor) -> None:
    num, den = zeros(x), zeros(x)
    w = torch.exp(-torch.exp(m.decay))
    for t in range(x.shape[1]):
        k, v = m.k(x[:, t]), m.v(x[:, t])
        num = mixed(note, w, torch.exp(k) * v, num, "0:")
        den = mixed(note, w, torch.exp(k), den, "1:")


# -------------------------------------------------------------- what the code around does


class Returned(Plain):
    """A step that returns its gates too, and a loop that gives them names of its own."""

    def forward(self, x: Tensor) -> dict[str, Any]:  # type: ignore[override]
        h, seen = zeros(x), []
        for t in range(x.shape[1]):
            h, z = self.both(x[:, t], h)
            seen.append(z)
        return {"h": h, "z": seen}

    def both(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        i, k = self.x(x).unflatten(1, (3, UNITS)), self.h(h).unflatten(1, (3, UNITS))
        r, z = torch.sigmoid(i[:, :2] + k[:, :2]).unbind(1)
        n = torch.tanh(i[:, 2] + r * k[:, 2])
        return z * h + (1 - z) * n, z


class Dropped(Plain):
    """Dropout on the input and on the output, which is off; the state goes through `contiguous`."""

    def forward(self, x: Tensor) -> Tensor:
        h, states = zeros(x), []
        for t in range(x.shape[1]):
            h = self.step(F.dropout(x[:, t], 0.3, self.training), h).contiguous()
            states.append(F.dropout(h, 0.3, self.training))
        return torch.stack(states, 1)


class Named(Plain):
    """Arguments by name throughout."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        x_r, x_z, x_n = torch.chunk(input=self.x(x), chunks=3, dim=1)
        h_r, h_z, h_n = torch.chunk(input=self.h(h), chunks=3, dim=1)
        r, z = torch.sigmoid(input=x_r + h_r), torch.sigmoid(input=x_z + h_z)
        n = torch.tanh(input=torch.add(input=x_n, other=torch.mul(input=r, other=h_n)))
        return torch.add(input=torch.mul(input=z, other=h),
                         other=torch.mul(input=torch.sub(input=torch.ones_like(z), other=z),
                                         other=n))  # fmt: skip


class Kept(Plain):
    """The state lives on the module, and is detached after every step."""

    def forward(self, x: Tensor) -> Tensor:
        self.state = zeros(x)
        for t in range(x.shape[1]):
            self.state = self.step(x[:, t], self.state).detach()
        out, self.state = self.state, None
        return out


class Scripted(Plain):
    """A mix in a function of its own, with other names for everything."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        a, b = self.x(x), self.h(h)
        u = UNITS
        opened = (a[:, u : 2 * u] + b[:, u : 2 * u]).sigmoid()
        new = (a[:, 2 * u :] + (a[:, :u] + b[:, :u]).sigmoid() * b[:, 2 * u :]).tanh()
        return blended(new, h, opened)


def blended(fresh: Tensor, old: Tensor, share: Tensor) -> Tensor:
    return fresh - share * fresh + share * old


species("Returned", Returned)(gru)
species("Dropped", Dropped)(gru)
species("Named", Named)(gru)
species("Kept", Kept)(gru)
species("Scripted", Scripted)(gru)


class Attention(nn.Module):
    """A GRU decoder that reads what it attends to: another loop of products around the cell."""

    def __init__(self) -> None:
        super().__init__()
        weights = Plain()
        weights.x = nn.Linear(INPUT + UNITS, 3 * UNITS)
        self.cell, self.keys = PlainStep(weights), nn.Linear(INPUT, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        keys = self.keys(x)
        h = torch.tanh(keys.mean(1))
        for t in range(x.shape[1]):
            scores = torch.softmax((keys @ h.unsqueeze(-1)).squeeze(-1), -1)
            context = (scores.unsqueeze(1) @ keys).squeeze(1)
            h = self.cell(torch.cat([x[:, t], context], -1), h)
        return h


@species("Attention", Attention)
def attention(m: Any, note: Notes, x: Tensor) -> None:
    keys = m.keys(x)
    h = tanh(keys.mean(1))
    for t in range(x.shape[1]):
        scores = torch.softmax(torch.einsum("btu,bu->bt", keys, h), -1)
        context = torch.einsum("bt,btu->bu", scores, keys)
        h = gru_step(m.cell, note, torch.cat([x[:, t], context], -1), h)


class Unbatched(Plain):
    """A state of units alone, with no axis for rows."""

    def forward(self, x: Tensor) -> Tensor:
        h, states = x.new_zeros(UNITS), []
        for now in x:
            h = self.step(now.unsqueeze(0), h.unsqueeze(0)).squeeze(0)
            states.append(h)
        return torch.stack(states)


class UnbatchedThroughout(Unbatched):
    """The same with no axis for rows anywhere."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(UNITS)
        for now in x:
            i, k = self.x(now).chunk(3), self.h(h).chunk(3)
            r, z = torch.sigmoid(i[0] + k[0]), torch.sigmoid(i[1] + k[1])
            h = z * h + (1 - z) * torch.tanh(i[2] + r * k[2])
        return h


def row() -> tuple[Any, ...]:
    return (torch.randn(STEPS, INPUT),)


@species("Unbatched", Unbatched, row, rows=False)
@species("UnbatchedThroughout", UnbatchedThroughout, row, rows=False)
def unbatched(m: Any, note: Notes, x: Tensor) -> None:
    gru(m, note, x.unsqueeze(0))


class KeptTime(Plain):
    """A state that keeps an axis of one step."""

    def forward(self, x: Tensor) -> Tensor:
        h, states = zeros(x, 1, UNITS), []
        for t in range(x.shape[1]):
            i, k = self.x(x[:, t : t + 1]).chunk(3, -1), self.h(h).chunk(3, -1)
            r, z = torch.sigmoid(i[0] + k[0]), torch.sigmoid(i[1] + k[1])
            n = torch.tanh(i[2] + r * k[2])
            h = (1 - z) * n + z * h
            states.append(h)
        return torch.cat(states, 1)


species("KeptTime", KeptTime)(gru)


class Heads(nn.Module):
    """One gate a head (batch, head, 1) over a state (batch, head, channel)."""

    def __init__(self) -> None:
        super().__init__()
        self.new, self.gate = nn.Linear(INPUT, 6), nn.Linear(INPUT + 6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x, 2, 3)
        for now in x.unbind(1):
            gate = torch.sigmoid(self.gate(torch.cat([now, h.flatten(1)], 1)))[..., None]
            h = gate * h + (1 - gate) * self.new(now).view(-1, 2, 3)
        return h


@species("Heads", Heads, held="n")
def heads(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x, 6)
    for t in range(x.shape[1]):
        v = torch.cat([x[:, t], h], 1) @ m.gate.weight.T + m.gate.bias
        z = note("z", sigmoid(v).repeat_interleave(3, 1))
        n = note("n", x[:, t] @ m.new.weight.T + m.new.bias)
        h = mixed(note, z, (1 - z) * n, h)


class Accumulated(Plain):
    """A loop that Python makes."""

    def forward(self, x: Tensor) -> Tensor:
        every = itertools.accumulate(x.unbind(1), lambda h, v: self.step(v, h), initial=zeros(x))
        return torch.stack([*every][1:], 1)


species("Accumulated", Accumulated)(gru)


class LearnedStart(Plain):
    """Starts anew from a learned state wherever a row begins a new episode."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(UNITS))

    def forward(self, x: Tensor, first: Tensor) -> Tensor:  # type: ignore[override]
        h = self.start.expand(len(x), -1)
        for t in range(x.shape[1]):
            new = first[:, t, None]
            h = self.step(x[:, t], new * self.start + (1 - new) * h)
        return h


@species("LearnedStart", LearnedStart, episodes)
def learned_start(m: Any, note: Notes, x: Tensor, first: Tensor) -> None:
    h = m.start.expand(len(x), -1)
    for t in range(x.shape[1]):
        new = first[:, t, None]
        before = new * m.start + (1 - new) * h
        i, k = x[:, t] @ m.x.weight.T + m.x.bias, before @ m.h.weight.T + m.h.bias
        (i_r, i_z, i_n), (k_r, k_z, k_n) = i.chunk(3, 1), k.chunk(3, 1)
        r, z = note("r", sigmoid(i_r + k_r)), note("z", sigmoid(i_z + k_z))
        n = note("n", tanh(i_n + r * k_n))
        h = mixed(note, z * (1 - new), z * new * m.start + (1 - z) * n, h)


class Writing(nn.Module):
    """A memory that is erased and written (NTM, Graves et al. 2014)."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.a, self.w = nn.Linear(INPUT, 3), nn.Linear(INPUT, 3), nn.Linear(INPUT, 2)

    def forward(self, x: Tensor) -> Tensor:
        memory = zeros(x, 2, 3) + 0.1
        for now in x.unbind(1):
            w = torch.softmax(self.w(now), -1)
            e, a = torch.sigmoid(self.e(now)), torch.tanh(self.a(now))
            memory = memory * (1 - w.unsqueeze(2) * e.unsqueeze(1)) + w.unsqueeze(2) * a.unsqueeze(
                1
            )
        return memory


@species("Writing", Writing, held="")
def writing(m: Any, note: Notes, x: Tensor) -> None:
    h = zeros(x, 2, 3) + 0.1
    for now in x.unbind(1):
        w = torch.softmax(m.w(now), -1)[:, :, None]
        e, a = sigmoid(m.e(now))[:, None], tanh(m.a(now))[:, None]
        h = mixed(note, 1 - w * e, w * a, h)


class StableLSTM(nn.Module):
    """The cell of xLSTM with scalar memory (sLSTM, Beck et al. 2024), no stabiliser."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(INPUT + UNITS, 4 * UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = c = n = zeros(x)
        for t in range(x.shape[1]):
            i, f, z, o = self.w(torch.cat([x[:, t], h], 1)).chunk(4, 1)
            i, f = torch.exp(i), torch.sigmoid(f)
            c = f * c + i * torch.tanh(z)
            n = f * n + i
            h = torch.sigmoid(o) * (c / n)
        return h


@species("StableLSTM", StableLSTM, layers=("cell.c", "cell.n"), held="0:f")
def stable(m: Any, note: Notes, x: Tensor) -> None:
    h, c, n = zeros(x), zeros(x), zeros(x)
    for t in range(x.shape[1]):
        v_i, v_f, v_z, v_o = (torch.cat([x[:, t], h], 1) @ m.w.weight.T + m.w.bias).chunk(4, 1)
        i, f = torch.exp(v_i), note("0:f", sigmoid(v_f))
        c = note("0:state", note("0:a", f) * c + note("0:b", i * tanh(v_z)))
        n = note("1:state", note("1:a", f) * n + note("1:b", i))
        h = sigmoid(v_o) * c / n


# ------------------------------------------------------------------------ what is no such cell


class NoGate(nn.Module):
    """An Elman network: a new state at every step, no share of the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(INPUT + UNITS, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for now in x.unbind(1):
            h = torch.tanh(self.both(torch.cat([now, h], 1)))
        return h


class Summed(nn.Module):
    """A sum over time."""

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros_like(x[:, 0])
        for now in x.unbind(1):
            total = total + now
        return total


class Residual(nn.Module):
    """Layers one above the other, no time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(INPUT, INPUT) for _ in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + torch.relu(layer(x))
        return x


class Highway(nn.Module):
    """Gated layers one above the other, no time (Srivastava et al. 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(INPUT, 2 * INPUT) for _ in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            gate, new = layer(x).chunk(2, -1)
            gate = torch.sigmoid(gate)
            x = gate * torch.relu(new) + (1 - gate) * x
        return x


class Beam(Plain):
    """The rows change places at every step."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for now in x.unbind(1):
            h = self.step(now, h)
            h = h[h.sum(1).argsort()]
        return h


class Elsewhere(Plain):
    """Its state leaves torch at every step."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for now in x.unbind(1):
            h = self.step(now, torch.from_numpy(h.detach().numpy() * 0.9))
        return h


class Changing(Plain):
    """Another law at every other step."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t, now in enumerate(x.unbind(1)):
            new = self.step(now, h)
            h = new if t % 2 else 0.5 * new + 0.5 * h
        return h


class Rotated(nn.Module):
    """Units that are turned among each other: no unit keeps its own state."""

    def __init__(self) -> None:
        super().__init__()
        self.turn, self.x = nn.Linear(UNITS, UNITS, False), nn.Linear(INPUT, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for now in x.unbind(1):
            gate = torch.sigmoid(self.x(now))
            h = gate * self.turn(h) + (1 - gate) * torch.tanh(self.x(now))
        return h


REFUSED = (NoGate, Summed, Residual, Highway, Beam, Elsewhere, Changing, Rotated)
