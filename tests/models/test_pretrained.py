"""Networks that other people trained and published, opened as a user would open them.

g2p_en says English words: it ships its weights as arrays and runs them in its own NumPy, so that
an encoder and a decoder loop of cells can be compared with code that knows nothing of torch, gate
by gate and edit by edit. uzmorph-bigru takes Uzbek words apart with a two-layer bidirectional
nn.GRU of its own. Both are installed with the test requirements; nothing of theirs is copied.
"""

import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import grulens
from tests import pretrained, reference
from tests.drawn import same_bits
from tests.pretrained import Pronouncer

SIGNALS = ("x", "h_prev", "r", "z", "n", "h")
# known words, rare ones, invented ones, letters it does not have, and one too long for it
# fmt: off
SPOKEN = [
    "hello", "world", "notebook", "gate", "memory", "reset", "update", "candidate", "recurrent",
    "neuron", "rhythm", "queue", "activationist", "grulens", "frobnicate", "blorptastic", "zyzzyva",
    "gruffling", "quizzaciously", "wug", "spleem", "torchvision", "hadamard", "schmidhuber",
    "cholesky", "qwertzuiop", "xkcd", "naïve", "señor", "i", "aaaaaaaaaaaaaaaaaaaaaaaa",
    "antidisestablishmentarianism", "pneumonoultramicroscopicsilicovolcanoconiosis", "don't",
]
# fmt: on
TAKEN_APART = ["kitobim", "maktabda", "yozyapmiz", "bolalarimizdan", "o'qituvchi", "uy"]


# g2p_en: letters in, phonemes out


@pytest.fixture(scope="module")
def g2p():
    return pretrained.g2p()


@pytest.fixture(scope="module")
def pronouncer(g2p):
    return Pronouncer(g2p.variables)


def letters(g2p, word):
    known = [g2p.g2idx.get(letter, g2p.g2idx["<unk>"]) for letter in word]
    return torch.tensor([[*known, g2p.g2idx["</s>"]]])


def phonemes(g2p, said):
    return [g2p.idx2p[int(sound)] for sound in said]


@contextmanager
def their_steps(g2p):
    """Every x, r, z, n, h their NumPy cell computes, taken from its own frame as it returns."""
    code, before, steps = type(g2p).grucell.__code__, sys.getprofile(), []

    def look(frame, event, _):
        if event == "return" and frame.f_code is code:
            steps.append({s: frame.f_locals[s] for s in ("x", "r", "z", "n", "h")})

    sys.setprofile(look)
    try:
        yield steps
    finally:
        sys.setprofile(before)


def test_the_torch_network_says_what_the_package_says(g2p, pronouncer):
    assert len(SPOKEN) >= 30
    lengths = set()
    for word in SPOKEN:
        expected = g2p.predict(word)
        recording = grulens.record(pronouncer, letters(g2p, word))
        assert phonemes(g2p, recording.output) == expected, word
        assert torch.equal(recording.output, pronouncer(letters(g2p, word)))
        assert recording.residual < 1e-5
        lengths.add(len(expected))
    assert len(lengths) > 8
    assert g2p.predict("hello") == ["HH", "EH1", "L", "OW0"]


@pytest.mark.parametrize("word", SPOKEN)
def test_recorded_gates_equal_the_package_s_own(g2p, pronouncer, word):
    with their_steps(g2p) as steps:
        said = g2p.predict(word)
    recording = grulens.record(pronouncer, letters(g2p, word))
    encoder, decoder = recording["encoder.l0"], recording["decoder"]
    assert encoder.shape == (1, len(word) + 1, 256)
    assert decoder.shape == (1, min(len(said) + 1, Pronouncer.MOST), 256)
    assert len(steps) == encoder.shape[1] + decoder.shape[1]
    for signal in ("x", "r", "z", "n", "h"):
        found = torch.cat([encoder.signal(signal)[0], decoder.signal(signal)[0]])
        expected = np.concatenate([step[signal] for step in steps])
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5, err_msg=signal)


def test_the_decoder_s_loop_is_one_time_axis_that_goes_on_from_the_encoder(g2p, pronouncer):
    recording = grulens.record(pronouncer, letters(g2p, "frobnicate"))
    encoder, decoder = recording["encoder.l0"], recording["decoder"]
    assert decoder.calls == tuple(range(len(recording.output) + 1))
    assert torch.equal(decoder.h_prev[:, 0], encoder.h[:, -1])
    assert torch.equal(decoder.h_prev[:, 1:], decoder.h[:, :-1])
    said = torch.cat([torch.tensor([Pronouncer.START]), recording.output])
    assert torch.equal(decoder.x[0], pronouncer.sounds(said))


EDITS = [
    ("encoder", "z", slice(0, 64), 1.0),
    ("decoder", "z", slice(0, 64), 1.0),
    ("decoder", "r", slice(64, 192), 0.0),
    ("decoder", "h", slice(192, 256), 0.0),
]


@pytest.mark.parametrize(("part", "signal", "units", "value"), EDITS)
def test_an_edit_changes_what_is_said_as_it_does_in_the_package_s_numpy(
    g2p, pronouncer, part, signal, units, value, monkeypatch
):
    plain = {word: g2p.predict(word) for word in SPOKEN}
    weights = {"encoder": g2p.enc_w_ih, "decoder": g2p.dec_w_ih}[part]
    cell, sigmoid = g2p.grucell, g2p.sigmoid
    inside = []

    def edited_cell(x, h, w_ih, *rest):
        inside.append(w_ih is weights)
        h = cell(x, h, w_ih, *rest)
        if inside.pop() and signal == "h":
            h[:, units] = value
        return h

    def edited_sigmoid(pre):
        both = sigmoid(pre)  # r and z side by side
        if inside[-1] and signal in "rz":
            np.split(both, 2, -1)["rz".index(signal)][:, units] = value
        return both

    monkeypatch.setattr(g2p, "grucell", edited_cell)
    monkeypatch.setattr(g2p, "sigmoid", edited_sigmoid)
    layer = {"encoder": "encoder.l0"}.get(part, part)
    edit = grulens.clamp(layer, signal, units, value=value)
    changed = 0
    for word in SPOKEN:
        with grulens.editing(pronouncer, edit):
            said = phonemes(g2p, pronouncer(letters(g2p, word)))
        assert said == g2p.predict(word), word
        changed += said != plain[word]
    assert changed > len(SPOKEN) // 4
    assert phonemes(g2p, pronouncer(letters(g2p, "hello"))) == plain["hello"]


# uzmorph-bigru: letters in, a tag for each out


@pytest.fixture(scope="module")
def analyzer():
    return pretrained.analyzer()


@pytest.fixture(scope="module")
def padded(analyzer):
    """The model's input for the words (word, 30), as the package makes it."""
    made = []
    handle = analyzer.model.register_forward_pre_hook(lambda _, args: made.append(args[0]))
    for word in TAKEN_APART:
        analyzer.analyze(word)
    handle.remove()
    return torch.cat(made)


def check_against_reference(recording, embedded, gru, lengths):
    expected = reference.model(gru, embedded, None, lengths)
    assert list(recording) == [f"gru.{name}" for name in expected]
    assert len(recording) == 4
    for name, signals in expected.items():
        layer = recording[f"gru.{name}"]
        for signal in SIGNALS:
            found = layer.signal(signal).double().numpy()
            np.testing.assert_allclose(found, signals[signal], atol=1e-5, err_msg=name + signal)
    assert recording.residual < 1e-5


def test_every_layer_of_the_analyzer_equals_the_reference(analyzer, padded):
    with torch.no_grad():
        plain = analyzer.model(padded)
        embedded = analyzer.model.char_embeddings(padded)
    recording = grulens.record(analyzer.model, padded)
    assert same_bits(recording.output, plain)
    check_against_reference(recording, embedded, analyzer.model.gru, [30] * len(padded))
    # it pads and does not pack: to this network padding is input like any other
    assert recording["gru.l1_reverse"].mask.all()
    assert recording["gru.l1_reverse"].h[:, -1].abs().min() > 0


def test_packed_its_layers_end_where_the_words_end(analyzer, padded):
    class Packing(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.gru, self.embed = model.gru, model.char_embeddings

        def forward(self, words, lengths):
            packed = pack_padded_sequence(self.embed(words), lengths, True, enforce_sorted=False)
            return pad_packed_sequence(self.gru(packed)[0], True)[0]

    model, lengths = Packing(analyzer.model), [len(word) for word in TAKEN_APART]
    with torch.no_grad():
        plain = model(padded, torch.tensor(lengths))
        embedded = model.embed(padded)[:, : max(lengths)]
    recording = grulens.record(model, padded, torch.tensor(lengths))
    assert same_bits(recording.output, plain)
    check_against_reference(recording, embedded, model.gru, lengths)
    assert [int(row.sum()) for row in recording["gru.l0"].mask] == lengths
    unpacked = grulens.record(analyzer.model, padded)["gru.l0_reverse"].h[:, : max(lengths)]
    assert not torch.allclose(unpacked, recording["gru.l0_reverse"].h, atol=1e-2)


def test_an_edit_changes_the_package_s_own_answer_and_only_while_it_is_in_force(analyzer):
    before = analyzer.analyze("kitobim").to_dict()
    assert (before["stem"], before["pos"]) == ("kitob", "NOUN")
    with grulens.editing(analyzer.model, grulens.ablate("gru.l0_reverse")):
        assert analyzer.analyze("kitobim").to_dict() != before
    assert analyzer.analyze("kitobim").to_dict() == before
