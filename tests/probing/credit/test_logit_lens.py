"""The logit lens: what it says is what the model says, and shares of units add up to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from grulens import ablate, record
from grulens.credit import head_of, logit_lens
from grulens.errors import LayerError, PositionError, ReadoutError
from tests.drawn import Case, cases
from tests.intact import Intact


@settings(max_examples=30)
@given(cases(dtypes=(torch.float64,)), st.booleans(), st.data())
def test_shares_and_what_is_beside_them_are_the_logit(
    case: Case, both: bool, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(case.names))
    units, run = case.module.hidden_size, record(case.module, *case.args)
    sides = [n for n in case.names if n.removesuffix("_reverse") == name.removesuffix("_reverse")]
    joined = both and len(sides) == 2
    head = nn.Linear(units * (2 if joined else 1), 3, bias=data.draw(st.booleans())).double()
    lens = logit_lens(case.module, *case.args, layer=name, head=head)
    states = torch.cat([run[n].h for n in (sides if joined else [name])], 2)
    with torch.no_grad():
        plain = head(states).masked_fill(~run[name].mask[..., None], 0)
    assert torch.allclose(lens.logits, plain, atol=1e-12)
    for klass in range(3):
        share = lens.share(klass)
        assert share.shape == run[name].h.shape
        whole = share.sum(-1) + lens.bias[klass] + lens.rest[..., klass]
        assert torch.allclose(whole[lens.mask], lens.logits[..., klass][lens.mask], atol=1e-12)
    if not joined:
        assert lens.rest.eq(0).all()
    total = lens.probability.sum(-1)
    assert torch.allclose(total, lens.mask.double(), atol=1e-12)


class Tagger(nn.Module):
    """Class numbers in, logits out."""

    def __init__(self, joined: int = 0) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 3)
        self.rnn = nn.GRU(3, 5, num_layers=2, batch_first=True)
        self.out = nn.Linear(5 + joined, 4)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.rnn(self.embed(ids))[0]
        more = self.embed(ids)[..., : self.out.in_features - 5]
        return self.out(torch.cat([h, more], -1) if more.shape[-1] else h)


IDS = torch.tensor([[0, 1, 2, 3, 1, 2]])


def test_the_models_own_readout_is_found_and_says_what_the_model_says() -> None:
    model = Tagger().eval()
    intact = Intact(model)
    lens = logit_lens(model, IDS)
    assert (lens.layer, lens.head, lens.states_only) == ("rnn.l1", "'out'", True)
    with torch.no_grad():
        assert torch.allclose(lens.logits, model(IDS), atol=1e-6)
    classes, logits = lens.top(-1, 2)
    best = model(IDS)[:, -1].topk(2)
    assert torch.equal(classes, best.indices)
    assert torch.allclose(logits, best.values, atol=1e-6)
    assert lens.top(0, 99)[0].shape == (1, 4)
    assert repr(lens) == "LogitLens('out' of 'rnn.l1', batch 1, time 6, class 4)"
    assert f"{classes[0, 0]}: {logits[0, 0]:.3g}" in lens._repr_html_()
    frame = lens.to_frame()
    assert frame.shape == (6, 4)
    assert frame.loc[2, 3] == pytest.approx(float(lens.logits[0, 2, 3]))
    assert intact.broken() == []


def test_edits_are_in_it_and_other_features_are_said_to_be_missing() -> None:
    model = Tagger().eval()
    edited = logit_lens(model, IDS, edits=ablate("rnn.l1", 2))
    assert edited.share(1)[..., 2].eq(0).all()
    plain, head = logit_lens(model, IDS), head_of(model, IDS)
    assert torch.allclose(plain.logits, logit_lens(model, IDS, head=head).logits)
    assert not torch.allclose(plain.logits, edited.logits, atol=1e-3)
    wide = Tagger(joined=2).eval()
    lens = logit_lens(wide, IDS)
    assert not lens.states_only
    extra = wide.embed(IDS)[..., :2] @ wide.out.weight[:, 5:].t()
    assert torch.allclose(lens.logits + extra, wide(IDS), atol=1e-6)


def test_any_function_is_a_readout_without_shares() -> None:
    rnn, x = nn.GRU(3, 4, batch_first=True), torch.randn(2, 5, 3)
    norm = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3))
    lens = logit_lens(rnn, x, head=norm)
    assert torch.allclose(lens.logits, norm(rnn(x)[0]), atol=1e-6)
    assert not lens.logits.requires_grad
    with pytest.raises(ReadoutError, match="so its logits have no shares"):
        lens.share(0)


def test_what_does_not_fit_is_named() -> None:
    rnn, x = nn.GRU(3, 4, bidirectional=True, batch_first=True), torch.randn(2, 5, 3)
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({}, ReadoutError, "no nn.Linear of this model reads the states"),
        ({"head": 3}, ReadoutError, "head must be an nn.Linear, a Head or a function"),
        ({"head": nn.Linear(7, 2)}, ReadoutError, "reads 7 numbers; layer 'l0' has 4 units, both"),
        ({"head": lambda h: h.sum(2)}, ReadoutError, r"\(batch, time, class\) for states"),
        ({"head": lambda h: 3}, ReadoutError, "floating tensor, got int"),
        ({"head": nn.Linear(4, 2), "layer": "l1"}, LayerError, "layer 'l1' did not run"),
        ({"head": head_of(Tagger(), IDS)}, LayerError, "layer 'rnn.l1' did not run"),
        ({"head": head_of(Tagger(), IDS), "layer": "l0"}, ReadoutError, "reads another layer"),
    ]
    for options, error, words in wrong:
        with pytest.raises(error, match=words):
            logit_lens(rnn, x, **options)
    lens = logit_lens(rnn, x, head=nn.Linear(8, 2))
    assert lens.layer == "l0"
    for call, words in (
        (lambda: lens.share(2), "class 2 is out of range"),
        (lambda: lens.share("a"), "class must be an int"),
        (lambda: lens.top(5), "step 5 is out of range"),
        (lambda: lens.top(0, 0), "k must be a positive int, got 0"),
        (lambda: lens.to_frame(2), "row 2 is out of range"),
    ):
        with pytest.raises(PositionError, match=words):
            call()
