"""Training goes on under an open lens: what is compared is always of the same weights."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import nn

from grulens import GateSliders, Lens, NeuronTable, Session, ablate, clamp, record, scale, sweep
from grulens.credit import CreditBars
from grulens.dynamics import PhasePortrait
from grulens.errors import WeightsChangedError
from grulens.memory import GateMemory
from grulens.phrases import PhraseTree
from grulens.widgets.session.after_cells import AFTER_CELLS, AfterCells
from tests.intact import Intact

SAME = scale("rnn.l0", "z", 1, by=1.0)
SAID = "the model has changed since this run"


def train(model: nn.Module, *, fused: bool = False) -> None:
    """Some steps, past torch's count where asked."""
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=fused)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randint(4, (2, 5))).square().sum().backward()
        optimizer.step()


def shown(panel: Any) -> str:
    return str(panel.notices._changed.value)


@pytest.mark.parametrize("fused", [False, True])
def test_an_edit_that_changes_nothing_moves_nothing(
    session: Session, model: nn.Module, fused: bool
) -> None:
    session.add(ablate("rnn.l0", 0))
    session.remove(session.slots[0].key)
    train(model, fused=fused)
    session.add(SAME)
    assert float(session.moved.max()) < 1e-6
    now = record(model, *session.args)
    assert torch.equal(session.baseline["rnn.l1"].h, now["rnn.l1"].h)
    assert session.effect(SAME) < 1e-6


def test_both_runs_are_of_the_new_weights_after_an_edit(session: Session, model: nn.Module) -> None:
    first, second = ablate("rnn.l0", 0), clamp("rnn.l1", "z", 2, value=1.0)
    session.add(first)
    old = session.baseline
    train(model)
    session.add(second)
    assert session.baseline is not old
    for run, edits in ((session.baseline, ()), (session.edited, (first, second))):
        assert torch.equal(run.output, record(model, *session.args, edits=edits).output)
    assert not session.changed
    session.undo()
    assert torch.equal(session.edited.output, record(model, *session.args, edits=[first]).output)


def test_switched_off_the_run_stays_and_is_said_to_be_old(
    session: Session, model: nn.Module
) -> None:
    session.add(ablate("rnn.l0", 0))
    baseline = session.baseline
    train(model)
    session.switch(lambda slot: False)
    assert session.edited is session.baseline is baseline
    assert session.changed
    assert float(session.moved.max()) == 0


def test_what_each_edit_does_is_not_measured_on_other_weights(
    session: Session, model: nn.Module
) -> None:
    lens = Lens(session)
    session.add(ablate("rnn.l0", 0))
    session.add(ablate("rnn.l0", 1))
    assert lens.toggles._effects.wait(20.0)
    before = session.effect(ablate("rnn.l0", 0))
    train(model)
    assert session.effect(ablate("rnn.l0", 0)) == before  # of the run shown
    with pytest.raises(WeightsChangedError, match=SAID):
        session.effect(ablate("rnn.l0", 2))
    assert session.changed
    session.run_again()
    alone = Session(model, "abcdab")
    alone.add(ablate("rnn.l0", 2))
    assert session.effect(ablate("rnn.l0", 2)) == pytest.approx(float(alone.moved.mean()))


def test_a_model_that_keeps_its_state_is_run_from_one_state(model: nn.Module) -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 4, batch_first=True)
            self.state: torch.Tensor | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out, self.state = self.rnn(x, self.state)
            self.state = self.state.detach()
            return out

    torch.manual_seed(0)
    net, x = Stateful().eval(), torch.randn(1, 6, 3)
    net(x)
    state = net.state
    session = Session(net, x)
    session.add(SAME)
    assert float(session.moved.max()) < 1e-6
    assert net.state is state  # the lens' runs leave nothing behind
    net(x)  # the user's own do
    session.put(SAME, scale("rnn.l0", "r", 1, by=1.0))
    assert float(session.moved.max()) < 1e-6
    assert not session.changed  # its weights are what they were


def test_batch_norm_in_training_mode_moves_nothing_by_itself() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.norm = nn.GRU(3, 4, batch_first=True), nn.BatchNorm1d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.rnn(x)[0].mT).mT

    torch.manual_seed(0)
    net, x = Normed(), torch.randn(2, 6, 3)
    session = Session(net, x)
    session.add(SAME)
    assert float(session.moved.max()) < 1e-6
    assert not session.look()
    assert int(net.norm.num_batches_tracked) == 0  # type: ignore[arg-type]
    net(x)
    assert session.look()


SCREENS = (GateSliders, NeuronTable, GateMemory, PhasePortrait, CreditBars, PhraseTree, Lens)


@pytest.mark.parametrize("kind", SCREENS)
def test_every_screen_says_it_and_runs_again_on_a_click(kind: Any, model: nn.Module) -> None:
    screen = kind(model, "abcdab")
    line = screen.notices._lines[0]
    assert line.layout.display == "none"
    train(model)
    AFTER_CELLS()  # a cell has run
    assert screen.session.changed
    assert SAID in shown(screen)
    assert line.layout.display is None
    screen.notices.again.click()
    assert not screen.session.changed
    assert line.layout.display == "none"
    assert torch.equal(screen.session.baseline.output, model(*screen.session.args))
    getattr(screen, "wait", lambda _: None)(20.0)
    assert screen._errors.value == ""
    screen.close()
    train(model)
    AFTER_CELLS()
    assert not screen.session.changed  # a closed one looks no more


def test_a_lens_says_it_once_for_all_its_parts(model: nn.Module) -> None:
    lens = Lens(model, "abcdab")
    train(model)
    AFTER_CELLS()
    lens.studies.shown = "memory"
    parts = (lens.gates, lens.toggles, lens.table, lens.studies, lens.studies.opened["memory"])
    assert all(part.notices.box.layout.display == "none" for part in parts)
    assert lens.notices.box.layout.display is None


def test_effects_are_not_measured_on_other_weights(session: Session, model: nn.Module) -> None:
    table = NeuronTable(session)
    train(model)
    table.measure.click()
    assert table.wait(30.0)
    assert not table.measured
    assert SAID in table._errors.value
    assert session.changed
    table.notices.again.click()
    table.measure.click()
    assert table.wait(30.0)
    units = table.columns()["effect"]
    alone = Session(model, "abcdab")
    alone.add(ablate("rnn.l0", 3))
    assert units[3] == pytest.approx(float(alone.moved.mean()), abs=1e-6)
    assert table._errors.value == ""


def test_a_measurement_ends_where_the_weights_move(
    session: Session, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = NeuronTable(session)
    turns: list[int] = []
    show_effects = table._show_effects

    def moved() -> None:
        if table._measuring.job.done and table._measuring.job.running:
            turns.append(table._measuring.job.done)
            train(model)
        show_effects()

    monkeypatch.setattr("grulens.probing.units.batched_runs.FEWEST", 2)
    monkeypatch.setattr("grulens.job.INTERVAL", -1.0)
    table.measure.click()
    assert table.wait(30.0)
    assert table._measuring.job.done == 6
    monkeypatch.setattr(table._measuring, "_show_panel", moved)
    table.measure.click()
    assert table.wait(30.0)
    assert turns == [2]
    assert SAID in table._errors.value


@pytest.mark.parametrize("view", ["credit", "logit lens"])
def test_credit_is_not_given_to_other_weights(
    session: Session, model: nn.Module, view: str
) -> None:
    session.layer = "rnn.l1"
    panel = CreditBars(session)
    panel.view = view
    assert panel.wait(30.0)
    assert panel.views[view].found is not None
    train(model)
    session.step = 2
    panel.method = "input × gradient"
    if view == "logit lens":
        session.add(ablate("rnn.l0", 0))  # which makes both runs anew
        assert panel.wait(30.0)
        assert panel.lens is not None
        torch.testing.assert_close(panel.lens.logits, session.edited.output)
        return
    assert panel.wait(30.0)
    assert SAID in panel._errors.value
    assert panel.views[view].found is None
    panel.notices.again.click()
    assert panel.wait(30.0)
    assert panel._errors.value == ""
    assert panel.views[view].found is not None


def test_phrases_and_directions_are_of_the_run_shown(session: Session, model: nn.Module) -> None:
    session.layer = "rnn.l1"
    tree, memory = PhraseTree(session), GateMemory(session)
    weight = memory.attention.directions._heads
    before = next(iter(weight.values())).weight.clone()
    train(model)
    # what was found is the run's own, and does not move with the model
    assert torch.equal(next(iter(weight.values())).weight, before)
    tree.build.click()
    assert tree.wait(30.0)
    assert tree.tree is None
    assert SAID in tree._errors.value
    session.run_again()
    heads = memory.attention.directions._heads
    assert torch.equal(next(iter(heads.values())).weight, model.out.weight)  # type: ignore[arg-type]
    tree.build.click()
    assert tree.wait(30.0)
    assert tree.tree is not None


def test_a_model_that_is_trained_while_it_runs_is_refused_by_name(
    session: Session, model: nn.Module
) -> None:
    def write(*_: Any) -> None:
        model.rnn.bias_hh_l0.data.add_(0.1)  # type: ignore[union-attr]

    handle = model.register_forward_hook(write)
    with pytest.raises(WeightsChangedError, match="no two runs of it can be compared"):
        session.add(SAME)
    assert not session.slots
    handle.remove()
    session.add(SAME)
    assert float(session.moved.max()) < 1e-6


def test_a_new_number_of_steps_keeps_what_fits(model: nn.Module) -> None:
    class Until(nn.Module):
        """Runs as many steps as its weight says."""

        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(2, 3)
            self.steps = nn.Parameter(torch.tensor(6.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h, found = x.new_zeros(1, 3), []
            for _ in range(int(self.steps)):
                h = self.cell(x, h)
                found.append(h)
            return torch.stack(found, 1)

    net = Until()
    session = Session(net, torch.ones(1, 2))
    session.add(ablate("cell", 0, at=5))
    session.times = (1, 5)
    with torch.no_grad():
        net.steps.fill_(3)
    session.run_again()
    assert session.steps == 3
    assert session.times == (1,)
    assert session.slots[0].mismatch == "step 5 of 3"
    with torch.no_grad():
        net.steps.fill_(6)
    session.run_again()
    assert session.slots[0].on


def test_a_shell_is_told_of_cells_only_while_a_screen_is_open() -> None:
    class Events:
        def __init__(self) -> None:
            self.held: list[tuple[str, Any]] = []

        def register(self, name: str, do: Any) -> None:
            self.held.append((name, do))

        def unregister(self, name: str, do: Any) -> None:
            self.held.remove((name, do))

    class Shell:
        events = Events()

    class Screen:
        looked = 0

        def look(self) -> None:
            self.looked += 1

    shell = Shell()
    after, one, other = AfterCells(lambda: shell), Screen(), Screen()
    after.add(one)
    after.add(other)
    assert [name for name, _ in shell.events.held] == ["post_run_cell"]
    shell.events.held[0][1](None)
    after.discard(one)
    after()
    assert (one.looked, other.looked) == (1, 2)
    after.discard(other)
    after.discard(other)
    assert shell.events.held == []


def test_a_sweep_in_its_own_right_is_of_the_weights_it_began_with(model: nn.Module) -> None:
    ids = torch.tensor([[0, 1, 2]])
    before = sweep(model, ids, layer="rnn.l0", readout=lambda out: out[:, -1], progress=False)
    train(model)
    after = sweep(model, ids, layer="rnn.l0", readout=lambda out: out[:, -1], progress=False)
    assert not torch.allclose(before.baseline, after.baseline)


# the mode


def dropped(model: nn.Module) -> nn.Module:
    return nn.Sequential(model.embed, Kept(model.rnn), nn.Dropout(0.5), model.out)  # type: ignore


class Kept(nn.Module):
    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x)[0]


def test_training_mode_is_said_and_runs_can_be_in_eval(model: nn.Module) -> None:
    net = dropped(model).train()
    net[1].rnn.eval()  # a part that its user froze
    modes = [module.training for module in net.modules()]
    ids = torch.tensor([[0, 1, 2, 3]])
    lens = Lens(net, ids)
    session = lens.session
    assert session.mode == "training mode: dropout is on"
    assert "dropout is on" in lens.notices._mode.value
    assert lens.notices._lines[1].layout.display is None
    noisy = session.baseline.output
    intact = Intact(net)
    lens.notices.evaluate.value = True
    assert [module.training for module in net.modules()] == modes
    assert intact.broken() == []
    assert not torch.equal(noisy, session.baseline.output)
    assert "in eval mode" in lens.notices._mode.value
    net.eval()
    assert torch.equal(session.baseline.output, net(ids))
    assert not session.look()  # these runs do not follow the model's mode
    net.train()
    lens.notices.evaluate.value = False
    assert torch.equal(session.baseline.output, noisy)  # the same numbers as the first time
    net.eval()
    assert session.look()
    session.run_again()
    assert session.mode == ""
    assert lens.notices._lines[1].layout.display == "none"


def test_edits_and_studies_are_in_eval_too(model: nn.Module) -> None:
    net = dropped(model)
    ids = torch.tensor([[0, 1, 2, 3]])
    session = Session(net.train(), ids, layer="1.rnn.l1")
    session.evaluate = True
    edit = ablate("1.rnn.l1", 2)
    session.add(edit)
    table, credit = NeuronTable(session), CreditBars(session)
    table.measure.click()
    assert table.wait(30.0)
    assert credit.wait(30.0)
    assert all(module.training for module in net.modules())
    assert credit._errors.value == table._errors.value == ""
    net.eval()
    assert torch.equal(session.edited.output, record(net, ids, edits=[edit]).output)
    plain = Session(net, ids, layer="1.rnn.l1")
    plain.add(edit)
    assert table.columns()["effect"][2] == pytest.approx(float(plain.moved.mean()), abs=1e-6)
    other = CreditBars(plain)
    assert other.wait(30.0)
    assert credit.credit is not None
    assert other.credit is not None
    torch.testing.assert_close(credit.credit.score, other.credit.score)


def test_a_run_that_fails_leaves_the_mode_as_it_was(model: nn.Module) -> None:
    net = dropped(model).train()
    lens = Lens(net, torch.tensor([[0, 1, 2, 3]]))

    def fail(*_: Any) -> None:
        raise ZeroDivisionError("a hook of the user's")

    handle = net[3].register_forward_hook(fail)
    lens.notices.evaluate.value = True
    assert "a hook of the user" in lens._errors.value
    assert not lens.session.evaluate
    assert not lens.notices.evaluate.value
    assert all(module.training for module in net.modules())
    handle.remove()
    lens.notices.evaluate.value = True
    assert lens.session.evaluate


def test_another_thread_that_trains_is_noticed(session: Session, model: nn.Module) -> None:
    done = threading.Thread(target=train, args=(model,))
    done.start()
    done.join()
    assert session.look()
