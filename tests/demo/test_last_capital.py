import sys
from pathlib import Path

import pytest
import torch

from grulens import record
from grulens.demo import last_capital
from grulens.errors import DemoError


def test_the_answers_are_those_of_the_task():
    ids, answers = last_capital.texts(50, 30)
    for text, said in zip(ids.tolist(), answers.tolist(), strict=True):
        last = 0
        for symbol, answer in zip(text, said, strict=True):
            last = {2: 1, 3: 2}.get(symbol, last)
            assert answer == (last if symbol == 4 else 0)
    assert (answers == 1).any()
    assert (answers == 2).any()


def test_the_stored_network_answers_every_question():
    ids, answers = last_capital.texts(200, 100)
    with torch.no_grad():
        said = last_capital.load()(ids).argmax(-1)
    assert torch.equal(said, answers)


def test_unit_1_holds_the_letter_and_unit_0_hears_the_question():
    model = last_capital.load()
    run = record(model, model.encode("abBab?aAb?bBa?"))["rnn.l0"]
    capital = torch.tensor([c in "AB" for c in "abBab?aAb?bBa?"])
    assert run.z[0, capital, 1].max() < 0.1
    assert run.z[0, ~capital, 1].min() > 0.9
    asked = torch.tensor([c == "?" for c in "abBab?aAb?bBa?"])
    assert run.h[0, asked, 0].max() < -0.8
    assert run.h[0, ~asked, 0].min() > 0.8


@pytest.mark.parametrize(("text", "said"), [("aC", "got 'C'"), ("", "there is nothing in it")])
def test_what_it_cannot_read_is_refused(text: str, said: str):
    with pytest.raises(DemoError, match=rf"this network reads a, b, A, B, \?; {said}"):
        last_capital.LastCapital().encode(text)


def test_training_lowers_the_loss_and_leaves_the_random_numbers():
    ids, answers = last_capital.texts(50, 20)
    state = torch.get_rng_state()
    losses = [
        float(torch.nn.functional.cross_entropy(
            last_capital.train(steps=steps, batch=16, time=6)(ids).flatten(0, 1), answers.flatten()
        ).detach())
        for steps in (0, 20)
    ]  # fmt: skip
    assert losses[1] < losses[0] - 0.1
    assert torch.equal(torch.get_rng_state(), state)


def test_its_script_writes_what_load_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = last_capital.LastCapital()
    monkeypatch.setattr(last_capital, "train", lambda: made)
    monkeypatch.setattr(last_capital, "WEIGHTS", tmp_path / "weights.safetensors")
    monkeypatch.setattr(sys, "argv", ["", "--out", str(last_capital.WEIGHTS)])
    last_capital.main()
    ids = last_capital.texts(2, 5)[0]
    assert torch.equal(last_capital.load()(ids), made(ids))
