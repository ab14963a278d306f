import math

import pytest
import torch
from safetensors.torch import load_file

from grulens.demo import corpus, train_characters
from grulens.demo.character_model import CharacterModel
from grulens.demo.train_characters import bits_per_character, main
from grulens.errors import DemoError

TEXT = "def f(x):\n    return x + 1\n" * 30


def short(**options) -> CharacterModel:
    chosen = {"steps": 3, "batch": 4, "window": 16, "progress": False} | options
    return train_characters.train_characters(TEXT, **chosen)


def test_a_short_training_learns():
    before, after = short(steps=0), short(steps=30)
    assert bits_per_character(after, [TEXT]) < 0.7 * bits_per_character(before, [TEXT])
    assert not after.training


def test_every_option_changes_the_result():
    plain = short().readout.weight
    assert torch.equal(plain, short().readout.weight)
    options = ({"seed": 1}, {"steps": 4}, {"batch": 5}, {"window": 17}, {"rate": 1e-3})
    for option in options:
        assert not torch.equal(plain, short(**option).readout.weight), option


def test_progress_and_randomness(capsys):
    before = torch.get_rng_state()
    short()
    assert capsys.readouterr().err == ""
    short(progress=True)
    assert "characters" in capsys.readouterr().err
    assert torch.equal(before, torch.get_rng_state())


def test_an_interrupt_keeps_what_is_learned(monkeypatch):
    whole = torch.nn.utils.clip_grad_norm_
    calls = 0

    def interrupted(*args):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(train_characters.nn.utils, "clip_grad_norm_", interrupted)
    stopped = short(steps=20)
    monkeypatch.undo()
    assert not stopped.training
    assert not torch.equal(stopped.readout.weight, short(steps=0).readout.weight)


def test_a_text_too_short_is_refused():
    with pytest.raises(DemoError, match="810 characters are too few for 64 streams with windows"):
        train_characters.train_characters(TEXT, progress=False)


def test_bits_are_those_of_every_text_read_alone():
    model = short()
    texts = ["import re\n", "x = [1, 2, 3]", "pass"]
    total, count = 0.0, 0
    for text in texts:
        ids = model.encode(text)
        with torch.no_grad():
            chances = model(ids)[0, :-1].log_softmax(-1)
        total -= chances.gather(1, ids[0, 1:, None]).sum().item() / math.log(2)
        count += len(text) - 1
    assert bits_per_character(model, texts) == pytest.approx(total / count, rel=1e-5)
    assert bits_per_character(model, texts, block=3) == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("texts", [[], ["", "x"]])
def test_bits_of_nothing_are_refused(texts):
    with pytest.raises(DemoError, match="at least one text of two characters"):
        bits_per_character(short(steps=0), texts)


def test_the_command_trains_measures_and_saves(monkeypatch, tmp_path, capsys):
    source = "def f(x):\n    # add\n    return (x + 'a')\n" * 300
    monkeypatch.setattr(corpus, "read_sources", lambda names: {names[0]: source})
    threads = torch.get_num_threads()
    out = tmp_path / "weights.safetensors"
    try:
        main(["--out", str(out), "--steps", "2", "--threads", "1", "--quiet"])
        assert torch.get_num_threads() == 1
        seeded = tmp_path / "seeded.safetensors"
        main(["--out", str(seeded), "--steps", "2", "--seed", "5", "--threads", "1", "--quiet"])
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr()
    assert "held out: 1 files" in said.out
    assert "bits per character" in said.out
    assert "in_string: unit" in said.out
    assert said.err == ""
    first, second = load_file(out), load_file(seeded)
    assert first.keys() == CharacterModel().state_dict().keys()
    assert not torch.equal(first["readout.weight"], second["readout.weight"])


def test_the_command_shows_progress_unless_quiet(monkeypatch, tmp_path, capsys):
    source = "def f(x):\n    # add\n    return (x + 'a')\n" * 300
    monkeypatch.setattr(corpus, "read_sources", lambda names: {names[0]: source})
    threads = torch.get_num_threads()
    try:
        main(["--out", str(tmp_path / "w"), "--steps", "1", "--threads", "1"])
    finally:
        torch.set_num_threads(threads)
    assert "characters" in capsys.readouterr().err


def test_the_command_refuses_a_folder_that_is_not_there_before_training(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "no" / "w.safetensors")])
    assert "does not exist" in capsys.readouterr().err
