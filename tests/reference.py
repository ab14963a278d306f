"""A second GRU, written from the formulas alone: float64, one row, one step, one unit vector at a
time. It is slow on purpose and knows nothing of grulens, so that the two can disagree.

An edit is here a tuple (kind, signal, touched, amount): `touched(row, time)` gives a bool mask
(unit,), `amount(row, time)` the numbers (unit,) it uses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn


class Weights(NamedTuple):
    """One direction of one layer."""

    ih: np.ndarray
    hh: np.ndarray
    b_ih: np.ndarray
    b_hh: np.ndarray


class Change(NamedTuple):
    """An edit as this file understands it."""

    kind: str  # set, multiply, add
    signal: str
    touched: Callable[[int, int], np.ndarray]
    amount: Callable[[int, int], np.ndarray]


def sigmoid(v: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-v))


def weights(module: nn.GRU | nn.GRUCell, suffix: str) -> Weights:
    """The weights of one layer of a module, biases that are absent as zeros."""

    def array(name: str) -> np.ndarray:
        value = getattr(module, name + suffix, None)
        if value is None:
            return np.zeros(3 * module.hidden_size)
        return value.detach().double().numpy()

    return Weights(*(array(n) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")))


def step(
    w: Weights,
    x: np.ndarray,
    h_prev: np.ndarray,
    changes: Sequence[Change] = (),
    row: int = 0,
    time: int = 0,
    *,
    reset_after: bool = True,
    gate: Callable[[np.ndarray], np.ndarray] = sigmoid,
    candidate: Callable[[np.ndarray], np.ndarray] = np.tanh,
) -> dict[str, np.ndarray]:
    """One step of one row: r, edited; z and n, edited; h, edited."""
    H = len(h_prev)
    W_ir, W_iz, W_in = w.ih[:H], w.ih[H : 2 * H], w.ih[2 * H :]
    W_hr, W_hz, W_hn = w.hh[:H], w.hh[H : 2 * H], w.hh[2 * H :]
    b_ir, b_iz, b_in = w.b_ih[:H], w.b_ih[H : 2 * H], w.b_ih[2 * H :]
    b_hr, b_hz, b_hn = w.b_hh[:H], w.b_hh[H : 2 * H], w.b_hh[2 * H :]

    def before(signal: str, pre: np.ndarray) -> np.ndarray:
        for change in changes:
            if change.signal == signal and change.kind == "add":
                where = change.touched(row, time)
                pre = np.where(where, pre + change.amount(row, time), pre)
        return pre

    def after(signal: str, value: np.ndarray) -> np.ndarray:
        for change in changes:
            if change.signal != signal or (change.kind == "add" and signal != "h"):
                continue
            amount = change.amount(row, time)
            new = {"set": amount + 0 * value, "multiply": value * amount, "add": value + amount}
            value = np.where(change.touched(row, time), new[change.kind], value)
        return value

    r = after("r", gate(before("r", W_ir @ x + b_ir + W_hr @ h_prev + b_hr)))
    z = after("z", gate(before("z", W_iz @ x + b_iz + W_hz @ h_prev + b_hz)))
    if reset_after:
        pre_n = W_in @ x + b_in + r * (W_hn @ h_prev + b_hn)
    else:
        pre_n = W_in @ x + b_in + W_hn @ (r * h_prev) + b_hn
    n = after("n", candidate(before("n", pre_n)))
    h = after("h", (1 - z) * n + z * h_prev)
    return {"x": x, "h_prev": h_prev, "r": r, "z": z, "n": n, "h": h}


def layer(
    w: Weights,
    x: np.ndarray,
    h_0: np.ndarray,
    lengths: Sequence[int],
    changes: Sequence[Change] = (),
    *,
    backwards: bool = False,
    **convention: object,
) -> dict[str, np.ndarray]:
    """One direction of one layer: every signal (batch, time, unit), zero past a row's end."""
    batch, steps, _ = x.shape
    H = h_0.shape[1]
    found = {s: np.zeros((batch, steps, H)) for s in ("h_prev", "r", "z", "n", "h")}
    found["x"] = np.zeros_like(x)
    found["last"] = np.zeros((batch, H))
    for row in range(batch):
        h = h_0[row]
        times = range(lengths[row])
        for time in reversed(times) if backwards else times:
            here = step(w, x[row, time], h, changes, row, time, **convention)
            for signal, value in here.items():
                found[signal][row, time] = value
            h = here["h"]
        found["last"][row] = h
    return found


def model(
    module: nn.GRU,
    x: torch.Tensor,
    h_0: torch.Tensor | None,
    lengths: Sequence[int],
    changes: dict[str, Sequence[Change]] | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Every layer of a whole nn.GRU by name (without dropout), from rows (batch, time, input)."""
    changes = changes or {}
    directions = 2 if module.bidirectional else 1
    if h_0 is None:
        h_0 = torch.zeros(module.num_layers * directions, len(x), module.hidden_size)
    start = h_0.detach().double().numpy()
    rows = x.detach().double().numpy()
    found = {}
    for level in range(module.num_layers):
        outputs = []
        for direction in range(directions):
            name = f"l{level}{'_reverse' if direction else ''}"
            found[name] = layer(
                weights(module, f"_{name}"),
                rows,
                start[level * directions + direction],
                lengths,
                changes.get(name, ()),
                backwards=bool(direction),
            )
            outputs.append(found[name]["h"])
        rows = np.concatenate(outputs, axis=2)
    return found
