"""The CKA of two scans is that of all their states; what cannot be compared is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float64
from numpy import ndarray
from scipy.linalg import block_diag
from torch import Tensor, nn

from grulens import plot, record
from grulens.corpus import CKA, Scan, cka, open_scan, scan
from grulens.errors import ScanError, StoppedWarning
from grulens.job import Job


class Reader(nn.Module):
    """Reads ids."""

    def __init__(self, units: int = 8, layers: int = 1, kind: Any = nn.GRU) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.rnn = kind(4, units, layers, batch_first=True)
        for parameter in self.rnn.parameters():
            nn.init.normal_(parameter, std=0.7)

    def forward(self, ids: Tensor) -> Tensor:
        states: Tensor = self.rnn(self.embedding(ids))[0]
        return states


def inputs(parts: int = 5) -> list[list[Tensor]]:
    return [[torch.randint(6, (n,)) for n in (300, 70, 70, 1, 40 + part)] for part in range(parts)]


def scanned(model: nn.Module, parts: Any, folder: Path, **options: Any) -> Scan:
    return scan(model.eval(), parts, folder, progress=False, **({"steps": 250} | options))


def ask(one: Any, other: Any, **options: Any) -> CKA:
    return cka(one, other, progress=False, **options)


def rows_of(parts: Any, steps: int = 250) -> list[Tensor]:
    return [
        ids[start : start + steps]
        for part in parts for ids in part for start in range(0, len(ids), steps)
    ]  # fmt: skip


def states(model: nn.Module, rows: list[Tensor], layer: str) -> list[Float64[ndarray, "step unit"]]:
    return [record(model, ids[None])[layer].h[0].double().numpy() for ids in rows]


def plainly(x: Float64[ndarray, "step unit"], y: Float64[ndarray, "step other"]) -> float:
    """The formula, in float64, from the kernels of steps by steps."""
    one, other = ((a @ a.T) for a in (x - x.mean(0), y - y.mean(0)))
    return float((one * other).sum() / np.sqrt((one * one).sum() * (other * other).sum()))


def test_it_is_that_of_all_states_for_each_two_layers(tmp_path: Path) -> None:
    parts, models = inputs(), (Reader(8, 2), Reader(12, kind=nn.LSTM))
    one, other = (scanned(m, parts, tmp_path / str(i)) for i, m in enumerate(models))
    found = ask(one, other)
    assert found.layers == ("rnn.l0", "rnn.l1")
    assert found.others == ("rnn.l0",)
    assert found.steps == one.steps
    assert found.note == ""
    rows = rows_of(parts)
    y = np.concatenate(states(models[1], rows, "rnn.l0"))
    for place, layer in enumerate(found.layers):
        x = np.concatenate(states(models[0], rows, layer))
        assert float(found.value[place, 0]) == pytest.approx(plainly(x, y), abs=1e-6)
    low, high = found.interval.unbind(-1)
    assert ((low >= 0) & (low < found.corrected) & (found.corrected < high) & (high <= 1)).all()
    assert (found.chance < found.value).all()
    turned = ask(other, one)
    torch.testing.assert_close(turned.value, found.value.T, rtol=0, atol=1e-6)


def test_its_interval_leaves_out_a_tenth_of_the_inputs_in_turn(tmp_path: Path) -> None:
    parts = [[torch.randint(6, (60,)) for _ in range(7)] for _ in range(4)]
    models = Reader(8), Reader(6)
    found = ask(*(scanned(m, parts, tmp_path / str(i)) for i, m in enumerate(models)))
    rows = [states(m, rows_of(parts), "rnn.l0") for m in models]
    group = np.array([(part + ids) % 10 for part in range(4) for ids in range(7)])
    each = []
    for left_out in range(10):
        held = [[s for s, g in zip(every, group, strict=True) if g != left_out] for every in rows]
        each.append(plainly(*map(np.concatenate, held)))
    spread = np.sqrt(9 / 10 * np.square(np.array(each) - np.mean(each)).sum())
    low, high = found.interval[0, 0].tolist()
    assert high - low == pytest.approx(2 * 2.262157 * spread, rel=1e-3)
    corrected = 10 * float(found.value) - 9 * np.mean(each)
    assert float(found.corrected) == pytest.approx(corrected, abs=1e-5)
    assert (low + high) / 2 == pytest.approx(corrected, abs=1e-5)


def test_chance_is_that_of_states_half_of_the_steps_away(tmp_path: Path) -> None:
    parts = [[torch.randint(6, (60,)) for _ in range(8)] for _ in range(3)]
    models = Reader(8), Reader(6)
    found = ask(*(scanned(m, parts, tmp_path / str(i)) for i, m in enumerate(models)))
    x, y = (np.stack(states(m, rows_of(parts), "rnn.l0")) for m in models)
    y = np.concatenate([np.roll(y[i : i + 8], 4, 0) for i in (0, 8, 16)])
    assert float(found.chance[0, 0]) == pytest.approx(
        plainly(*(a.reshape(-1, a.shape[-1]) for a in (x, y))), abs=1e-6
    )
    same = ask(*[scanned(models[0], parts, tmp_path / "0")] * 2)
    assert float(same.value[0, 0]) == pytest.approx(1, abs=1e-6)
    assert float(same.chance[0, 0]) < 0.2


def test_states_that_are_turned_and_scaled_are_the_same(tmp_path: Path) -> None:
    """A GRU whose units stand in another order, some with the other sign, is another model."""
    one, other = Reader(8), Reader(8)
    order, sign = torch.randperm(8), torch.tensor([1.0, -1] * 4)
    turn = torch.eye(8)[order] * sign[:, None]
    # the sign of a unit may turn in n, and where the state is read; r and z only change places
    gates = torch.from_numpy(block_diag(*[np.eye(8)[order]] * 2, turn)).float()
    plain = torch.eye(8)[order]
    with torch.no_grad():
        for name, value in one.rnn.named_parameters():
            new = dict(other.rnn.named_parameters())[name]
            if name == "weight_hh_l0":
                new.copy_(torch.cat([plain @ v @ turn.T for v in value.chunk(3)[:2]] + [
                    turn @ value.chunk(3)[2] @ turn.T
                ]))  # fmt: skip
            else:
                new.copy_(gates @ value)
        other.embedding.weight.copy_(one.embedding.weight)
    parts = inputs(3)
    found = ask(scanned(one, parts, tmp_path / "0"), scanned(other, parts, tmp_path / "1"))
    assert float(found.value[0, 0]) == pytest.approx(1, abs=1e-5)
    assert float(found.interval[0, 0, 0]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("size", [1e-18, 1e-3, 1e12])
def test_it_does_not_hang_on_how_large_states_are(tmp_path: Path, size: float) -> None:
    class Times(nn.Module):
        """Two units that count, without bounds."""

        def __init__(self, by: float, mixed: Tensor) -> None:
            super().__init__()
            self.rnn = nn.RNN(3, 2, nonlinearity="relu", batch_first=True)
            with torch.no_grad():
                for parameter in self.rnn.parameters():
                    parameter.zero_()
                weights = dict(self.rnn.named_parameters())
                weights["weight_ih_l0"].copy_(by * mixed)
                weights["weight_hh_l0"].copy_(0.5 * torch.eye(2))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.rnn(x)[0]
            return out

    parts = [torch.rand(4, 50, 3) for _ in range(3)]
    mixed = torch.tensor([[1.0, 0, 0.2], [0.3, 1, 0]])
    models = Times(size, mixed), Times(1.0, mixed.flip(1))
    found = ask(*(scanned(m, parts, tmp_path / str(i)) for i, m in enumerate(models)))
    every = torch.cat(parts)
    x, y = (record(m, every)["rnn.l0"].h.double().reshape(-1, 2).numpy() for m in models)
    assert float(found.value[0, 0]) == pytest.approx(plainly(x / size, y), abs=1e-5)


def test_a_cluster_gives_the_same_bits(tmp_path: Path, client: Any) -> None:
    parts, models = inputs(), (Reader(8), Reader(5))
    pair = [scanned(m, parts, tmp_path / str(i)) for i, m in enumerate(models)]
    here, there = ask(*pair), ask(*pair, client=client)
    for name in ("value", "corrected", "interval", "chance"):
        assert torch.equal(getattr(here, name), getattr(there, name))
    assert here.parts == there.parts == (0, 1, 2, 3, 4)


def test_batches_need_not_be_those_of_the_scans(tmp_path: Path) -> None:
    parts, models = inputs(), (Reader(8), Reader(5))
    first = [scanned(m, parts, tmp_path / str(i)) for i, m in enumerate(models)]
    second = [
        scanned(m, parts, tmp_path / f"{i}-{n}", batch=n) for (i, m), n in
        zip(enumerate(models), (1, 3), strict=True)
    ]  # fmt: skip
    torch.testing.assert_close(ask(*first).value, ask(*second).value, rtol=0, atol=1e-6)


def test_ids_may_be_others_of_the_same_texts(tmp_path: Path) -> None:
    texts = [["abcdef" * 20, "fade" * 9], ["decaf" * 11], ["cab" * 30]]
    one, other = Reader(8), Reader(5)

    def scan_by(model: nn.Module, order: str, names: str, folder: str) -> Scan:
        return scanned(
            model, texts, tmp_path / folder,
            encode=lambda text: torch.tensor([order.index(c) for c in text]),
            decode=lambda ids: [names[i] for i in ids],
        )  # fmt: skip

    first = scan_by(one, "abcdef", "abcdef", "1")
    assert "otherwise" not in ask(first, scan_by(other, "fedcba", "fedcba", "2")).note
    with pytest.raises(ScanError, match="of other inputs"):
        ask(first, scan_by(other, "fedcba", "fedcbA", "3"))
    found = ask(first, scan_by(other, "abcdef", "ABCDEF", "4"))
    assert "ids that are the same are called otherwise in the two scans" in found.note
    assert ask(first, scan_by(other, "abcdef", "abcdef", "5")).value.equal(found.value)


def test_numbers_that_differ_by_rounding_are_the_same_and_it_is_said(tmp_path: Path) -> None:
    one, other = (nn.GRU(3, size, batch_first=True) for size in (4, 6))
    parts = [torch.randn(4, 60, 3) for _ in range(3)]
    rounded = [part.bfloat16().float() for part in parts]
    exact = scanned(one, parts, tmp_path / "1")
    found = ask(exact, scanned(other, rounded, tmp_path / "2"))
    assert "differ by up to 0.0" in found.note
    with pytest.raises(ScanError, match="of other inputs: what was read in part 0"):
        ask(exact, scanned(other, [part + 0.1 for part in parts], tmp_path / "3"))


def test_a_layer_that_never_moves_has_none(tmp_path: Path) -> None:
    still = Reader(4)
    with torch.no_grad():
        for parameter in still.rnn.parameters():
            parameter.zero_()
    parts = inputs(3)
    found = ask(scanned(still, parts, tmp_path / "0"), scanned(Reader(8), parts, tmp_path / "1"))
    assert found.value.isnan().all()
    assert found.note == "the units of 'rnn.l0' never move, but for rounding"


def test_a_layer_that_only_rounds_has_none(tmp_path: Path) -> None:
    """tanh of 9 is 1 in float32, less one rounding or none."""
    full = Reader(4, kind=nn.RNN)
    with torch.no_grad():
        full.rnn.weight_hh_l0.zero_()
        full.rnn.weight_ih_l0.mul_(0.1)
        full.rnn.bias_ih_l0.fill_(9)
    parts = inputs(3)
    one = scanned(full, parts, tmp_path / "0")
    assert bool((one.stats().std > 0).any())
    found = ask(one, scanned(Reader(8), parts, tmp_path / "1"))
    assert found.value.isnan().all()
    assert "but for rounding" in found.note


def test_each_number_of_a_step_must_be_the_same(tmp_path: Path) -> None:
    """One that is large, as the time of day, hides no other."""
    one, other = (nn.GRU(3, size, batch_first=True) for size in (4, 6))
    time = 100 * torch.arange(60.0).expand(4, 60)[..., None]
    parts, others = ([torch.cat([torch.randn(4, 60, 2), time], -1)] * 2 for _ in range(2))
    first = scanned(one, parts, tmp_path / "1")
    with pytest.raises(ScanError, match="of other inputs"):
        ask(first, scanned(other, others, tmp_path / "2"))


def test_a_model_in_half_precision_may_read_large_and_constant_numbers(tmp_path: Path) -> None:
    one, other = (nn.GRU(3, size, batch_first=True) for size in (4, 6))
    parts = [torch.randn(4, 60, 3) for _ in range(3)]
    for part in parts:
        part[0, 0, 0], part[..., 2] = 7.77, 0.1
    exact = scanned(one, parts, tmp_path / "1")
    found = ask(exact, scanned(other.bfloat16(), [p.bfloat16() for p in parts], tmp_path / "2"))
    assert "differ by up to 0.01" in found.note


def test_of_few_inputs_it_says_that_the_interval_may_be_too_narrow(tmp_path: Path) -> None:
    for many, few in ((9, True), (10, False)):
        parts = [torch.randint(6, (many, 40))]
        pair = [scanned(Reader(n), parts, tmp_path / f"{many}-{n}") for n in (4, 8)]
        assert ("of so few the interval may be too narrow" in ask(*pair).note) is few


def test_a_layer_that_moves_in_one_input_has_no_interval(tmp_path: Path) -> None:
    def model(units: int) -> nn.GRU:
        return nn.GRU(3, units, batch_first=True, bias=False)

    parts = [torch.zeros(12, 40, 3)]
    parts[0][0] = torch.randn(40, 3)
    found = ask(*(scanned(model(n), parts, tmp_path / str(n)) for n in (4, 6)))
    assert 0 < float(found.value) < 1
    assert found.interval.isnan().all()
    assert "moves in a few inputs only" in found.note


def test_of_one_input_no_interval_is_known(tmp_path: Path) -> None:
    parts = [torch.randint(6, (120,))]
    found = ask(*(scanned(Reader(n), parts, tmp_path / str(n)) for n in (4, 8)))
    assert found.interval.isnan().all()
    assert "one input only" in found.note


def test_rows_of_one_step_that_run_alone_have_no_chance(tmp_path: Path) -> None:
    parts = [[torch.randint(6, (1,)) for _ in range(9)] for _ in range(4)]
    pair = [scanned(Reader(n), parts, tmp_path / str(n), batch=1) for n in (4, 8)]
    found = ask(*pair)
    assert found.chance.isnan().all()
    assert not found.value.isnan().any()
    assert "rows of one step" in found.note


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    parts, model = inputs(3), Reader(8)
    one = scanned(model, parts, tmp_path / "0")
    with pytest.raises(ScanError, match="runs both models"):
        ask(one, open_scan(tmp_path / "0"))
    with pytest.raises(ScanError, match="of two scans"):
        ask(one, model)
    with pytest.raises(ScanError, match=r"others must be names of layers, of rnn\.l0"):
        ask(one, one, others="rnn.l0")
    with pytest.raises(ScanError, match=r"must be names of layers, of rnn\.l0; got \[None\]"):
        ask(one, one, layers=[None])
    with pytest.raises(ScanError, match="each once"):
        ask(one, one, layers=["rnn.l0", "rnn.l0"])
    with pytest.raises(ScanError, match="was not scanned"):
        ask(one, one, layers=["rnn.l1"])
    with pytest.raises(ScanError, match="of other inputs: what was read in part 0"):
        ask(one, scanned(model, [[ids.flip(0) for ids in part] for part in parts], tmp_path / "1"))
    with pytest.raises(ScanError, match="cut into other rows"):
        ask(one, scanned(model, parts, tmp_path / "2", steps=100))
    with pytest.raises(ScanError, match="no part in common"):
        ask(one, scanned(model, [[torch.zeros(0, dtype=torch.int64)]] * 3 + parts, tmp_path / "3"))


def test_parts_of_one_scan_only_are_left_out_and_it_is_said(tmp_path: Path) -> None:
    parts, models = inputs(4), (Reader(8), Reader(5))
    one = scanned(models[0], parts, tmp_path / "0")
    found = ask(one, scanned(models[1], parts[:3], tmp_path / "1"))
    assert found.parts == (0, 1, 2)
    assert found.note == "3 of 4 parts are in both scans, and only these count"


def test_ctrl_c_gives_what_was_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, models = inputs(4), (Reader(8), Reader(5))
    pair = [scanned(m, parts, tmp_path / str(i)) for i, m in enumerate(models)]
    few = [scanned(m, parts[:2], tmp_path / f"few{i}") for i, m in enumerate(models)]
    advance = Job.advance

    def stops(job: Job[Any], pieces: int = 1) -> None:
        advance(job, pieces)
        if job.done == limit:
            raise KeyboardInterrupt

    monkeypatch.setattr(Job, "advance", stops)
    limit = 2
    with pytest.warns(StoppedWarning, match="stopped after 2 of 4 parts"):
        found = ask(*pair)
    assert found.note == "stopped after 2 of 4 parts"
    limit = 9
    torch.testing.assert_close(found.value, ask(*few).value, rtol=0, atol=1e-6)
    monkeypatch.setattr(Job, "advance", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.warns(StoppedWarning):
        ask(*pair)


def test_a_model_that_changed_is_refused(tmp_path: Path) -> None:
    parts, models = inputs(2), (Reader(8), Reader(5))
    pair = [scanned(m, parts, tmp_path / str(i)) for i, m in enumerate(models)]
    with torch.no_grad():
        models[1].rnn.weight_hh_l0.mul_(1.5)
    with pytest.raises(ScanError, match="has other weights now than when it was scanned"):
        ask(*pair)


def test_two_checkpoints_in_one_module_are_refused(tmp_path: Path) -> None:
    """Both scans would run the later one, and be the same."""
    parts, model = inputs(2), Reader(8)
    first = scanned(model, parts, tmp_path / "0")
    with torch.no_grad():
        model.rnn.weight_hh_l0.add_(1e-4)  # no state is seen to differ
    with pytest.raises(ScanError, match=f"the model of {tmp_path / '0'} has other weights now"):
        ask(first, scanned(model, parts, tmp_path / "1"))


def test_it_is_a_table_a_figure_and_a_file(tmp_path: Path) -> None:
    parts = inputs(3)
    found = ask(
        scanned(Reader(8, 2), parts, tmp_path / "0"), scanned(Reader(5), parts, tmp_path / "1")
    )
    table = found.to_frame()
    assert list(table.columns) == ["layer", "other", "cka", "corrected", "low", "high", "chance"]
    assert list(table.layer) == ["rnn.l0", "rnn.l1"]
    assert "by chance" in found._repr_html_()
    assert "rnn.l1" in plot(found)._repr_mimebundle_()[0]["text/html"]
    again = CKA.load(found.save(tmp_path / "found"))
    assert torch.equal(again.interval, found.interval)
    assert repr(again) == repr(found) == f"CKA(2 x 1 layers, {found.steps:,} steps)"
