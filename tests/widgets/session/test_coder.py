"""Texts: words as characters, the user's own string, and each layer's names at that layer only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import GateSliders, Lens, Session, ablate
from grulens.errors import GrulensError, LayerError
from grulens.memory import GateMemory
from grulens.probing.coder import Coder
from tests.widgets.conftest import Tagger

WORDS = ["the", "film", "was", "not", "bad", "good"]


class Words(nn.Module):
    """Reads words, answers in two classes; its labels are no words."""

    labels: Any = ("neg", "pos")

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.rnn = nn.Embedding(6, 4), nn.GRU(4, 8, num_layers=2, batch_first=True)
        self.out = nn.Linear(8, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.rnn(self.embed(ids))[0][:, -1])


def encode(text: str) -> Tensor:
    return torch.tensor([[WORDS.index(word) for word in text.split()]])


def listed(ids: Any) -> list[str]:
    return [WORDS[i] for i in torch.as_tensor(ids).flatten().tolist()]


class Reader(Words):
    """Words with translators of its own."""

    def encode(self, text: str) -> Tensor:
        return encode(text)

    def decode(self, ids: Any) -> list[str]:
        return listed(ids)


def joined(ids: Any) -> str:
    return " ".join(listed(ids))


def of_numbers(ids: list[int]) -> str:
    return " ".join(WORDS[i] for i in ids)  # no tensor is a list index


def failing(ids: Any) -> str:
    raise ZeroDivisionError


DECODES: dict[str, Callable[[Any], Any]] = {
    "a list": listed, "a text": joined, "of plain numbers": of_numbers,
    "a tuple": lambda ids: tuple(listed(ids)),
}  # fmt: skip
TEXT = "the film was not  bad"  # two spaces: the user's own


@pytest.mark.parametrize("decode", DECODES)
def test_words_are_named_and_the_text_is_the_users_own(decode: str) -> None:
    lens = Lens(Words(), TEXT, encode=encode, decode=DECODES[decode])
    assert lens.session.tokens == ["the", "film", "was", "not", "bad"]
    assert lens.session.text == lens.text.value == TEXT
    lens.text.value = "good  film "
    lens.run.click()
    assert lens.session.tokens == ["good", "film"]
    assert lens.text.value == lens.session.text == "good  film "
    lens.session.set_input("not bad")  # from a cell: the box shows it
    assert lens.text.value == "not bad"
    lens.session.layer = "rnn.l1"
    assert lens.session.tokens == ["not", "bad"]
    assert "good" not in lens.still()


def test_the_models_own_translators_are_found() -> None:
    session = Session(Reader(), TEXT)
    assert session.tokens == ["the", "film", "was", "not", "bad"]
    given = Session(Reader(), "gut", encode=lambda text: torch.tensor([[5]]),
                    decode=lambda ids: ["gut"])  # fmt: skip
    assert given.tokens == ["gut"]  # what is given is taken


def test_ids_are_named_and_written_out() -> None:
    lens = Lens(Reader(), torch.tensor([[3, 5]]))
    assert lens.session.tokens == ["not", "good"]
    assert lens.text.value == "not good"
    lens.run.click()
    assert lens.session.tokens == ["not", "good"]
    rows = Session(Reader(), torch.tensor([[3, 5], [0, 1]]))
    rows.row = 1
    assert (rows.tokens, rows.text) == (["the", "film"], "")


def test_a_list_of_ids_is_a_row() -> None:
    session = Session(Words(), "bad not", encode=lambda t: encode(t)[0].tolist(), decode=listed)
    assert session.steps == 2
    assert session.tokens == ["bad", "not"]


@pytest.mark.parametrize("decode", [failing, lambda ids: None, lambda ids: ids, None])
def test_where_no_name_is_known_there_are_numbers(decode: Any) -> None:
    session = Session(Words(), TEXT, encode=encode, decode=decode)
    assert session.tokens is None
    assert session.text == TEXT


def test_characters_are_names_only_where_each_is_an_id(model: Tagger) -> None:
    assert Session(model, "abcdab").tokens == list("abcdab")
    # as many ids as characters by chance: a mark, two pieces, a mark
    pieces = {"good": [0, 3, 1, 0]}
    by_chance = Coder(lambda text: torch.tensor([pieces[text]]), None)
    assert by_chance.names(torch.tensor([[0, 3, 1, 0]]), "good") is None
    ordinals = Coder(lambda text: torch.tensor([[ord(c) for c in text]]), None)
    assert ordinals.names(torch.tensor([[103, 111]]), "go") == ["g", "o"]
    assert ordinals.names(torch.tensor([[103, 112]]), "go") is None


def test_labels_of_the_answer_do_not_name_words() -> None:
    # classes 0 and 1 are in the input, too, as words
    assert Session(Words(), torch.tensor([[0, 1, 1]])).tokens is None
    guess = Words()
    guess.out, guess.labels = nn.Linear(8, 6), WORDS  # the next word: its classes are the words
    assert Session(guess, torch.tensor([[0, 1]])).tokens == ["the", "film"]


class Two(nn.Module):
    """An encoder and a decoder."""

    def __init__(self, ids: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(6, 3) if ids else nn.Identity()
        self.enc, self.dec = nn.GRU(3, 8, 2, batch_first=True), nn.GRU(3, 8, 2, batch_first=True)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.dec(self.embed(y), self.enc(self.embed(x))[1])[0]


def of_two(tokens: Any, **options: Any) -> Session:
    return Session(Two(), torch.randn(1, 5, 3), torch.randn(1, 7, 3), tokens=tokens, **options)


def by_layer(session: Session) -> dict[str, Any]:
    found = {}
    for name in session.baseline:
        session.layer = name
        found[name] = "".join(session.tokens) if session.tokens else None
    return found


def test_tokens_by_module_and_by_layer() -> None:
    session = of_two({"enc": "abcde", "dec": list("ABCDEFG")})
    assert by_layer(session) == {
        "enc.l0": "abcde", "enc.l1": "abcde", "dec.l0": "ABCDEFG", "dec.l1": "ABCDEFG",
    }  # fmt: skip
    exact = of_two({"dec": "ABCDEFG", "dec.l1": "1234567"})
    assert by_layer(exact) == {
        "enc.l0": None, "enc.l1": None, "dec.l0": "ABCDEFG", "dec.l1": "1234567",
    }  # fmt: skip


def test_tokens_for_all_are_shown_where_they_fit() -> None:
    assert by_layer(of_two("abcde")) == {
        "enc.l0": "abcde", "enc.l1": "abcde", "dec.l0": None, "dec.l1": None,
    }  # fmt: skip
    assert by_layer(of_two("ABCDEFG"))["dec.l1"] == "ABCDEFG"
    assert by_layer(of_two([list("abcde")]))["dec.l0"] is None  # not padded to the longer layer
    for tokens, layer, message in (
        ("ab", "enc.l0", "2 tokens for a run of 5 steps"),
        ("ab", "dec.l1", "2 tokens for a run of 7 steps"),
        ({"enc": "ab"}, None, "tokens of 'enc': 2 tokens for a run of 5 steps"),
    ):
        with pytest.raises(GrulensError, match=message):
            of_two(tokens, layer=layer)
    with pytest.raises(LayerError, match=r"'encoder', which is no layer .* what ran is enc\.l0"):
        of_two({"encoder": "abcde"})


def test_tokens_a_row_in_batches() -> None:
    rows = [list("abcde"), list("xyz")]
    session = Session(
        Two(), torch.randn(2, 5, 3), torch.randn(2, 7, 3), tokens={"enc": rows, "dec": "ABCDEFG"}
    )
    session.row = 1
    assert session.tokens == ["x", "y", "z", "", ""]
    session.layer = "dec.l0"
    assert session.tokens == list("ABCDEFG")


def test_ids_name_the_layer_that_reads_them() -> None:
    net = Two(ids=True)
    long, short = torch.tensor([[0, 1, 2, 3, 0]]), torch.tensor([[5, 5, 4]])
    session = Session(net, long, short, decode=listed)
    assert by_layer(session)["enc.l1"] == "thefilmwasnotthe"
    assert by_layer(session)["dec.l0"] == "goodgoodbad"
    # of one length: each is told by what the layer reads, and nothing is guessed
    alike = Session(net, torch.tensor([[0, 1, 0]]), torch.tensor([[5, 4, 4]]), decode=listed)
    assert by_layer(alike)["enc.l0"] == by_layer(alike)["enc.l1"] == "thefilmthe"
    assert by_layer(alike)["dec.l0"] == by_layer(alike)["dec.l1"] == "goodbadbad"
    either = Session(net, torch.tensor([[0, 1, 2]]), torch.tensor([[5, 4, 3]]), decode=listed)
    assert by_layer(either)["enc.l0"] is None


def test_a_mask_of_ones_names_nothing() -> None:
    class Masked(Words):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            return self.out(self.rnn(self.embed(ids) * mask[..., None])[0][:, -1])

    session = Session(Masked(), torch.tensor([[3, 5, 3]]), torch.ones(1, 3).long(), decode=listed)
    assert session.tokens == ["not", "good", "not"]

    class Floats(Words):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.out(self.rnn(x * mask[..., None])[0][:, -1])

    floats = Session(Floats(), torch.randn(1, 3, 4), torch.ones(1, 3).long(), decode=listed)
    assert floats.tokens is None


def test_what_is_no_translator_is_refused() -> None:
    with pytest.raises(GrulensError, match="encode must be a function, got 3"):
        Session(Words(), TEXT, encode=3)
    with pytest.raises(GrulensError, match="decode must be a function"):
        Lens(Words(), TEXT, encode=encode, decode=WORDS)


def test_tokens_go_where_the_model_runs_other_steps_after_training() -> None:
    class Until(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.steps = nn.GRUCell(2, 3), nn.Parameter(torch.tensor(4.0))

        def forward(self, x: Tensor) -> Tensor:
            h, found = x.new_zeros(1, 3), []
            for _ in range(int(self.steps)):
                h = self.cell(x, h)
                found.append(h)
            return torch.stack(found, 1)

    net = Until()
    session = Session(net, torch.ones(1, 2), tokens="abcd")
    net.steps.data.fill_(3)
    session.run_again()
    assert session.tokens is None
    net.steps.data.fill_(4)
    session.run_again()
    assert session.tokens == list("abcd")


def test_screens_name_steps_by_the_layer_shown() -> None:
    session = of_two({"enc": ["e0", "e1", "e2", "e3", "e4"], "dec": [f"d{i}" for i in range(7)]})
    gates, memory = GateSliders(session), GateMemory(session)
    memory.view = "gradient"
    assert memory.wait(20.0)
    assert "e3" in gates.still()
    assert "e3" in memory.still()
    session.layer = "dec.l1"
    assert memory.wait(20.0)
    for screen in (gates, memory):
        assert "d6" in screen.still()
        assert "e3" not in screen.still()
    session.add(ablate("dec.l1", 1))
    assert gates._errors.value == ""
