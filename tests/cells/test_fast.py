"""The fast way of a GRU, in place and for many copies, equals its reference step."""

from __future__ import annotations

from functools import partial

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from grulens.cells.batched.changes import Stacked
from grulens.cells.batched.run import direct, edited
from grulens.cells.batched.steps import PlainSteps
from grulens.cells.cell import RecurrentCell
from grulens.cells.changes import Change, Program
from grulens.cells.kinds.gru import Cell
from grulens.cells.unroll import unroll
from tests.cells.test_unroll import cells
from tests.kinds import EVERY, made

ANY = st.one_of(
    cells().map(lambda made: made[0]),
    st.builds(partial(made, inputs=3, units=4), st.sampled_from(EVERY), st.integers(0, 99)),
)


@settings(max_examples=80)
@given(cell=ANY, plain=st.booleans(), known=st.booleans(), shared=st.booleans(), data=st.data())
def test_copies_side_by_side_are_single_runs(cell, plain, known, shared, data):
    """Each copy carries changes of its own; each is the loop over reference steps with them."""
    batch, steps, copies = 2, 5, 3
    x = torch.randn(batch, steps, 3).double()
    state = torch.randn(batch, cell.state_size).double()
    one = torch.ones(1, 1, 1).double()

    def change() -> Change:
        signal = data.draw(st.sampled_from(cell.signals))
        where = torch.zeros(1, steps, 4, dtype=torch.bool)
        where[0, data.draw(st.integers(0, steps - 1)), data.draw(st.integers(0, 3))] = True
        before = signal.activated and data.draw(st.booleans())
        factor = one if before else data.draw(st.sampled_from([0 * one, 0.5 * one, one]))
        return Change(signal.name, where, factor, 0.3 * one, before)

    runs = [[change() for _ in range(data.draw(st.integers(1, 3)))] for _ in range(copies)]
    runs.sort(key=lambda run: Program(run, steps, x).first)
    stacked = Stacked(runs, batch, 4, steps, x)
    runner = PlainSteps(cell, batch) if plain else cell.steps(copies, batch, x)

    def kept(h: Tensor, edits: Program | None = None) -> Tensor:
        """The whole state after each step."""
        if len(cell.states) == 1:
            return h
        signals = cell.reread(x, h, state, edits)
        for name, value in RecurrentCell.reread(cell, x, h, state, edits).items():
            assert torch.allclose(signals[name], value, atol=1e-12)
        return torch.cat([h, *(signals[name] for name in cell.states[1:])], 2)

    whole = torch.cat([state[:, None], kept(unroll(cell, x, state).h)], 1)
    given_x, given_state = x, state
    if not (known or shared):
        given_x, given_state = (t.repeat_interleave(copies, 0) for t in (x, state))
    found = edited(
        runner, given_x, given_state, stacked, known=whole[:, 1:] if known else None
    )  # (time, batch, copy, state)
    for copy, run in enumerate(runs):
        program = Program(run, steps, x)
        h = unroll(cell, x, state, program).h
        expected = kept(h, program)
        assert torch.allclose(found[:, :, copy].transpose(0, 1), expected, atol=1e-12)
    alone = direct(runner, x, whole[:, :-1], whole[:, 1:], stacked)
    for copy, run in enumerate(runs):
        program = Program(run, steps, x)
        for t in range(steps):
            edit = program.edit(t)
            after = cell.step(cell.project(x[:, t : t + 1]), whole[:, t : t + 1], edit)[:, 0]
            assert torch.allclose(alone[t, :, copy], after, atol=1e-12)


@given(cell=cells().map(lambda made: made[0]))
def test_all_gates_at_once_are_those_of_the_steps(cell: Cell):
    x, state = torch.randn(2, 6, 3).double(), torch.randn(2, 4).double()
    h = unroll(cell, x, state).h
    before = torch.cat([state[:, None], h[:, :-1]], 1)
    found = cell.replay(x, before)
    for t in range(6):
        step = cell.compute(cell.project(x[:, t]), before[:, t])
        for name, value in step.items():
            assert torch.allclose(found[name][:, t], value, atol=1e-13)
