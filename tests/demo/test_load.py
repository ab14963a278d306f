import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from grulens import demo
from grulens.demo import corpus
from grulens.demo.train_characters import bits_per_character
from grulens.demo.unit_scores import score_units
from grulens.errors import DemoError


@pytest.fixture(scope="module")
def held_out() -> dict[str, str]:
    return corpus.read_sources(["configparser.py", "email/message.py"])


def test_load_gives_the_model_in_eval_mode_and_its_translators():
    model, encode, decode = demo.load()
    assert not model.training
    assert isinstance(model.rnn, nn.GRU)
    assert (model.rnn.hidden_size, model.rnn.num_layers, model.rnn.batch_first) == (192, 1, True)
    ids = encode("x = 1\n")
    assert ids.shape == (1, 6)
    assert decode(ids) == "x = 1\n"
    assert model(ids).shape == (1, 6, 97)
    assert len(model.labels) == 97


def test_each_load_is_a_model_of_its_own():
    first, second = demo.load().model, demo.load().model
    with torch.no_grad():
        first.readout.bias.zero_()
    assert second.readout.bias.abs().sum() > 0


def test_loading_leaves_torchs_randomness_alone():
    before = torch.get_rng_state()
    demo.load()
    assert torch.equal(before, torch.get_rng_state())


def test_the_weights_are_small():
    assert demo.WEIGHTS.stat().st_size < 1_000_000


def test_the_shipped_model_predicts_held_out_source(held_out):
    texts = [text[2000:8000] for text in held_out.values()]
    # 1.70 on Python 3.11; the files differ a little in other Pythons; untrained it is 6.6
    assert bits_per_character(demo.load().model, texts) < 1.8


def test_single_units_follow_the_syntax(held_out):
    found = score_units(demo.load().model, held_out.values(), limit=12_000)
    best = {question: ranked[0].strength for question, ranked in found.items()}
    assert best["in_string"] > 0.8
    assert best["in_text"] > 0.85
    assert best["depth"] > 0.6


def test_the_path_decides(tmp_path):
    other = demo.CharacterModel()
    file = tmp_path / "other.safetensors"
    save_file(other.state_dict(), file)
    assert torch.equal(demo.load(file).model.readout.weight, other.readout.weight)


def test_missing_weights_say_how_to_make_them(tmp_path):
    with pytest.raises(DemoError, match=r"not there: .*nowhere.*train_characters` makes them"):
        demo.load(tmp_path / "nowhere")


def test_another_file_is_named(tmp_path):
    text = tmp_path / "text"
    text.write_text("hello")
    with pytest.raises(DemoError, match=r"text is not a safetensors file"):
        demo.load(text)
    wrong = tmp_path / "wrong"
    save_file({"weight": torch.zeros(2)}, wrong)
    with pytest.raises(DemoError, match=r"wrong does not hold the demo model.*rnn\.weight_hh_l0"):
        demo.load(wrong)


def test_sizes_are_the_models_own():
    small = demo.CharacterModel(units=8, embedding=3)
    assert small.rnn.weight_ih_l0.shape == (24, 3)
    assert small(small.encode("ab")).shape == (1, 2, 97)


def test_the_demo_needs_no_notebook():
    code = (
        "import sys, grulens.demo; "
        "print([m for m in ('bokeh', 'ipywidgets', 'IPython', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
