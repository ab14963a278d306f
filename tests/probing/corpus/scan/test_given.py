"""Models that take more than ids, or no ids: what was given is given again, or refused by name."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from grulens import record
from grulens.corpus import Scan, open_scan, probe
from grulens.corpus import scan as scanned
from grulens.errors import ScanError
from grulens.probing.corpus.scan.given import form_of

LENGTHS = [90, 40]
TWO = {"two": lambda ids: ids == 2}
UP = {"up": lambda x: x[:, 0] > 0}


def scan(*args: Any, **kwargs: Any) -> Scan:
    return scanned(*args, progress=False, on=0.0, **kwargs)


class Named(nn.Module):
    """Takes all by name."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.rnn = nn.Embedding(9, 4), nn.GRU(4, 5, batch_first=True)

    def forward(
        self, *, ids: Tensor, mask: Tensor | None = None, by: float = 1.0, at: Any = None
    ) -> Tensor:
        x = self.embed(ids) * by
        if mask is not None:
            x = x * mask[..., None]
        if at is not None:
            x = x + at[:, None]
        out: Tensor = self.rnn(x)[0]
        return out


class Lengths(Named):
    """Takes the lengths of its rows beside the ids."""

    def forward(self, ids: Tensor, lengths: Any) -> Tensor:  # type: ignore[override]
        x = pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
        out: Tensor = pad_packed_sequence(self.rnn(x)[0], batch_first=True)[0]
        return out


IDS = torch.randint(9, (2, 90), generator=torch.Generator().manual_seed(1))
MASK = torch.arange(90) < torch.tensor(LENGTHS)[:, None]
FORMS = {
    "lengths": (Lengths, (IDS, torch.tensor(LENGTHS))),
    "a list of lengths": (Lengths, (IDS, LENGTHS)),
    "lengths of numpy": (Lengths, (IDS, np.array(LENGTHS))),
    "named lengths": (Lengths, {"lengths": torch.tensor(LENGTHS), "ids": IDS}),
    "named": (Named, {"ids": IDS}),
    "a mask that stands first": (Named, {"mask": MASK, "ids": IDS}),
    "a whole mask": (Named, {"mask": torch.ones_like(IDS), "ids": IDS, "by": 2.0}),
    "a number a row": (Named, {"ids": IDS, "at": torch.tensor([[0.5], [-1.0]]), "mask": None}),
    "a tensor of one": (Named, {"ids": IDS, "by": torch.tensor(0.5)}),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_row_runs_again_as_it_did(name: str, tmp_path: Path) -> None:
    kind, part = FORMS[name]
    model = kind().eval()
    padded = isinstance(part, dict) and part.get("mask") is MASK
    with pytest.warns(UserWarning, match="'mask' says") if padded else nullcontext():
        made = scan(model, [part] * 3, tmp_path / "s", labels=TWO)
    args, kwargs = ((), part) if isinstance(part, dict) else (part, {})
    h = record(model, *args, **kwargs)["rnn.l0"].h
    ends = LENGTHS if kind is Lengths else [90, 90]
    assert made.steps == 3 * sum(ends)
    assert int(made.stats().positives) == 3 * sum(
        int((IDS[row, :end] == 2).sum()) for row, end in enumerate(ends)
    )
    for place in made.top(1, 4).places:
        row, steps = place.batch_row, slice(place.start, place.stop)
        assert made.context(place).tokens == tuple(str(i) for i in IDS[row, steps].tolist())
        again = made.context(place, 1).values
        torch.testing.assert_close(torch.tensor(again), h[row, steps, 1], atol=1e-5, rtol=0)
    best = max(float(h[row, :end, 0][IDS[row, :end] == 2].max()) for row, end in enumerate(ends))
    assert made.top(0, 1, where="two").values[0] == pytest.approx(best, abs=1e-5)
    found = probe(made, control="context", progress=False)
    assert found.steps == sum(ends)


@pytest.mark.parametrize("form", ["rows first", "steps first", "packed", "one row alone"])
def test_numbers_run_again_as_they_did(form: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    x, lengths = torch.randn(2, 300, 3), [300, 130]
    model = nn.GRU(3, 4, batch_first=form == "rows first").eval()
    up: Any = UP
    part: Any = x
    if form == "steps first":
        part = x.transpose(0, 1)
    elif form == "packed":
        part = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True)
        up = {"up": [[x[row, :end, 0] > 0 for row, end in enumerate(lengths)]] * 3}
    elif form == "one row alone":
        part = x[0]
    made = scan(model, [part] * 3, tmp_path / "s", labels=up)
    h = record(model, part)["l0"].h
    for place in made.top(1, 4).places:
        row, steps = place.batch_row, slice(place.start, place.stop)
        inputs = made.inputs(place)
        assert inputs is not None
        assert torch.equal(inputs, x[row, steps])
        assert made.ids(place) is None
        again = made.replay(place)
        torch.testing.assert_close(
            again.recording["l0"].h[0, again.steps], h[row, steps], atol=1e-5, rtol=0
        )
    assert made.top(0, 1, where="up").values[0] <= made.top(0, 1).values[0]
    assert probe(made, control=None, progress=False).accuracy[0] > 0.5
    with pytest.raises(ScanError, match=r"goes by the ids that were read, .* control=None"):
        probe(made, progress=False)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (
            (torch.randn(2, 70, 3), torch.randn(1, 2, 4)),
            r"not all is kept \(1: a tensor \(1, 2, 4\)",
        ),
        (torch.randn(2, 70, 17), "not up to 16 numbers at each step of rows that can be told from"),
    ],
)
def test_what_cannot_be_given_again_is_said(part: Any, words: str, tmp_path: Path) -> None:
    size = 17 if isinstance(part, torch.Tensor) else 3
    made = scan(nn.GRU(size, 4, batch_first=True).eval(), [part], tmp_path / "s")
    place = made.top(0, 1).places[0]
    for ask in (made.replay, made.given, lambda place: made.context(place, 0)):
        with pytest.raises(ScanError, match=words):
            ask(place)


def test_many_numbers_a_step_are_not_kept(tmp_path: Path) -> None:
    wide = scan(nn.GRU(17, 4, batch_first=True).eval(), [torch.randn(1, 70, 17)], tmp_path / "s")
    assert wide.inputs(wide.top(0, 1).places[0]) is None
    assert not (wide.parts[0].place / "inputs.npy").exists()


def test_a_scan_without_a_word_on_its_inputs_is_refused_by_name(tmp_path: Path) -> None:
    made = scan(Named().eval(), [{"ids": IDS}], tmp_path / "s", labels=TWO)
    (made.parts[0].place / "given.json").unlink()  # as it was written once
    with pytest.raises(ScanError, match="cannot be run again: the model raised TypeError"):
        made.replay(made.top(0, 1).places[0])


class Two(Named):
    """Takes tokens and segments."""

    def forward(self, tokens: Tensor, segments: Tensor) -> Tensor:  # type: ignore[override]
        out: Tensor = self.rnn(self.embed(tokens) + self.embed(segments))[0]
        return out


def test_of_two_tensors_of_ids_it_is_said_which_is_taken_or_asked(tmp_path: Path) -> None:
    model, pair, made = Two().eval(), (IDS, (IDS + 1) % 9), {}
    both = r"'tokens', 'segments' may each be .*, and 'tokens' is taken: .* input_of="
    with pytest.warns(UserWarning, match=both):
        made["said"] = scan(model, [pair], tmp_path / "said", labels=TWO)
    named = {"segments": pair[1], "tokens": pair[0]}
    with pytest.warns(UserWarning, match="'segments', 'tokens' may .*'segments' is taken"):
        scan(model, [named], tmp_path / "turned", labels=TWO)
    for name, part in (("tokens", pair), ("segments", pair), ("segments", named)):
        made[name] = scan(model, [part], tmp_path / f"{name}{len(made)}", labels=TWO, input_of=name)
    for name, ids in (("said", IDS), ("tokens", IDS), ("segments", pair[1])):
        assert int(made[name].stats().positives) == int((ids == 2).sum())
        place = made[name].top(0, 1).places[0]
        read = ids[place.batch_row, place.start : place.stop]
        assert torch.equal(made[name].ids(place), read)
    mask = torch.ones_like(IDS)
    scan(Named().eval(), [{"ids": IDS, "mask": mask}], tmp_path / "mask", labels=TWO)
    with pytest.raises(ScanError, match=r"in argument 'words', .* are 'tokens', 'segments': name"):
        scan(model, [pair], tmp_path / "no", input_of="words")
    scan(model, [pair], tmp_path / "bare", input_of="tokens")
    with pytest.raises(ScanError, match=r"other inputs than .*`input_of` is another"):
        scan(model, [pair] * 2, tmp_path / "bare", input_of="segments")


class Maybe(Two):
    """The segments may be left out."""

    def forward(self, tokens: Tensor, segments: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return super().forward(tokens, torch.zeros_like(tokens) if segments is None else segments)


def test_texts_and_ids_are_the_first_argument_of_inputs_that_have_several(tmp_path: Path) -> None:
    like_a_mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])
    sevens, one = torch.full((2, 5), 7), {"one": lambda ids: ids == 1}
    several: list[Any] = [(like_a_mask, sevens), {"segments": sevens, "tokens": like_a_mask}]
    for number, parts in enumerate([[like_a_mask[0], *several], [[like_a_mask[0], *several]]]):
        made = scan(Maybe().eval(), parts, tmp_path / str(number), labels=one)
        assert int(made.stats().positives) == 3 + 5 + 5
    for number, parts in enumerate([[several[0], like_a_mask[0]], [like_a_mask[0]]]):
        with pytest.raises(ScanError, match=r"(?s)takes as 'tokens', .* is 'segments', .* \{'segm"):
            scan(Maybe().eval(), parts, tmp_path / f"no{number}", labels=one, input_of="segments")


class Decodes(nn.Module):
    """Reads a source, and then a target, of ids."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(9, 4)
        self.enc, self.dec = nn.GRU(4, 5, batch_first=True), nn.GRU(4, 5, batch_first=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        out: Tensor = self.dec(self.embed(target), self.enc(self.embed(source))[1])[0]
        return out


def pairs(*sizes: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    """Sources of 2 and targets of 3, of these lengths."""
    return [(torch.full((2, a), 2), torch.full((2, b), 3)) for a, b in sizes]


def test_what_stands_at_each_step_is_one_argument_of_all_inputs(tmp_path: Path) -> None:
    model, ones = Decodes().eval(), {"one": lambda ids: ids == 3}
    # in the second part both have as many steps
    made = scan(model, pairs((5, 3), (4, 4)), tmp_path / "s", labels=ones, layers="dec.l0")
    assert int(made.stats().positives) == made.steps == 14
    with (
        pytest.warns(UserWarning, match="'source' is taken"),
        pytest.raises(ScanError, match=r"argument 'source' is \(2, 5\) .* name it: input_of="),
    ):
        scan(model, pairs((4, 4), (5, 3)), tmp_path / "t", labels=ones, layers="dec.l0")


@pytest.mark.parametrize("most", [2**53 + 9, 2**63 - 1])
def test_ids_are_kept_to_the_last_bit(most: int, tmp_path: Path) -> None:
    class Hashed(Named):
        def forward(self, ids: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(ids=ids % 9)

    ids = [torch.tensor([-most, 3, most]), torch.tensor([most, most - 1])]
    made = scan(Hashed().eval(), [ids], tmp_path / "s")
    kept = [made.ids(made.row_of(place)) for place in made.top(0, 2).places]
    assert {tuple(one.tolist()) for one in kept if one is not None} == {
        tuple(one.tolist()) for one in ids
    }


def test_half_numbers_and_a_single_step_have_labels(tmp_path: Path) -> None:
    half = nn.GRU(3, 4, batch_first=True).bfloat16().eval()
    x = torch.randn(2, 70, 3).bfloat16()
    made = scan(half, [x] * 2, tmp_path / "half", labels=UP)
    assert int(made.stats().positives) == 2 * int((x[..., 0] > 0).sum())
    place = made.top(0, 1).places[0]
    inputs = made.inputs(place)
    assert inputs is not None
    assert torch.equal(inputs.bfloat16(), x[place.batch_row, place.start : place.stop])
    assert made.replay(place).recording["l0"].h.dtype == torch.bfloat16
    rows = [torch.randn(9, 3), torch.randn(1, 3)]
    alone = scan(nn.GRU(3, 4, batch_first=True).eval(), rows, tmp_path / "one", labels=UP)
    assert int(alone.stats().positives) == sum(int((row[:, 0] > 0).sum()) for row in rows)


class Pooled(Named):
    """Leaves padding out only after its layer."""

    def forward(self, ids: Tensor, lengths: Any) -> Tensor:  # type: ignore[override]
        return super().forward(ids=ids).cumsum(1)[range(len(ids)), torch.as_tensor(lengths) - 1]


@pytest.mark.parametrize(
    ("kind", "part", "name"),
    [
        (Named, {"ids": IDS, "mask": MASK.long()}, "mask"),
        (Named, {"ids": IDS, "mask": MASK.flip(1)}, "mask"),
        (Pooled, (IDS, torch.tensor(LENGTHS)), "lengths"),
        (Pooled, (IDS, LENGTHS), "lengths"),
        (Named, {"ids": IDS, "mask": torch.ones_like(IDS)}, ""),
        (Named, {"ids": IDS, "at": torch.tensor([[90.0], [40.0]])}, ""),
        (Lengths, (IDS, torch.tensor(LENGTHS)), ""),
        (Pooled, (IDS, [90, 90]), ""),
        (Pooled, (IDS, [7, 40]), "lengths"),
        (Pooled, (IDS, torch.tensor([[90], [40]])), "lengths"),
    ],
)
def test_padding_that_the_layers_take_is_said(
    kind: type[Named], part: Any, name: str, tmp_path: Path
) -> None:
    words = f"argument '{name}' says which steps of an input are padding, and the layers take"
    with pytest.warns(UserWarning, match=words) if name else nullcontext():
        made = scan(kind().eval(), [part], tmp_path / "s")
    assert made.steps == (130 if kind is Lengths else 180)


def test_ids_that_look_like_a_mask_are_set_aside_with_a_word(tmp_path: Path) -> None:
    pair = torch.ones_like(IDS), IDS
    with pytest.warns(UserWarning, match="'segments', 'tokens' may .* 'segments' is taken"):
        scan(Two().eval(), [pair], tmp_path / "s", labels=TWO)


def test_what_a_model_or_a_label_writes_into_its_ids_reaches_nobody_else(tmp_path: Path) -> None:
    class Writes(Named):
        def forward(self, ids: Tensor) -> Tensor:  # type: ignore[override]
            ids[ids > 4] = 0
            return super().forward(ids=ids)

    def even(ids: Any) -> Any:
        ids %= 2
        return ids == 0

    rows = [row.clone() for row in IDS]
    made = scan(Writes().eval(), rows, tmp_path / "s", labels={"even": even, **TWO})
    assert all(torch.equal(row, kept) for row, kept in zip(rows, IDS, strict=True))
    assert made.stats().positives.tolist() == [int((IDS % 2 == 0).sum()), int((IDS == 2).sum())]
    for place in made.top(0, 2).places:
        ids = made.ids(made.row_of(place))
        assert ids is not None
        assert torch.equal(ids, rows[place.part])


def test_padding_is_said_once_a_scan_wherever_it_comes(tmp_path: Path) -> None:
    whole = {"ids": IDS, "mask": torch.ones_like(IDS)}
    parts = [whole, *[{"ids": IDS, "mask": MASK.long()}] * 3]
    with pytest.warns(UserWarning, match="padding") as said:
        scan(Named().eval(), parts, tmp_path / "s")
    assert len(said) == 1


class Kinds(Two):
    """Takes what BERT takes: ids, and of which sentence each is."""

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(input_ids, token_type_ids)


def test_what_only_looks_like_a_mask_is_none(tmp_path: Path) -> None:
    both = "'input_ids', 'token_type_ids' may each be .*, and 'input_ids' is taken"
    with pytest.warns(UserWarning, match=both):
        made = scan(Kinds().eval(), [(IDS, (~MASK).long())], tmp_path / "s", labels=TWO)
    assert int(made.stats().positives) == int((IDS == 2).sum())


@pytest.mark.parametrize("first", [True, False])
def test_the_first_input_tells_which_way_round_a_square_one_is(first: bool, tmp_path: Path) -> None:
    class Pooling(Pooled):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(4, 5, batch_first=first)

    sizes = ((8, 12), (8, 8))
    parts = [torch.randint(9, size if first else size[::-1]) for size in sizes]
    given = [(ids, torch.full((8,), ids.shape[int(first)])) for ids in parts]
    model = Pooling().eval()
    model.forward = lambda ids, lengths: model.rnn(model.embed(ids))[0]  # type: ignore[method-assign]
    made = scan(model, given, tmp_path / "s", labels=TWO)
    rows = [ids if first else ids.T for ids in parts]
    for place in made.top(0, 16).places:
        read = rows[place.part][place.batch_row, place.start : place.stop]
        ids = made.ids(place)
        assert ids is not None
        assert torch.equal(ids, read)


def test_which_way_round_a_model_takes_ids_is_tried_once(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(9, 4), nn.GRU(4, 5)).eval()
    made = scan(model, [IDS.T] * 5, tmp_path / "s", labels=TWO)
    for part in made.parts:
        (part.place / "given.json").unlink()  # as it was written once
        head = part.place / "part.json"
        held = json.loads(head.read_text())
        held["sizes"].pop("given.json")
        held.pop("sum")
        head.write_text(json.dumps(held))
    ran: SimpleQueue[tuple[int, ...]] = SimpleQueue()  # what it holds is not put back behind a run
    model.register_forward_pre_hook(lambda module, given: ran.put(tuple(given[0].shape)))
    found = probe(open_scan(made.path, model), control="context", progress=False)
    assert found.steps == 180
    assert [ran.get() for _ in range(ran.qsize())] == [(2, 90), *[(90, 2)] * 5]
    again = open_scan(made.path, model)
    for place in again.top(1, 3).places:
        assert again.replay(place).recording["1.l0"].h.shape[:2] == (1, 90)
    assert [ran.get() for _ in range(ran.qsize())] == [(90, 1)] * 3


def test_ids_and_numbers_in_one_part_are_refused(tmp_path: Path) -> None:
    class Either(Named):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            out: Tensor = self.rnn(x if x.is_floating_point() else self.embed(x))[0]
            return out

    with pytest.raises(ScanError, match="one input of the part is of ids, and another has numbers"):
        scan(Either().eval(), [[IDS[0], torch.randn(1, 70, 4)]], tmp_path / "s")


def test_a_form_is_the_same_after_it_was_written() -> None:
    form = form_of([IDS, None], {"n": torch.tensor(LENGTHS), "m": MASK}, IDS, LENGTHS, 90)
    again = type(form).from_dict(form.to_dict())
    assert again == form
    (ids, none), named = next(again.again(IDS[1:, :40].numpy(), [1]))
    assert torch.equal(ids, IDS[1:, :40])
    assert none is None
    assert named["n"].tolist() == [40]
    assert named["m"].dtype == torch.bool
    assert bool(named["m"].all())
    assert np.array_equal(named["m"].shape, (1, 40))
