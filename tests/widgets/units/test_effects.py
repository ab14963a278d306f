"""The button of the table: what it measures is what a sweep finds, and it lets go when told to."""

import re
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import nn

from grulens import Lens, NeuronTable, Session, ablate, clamp, sweep
from grulens.errors import GrulensError
from grulens.probing.units.batched_runs import EditedRuns
from grulens.probing.units.experiment import prepare
from grulens.probing.units.grid import Grid
from grulens.widgets.units import effects as unit_effects
from grulens.widgets.units.effects import PATHS


@pytest.fixture
def table(session: Session) -> Iterator[NeuronTable]:
    made = NeuronTable(session)
    yield made
    made.close()
    assert made.wait(10.0)


def expected(session: Session, layer: str = "rnn.l0", row: int = 0) -> dict[str, np.ndarray]:
    """The same by a public sweep of the whole answer, in bits by hand."""
    found = sweep(session.model, *session.args, layer=layer, progress=False)
    p = found.baseline[row].double().softmax(-1)
    given = {}
    for name in ("effect", "direct"):
        q = (found.baseline + getattr(found, name))[:, row].double().softmax(-1)
        given[name] = (p * (p / q).log2()).sum(-1).mean(-1).numpy()
    return given | {"recurrent": given["effect"] - given["direct"]}


def shown(table: NeuronTable, name: str) -> np.ndarray:
    values: np.ndarray = table._table.source.data[name]
    return values


def same(table: NeuronTable, want: dict[str, np.ndarray]) -> None:
    for name in PATHS:
        np.testing.assert_allclose(shown(table, name), want[name], rtol=1e-3, atol=1e-6)


def measured(table: NeuronTable) -> NeuronTable:
    table.measure.click()
    assert table.wait(20.0)
    return table


class Held:
    """Every pause between two turns waits until the test lets it go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paused, self.go_on = threading.Semaphore(0), threading.Semaphore(0)
        monkeypatch.setattr(unit_effects, "time", self)
        monkeypatch.setattr("grulens.job.INTERVAL", -1.0)

    def sleep(self, _: float) -> None:
        self.paused.release()
        assert self.go_on.acquire(timeout=10)

    def until_paused(self) -> None:
        assert self.paused.acquire(timeout=10)

    def free(self) -> None:
        self.go_on.release(1000)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    made = Held(monkeypatch)
    yield made
    made.free()


def test_until_then_its_still_has_the_first_rows_as_they_are_sorted(table: NeuronTable) -> None:
    table.sort("half_life")
    lives = table.columns()["half_life"]
    rows = [int(row) for row in re.findall(r"<tr[^>]*><td[^>]*>(\d+)<", table.still())]
    assert rows == np.argsort(-lives, kind="stable")[:12].tolist()
    assert "half-life" not in measured(table).still()


def test_it_measures_what_a_sweep_gives(table: NeuronTable, session: Session) -> None:
    session.add(ablate("rnn.l0", 3))  # measured is the model without edits
    measured(table)
    same(table, expected(session))
    assert float(np.ptp(shown(table, "effect"))) > 0


def test_the_order_is_kept_and_the_new_column_offered(table: NeuronTable) -> None:
    table.sort("mean_h")
    assert table.by_effect.layout.display == "none"
    with pytest.raises(GrulensError, match="got 'effect'; effects have a column once"):
        table.sort("effect")
    measured(table)
    assert table._table.sorted_by == (("mean_h", False),)
    assert table.by_effect.layout.display is None
    table.by_effect.click()
    strongest = int(np.argmax(shown(table, "effect")))
    assert table._table.ordered[0] == strongest
    table.sort("effect", ascending=True)
    assert table._table.ordered[-1] == strongest


def test_it_is_in_the_pictures_that_outlive_the_kernel(session: Session, tmp_path: object) -> None:
    lens = Lens(session)
    words = "effect of switching a unit off · rnn.l0"
    assert words not in lens.still()
    assert '"recurrent"' not in lens.save(f"{tmp_path}/lens.html").read_text()
    measured(lens.table)
    assert words in lens.still()
    assert words in lens.table.still()
    assert '"recurrent"' in lens.save(f"{tmp_path}/lens.html").read_text()


def test_stopped_what_is_done_stays(table: NeuronTable, session: Session, held: Held) -> None:
    table.measure.click()
    held.until_paused()
    assert table.measure.description == "stop"
    bar = table._measuring.bar
    assert (bar.value, bar.max, bar.layout.display) == (4, 6, None)
    assert "measuring, 60 %" in table._measured.value
    assert (~np.isnan(shown(table, "effect"))).tolist() == [True] * 4 + [False] * 2
    table.measure.click()
    held.free()
    assert table.wait(10.0)
    assert (~np.isnan(shown(table, "effect"))).tolist() == [True] * 4 + [False] * 2
    assert table.to_frame()["effect"].notna().tolist() == [True] * 4 + [False] * 2
    assert table.measure.description == "measure effects"
    assert "stopped after 4 of 6 units" in table._measured.value
    assert bar.layout.display == "none"
    same(measured(table), expected(session))


def test_stopped_before_it_began_nothing_is_measured(table: NeuronTable, session: Session) -> None:
    with session.lock:
        table.measure.click()
        table.measure.click()
    assert table.wait(10.0)
    assert not table.measured
    assert table.measure.description == "measure effects"


def test_a_slider_is_answered_between_two_turns(
    table: NeuronTable, session: Session, held: Held
) -> None:
    table.measure.click()
    held.until_paused()
    session.add(clamp("rnn.l0", "z", 1, value=1.0))
    assert float(session.divergence.max()) > 0
    held.free()
    assert table.wait(10.0)
    same(table, expected(session))


@pytest.mark.parametrize(
    "change",
    [
        lambda session: setattr(session, "layer", "rnn.l1"),
        lambda session: session.set_input("abcc"),
    ],
)
def test_numbers_of_another_layer_or_input_go(
    table: NeuronTable, session: Session, held: Held, change: Callable[[Session], None]
) -> None:
    table.measure.click()
    held.until_paused()
    assert "effect" in table._table.source.data
    change(session)
    assert not set(PATHS) & set(table._table.source.data)
    held.free()
    assert table.wait(10.0)
    assert not set(PATHS) & set(table._table.source.data)
    assert "measur" not in table._measured.value
    same(measured(table), expected(session, session.layer))


def test_each_row_has_its_own(model: nn.Module) -> None:
    table = NeuronTable(model, torch.tensor([[0, 1, 2], [3, 2, 2]]))
    same(measured(table), expected(table.session))
    table.session.row = 1
    assert "effect" not in table._table.source.data
    same(measured(table), expected(table.session, row=1))


def test_an_error_is_seen_and_goes(model: nn.Module) -> None:
    broken = False

    def readout(output: torch.Tensor) -> torch.Tensor:
        if broken:
            raise RuntimeError("no readout today")
        return output

    table = NeuronTable(model, "abcd", readout=readout)
    broken = True
    measured(table)
    assert "no readout today" in table._errors.value
    assert table.measure.description == "measure effects"
    broken = False
    measured(table)
    assert not table._errors.value
    same(table, expected(table.session))


def test_values_are_measured_as_differences() -> None:
    torch.manual_seed(0)
    rnn, x = nn.GRU(3, 4, batch_first=True), torch.ones(1, 5, 3)
    table = measured(NeuronTable(rnn, x, readout=lambda out: out[0][..., 0]))
    found = sweep(rnn, x, layer="l0", readout=lambda out: out[0][..., 0], progress=False)
    want = {name: getattr(found, name)[:, 0].abs().mean(-1).numpy() for name in PATHS[:2]}
    same(table, want | {"recurrent": want["effect"] - want["direct"]})
    assert "bits" not in table._measured.value
    # only unit 0 is read, and what switching it off does at once is its own state
    assert shown(table, "direct")[1:].tolist() == [0.0] * 3
    assert (shown(table, "recurrent")[1:] > 0).all()


class Coupled(nn.Module):
    """A model whose rows cannot be repeated: each row feels the others."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 5, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.rnn(x)[0]
        return out - out.mean(0)


@pytest.mark.parametrize("model", [nn.GRU(3, 5, batch_first=True), Coupled()])
def test_turns_are_the_runs_of_a_sweep(model: nn.Module) -> None:
    def readout(output: object) -> torch.Tensor:
        return output[0] if isinstance(output, tuple) else output  # type: ignore[return-value]

    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    layer = "l0" if isinstance(model, nn.GRU) else "rnn.l0"
    experiment = prepare(model, ((x,), {}), layer, readout)
    grid = Grid.of(experiment.recording, None, None, ablate)
    runs = EditedRuns(experiment, grid.edits, memory=2**27, seconds=0.0)
    found = sweep(model, x, layer=layer, readout=readout, progress=False)
    assert found.batched == isinstance(model, nn.GRU)
    torch.testing.assert_close(experiment.baseline, found.baseline)
    batches = [list(answers) for answers in runs.answers(grid.runs)]
    assert [len(batch) for batch in batches] == ([4, 1] if found.batched else [1] * 5)
    seen = [answer for batch in batches for answer in batch]
    assert [unit for unit, _, _ in seen] == list(range(5))
    for unit, edited, direct in seen:
        torch.testing.assert_close(edited - experiment.baseline, found.effect[unit])
        torch.testing.assert_close(direct - experiment.baseline, found.direct[unit])
