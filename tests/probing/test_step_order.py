"""Names stand over the steps of a layer only where it goes through the input forwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn

from grulens import Lens, Session, record
from grulens.models.recording import Recording
from grulens.probing.step_order import StepOrder


class Reads(nn.Module):
    """A loop over embedded ids, in one order or another."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.order = order
        self.embed, self.line = nn.Embedding(9, 3), nn.Linear(7, 8)
        self.around = nn.Conv1d(3, 3, 3, padding=1)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.embed(ids)
        if self.order == "over a flipped input":
            x = x.flip(1)
        if self.order in ("over neighbours", "backwards over neighbours"):
            x = self.around(x.mT).mT
        if self.order == "over all at once":
            x = x + x.mean(1, keepdim=True)
        steps = range(ids.shape[1])
        h, out = x.new_zeros(len(x), 4), []
        for t in reversed(steps) if self.order.startswith("backwards") else steps:
            z, n = self.line(torch.cat([x[:, t], h], 1)).chunk(2, 1)
            z = torch.sigmoid(z if mask is None else z + 9 * mask[:, t, None])
            h = z * h + (1 - z) * torch.tanh(n)
            out.append(h)
        return torch.stack(out, 1)


IDS = torch.tensor([[1, 2, 3, 4, 5, 6]])
CALLED = [f"w{number}" for number in range(1, 7)]


def decode(ids: Tensor) -> list[str]:
    return [f"w{number}" for number in ids.tolist()]


def shown(order: str, *given: Tensor, **options: object) -> Session:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Reads(order)
    return Session(model, *(given or (IDS,)), **{"decode": decode, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("order", ["forwards", "over neighbours"])
def test_a_loop_that_goes_forwards_has_the_names_of_its_input(order: str) -> None:
    for session in (shown(order), shown(order, IDS, torch.tensor([[0.0, 1, 1, 0, 1, 0]]))):
        assert session.tokens == CALLED
        assert session.unnamed == ""
    assert shown(order, IDS, (IDS < 3).long()).tokens == CALLED, "a mask is no text"


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ("backwards", "it reads the input from the end"),
        ("backwards over neighbours", "it reads the input from the end"),
        ("over a flipped input", "it reads the input from the end"),
        ("over all at once", "which of them reads which step of the input could not be told"),
    ],
)
def test_any_other_has_numbers_and_the_screen_says_why(order: str, why: str) -> None:
    for tokens in (None, CALLED, [CALLED]):
        session = shown(order, tokens=tokens)
        assert session.tokens is None
        assert why in session.unnamed


def test_the_screen_and_its_still_say_so_until_the_layer_has_names_of_its_own() -> None:
    session, why = shown("backwards"), "it reads the input from the end"
    lens = Lens(session)
    assert why in lens.notices._unnamed.value
    assert why in " ".join(lens.still().split())
    session.set_input(IDS, tokens={"cell": [*reversed(CALLED)]})
    assert session.tokens == [*reversed(CALLED)], "they are given in the order of the steps"
    assert lens.notices._lines[3].layout.display == "none"


def test_each_loop_of_a_model_is_asked_for_itself() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.there, self.back = Reads("forwards"), Reads("backwards")

        def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
            return self.there(ids), self.back(ids)

    ids = IDS.repeat(2, 1)
    session = Session(Both(), ids, decode=decode, readout=lambda output: output[0])
    named = {name: session.tokens_of(name, 1) for name in session.baseline}
    assert named == {"there": CALLED, "back": None}


def test_it_is_asked_once_of_an_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = shown("backwards")
    asked: list[object] = []

    def found(order: StepOrder, layer: object, of: object) -> str:
        asked.append(layer)
        return "backwards"

    monkeypatch.setattr(StepOrder, "_found", found)
    session.run_again()
    assert not asked
    assert session.tokens is None
    assert "from the end" in session.unnamed
    session.set_input(IDS.flip(1))
    assert len(asked) == 1


def test_an_input_on_which_the_model_fails_tells_nothing() -> None:
    class Picky(Reads):
        def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
            if not torch.equal(ids, IDS):
                raise ValueError("another text")
            return super().forward(ids, mask)

    session = Session(Picky("forwards"), IDS, decode=decode)
    assert session.tokens is None
    assert "could not be told" in session.unnamed


class Turned(nn.Module):
    """torch's own layer over embedded ids, or over the same turned round."""

    def __init__(self, layer: nn.Module, turned: bool) -> None:
        super().__init__()
        self.embed, self.layer, self.turned = nn.Embedding(9, 3), layer, turned

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return self.layer(x.flip(1) if self.turned else x)[0]


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("tokens", [None, CALLED])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_layer_of_torchs_over_a_turned_input_has_numbers_too(
    kind: type[nn.RNNBase], tokens: list[str] | None, bidirectional: bool
) -> None:
    layer = kind(3, 4, num_layers=2, batch_first=True, bidirectional=bidirectional)
    session = Session(Turned(layer, True), IDS, decode=decode, tokens=tokens)
    assert {session.tokens_of(name, 0) is None for name in session.baseline} == {True}
    assert "it reads the input from the end" in session.unnamed
    session = Session(Turned(layer, False), IDS, decode=decode, tokens=tokens)
    assert all(session.tokens_of(name, 0) == CALLED for name in session.baseline)
    assert session.unnamed == ""


@pytest.mark.parametrize("turned", [False, True])
def test_a_model_is_not_run_again_where_what_its_layer_reads_tells_the_order(
    turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("run again")

    monkeypatch.setattr(StepOrder, "_changed", never)
    layer = nn.GRU(3, 4, batch_first=True)
    ids = torch.tensor([[1, 2, 1, 4, 4, 6]])
    session = Session(Turned(layer, turned), ids, decode=decode)
    assert (session.tokens is None) is turned
    if not turned:
        assert Session(layer, torch.randn(1, 6, 3), tokens=CALLED).tokens == CALLED


class Walks(nn.Module):
    """A loop over the steps of its input in any order of places."""

    def __init__(self, way: Callable[[int], Iterable[int]], turned: bool = False) -> None:
        super().__init__()
        self.line, self.way, self.turned = nn.Linear(7, 8), way, turned

    def forward(self, x: Tensor) -> Tensor:
        x = read_turned(x) if self.turned else x
        h, out = x.new_zeros(len(x), 4), []
        for t in self.way(x.shape[1]):
            z, n = self.line(torch.cat([x[:, t], h], 1)).chunk(2, 1)
            z = torch.sigmoid(z)
            h = z * h + (1 - z) * torch.tanh(n)
            out.append(h)
        return torch.stack(out, 1)


class FromTheEnd(Walks):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flip(1))


class Later(Walks):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1))


def read_turned(x: Tensor) -> Tensor:
    return torch.stack(x.unbind(1)[::-1], 1)


def by_trying(model: nn.Module, x: Tensor) -> list[int]:
    """For each step of the input, the first state that is another where it is; all if none is."""
    was, found = model(x), []
    for at in range(x.shape[1]):
        other = x.clone()
        other[:, at] += 1
        found.append(int((model(other) == was).all(2).all(0).long().cumprod(0).sum()))
    return found


@pytest.mark.parametrize(
    "model",
    [
        Walks(range),
        Walks(lambda n: reversed(range(n))),
        Walks(lambda n: (-t for t in range(n))),
        Walks(lambda n: (-1 - t for t in range(n))),
        Walks(lambda n: (t - 1 for t in range(n))),
        Walks(lambda n: ((t + 1) % n for t in range(n))),
        Walks(lambda n: (min(t + 1, n - 1) for t in range(n))),
        Walks(lambda n: (max(t - 1, 0) for t in range(n))),
        Walks(lambda n: torch.randperm(n, generator=torch.Generator().manual_seed(1)).tolist()),
        Walks(lambda n: (min(t ^ 1, n - 1) for t in range(n))),
        Walks(lambda n: (t // 2 * 2 for t in range(n))),
        Walks(lambda n: [*range(0, n, 2), *range(1, n, 2)]),
        Walks(lambda n: [*range(n - 2), n - 1, n - 2]),
        Walks(lambda n: ((t + n // 2) % n for t in range(n))),
        Walks(range, turned=True),
        Walks(lambda n: range(n - 1, -1, -1), turned=True),
        FromTheEnd(range),
        Later(range),
    ],
)
@torch.no_grad()
def test_what_is_said_of_an_order_is_what_trying_every_step_shows(model: nn.Module) -> None:
    steps = 7
    x = torch.randn(1, steps, 3, generator=torch.Generator().manual_seed(0))
    run = record(model, x)
    order = StepOrder(run, lambda given: record(model, *given[0]), ((x,), {}))
    seen, there = by_trying(model, x), [*range(steps)]
    expected = {tuple(there): "forwards", tuple(there[::-1]): "backwards"}
    later = dict.fromkeys([tuple(range(1, steps + 1)), (0, *range(2, steps + 1))], "late")
    told = (expected | later).get(tuple(seen), "unknown")
    assert order.order(run["cell"]) == told
    assert order.later(run["cell"]) == (told == "late")
    why = "reads each step of the input 1 later" if told == "late" else ""
    assert order.fits(run["cell"]) == (told == "forwards")
    assert why in order.why_of(run["cell"])


@torch.no_grad()
def test_padding_that_no_step_reads_hides_no_order() -> None:
    class Padded(Walks):
        def forward(self, x: Tensor) -> Tensor:
            there = torch.arange(x.shape[1]) < 5
            return super().forward(x * there[:, None])

    model, x = Padded(range), torch.randn(1, 7, 3)
    run = record(model, x)
    order = StepOrder(run, lambda given: record(model, *given[0]), ((x,), {}))
    assert order.order(run["cell"]) == "forwards"


@pytest.mark.parametrize(
    ("order", "told", "runs"),
    [
        ("forwards", "forwards", 1),
        ("over neighbours", "forwards", 1),
        ("backwards", "backwards", 5),
        ("with other rows", "forwards", 5),
        ("the last row backwards", "unknown", 5),
        ("over all at once", "unknown", 5),
    ],
)
def test_rows_that_know_nothing_of_each_other_tell_the_order_in_one_run(
    order: str, told: str, runs: int
) -> None:
    class Rows(Reads):
        def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
            if self.order == "the last row backwards":
                ids = torch.cat([ids[:-1], ids[-1:].flip(1)])
            return super().forward(ids, mask)

    torch.manual_seed(0)
    model, given = Rows(order), ((torch.stack([IDS[0].roll(n) for n in range(5)]),), {})
    if order == "with other rows":
        model.embed.register_forward_hook(lambda _, args, x: x + x.mean(0))
    made = list[object]()

    def again(other: object) -> Recording:
        made.append(other)
        return record(model, inputs=other)  # type: ignore[arg-type]

    run = record(model, inputs=given)
    asked = StepOrder(run, again, given)
    assert asked.order(run["cell"], [given[0][0]]) == told
    assert len(made) <= runs
    assert runs > 1 or len(made) == 1
