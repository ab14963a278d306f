"""A scan answers as a look at all states would, whatever the model and however it was made."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.data import DataLoader, Dataset, TensorDataset

from grulens import record
from grulens.errors import ScanError, StoppedWarning
from grulens.probing.corpus.scan import furthest
from grulens.probing.corpus.scan import replay as replays
from grulens.probing.corpus.scan import scan as module
from grulens.probing.corpus.scan.place import Place
from grulens.probing.corpus.scan.scanned import Scan, open_scan
from grulens.probing.corpus.scan.statistics import Statistics
from grulens.probing.corpus.scan.writer import Writer

LETTERS = "ab \n.xyz"
LABELS: dict[str, Callable[[Any], Any]] = {
    "space": lambda text: np.array([c == " " for c in text]),
    "after_dot": lambda text: np.cumsum([c == "." for c in text]) % 2 == 1,
}


class Reader(nn.Module):
    """Reads letters; two levels."""

    def __init__(self, kind: type[nn.RNNBase] = nn.GRU, **options: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(LETTERS), 4)
        self.rnn = kind(4, 6, batch_first=True, **options)
        self.drop = nn.Dropout(0.5)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.8)

    def encode(self, text: str) -> Tensor:
        return torch.tensor([[LETTERS.index(c) for c in text]])

    def forward(self, ids: Tensor) -> Tensor:
        states: Tensor = self.rnn(self.drop(self.embedding(ids)))[0]
        return states


class Halved(Reader):
    """Takes a step for two of the input."""

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids[:, ::2])


def scan(*args: Any, **kwargs: Any) -> Scan:
    return module.scan(*args, progress=False, **kwargs)


def texts(seed: int = 0) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    return [
        ["".join(rng.choice(list(LETTERS), size)) for size in sizes]
        for sizes in ((300, 64, 10), (129,), (200, 200))
    ]


def rows_of(parts: list[list[str]], steps: int) -> list[tuple[int, int, int, str]]:
    """(part, input, where the row begins, its text) of every row."""
    return [
        (part, number, start, text[start : start + steps])
        for part, inputs in enumerate(parts)
        for number, text in enumerate(inputs)
        for start in range(0, len(text), steps)
    ]


@pytest.fixture(params=[nn.GRU, nn.LSTM, nn.RNN])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    model = Reader(request.param).eval()
    parts = texts()
    made = scan(model, parts, tmp_path / "s", labels=LABELS, gates=True, steps=100, batch=3, on=0.2)
    states = {
        (part, number, start): record(model, model.encode(text))["rnn.l0"]
        for part, number, start, text in rows_of(parts, 100)
    }
    held = {
        key: {name: rule(parts[key[0]][key[1]])[key[2] : key[2] + 100]
              for name, rule in LABELS.items()}
        for key in states
    }  # fmt: skip
    return made, states, held, model


def test_statistics_are_those_of_all_states(case: Any) -> None:
    made, states, held, _ = case
    h = np.concatenate([layer.h[0].double().numpy() for layer in states.values()])
    stats = made.stats()
    assert stats.steps == made.steps == len(h) == 903
    np.testing.assert_allclose(stats.mean, h.mean(0), atol=1e-5)
    np.testing.assert_allclose(stats.covariance, np.cov(h.T, bias=True), atol=1e-5)
    np.testing.assert_allclose(stats.std, h.std(0), atol=1e-5)
    np.testing.assert_allclose(stats.correlation, np.corrcoef(h.T), atol=1e-4)
    on = (h > 0.2).astype(int)
    assert torch.equal(stats.on_together, torch.from_numpy(on.T @ on))
    for q in (0, 0.1, 0.5, 1):
        exact = np.quantile(h, q, axis=0, method="inverted_cdf")
        low, high = stats.quantile(q).numpy()
        assert (low - 1e-5 <= exact).all()
        assert (exact <= high + 1e-5).all()
    for given in (np.float32(0.5), np.float64(0.5), torch.tensor(0.5)):
        assert torch.equal(stats.quantile(given), stats.quantile(0.5))
    for place, name in enumerate(made.labels):
        truth = np.concatenate([labels[name] for labels in held.values()])
        assert int(stats.positives[place]) == truth.sum()
        exact = np.array([roc_auc_score(truth, h[:, unit]) for unit in range(6)])
        assert (
            np.abs(stats.auc[place].numpy() - exact) <= stats.half_width[place].numpy() + 1e-4
        ).all()
    assert float(stats.half_width.max()) < 0.02


def test_gates_are_counted_too(case: Any) -> None:
    made, states, _, _ = case
    layer = next(iter(states.values()))
    for gate in [one.name for one in layer.cell.signals if one.is_gate]:
        values = np.concatenate([one.signal(gate)[0].double().numpy() for one in states.values()])
        stats = made.stats(signal=gate)
        np.testing.assert_allclose(stats.mean, values.mean(0), atol=1e-5)
        ends = np.stack([(values < 1 / 32).mean(0), (values > 31 / 32).mean(0)])
        np.testing.assert_allclose(stats.at_ends, ends, atol=1e-9)
        assert stats.on_together is None


def test_the_moments_of_gates_that_hardly_move_do_not_drown_in_rounding(tmp_path: Path) -> None:
    model, parts = Reader().eval(), texts()
    with torch.no_grad():
        for weight in (model.rnn.weight_ih_l0, model.rnn.weight_hh_l0):
            weight[6:12] *= 1e-4  # the update gates of a GRU
            weight[9] = 0
        model.rnn.bias_ih_l0[6:12] = 2
    found = scan(model, parts, tmp_path / "s", gates=True).stats(signal="z")
    z = torch.cat([record(model, model.encode(t))["rnn.l0"].z[0] for p in parts for t in p])
    z = z.double().numpy()
    assert z.std(0).max() < 1e-3
    np.testing.assert_allclose(found.mean, z.mean(0), atol=1e-7)
    np.testing.assert_allclose(found.std, z.std(0), rtol=0.02, atol=1e-9)
    moves = np.arange(6) != 3
    held = found.correlation.numpy()
    assert np.isnan(held[3]).all()
    exact = np.corrcoef(z[:, moves].T)
    np.testing.assert_allclose(held[np.ix_(moves, moves)], exact, atol=0.02)


@pytest.mark.parametrize("end", ["high", "low"])
@pytest.mark.parametrize("where", [None, "space", "after_dot"])
def test_the_windows_at_the_top_are_the_furthest(case: Any, end: str, where: str | None) -> None:
    made, states, held, _ = case
    sign = 1 if end == "high" else -1
    for unit in (0, 3):
        far = []
        for key, layer in states.items():
            values = sign * layer.h[0, :, unit].numpy()
            for start in range(0, len(values), 64):
                window = values[start : start + 64]
                if where is not None:
                    window = window[held[key][where][start : start + 64]]
                if len(window):
                    far.append(window.max())
        found = made.top(unit, 7, end=end, where=where)
        assert found.windows == len(far)
        np.testing.assert_allclose(sign * np.array(found.values), sorted(far)[::-1][:7], atol=1e-5)
        for value, place in zip(found.values, found.places, strict=True):
            layer = states[place.part, place.document, place.offset]
            window = sign * layer.h[0, place.start : place.stop, unit].numpy()
            if where is not None:
                label = held[place.part, place.document, place.offset][where]
                window = window[label[place.start : place.stop]]
            assert window.max() == pytest.approx(sign * value, abs=1e-5)


def test_windows_under_a_label_run_side_by_side_and_no_more_than_can_be_at_the_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(furthest, "SHARE", 1000)  # as of a short part, which keeps no windows
    torch.manual_seed(0)
    model, text = Reader().eval(), "".join(np.random.default_rng(3).choice(list(LETTERS), 9000))
    labels = {"x": lambda text: np.array([c in "xyz" for c in text])}
    made = scan(model, [[text[:5000], text[5000:]]], tmp_path / "s", labels=labels, batch=8)
    ran: list[int] = []
    run = replays.run

    def counted(model: Any, together: Any, manifest: Any) -> Any:
        ran.append(len(together))
        return run(model, together, manifest)

    monkeypatch.setattr(replays, "run", counted)
    h = torch.cat([
        record(model, model.encode(one))["rnn.l0"].h[0]
        for row in (text[:5000], text[5000:]) for one in (row[:2048], row[2048:4096], row[4096:])
        if one
    ])  # fmt: skip
    x = torch.tensor([c in "xyz" for c in text])
    for end, sign in (("high", 1), ("low", -1)):
        ran.clear()
        found = made.top(0, 12, where="x", end=end)
        assert found.values[0] == pytest.approx(sign * float((sign * h[x, 0]).max()), abs=1e-5)
        assert max(ran) > 1
        assert sum(ran) < found.windows / 2
    ran.clear()
    made.top(0, 12)
    assert not ran


def test_rows_that_come_out_otherwise_side_by_side_are_run_alone(tmp_path: Path) -> None:
    class Lonely(Reader):
        def forward(self, ids: Tensor) -> Tensor:
            states: Tensor = self.rnn(self.embedding(ids) + len(ids))[0]
            return states

    model, parts = Lonely().eval(), [[texts()[0][0][:100]], [texts()[1][0][:100]]]
    made = scan(model, parts, tmp_path / "s", labels=LABELS)
    found = made.top(2, 9, where="space")
    assert found.windows == 4
    for value, place in zip(found.values, found.places, strict=True):
        h = record(model, model.encode(parts[place.part][0]))["rnn.l0"].h[0, :, 2]
        held = LABELS["space"](parts[place.part][0])[place.start : place.stop]
        assert value == pytest.approx(float(h[place.start : place.stop][held].max()), abs=1e-5)


def test_what_was_read_stands_beside_the_windows(case: Any) -> None:
    made, _, _, _ = case
    parts = texts()
    found = made.top(1, 5)
    for place, context in zip(found.places, found.contexts, strict=True):
        text = parts[place.part][place.document][place.offset :][place.start : place.stop]
        assert "".join(context.tokens) == context.text == text
        assert context.place == place
        held = [name for name, rule in LABELS.items()
                if rule(parts[place.part][place.document])[place.offset :][
                    place.start : place.stop].any()]  # fmt: skip
        assert list(context.labels) == held
    assert list(found.to_frame()["text"]) == [one.text for one in found.contexts]


def test_what_ids_are_called_is_kept_with_the_scan(tmp_path: Path) -> None:
    model, text = Reader().eval(), texts()[0][0]
    ids = model.encode(text)[0]
    for name, options, words in (
        ("none", {}, [str(i) for i in ids.tolist()]),
        ("given", {"decode": lambda ids: "".join(LETTERS[i] for i in ids)}, list(text)),
    ):
        scan(model, [ids], tmp_path / name, **options)
        found = open_scan(tmp_path / name).top(0, 2)
        for place, one in zip(found.places, found.contexts, strict=True):
            assert list(one.tokens) == words[place.start : place.stop]


def test_an_id_that_stands_for_several_characters_is_called_none_of_them(tmp_path: Path) -> None:
    model = Reader().eval()
    options = {"encode": lambda text: [max(0, LETTERS.find(c)) for c in text], "batch": 1}
    model.encode = None  # type: ignore[assignment]
    made = scan(model, [["xé", "yüx"], ["bé"]], tmp_path / "s", **options)
    found = {(p.part, p.document): c.text for c in made.top(0).contexts for p in [c.place]}
    assert found == {(0, 0): "x�", (0, 1): "y�x", (1, 0): "bé"}


def test_the_first_matches_are_shown_with_what_is_around_them(case: Any) -> None:
    made, states, _, _ = case
    units, texts_ = [0, 2, 5], {row[:3]: row[3] for row in rows_of(texts(), 100)}
    found = made.match(units, 3, at_least=2)
    assert len(found.contexts) == min(20, found.found)
    for place, one in zip(found.places, found.contexts, strict=False):
        key = place.part, place.document, place.offset
        start, stop = one.place.start, one.place.stop
        assert start == max(0, place.start - 8)
        assert stop == min(len(texts_[key]), place.stop + 8, start + 64)
        assert one.text == texts_[key][start:stop]
        many = (states[key].h[0, start:stop][:, units] > 0.2).sum(1)
        assert list(one.values) == many.tolist()


@pytest.mark.parametrize(("length", "least"), [(1, 1), (3, 2), (5, 3), (20, 1), (64, 1), (2, None)])
def test_matches_are_all_places_where_so_many_are_on(
    case: Any, length: int, least: int | None
) -> None:
    made, states, held, _ = case
    units = [0, 2, 5]
    found = made.match(units, length, at_least=least)
    least = 3 if least is None else least
    places, covered = {}, dict.fromkeys(LABELS, 0)
    for key, layer in states.items():
        many = (layer.h[0, :, units] > 0.2).sum(1).numpy()
        begin = None
        for step in range(len(many) + 1):
            if step < len(many) and many[step] >= least:
                begin = step if begin is None else begin
            elif begin is not None:
                if step - begin >= length:
                    runs = range(begin, step - length + 1)
                    best = max(min(many[t : t + length]) for t in runs)
                    places[(*key, begin, step)] = best
                    for name in covered:
                        covered[name] += held[key][name][begin:step].sum()
                begin = None
    assert found.found == len(places)
    assert found.steps == sum(stop - start for *_, start, stop in places)
    mine = {
        (p.part, p.document, p.offset, p.start, p.stop): many
        for p, many in zip(found.places, found.together, strict=True)
    }
    assert mine == places
    assert list(found.together) == sorted(found.together, reverse=True)
    for place, name in enumerate(made.labels):
        if places:
            assert float(found.share[place]) == pytest.approx(covered[name] / found.steps)
        truth = np.concatenate([labels[name] for labels in held.values()])
        assert float(found.chance[place]) == pytest.approx(truth.mean())
    few = made.match(units, length, at_least=least, limit=2)
    assert few.places == found.places[:2]
    assert few.found == found.found


def test_a_unit_lies_in_one_piece_on_disk(tmp_path: Path) -> None:
    made = scan(Reader().eval(), texts(), tmp_path / "s", labels=LABELS)
    for name in ("0/on.npy", "0/low.npy", "0/high.npy", "labels.npy"):
        assert np.load(made.parts[0].place / name).flags.c_contiguous, name


@pytest.mark.parametrize("length", [1, 5])
def test_units_that_are_never_on_match_nowhere(tmp_path: Path, length: int) -> None:
    made = scan(Reader().eval(), texts(), tmp_path / "s", labels=LABELS, on=1.0)
    found = made.match([0, 1], length, at_least=1)
    assert found.found == found.steps == 0
    assert found.share.isnan().all()


def test_a_replay_is_the_row_again(case: Any) -> None:
    made, states, _, _ = case
    place = made.top(2, 1).places[0]
    again = made.replay(place)
    then = states[place.part, place.document, place.offset]
    assert torch.allclose(
        again.recording["rnn.l0"].h[0, again.steps], then.h[0, place.start : place.stop], atol=1e-5
    )


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_a_replay_begins_at_a_state_that_was_kept(kind: Any, tmp_path: Path) -> None:
    model, text = Reader(kind, num_layers=2).eval(), "ab .x" * 150
    made = scan(model, [[text, text[::-1]]], tmp_path / "s", gates=True)
    whole = [record(model, model.encode(one)) for one in (text, text[::-1])]
    for row, start, stop, begins, steps in (
        (0, 260, 300, 255, 65), (1, 512, 513, 511, 65), (1, 200, 320, 0, 320),
        (0, 749, 750, 511, 239),
    ):  # fmt: skip
        place = Place(0, row, row, 0, start, stop)
        again = made.replay(place)
        assert (again.start, again.place) == (begins, place)
        for name, layer in again.recording.items():
            assert layer.h.shape[1] == steps
            for one in layer.cell.signals:
                found = layer.signal(one.name)[0, again.steps]
                then = whole[row][name].signal(one.name)[0, start:stop]
                assert torch.allclose(found, then, atol=1e-5), (name, one.name)


class Turned(Reader):
    """Takes ids (step, row), and answers what stands after a step, too."""

    def __init__(self) -> None:
        super().__init__(bidirectional=True)
        self.rnn.batch_first = False


def test_a_replay_is_of_the_whole_row_where_it_must_be(tmp_path: Path) -> None:
    ids = torch.randint(len(LETTERS), (700,))
    both = scan(Reader(bidirectional=True).eval(), [ids], tmp_path / "both")
    part = scan(Reader(num_layers=2).eval(), [ids], tmp_path / "part", layers=["rnn.l1"])
    turned = scan(Turned().eval(), [ids[None].repeat(2, 1).T], tmp_path / "turned")
    for made in (both, part, turned):
        for start in (600, 300):
            place = Place(0, 0, 0, 0, start, start + 10)
            again = made.replay(place)
            assert again.start == 0
            given = ids[:, None] if made is turned else ids[None]
            whole = record(made.model, given)
            for name in made.layers:
                assert torch.allclose(again.recording[name].h, whole[name].h, atol=1e-5)


def test_a_replay_of_what_the_model_does_no_more_is_refused(tmp_path: Path) -> None:
    class Moody(Reader):
        mood = 0.0

        def forward(self, ids: Tensor) -> Tensor:
            states: Tensor = self.rnn(self.embedding(ids) + self.mood)[0]
            return states

    model = Moody().eval()
    made = scan(model, [torch.randint(len(LETTERS), (700,))], tmp_path / "s")
    place = Place(0, 0, 0, 0, 300, 310)
    assert made.replay(place).start == 255
    model.mood = 0.5
    with pytest.raises(ScanError, match="does not run as it did in the scan: states of layer"):
        made.replay(place)


def test_the_method_that_was_scanned_is_replayed(tmp_path: Path) -> None:
    class Other(Reader):
        def read(self, ids: Tensor) -> Tensor:
            return self.forward((ids + 1) % len(LETTERS))

    model, ids = Other().eval(), torch.randint(len(LETTERS), (90,))
    made = scan(model, [ids], tmp_path / "s", call="read")
    again = made.replay(Place(0, 0, 0, 0, 0, 90))
    h = record(model, (ids[None] + 1) % len(LETTERS))["rnn.l0"].h
    assert torch.allclose(again.recording["rnn.l0"].h, h)
    with pytest.raises(ScanError, match="made otherwise: call"):
        scan(model, [ids], tmp_path / "s")


def same(one: Statistics, other: Statistics) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("mean", "products", "counts", "on_together")
    )


def test_a_scan_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    model, parts = Reader().eval(), texts()
    whole = scan(model, parts, tmp_path / "whole", labels=LABELS)
    seen: list[int] = []

    def part(number: int) -> Any:
        def given() -> list[str]:
            seen.append(number)
            if number == 2 and seen.count(2) == 1:
                raise KeyboardInterrupt
            return parts[number]

        return given

    with pytest.warns(StoppedWarning, match="stopped after 2 of 3 parts"):
        half = scan(model, [part(i) for i in range(3)], tmp_path / "s", labels=LABELS)
    assert [one.number for one in half.parts] == [0, 1]
    seen.clear()
    done = scan(model, [part(0), part(1), lambda: parts[2]], tmp_path / "s", labels=LABELS)
    assert seen == [0]  # to know what is scanned; no part that was there was scanned again
    assert same(done.stats(), whole.stats())
    assert done.top(1).values == whole.top(1).values


@pytest.mark.parametrize(("many", "words"), [(0, "before a part was done"), (2, "after 2 parts")])
def test_a_scan_of_an_iterator_says_that_it_was_stopped(
    tmp_path: Path, many: int, words: str
) -> None:
    left = ["ab"] if many == 0 else []  # the first part is read once before

    def stop() -> str:
        if not left:
            raise KeyboardInterrupt
        return left.pop()

    every = [*["ab"] * many, stop]
    with pytest.warns(StoppedWarning, match=f"the scan stopped {words}; what"):
        made = scan(Reader().eval(), (one for one in every), tmp_path / "s")
    assert len(made.parts) == many


class Numbered(Dataset[Tensor]):
    """Has a length, and an answer for every number."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> Tensor:
        return torch.full((10,), number % 5)


def test_data_sets_and_loaders_are_parts(tmp_path: Path) -> None:
    model, data = Reader().eval(), Numbered()
    assert len(scan(model, data, tmp_path / "data").parts) == 3
    loader = DataLoader(data, batch_size=2)
    assert scan(model, loader, tmp_path / "loader").steps == 30
    pairs = DataLoader(TensorDataset(torch.stack(list(map(data.__getitem__, range(3)))),
                                     torch.arange(3)))  # fmt: skip
    with pytest.raises(TypeError, match="3 were given"):  # the second column is no further input
        scan(model, pairs, tmp_path / "pairs")
    assert scan(model, (x for x, _ in pairs), tmp_path / "first").steps == 30


KILLED = """
import os, sys
sys.path.insert(0, {here!r})
import torch
from test_scan import LABELS, Reader, scan, texts
torch.manual_seed(0)
model, parts = Reader().eval(), texts()
from grulens.probing.corpus.scan import writer as module
write = module.Writer._write
def half(self, folder):
    write(self, folder)
    if "000001" in str(folder):
        os.kill(os.getpid(), 9)
module.Writer._write = half
scan(model, parts, {out!r}, labels=LABELS)
"""


def test_a_process_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "s"
    code = KILLED.format(here=str(Path(__file__).parent), out=str(out))
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    torch.manual_seed(0)
    model, parts = Reader().eval(), texts()
    assert [one.number for one in open_scan(out).parts] == [0]
    left = [one.name for one in (out / "parts").iterdir() if one.name != "000000"]
    assert [one.split("~")[0] for one in left] == [".000001"]
    again = scan(model, parts, out, labels=LABELS)
    assert same(again.stats(), scan(model, parts, tmp_path / "t", labels=LABELS).stats())
    assert sorted(one.name for one in (out / "parts").iterdir()) == ["000000", "000001", "000002"]


def test_what_a_run_holds_is_given_back_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def recorded(*args: Any, **options: Any) -> Any:
        assert all(one() is None for one in made)
        found = record(*args, **options)
        made.append(weakref.ref(found))
        return found

    monkeypatch.setattr("grulens.probing.corpus.scan.anew.record", recorded)
    monkeypatch.setattr("grulens.probing.corpus.scan.anew.HELD", 0)  # of small ones two may be held
    scan(Reader().eval(), texts(), tmp_path / "s", labels=LABELS, gates=True, batch=1)
    assert len(made) > 8  # some of them run again


def test_parts_that_are_there_are_known_by_their_place(tmp_path: Path) -> None:
    model, parts = Reader().eval(), texts()
    whole = scan(model, parts, tmp_path / "whole")
    scan(model, parts[:2], tmp_path / "s")
    later = scan(model, [parts[0], *parts[:1], *parts[2:]], tmp_path / "s")  # another second input
    assert same(later.stats(), whole.stats())


def test_other_first_inputs_or_what_labels_say_of_them_are_refused(tmp_path: Path) -> None:
    model, parts = Reader().eval(), texts()
    scan(model, parts[:1], tmp_path / "s", labels=LABELS)
    others = {name: lambda given, rule=rule: ~rule(given) for name, rule in LABELS.items()}
    for given, labels in ((parts[1:], LABELS), (parts, others)):
        with pytest.raises(ScanError, match="was made otherwise: the first inputs"):
            scan(model, given, tmp_path / "s", labels=labels)
    assert len(scan(model, parts, tmp_path / "s", labels=LABELS).parts) == len(parts)


def test_a_scan_of_other_weights_or_thresholds_is_refused(tmp_path: Path) -> None:
    model, parts = Reader().eval(), texts()
    scan(model, parts[:1], tmp_path / "s", labels=LABELS)
    with pytest.raises(ScanError, match=r"was made otherwise: labels .*on \(0.3, now 0.5\)"):
        scan(model, parts, tmp_path / "s", on=0.5)
    with torch.no_grad():
        model.rnn.weight_hh_l0 += 1
    with pytest.raises(ScanError, match="was made otherwise: weights"):
        scan(model, parts, tmp_path / "s", labels=LABELS)
    with pytest.raises(ScanError, match="a scan of another model"):
        open_scan(tmp_path / "s", model)


def test_a_damaged_part_is_left_out_and_named(tmp_path: Path) -> None:
    model, parts = Reader().eval(), texts()
    made = scan(model, parts, tmp_path / "s")
    file = made.parts[1].place / "0" / "on.npy"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.warns(UserWarning, match=r"1 of 3 parts .* left out of every answer \(1\)"):
        rest = open_scan(tmp_path / "s")
    assert [one.number for one in rest.parts] == [0, 2]
    assert "has" in rest.missing[1]
    assert rest.stats().steps == made.steps - 129
    head = made.parts[0].place / "part.json"
    head.write_text(json.dumps(json.loads(head.read_text()) | {"format": 99}))
    with pytest.warns(UserWarning, match="format 99"):
        open_scan(tmp_path / "s")


@pytest.mark.parametrize("name", ["rows.npy", "names.json"])
def test_a_part_whose_rows_or_names_have_changed_is_left_out(tmp_path: Path, name: str) -> None:
    model, parts = Reader().eval(), texts()
    made = scan(model, parts, tmp_path / "s", decode=lambda ids: [LETTERS[i] for i in ids])
    steps = made.steps
    flip(made.parts[1].place / name)
    with pytest.warns(UserWarning, match=rf"left out of every answer \(1\): .* {name} has changed"):
        rest = open_scan(tmp_path / "s")
    assert rest.stats().steps == steps - 129
    assert {place.part for place in rest.top(0).places} == {0, 2}


def test_what_is_read_later_is_compared_then(tmp_path: Path) -> None:
    made = scan(Reader().eval(), texts(), tmp_path / "s", labels=LABELS)
    place = next(one for one in made.top(0).places if one.part == 1)
    (tmp_path / "s/merged").rename(tmp_path / "s/not read")  # else no part is read for its sum
    for name, ask in (
        ("ids.npy", lambda one: one.context(place)), ("labels.npy", lambda one: one.holds(place)),
        ("0-h", lambda one: one.stats()),
    ):  # fmt: skip
        file = made.parts[1].place / name
        whole = file.read_bytes()
        flip(file)
        with pytest.raises(ScanError, match=f"^part 000001 of [^:]*: {name} has changed.* Delete"):
            ask(open_scan(tmp_path / "s"))
        file.write_bytes(whole)
        ask(open_scan(tmp_path / "s"))
    head = made.parts[1].place / "part.json"
    head.write_text(json.dumps({k: v for k, v in json.loads(head.read_text()).items()
                                if k not in ("sum", "sums")}))  # fmt: skip
    flip(made.parts[1].place / "ids.npy")  # as it was written once
    assert open_scan(tmp_path / "s").context(place).tokens is not None


def flip(file: Path) -> None:
    """Change the last byte but one of a file."""
    held = bytearray(file.read_bytes())
    held[-2] ^= 1
    file.write_bytes(held)


@pytest.mark.parametrize("head", ["[]", "{}", '{"format": 1, "sizes": []}', "x", None])
def test_a_part_whose_head_is_no_head_is_left_out(tmp_path: Path, head: str | None) -> None:
    made = scan(Reader().eval(), texts(), tmp_path / "s")
    steps = made.steps
    (tmp_path / "s" / "parts" / "1 copy").mkdir()  # is none of the scan's
    if head is None:
        shutil.rmtree(made.parts[1].place)
    else:
        (made.parts[1].place / "part.json").write_text(head)
    with pytest.warns(UserWarning, match="is not there" if head is None else "cannot be read"):
        rest = open_scan(tmp_path / "s")
    assert list(rest.missing) == [1]
    assert rest.stats().steps == steps - 129


def test_a_full_disk_is_an_error_by_name_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, parts = Reader().eval(), texts()
    scan(model, parts[:1], tmp_path / "s")
    write = Writer._write

    def full(self: Writer, folder: Path) -> None:
        write(self, folder)
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "_write", full)
        with pytest.raises(ScanError, match=r"No space left on device: make.*; the parts that"):
            scan(model, parts, tmp_path / "s")
    assert [one.name for one in (tmp_path / "s" / "parts").iterdir()] == ["000000"]
    assert len(scan(model, parts, tmp_path / "s").parts) == 3


def test_the_model_is_left_as_it_was_and_runs_in_eval_mode(tmp_path: Path) -> None:
    model, parts = Reader(), texts()
    state = torch.get_rng_state()
    made = scan(model, parts, tmp_path / "s")
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert same(made.stats(), scan(model.eval(), parts, tmp_path / "t").stats())


@pytest.mark.parametrize("workers", [2])
def test_parts_made_apart_add_up_bit_for_bit(tmp_path: Path, workers: int) -> None:
    model, parts = Reader().eval(), texts()
    one = scan(model, parts, tmp_path / "one", labels=LABELS)
    two = scan(model, parts[:1], tmp_path / "two", labels=LABELS)
    other = scan(model, parts, tmp_path / "other", labels=LABELS)
    for part in other.parts[1:]:
        part.place.rename(tmp_path / "two" / "parts" / part.place.name)
    assert same(open_scan(tmp_path / "two").stats(), one.stats())
    assert two.parts[0].place.exists()


def test_several_layers_both_directions_and_packed_rows(tmp_path: Path) -> None:
    model = nn.GRU(3, 5, num_layers=2, bidirectional=True).eval()
    lengths = [70, 3, 64]
    padded = torch.randn(70, 3, 3)
    given = pack_padded_sequence(padded, torch.tensor(lengths), enforce_sorted=False)
    rule = {"first": lambda x: x[:, 0] > 0}
    with pytest.raises(ScanError, match="labels of a packed input"):
        scan(model, [given], tmp_path / "no", labels=rule)
    made = scan(model, [given], tmp_path / "s")
    assert scan(model, [(given, None)], tmp_path / "t").steps == made.steps
    layers = record(model, given)
    assert made.layers == tuple(layers)
    for name, layer in layers.items():
        h = layer.h[layer.mask].double().numpy()
        stats = made.stats(name)
        assert stats.steps == 137
        np.testing.assert_allclose(stats.mean, h.mean(0), atol=1e-5)
        top = made.top(0, 9, layer=name)
        assert top.windows == 4
        assert top.values[0] == pytest.approx(h[:, 0].max(), abs=1e-5)
        assert {(p.start, p.stop) for p in top.places} == {(0, 64), (64, 70), (0, 3)}


def test_a_cell_that_is_found_by_its_equation_is_scanned(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.new = nn.Linear(7, 4), nn.Linear(7, 4)

        def forward(self, x: Tensor) -> Tensor:
            h, every = x.new_zeros(len(x), 4), []
            for now in x.unbind(1):
                both = torch.cat([now, h], 1)
                z = torch.sigmoid(self.gate(both))
                h = z * h + (1 - z) * torch.tanh(self.new(both))
                every.append(h)
            return torch.stack(every, 1)

    model, x = Own().eval(), torch.randn(4, 80, 3)
    made = scan(model, [x], tmp_path / "s", gates=True)
    layer = next(iter(record(model, x).values()))
    np.testing.assert_allclose(made.stats().mean, layer.h.reshape(-1, 4).mean(0), atol=1e-5)
    np.testing.assert_allclose(
        made.stats(signal="z").mean, layer.z.reshape(-1, 4).mean(0), atol=1e-5
    )


def test_inputs_of_many_forms_are_the_same_scan(tmp_path: Path) -> None:
    model, text = Reader().eval(), texts()[0][0]
    file = tmp_path / "text"
    file.write_text(text, encoding="utf-8")
    ids = model.encode(text)
    forms: dict[str, Any] = {
        "string": text,
        "list": [text],
        "path": file,
        "function": lambda: [file],
        "ids": ids[0],
        "row": ids,
        "numbers": [ids[0].tolist()],
        "array": ids[0].numpy(),
    }
    made = {name: scan(model, [one], tmp_path / name, steps=100) for name, one in forms.items()}
    made["column"] = scan(
        model, iter([{"t": text, "n": 1}]), tmp_path / "column", steps=100, column="t"
    )
    for one in made.values():
        assert same(one.stats(), made["string"].stats())
    own = {"ids": ids}
    assert scan(model, [own], tmp_path / "named").steps == len(text)


def test_inputs_without_a_step_are_passed_over(tmp_path: Path) -> None:
    model, text = Reader().eval(), texts()[0][0]
    parts = ["", [], ["", text, torch.zeros(0, dtype=torch.int64)], lambda: iter(["", text]), ""]
    made = scan(model, parts, tmp_path / "s", labels=LABELS)
    assert [one.number for one in made.parts] == [2, 3]
    assert made.steps == made.stats().steps == 2 * len(text)
    assert [(one.document, one.part) for one in made.top(0, 1).places] == [(1, 2)]
    assert made.match([0, 1]).found == 2 * scan(model, [text], tmp_path / "t").match([0, 1]).found
    assert len(list((tmp_path / "s" / "parts").iterdir())) == len(parts)  # none is done again
    with pytest.raises(ScanError, match="holds no input that has a step"):
        scan(model, ["", []], tmp_path / "u")


@pytest.mark.parametrize("batch", [1, 64])
def test_what_is_equal_comes_in_the_order_of_the_corpus(tmp_path: Path, batch: int) -> None:
    lengths = [5, 300, 64, 5, 130, 128]
    model = Reader().eval()
    for parameter in model.rnn.parameters():
        nn.init.zeros_(parameter)  # all states are 0
    parts = [["a" * length for length in lengths]] * 2
    labels = {"third": lambda text: np.arange(len(text)) % 3 == 0}
    made = scan(model, parts, tmp_path / "s", steps=128, batch=batch, on=-1, labels=labels)
    windows = [
        (part, number, start, place)
        for part in range(2)
        for number, length in enumerate(lengths)
        for start in range(0, length, 128)
        for place in range(0, min(128, length - start), 64)
    ]
    for where in (None, "third"):
        for end in ("high", "low"):
            found = made.top(0, 100, where=where, end=end)
            assert [(p.part, p.document, p.offset, p.start) for p in found.places] == windows
            few = made.top(0, 4, where=where, end=end)
            assert few.places == found.places[:4]
    found = made.match([0, 1], 1)
    assert [(p.part, p.document, p.offset, p.start) for p in found.places] == [
        window for window in windows if window[3] == 0
    ]
    for one in made.parts:
        assert one.rows[:, 0].tolist() == sorted(one.rows[:, 0])


def test_a_model_with_its_steps_first_is_never_read_the_other_way_round(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(8, 3), nn.GRU(3, 4)).eval()
    ids = torch.arange(16) % 7
    for steps in (2, 4):
        with pytest.raises(ScanError, match="a scan needs a layer that takes a step for each"):
            scan(model, [ids], tmp_path / str(steps), steps=steps, batch=4)
    turned = Reader().eval()
    squares, others = (
        scan(turned, [ids], tmp_path / f"by_{batch}", steps=4, batch=batch) for batch in (4, 3)
    )
    np.testing.assert_allclose(squares.stats().covariance, others.stats().covariance, atol=1e-6)


def test_a_column_of_a_batch_is_what_the_model_takes(tmp_path: Path) -> None:
    ids = Reader().encode(texts()[1][0][:120]).view(2, 60)
    given = {"ids": ids, "class": torch.zeros(2)}
    assert scan(Reader().eval(), [given], tmp_path / "s", column="ids").steps == 120


def test_a_place_says_which_row_of_a_batch_it_is(tmp_path: Path) -> None:
    net = nn.GRU(3, 4, batch_first=True).eval()
    inputs = [torch.randn(rows, 70, 3) for rows in (2, 3, 1)]
    made = scan(net, [inputs[:2], inputs[2]], tmp_path / "s")
    found = made.top(1, 12)
    for value, place in zip(found.values, found.places, strict=True):
        assert place.offset == 0
        x = [inputs[:2], inputs[2:]][place.part][place.document]
        states = record(net, x)["l0"].h[place.batch_row, place.start : place.stop, 1]
        assert float(states.max()) == pytest.approx(value, abs=1e-5)
    assert found.to_frame()["batch_row"].tolist() == [one.batch_row for one in found.places]
    steps = {f"{one.start}–{one.stop - 1}" for one in found.places}
    assert steps == {"0–63", "64–69"}
    assert all(f"<td>{one}</td>" in found._repr_html_() for one in steps)
    assert found._repr_html_().count("–") == len(found.places)
    for place in made.match([0, 1], 1, at_least=1).places:
        first = (made.parts[place.part].rows[:, 0] == place.document).argmax()
        assert place.batch_row == place.row - first


def test_labels_of_ids_and_of_numbers(tmp_path: Path) -> None:
    model, text = Reader().eval(), texts()[0][0]
    ids = model.encode(text)[0]
    made = scan(model, [ids], tmp_path / "ids", labels={"two": lambda ids: ids == 2})
    assert int(made.stats().positives[0]) == text.count(" ")
    net, x = nn.GRU(3, 4, batch_first=True).eval(), torch.randn(2, 70, 3)
    made = scan(net, [x], tmp_path / "x", labels={"up": lambda x: x[:, 1] > 0})
    assert int(made.stats().positives[0]) == int((x[..., 1] > 0).sum())
    net.batch_first = False
    swapped = scan(net, [x.transpose(0, 1)], tmp_path / "t", labels={"up": lambda x: x[:, 1] > 0})
    assert torch.equal(swapped.stats().counts, made.stats().counts)
    with pytest.raises(ScanError, match=r"an input is \(2, 70\) and its layers had 2 rows of 35"):
        scan(Halved(), [ids[:140].view(2, 70)], tmp_path / "v")
    with pytest.raises(ScanError, match="1 row of 35 steps for ids of"):
        scan(Halved(), [ids[:70]], tmp_path / "w")


class Turning(nn.Module):
    """Takes (row, step) and turns it for a layer that has its steps first."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(9, 3), nn.GRU(3, 4)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.rnn(self.embedding(ids.T))[0]
        return found


class Two(Turning):
    """Takes another tensor, of no use."""

    def forward(self, ids: Tensor, more: Tensor) -> Tensor:
        return super().forward(ids)


SQUARE = torch.randint(9, (8, 8), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", ["rows first", "steps first", "turning", "numbers"])
def test_as_many_rows_as_steps_are_told_apart_by_a_run_of_a_column_less(
    tmp_path: Path, kind: str
) -> None:
    torch.manual_seed(0)
    steps_first = kind in ("steps first", "numbers")
    model = nn.Sequential(nn.Embedding(9, 3), nn.GRU(3, 4, batch_first=not steps_first)).eval()
    given, two, other = SQUARE, {"two": lambda x: x == 2}, {"two": lambda x: x % 3 == 2}
    if kind == "turning":
        model = Turning().eval()
    elif kind == "numbers":
        model, given = model[1], nn.functional.one_hot(SQUARE % 3, 3).float()
        two, other = ({"two": lambda x, k=k: x[:, k] > 0.5} for k in (2, 1))
    made = scan(model, [given], tmp_path / "s", labels=two)
    apart = scan(
        model, [[*given.split((5, 3), 1 if steps_first else 0)]], tmp_path / "t", labels=two
    )
    assert torch.equal(made.stats().counts, apart.stats().counts)
    for place in made.top(0, 8).places:
        there = given[:, place.batch_row] if steps_first else given[place.batch_row]
        kept = made.inputs(place) if kind == "numbers" else made.ids(place)
        assert torch.equal(torch.as_tensor(kept), there)
        made.replay(place)
    # and so it is told which they are where a scan goes on, and they are compared
    parts = [[torch.zeros_like(given[:5]), given], given]
    scan(model, parts[:1], tmp_path / "u", labels=two)
    assert len(scan(model, parts, tmp_path / "u", labels=two).parts) == 2
    with pytest.raises(ScanError, match=r"part 0 of .* other labels than are given now"):
        scan(model, parts, tmp_path / "u", labels=other)


def test_as_many_rows_as_steps_beside_another_tensor_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="takes other tensors beside it, or does not"):
        scan(Two().eval(), [(SQUARE, SQUARE)], tmp_path / "s", labels={"two": lambda x: x == 2})


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ([], {}, "at least one part"),
        ([[]], {}, "holds no input"),
        ([3], {}, "input 0 is 3; a scan takes"),
        (["ab"], {"labels": {"x": lambda text: [True]}}, "label 'x' of input 0 .* its 2 steps"),
        (["ab"], {"steps": 0}, "steps must be a whole number"),
        (["ab"], {"batch": True}, "batch must be a whole number"),
        (["ab"], {"on": "high"}, "on must be a finite number"),
        (["ab"], {"on": float("nan")}, "on must be a finite number, got nan"),
        (["ab"], {"encode": lambda text: [0.5]}, "a scan needs its ids"),
        ([{"a": 1}], {"column": "b"}, "no column 'b'; it has a"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    tmp_path: Path, given: Any, options: Any, words: str
) -> None:
    with pytest.raises(ScanError, match=words):
        scan(Reader().eval(), given, tmp_path / "s", **options)


def test_a_text_without_encode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="give the model an `encode`"):
        scan(nn.GRU(2, 3), ["ab"], tmp_path / "s")


def test_nan_is_an_error_and_no_number(tmp_path: Path) -> None:
    x = torch.randn(1, 5, 2)
    x[0, 3] = float("nan")
    with pytest.raises(ScanError, match=r"^part 1: signal 'h' of layer 'l0' is NaN or infinite"):
        scan(nn.GRU(2, 3, batch_first=True).eval(), [torch.randn(1, 5, 2), x], tmp_path / "s")
    assert len(open_scan(tmp_path / "s").parts) == 1


def test_questions_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    model = Reader().eval()
    made = scan(model, texts()[:1], tmp_path / "s", labels=LABELS)
    for ask, words in (
        (lambda: made.top(6), "unit 6 is none of layer 'rnn.l0', which has 0 to 5"),
        (lambda: made.top(0, 0), "k must be"),
        (lambda: made.top(0, end="up"), "end must be 'high' or 'low'"),
        (lambda: made.top(0, where="word"), "label 'word' was not scanned; what was is space"),
        (lambda: made.top(0, layer="x"), "layer 'x' was not scanned"),
        (lambda: made.match([0, 0]), "each once"),
        (lambda: made.match([]), "one or more units"),
        (lambda: made.match([0], 65), "length must be a whole number from 1 to 64"),
        (lambda: made.match([0, 1], at_least=3), "at_least must be a whole number from 1 to 2"),
        (lambda: made.stats(signal="z"), "counted by scan"),
        (lambda: made.stats().quantile(2), "from 0 to 1"),
        (lambda: made.stats().quantile(True), "from 0 to 1"),
        (lambda: open_scan(tmp_path), "holds no scan"),
    ):
        with pytest.raises(ScanError, match=words):
            ask()
    alone = open_scan(tmp_path / "s")
    with pytest.raises(ScanError, match="a replay runs the model"):
        alone.replay(made.top(0).places[0])
    assert alone.top(0).values == made.top(0).values
    assert alone.match([0]).found == made.match([0]).found


@pytest.mark.parametrize(
    ("layer", "options"),
    [("1.l1", {"num_layers": 2}), ("1.l0", {"bidirectional": True})],
)
def test_a_place_is_not_cut_out_where_something_else_reaches_it(
    layer: str, options: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Embedding(20, 6), nn.GRU(6, 3, batch_first=True, **options)).eval()
    ids = torch.randint(20, (1200,))
    layers = [layer] if "num_layers" in options else None
    done = scan(model, [ids], tmp_path / "s", layers=layers)
    last = done.layers[-1]
    with torch.no_grad():
        states = record(model, ids[None])[last].h[0]
    for start in range(0, 1152, 64):
        place = Place(0, 0, 0, 0, start, start + 64)
        for unit in range(3):
            again = open_scan(tmp_path / "s", model).context(place, unit, layer=last).values
            assert again is not None
            torch.testing.assert_close(
                torch.tensor(again), states[start : start + 64, unit], atol=1e-4, rtol=0
            )


def test_a_place_of_another_input_is_none(tmp_path: Path) -> None:
    made = scan(Reader().eval(), texts()[:1], tmp_path / "s")
    good = made.top(0, 1).places[0]
    for name in ("document", "offset", "batch_row"):
        with pytest.raises(ScanError, match=f"row {good.row} of part 0 is of input"):
            made.context(replace(good, **{name: 77}))


def test_parts_of_a_longer_corpus_are_said_and_a_last_one_is_missed(tmp_path: Path) -> None:
    model, parts = Reader().eval(), texts()
    made = scan(model, parts, tmp_path / "s")
    with pytest.warns(UserWarning, match="holds 3 parts, and the corpus has 2 now"):
        assert len(scan(model, parts[:2], tmp_path / "s").parts) == 3
    shutil.rmtree(made.parts[2].place)
    with pytest.warns(UserWarning, match=r"left out of every answer \(2\).*is not there"):
        assert len(open_scan(tmp_path / "s").parts) == 2
    assert len(scan(model, parts, tmp_path / "s").parts) == 3


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_both_directions_are_asked_like_any_layer(kind: Any, tmp_path: Path) -> None:
    model, parts = Reader(kind, bidirectional=True).eval(), texts()
    made = scan(model, parts, tmp_path / "s", labels=LABELS, steps=100, on=0.2)
    runs = {row[:3]: record(model, model.encode(row[3])) for row in rows_of(parts, 100)}
    read = {row[:3]: row[3] for row in rows_of(parts, 100)}
    assert made.layers == ("rnn.l0", "rnn.l0_reverse")
    for name in made.layers:
        h = {key: run[name].h[0].numpy() for key, run in runs.items()}
        every = np.concatenate(list(h.values()))
        np.testing.assert_allclose(made.stats(name).mean, every.mean(0), atol=1e-5)
        space = np.concatenate([[c == " " for c in read[key]] for key in h])
        area = roc_auc_score(space, every[:, 1])
        assert float(made.stats(name).auc[0, 1]) == pytest.approx(area, abs=0.02)
        for where in (None, "space"):
            found = made.top(1, 3, layer=name, where=where)
            held = space if where else np.ones(len(space), bool)
            assert found.values[0] == pytest.approx(every[held, 1].max(), abs=1e-5)
            place = found.places[0]
            key = place.part, place.document, place.offset
            one = made.context(place, 1, layer=name)
            assert one.text == read[key][place.start : place.stop]
            np.testing.assert_allclose(one.values, h[key][place.start : place.stop, 1], atol=1e-5)
        both = made.match([0, 1], 2, at_least=1, layer=name)
        assert both.found > 0
        for place in both.places:
            there = h[place.part, place.document, place.offset][place.start : place.stop, :2]
            assert (there > 0.2).any(1).all()
