"""The network that runs in a saved page, in a real browser, against torch: drawn networks."""

from __future__ import annotations

import random
from importlib.resources import files
from typing import Any

import pytest
import torch
from torch import Tensor

from grulens.cells import activations
from grulens.cells.cell import RecurrentCell
from grulens.cells.changes import Change, Program, reverse
from grulens.cells.kinds.gru import Cell
from grulens.cells.kinds.lstm import LSTM
from grulens.cells.kinds.rnn import RNN
from grulens.cells.unroll import unroll
from grulens.widgets.session.described import Read, Stacked, describe

pytestmark = pytest.mark.browser

ENGINE = files("grulens.views.page") / "engine.js"
RUN = """(cases) => cases.map(({network, arrays, input, edits}) => {
  const made = new grulensEngine.Network(network, grulensEngine.unpacked(arrays));
  const before = made.run(input);
  const seen = ({layers, answer}) => [
    ...Object.values(layers).map(({signals}) =>
      Object.fromEntries(Object.entries(signals).map(([name, of]) => [name, [...of]]))),
    [...answer]];
  return [seen(before), seen(made.run(input, edits, before)), seen(made.run(input, edits))];
})"""
GATES = (
    torch.sigmoid, torch.nn.functional.hardsigmoid, activations.HardSigmoid(),
    activations.Clipped(torch.sigmoid, 0.7), activations.Affine(0.1, 0.4),
)  # fmt: skip
CANDIDATES = (
    torch.tanh, torch.relu, activations.identity, activations.ScaledTanh(0.9, 1.1),
    activations.LeakyRelu(0.1), activations.ThresholdedRelu(0.2), activations.Elu(0.7),
)  # fmt: skip


def drawn(seed: int) -> tuple[dict[str, Any], list[list[Any]]]:
    """A network with an input and edits for the page, and what torch says of both runs."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    size, steps, kind = draw.randint(1, 5), draw.randint(1, 9), draw.choice(("GRU", "RNN", "LSTM"))
    layers: list[Stacked] = []
    below: list[str] = []
    width = size
    for level in range(draw.randint(1, 3)):
        units = draw.randint(1, 7)
        names = [f"l{level}", f"l{level}_reverse"][: draw.randint(1, 2)]
        for name in names:
            cell = _cell(draw, kind, width, units)
            start = torch.randn(units * len(cell.states)) / 2 if draw.random() < 0.5 else None
            layers.append(Stacked(name, cell, tuple(below), name.endswith("reverse"), start))
        below, width = names, units * len(names)
    each = draw.random() < 0.5
    units_of = {layer.name: layer.cell.hidden_size for layer in layers}
    weights = {name: torch.randn(3, units_of[name]) / 2 for name in below}
    head = Read(weights, torch.randn(3), each)
    table = torch.randn(6, size) if draw.random() < 0.5 else None
    tokens = [draw.randrange(6) for _ in range(steps)]
    x = torch.randn(steps, size) if table is None else table[tokens]
    edits, changes = _edits(draw, layers, steps)
    made = describe(layers, size, table, head)
    case = {
        "network": made.network,
        "arrays": made.packed("f4"),
        "input": x.flatten().tolist() if table is None else tokens,
        "edits": edits,
    }
    return case, [_torch(layers, head, x, None), _torch(layers, head, x, changes)]


def _cell(draw: random.Random, kind: str, width: int, units: int) -> RecurrentCell:
    blocks = {"GRU": 3, "RNN": 1, "LSTM": 4}[kind] * units
    first, second = (torch.randn(blocks) / 2 if draw.random() < 0.8 else None for _ in range(2))
    weight_ih, weight_hh = torch.randn(blocks, width) / 2, torch.randn(blocks, units) / 2
    if kind == "LSTM":
        return LSTM(weight_ih, weight_hh, first, second)
    candidate = draw.choice(CANDIDATES)
    if kind == "RNN":
        return RNN(weight_ih, weight_hh, first, second, candidate)
    after, gate = draw.random() < 0.5, draw.choice(GATES)
    return Cell(weight_ih, weight_hh, first, second, after, gate, candidate)


def _edits(
    draw: random.Random, layers: list[Stacked], steps: int
) -> tuple[list[dict[str, Any]], dict[str, list[Change]]]:
    edits: list[dict[str, Any]] = []
    changes: dict[str, list[Change]] = {}
    layer, signal = layers[0], layers[0].cell.signals[0]
    for number in range(draw.randint(1, 5)):
        if number == 0 or draw.random() < 0.4:  # else one more of the same signal: order counts
            layer = draw.choice(layers)
            signal = draw.choice(layer.cell.signals)
        units = layer.cell.hidden_size
        how = draw.choice(("set", "scale", "before" if signal.activated else "add"))
        at = sorted(draw.sample(range(steps), draw.randint(1, steps)))
        of = sorted(draw.sample(range(units), draw.randint(1, units)))
        shape = draw.choice(((1, 1, 1), (1, 1, units), (1, steps, units)))
        value = torch.randn(shape) * draw.choice((0.0, 1.0))
        plain = value.item() if shape == (1, 1, 1) else value.flatten().tolist()
        edits.append(
            {"layer": layer.name, "signal": signal.name, "how": how, "value": plain,
             "units": of + of[:1], "steps": at}
        )  # fmt: skip
        where = torch.zeros(1, steps, units, dtype=torch.bool)
        where[:, torch.tensor(at)[:, None], torch.tensor(of)] = True
        nothing, one = torch.zeros_like(value), torch.ones_like(value)
        factor, offset = {
            "set": (nothing, value), "scale": (value, nothing),
            "add": (one, value), "before": (one, value),
        }[how]  # fmt: skip
        change = Change(signal.name, where, factor, offset, how == "before")
        changes.setdefault(layer.name, []).append(change)
    return edits, changes


def _torch(
    layers: list[Stacked], head: Read, x: Tensor, changes: dict[str, list[Change]] | None
) -> list[Any]:
    """Every layer's signals and the answer, as the cells of grulens say them."""
    h: dict[str, Tensor] = {}
    seen: list[Any] = []
    for layer in layers:
        cell = layer.cell
        read = torch.cat([h[name] for name in layer.reads], 2) if layer.reads else x[None]
        steps, size = x.shape[0], cell.hidden_size * len(cell.states)
        state = torch.zeros(1, size) if layer.start is None else layer.start[None]
        program = Program((changes or {}).get(layer.name, ()), steps, x)
        if layer.reverse:
            read, program = reverse(read, None), program.reversed(None)
        states = state
        rows: dict[str, list[Tensor]] = {}
        for t in range(steps):
            products = cell.project(read[:, t : t + 1])
            made = cell.compute(products, states[:, None], program.edit(t))
            for name, value in made.items():
                rows.setdefault(name, []).append(value)
            states = unroll(cell, read[:, t : t + 1], states, program, start=t).state
            rows.setdefault("h", []).append(states[:, None, : cell.hidden_size])
        signals = {name: torch.cat(of, 1) for name, of in rows.items()}
        if layer.reverse:
            signals = {name: reverse(of, None) for name, of in signals.items()}
        h[layer.name] = signals["h"]
        seen.append(signals)
    answer = head.bias.clone()
    for name, weight in head.weights.items():
        at = h[name][0]
        ends = at if head.each else at[:1] if name.endswith("reverse") else at[-1:]
        answer = answer + ends @ weight.t()
    return [*seen, answer]


def off(page: list[Any], torchs: list[Any]) -> float:
    """The largest difference, in parts of the largest number where that is above 1."""
    most = 0.0
    for seen, said in zip(page, torchs, strict=True):
        named = said if isinstance(said, dict) else {"": said}
        given = seen if isinstance(seen, dict) else {"": seen}
        assert set(named) == set(given)
        for name, value in named.items():
            flat = torch.tensor(given[name], dtype=torch.float64)
            apart = (flat - value.double().flatten()).abs().max()
            most = max(most, float(apart / value.abs().max().clamp(min=1)))
    return most


def test_what_is_set_forgets_what_was_there(browser: Any) -> None:
    cell = Cell(torch.ones(6, 1), torch.ones(6, 2), None, None)
    made = describe([Stacked("l0", cell)], 1)
    edit = {"layer": "l0", "signal": "h", "how": "set", "units": None}
    endless = edit | {"value": float("inf"), "steps": [0]}
    case = {
        "network": made.network | {"head": None},
        "arrays": made.packed("f4"),
        "input": [1.0, 1.0, 1.0, 1.0],
        "edits": [endless, edit | {"value": 0.5, "steps": [2]}],
    }
    page = browser.new_page()
    page.add_script_tag(content=ENGINE.read_text(encoding="utf-8"))
    h = page.evaluate(RUN.replace("[...answer]", "[]"), [case])[0][1][0]["h"]
    page.close()
    assert h[:2] == [float("inf")] * 2
    assert h[2] != h[2]  # infinity less infinity is no number
    assert h[4:6] == [0.5, 0.5]
    assert all(0.5 < value < 1 for value in h[6:])


def test_drawn_networks_run_in_the_page_as_in_torch(browser: Any) -> None:
    cases = [drawn(seed) for seed in range(60)]
    page = browser.new_page()
    page.add_script_tag(content=ENGINE.read_text(encoding="utf-8"))
    for (_, (plain, edited)), (before, after, whole) in zip(
        cases, page.evaluate(RUN, [case for case, _ in cases]), strict=True
    ):
        assert off(before, plain) < 1e-5
        assert off(after, edited) < 1e-5
        assert after == whole  # one that begins at the first edit is the whole run
    page.close()


CLOSE = """(cases) => cases.map(({network, arrays, input}) => {
  const made = new grulensEngine.Network(network, grulensEngine.unpacked(arrays)), run = made.run(input);
  const last = {
    r: (layer) => layer.gate, z: (layer) => layer.gate, n: (layer) => layer.candidate,
    a: () => (sum) => sum, g: () => Math.tanh,
  };
  let most = 0, seen = 0;
  for (const layer of made.layers)
    for (let t = 0; t < run.steps; t++)
      for (let unit = 0; unit < layer.units; unit++)
        for (const part of made.closeUp(run, layer.name, t, unit).parts) {
          const says = (last[part.name] ?? ((one) => one.sigmoid))(layer)(part.value);
          most = Math.max(most, Math.abs(says - run.layers[layer.name].signals[part.name][t * layer.units + unit]));
          seen++;
        }
  return [most, seen];
})"""  # noqa: E501


def test_what_adds_up_to_a_gate_makes_it(browser: Any) -> None:
    page = browser.new_page()
    page.add_script_tag(content=ENGINE.read_text(encoding="utf-8"))
    found = page.evaluate(CLOSE, [drawn(seed)[0] for seed in range(30)])
    page.close()
    assert all(seen for _, seen in found)
    assert max(most for most, _ in found) < 1e-9
