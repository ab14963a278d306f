"""A probe finds what stands in the states, and no more; its numbers are those of all states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge  # type: ignore[import-untyped]
from torch import Tensor, nn

from grulens import plot, record
from grulens.corpus import Probe, Scan, open_scan, probe, scan
from grulens.errors import ScanError, StoppedWarning
from grulens.probing.corpus.probes.control import coins
from grulens.probing.corpus.probes.fitting import interval, visited
from grulens.probing.corpus.probes.online_code import length
from grulens.probing.corpus.probes.ridge import Moments, Solved
from grulens.probing.corpus.scan.sequences import LabelRule

STRENGTHS = (1e-5, 1e-2, 1.0)


class Reader(nn.Module):
    """Reads ids."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.rnn = nn.GRU(4, 8, batch_first=True)

    def forward(self, ids: Tensor) -> Tensor:
        states: Tensor = self.rnn(self.embedding(ids))[0]
        return states


def by_chance(ids: Any) -> Any:
    return np.random.default_rng(int(ids.sum())).random(len(ids)) < 0.4


def thrice(ids: Any) -> Any:
    return np.convolve(ids == 1, [1, 1, 1])[: len(ids)] > 0


LABELS: dict[str, LabelRule] = {
    "planted": lambda ids: ids > 2, "chance": by_chance, "thrice": thrice
}  # fmt: skip


@pytest.fixture
def case(tmp_path: Path) -> tuple[Scan, list[list[Tensor]]]:
    model = Reader().eval()
    for parameter in model.rnn.parameters():
        nn.init.normal_(parameter, std=0.5)
    with torch.no_grad():  # unit 5 is -1 at the ids below 3, and 1 at the others
        model.embedding.weight[:, 0] = torch.tensor([-1.0, -1, -1, 1, 1, 1])
        weights = dict(model.rnn.named_parameters())
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            weights[name][5::8] = 0
        weights["weight_ih_l0"][21, 0], weights["bias_ih_l0"][13] = 5, -30
    parts = [[torch.randint(6, (600,)), torch.randint(6, (257,))] for _ in range(6)]
    return scan(model, parts, tmp_path / "s", labels=LABELS, steps=500, progress=False), parts


def ask(made: Any, *args: Any, **options: Any) -> Probe:
    given: dict[str, Any] = {"strengths": STRENGTHS, "progress": False} | options
    return probe(made, *args, **given)


def same(one: Probe, other: Probe) -> bool:
    return all(
        torch.equal(value, getattr(other, name)) if isinstance(value, Tensor)
        else value == getattr(other, name)
        for name, value in vars(one).items()
    )  # fmt: skip


def test_what_is_planted_is_found_and_what_is_not_is_not(case: Any) -> None:
    made, _ = case
    found = ask(made, control="context", context=4)
    selectivity = found.selectivity
    assert selectivity is not None
    assert found.labels == ("planted", "chance", "thrice")
    assert float(found.accuracy[0]) == 1
    assert int(found.contributions[0].abs().argmax()) == 5
    assert float(selectivity[0]) > 0.3
    assert float(found.bits[0]) < 0.3 * float(found.entropy[0])
    assert float(found.accuracy[1]) == pytest.approx(float(found.majority[1]), abs=0.01)
    assert abs(float(selectivity[1])) < 0.05
    assert float(found.bits[1]) == pytest.approx(float(found.entropy[1]), abs=0.03)
    low, high = found.interval.T
    assert ((low <= found.accuracy) & (found.accuracy <= high)).all()
    assert found.note == ""


def states_of(made: Scan, parts: Any, numbers: Any) -> tuple[Any, Any]:
    """The states of some parts, and whether labels hold there, from scratch."""
    rows = [
        (ids[start : start + 500], held)
        for number in numbers
        for ids in parts[number]
        for start in range(0, len(ids), 500)
        for held in [{name: rule(ids.numpy())[start : start + 500]
                      for name, rule in (("chance", by_chance), ("thrice", thrice))}]
    ]  # fmt: skip
    model = made.model
    assert model is not None
    h = np.concatenate([record(model, ids[None])["rnn.l0"].h[0].double() for ids, _ in rows])
    names = ("chance", "thrice")
    return h, np.stack([np.concatenate([held[name] for _, held in rows]) for name in names], 1)


def test_its_numbers_are_those_of_ridge_regression_of_all_states(case: Any) -> None:
    made, parts = case
    found = ask(made, ["chance", "thrice"], control=None)
    assert sorted([*found.train, *found.validation, *found.test]) == list(range(6))
    aside, held_aside = states_of(made, parts, found.validation)
    h, held = states_of(made, parts, found.train)
    both, held_both = states_of(made, parts, [*found.train, *found.validation])
    test, held_test = states_of(made, parts, found.test)

    def ridge(strength: float, h: Any, held: Any) -> Any:
        return Ridge(strength * h.var(0).mean() * len(h)).fit(h, 2.0 * held - 1)

    for label in range(2):
        wrong = [
            ((ridge(one, h, held[:, label]).predict(aside) - 2 * held_aside[:, label] + 1) ** 2)
            .mean()
            for one in STRENGTHS
        ]  # fmt: skip
        assert float(found.strength[label]) == STRENGTHS[int(np.argmin(wrong))]
        fitted = ridge(float(found.strength[label]), both, held_both[:, label])
        np.testing.assert_allclose(found.weights[label], fitted.coef_, atol=2e-3)
        assert float(found.bias[label]) == pytest.approx(fitted.intercept_, abs=2e-3)
        said = test @ found.weights[label].numpy() + float(found.bias[label]) >= 0
        counts = [
            [((held_test[:, label] == truth) & (said == answer)).sum() for answer in (0, 1)]
            for truth in (0, 1)
        ]
        assert np.abs(found.counts[label].numpy() - counts).max() <= 1  # a score of 0, but for 1e-7
    np.testing.assert_allclose(found.std, both.std(0), atol=1e-5)


def test_it_is_the_same_whoever_made_the_scan_and_whenever(case: Any, tmp_path: Path) -> None:
    made, parts = case
    first = ask(made)
    assert same(ask(open_scan(made.path, made.model)), first)
    half = tmp_path / "half"
    options: Any = {"steps": 500, "progress": False, "labels": LABELS}
    other = scan(made.model, parts, tmp_path / "other", **options)
    scan(made.model, parts[:3], half, **options)
    for part in other.parts[3:]:
        part.place.rename(half / "parts" / part.place.name)
    assert same(ask(open_scan(half, made.model)), first)


def test_every_option_changes_something(case: Any, tmp_path: Path) -> None:
    whole, parts = case
    made = scan(whole.model, [one[:1] for one in parts[:4]], tmp_path / "few", labels=LABELS,
                progress=False)  # fmt: skip
    found = ask(made)
    assert found.control == "type"
    assert found.context == 1
    others = {
        "control": ask(made, control="context", context=2),
        "context": ask(made, control="context", context=3),
        "seed": ask(made, seed=1),
        "strengths": ask(made, strengths=[3.0]),
    }
    for other in others.values():
        assert not same(found, other)
    assert not same(others["control"], others["context"])
    assert others["strengths"].strength.tolist() == [3.0] * 3
    one = ask(made, "thrice")
    assert one.labels == ("thrice",)
    assert torch.equal(one.weights[0], found.weights[2])
    none = ask(made, control=None)
    assert none.control_counts is none.selectivity is none.control_bits is None
    assert torch.equal(none.counts, found.counts)
    assert torch.equal(none.bits, found.bits)
    deep = nn.Sequential(nn.Embedding(6, 4), nn.GRU(4, 5, num_layers=2, batch_first=True)).eval()
    ids = [torch.randint(6, (90,)) for _ in range(3)]
    two = scan(deep, ids, tmp_path / "two", labels={"one": lambda ids: ids == 1}, progress=False)
    low, high = (ask(two, layer=name) for name in two.layers)
    assert low.layer == "1.l0"
    assert ask(two).layer == high.layer == "1.l1"
    assert not torch.equal(low.weights, high.weights)


def test_parts_may_be_batches_with_steps_first(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(6, 4), nn.GRU(4, 5)).eval()
    parts = [torch.randint(6, (70, 3)) for _ in range(4)]
    made = scan(model, parts, tmp_path / "s", labels={"two": lambda ids: ids == 2}, progress=False)
    found = ask(made, control=None)
    assert found.steps == 210
    assert not bool(found.interval.isnan().any())  # three rows are three inputs


def test_moments_of_parts_add_up_and_tell_the_error_of_other_steps() -> None:
    rng = np.random.default_rng(0)
    h = rng.standard_normal((900, 3)).astype(np.float32) * [1, 5, 0] + [0, 3, 1]
    held = np.stack([h[:, 0] > 0.3, rng.random(900) < 0.2], 1)
    blocks = [slice(0, 300), slice(300, 301), slice(301, 900)]
    several = [Moments.of(h[at].astype(np.float32), held[at]) for at in blocks]
    whole = several[0] + several[1] + several[2]
    assert whole.steps == 900
    np.testing.assert_allclose(whole.products[:3, :3], 900 * np.cov(h.T, bias=True), atol=1e-2)
    solved = Solved.of(several[0], [0.01, 1.0])
    scores = np.einsum("tu,sul->stl", h, solved.weights) + solved.bias[:, None]
    errors = ((scores - (2.0 * held - 1))[:, 301:] ** 2).sum(1)
    np.testing.assert_allclose(solved.errors(several[2]), errors, rtol=1e-4)


@pytest.mark.parametrize("far", [1e5, 1e25])
def test_one_state_far_from_all_others_leaves_the_moments_right(far: float) -> None:
    h = np.random.default_rng(0).standard_normal((900, 3)).astype(np.float32)
    h[450, 0] = far
    held = h[:, 1:2] > 0.3
    moments = Moments.of(h, held)
    both = np.concatenate([h.astype(float), held], 1)
    np.testing.assert_allclose(
        moments.products, 900 * np.cov(both.T, bias=True), rtol=1e-6, atol=1e-3
    )
    assert np.isfinite(Solved.of(moments, [0.01]).weights).all()


def test_the_code_is_what_a_receiver_who_counts_would_need() -> None:
    held = np.random.default_rng(0).random(200) < 0.3
    bits, seen = 0.0, [0.5, 0.5]
    for one in held.astype(int):
        bits -= np.log2(seen[one] / sum(seen))
        seen[one] += 1
    counts = np.array([[[(~held).sum(), held.sum()]]])
    np.testing.assert_allclose(length(counts), bits)


def test_control_labels_go_with_the_tokens_and_hold_as_often() -> None:
    ids = np.random.default_rng(0).integers(0, 40, (20, 500))
    for tokens in (1, 2):
        first, second, again = coins(ids, tokens, [0.3, 0.3, 0.9], 5)
        seen: dict[Any, set[bool]] = {}
        for row, said in zip(ids.tolist(), first.tolist(), strict=True):
            for at, one in enumerate(said):
                before = tuple(row[max(0, at - tokens + 1) : at + 1])
                seen.setdefault(before, set()).add(one)
        assert all(len(said) == 1 for said in seen.values())
        assert (first != second).any()
        assert again.mean() > first.mean()
    assert coins(ids, 2, [0.3], 5).mean() == pytest.approx(0.3, abs=0.04)
    assert (coins(ids, 2, [0.3], 5) != coins(ids, 2, [0.3], 6)).any()


def test_the_interval_is_of_inputs_and_not_of_steps() -> None:
    steps, right = np.array([100, 100, 100]), np.array([[90], [70], [80]])
    half = 4.302652729911275 * 10 / 3**0.5 / 100  # Student's t with 2 degrees of freedom
    np.testing.assert_allclose(interval(right, steps, 0.0), [[0.8 - half, min(1, 0.8 + half)]])
    assert np.isnan(interval(right[:1], steps[:1], 0.0)).all()


def test_it_is_a_table_a_figure_and_a_file(case: Any, tmp_path: Path) -> None:
    made, _ = case
    found = ask(made)
    assert repr(found) == "Probe('rnn.l0', 3 labels, 857 steps tested, control by type)"
    table = found.to_frame()
    assert list(table.index) == ["planted", "chance", "thrice"]
    np.testing.assert_allclose(table["accuracy"] - table["control_accuracy"], table["selectivity"])
    assert same(Probe.load(found.save(tmp_path / "found")), found)
    assert "<td>planted</td>" in found._repr_html_()
    assert "control" not in ask(made, control=None)._repr_html_()
    assert "planted" in plot(found)._repr_mimebundle_()[0]["text/html"]
    assert torch.equal(found.contributions, found.weights * found.std)


def test_what_must_be_known_of_it_is_said(tmp_path: Path) -> None:
    model = Reader().eval()
    labels = {"five": lambda ids: ids == 5, "rare": lambda ids: np.arange(len(ids)) == 7}
    parts = [torch.randint(5, (80,)) for _ in range(3)]
    made = scan(model, parts, tmp_path / "s", labels=labels, progress=False)
    found = ask(made)
    assert "the test has one input only" in found.note
    assert "all steps of the test are alike in five" in found.note
    assert float(found.majority[0]) == float(found.accuracy[0]) == 1
    loud = "the control label holds much more or less often than"
    assert loud in ask(made, "rare", control="type", seed=3).note
    assert "the test has one input only" in found._repr_html_()


def test_a_control_that_says_nothing_is_told(case: Any) -> None:
    made, _ = case
    found = ask(made, "thrice")
    assert "is learned as well as thrice: the states hold the tokens" in found.note
    assert "control='context'" in found.note
    assert "is learned as well" not in ask(made, control="context", context=5).note


def test_one_that_is_stopped_tells_what_it_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [torch.randint(6, (80,)) for _ in range(10)]
    made = scan(
        Reader().eval(), parts, tmp_path / "s", labels={"x": lambda i: i == 1}, progress=False
    )
    ran: list[int] = []

    def stopping(*args: Any) -> Any:
        ran.append(1)
        if len(ran) in (10, 13):
            raise KeyboardInterrupt
        return visited(*args)

    monkeypatch.setattr("grulens.probing.corpus.probes.probe.visited", stopping)
    with pytest.warns(StoppedWarning, match="the probe stopped after 9 of 10 parts"):
        found = ask(made)
    assert (found.steps, len(found.test)) == (80, 1)
    assert "stopped after 9 of 10 parts" in found.note
    with pytest.raises(ScanError, match="stopped after 2 of 10 parts, before one was tested; the"):
        ask(made, seed=1)


def test_what_cannot_be_probed_is_refused_by_name(case: Any, tmp_path: Path) -> None:
    made, parts = case
    model = made.model
    few = scan(model, parts[:2], tmp_path / "few", labels={"t": thrice}, progress=False)
    bare = scan(model, parts[:3], tmp_path / "bare", progress=False)
    net, x = nn.GRU(2, 3, batch_first=True).eval(), torch.randn(2, 9, 2)
    real = scan(net, [x] * 3, tmp_path / "x", labels={"up": lambda x: x[:, 0] > 0}, progress=False)
    cases: tuple[tuple[Any, dict[str, Any], str], ...] = (
        (few, {}, "2 with a step: scan the corpus in three parts or more"),
        (bare, {}, "a probe needs a label"),
        (real, {}, "the inputs of part . were no ids"),
        (open_scan(made.path), {}, "a probe runs the model"),
        (3, {}, "a probe is of a scan"),
        (made, {"labels": "word"}, "label 'word' was not scanned"),
        (made, {"labels": ["chance", "chance"]}, "each once"),
        (made, {"labels": {"a": 1}}, "labels must be names"),
        (made, {"control": "word"}, "control must be 'type', 'context' or None, got 'word'"),
        (made, {"context": 0}, "context must be a whole number from 1 on"),
        (made, {"seed": True}, "seed must be a whole number"),
        (made, {"seed": 1 << 64}, "seed must be below"),
        (made, {"strengths": []}, "strengths must be one or more numbers above 0"),
        (made, {"strengths": [0.0]}, "strengths must be"),
        (made, {"strengths": 3}, "strengths must be"),
        (made, {"layer": "x"}, "layer 'x' was not scanned"),
    )
    for given, options, words in cases:
        with pytest.raises(ScanError, match=words):
            ask(given, **options)
    again = open_scan(made.path, model)
    with (
        model.register_forward_pre_hook(lambda _, given: (given[0].flip(1),)),
        pytest.raises(ScanError, match=r"part \d does not run as it did in the scan: states of"),
    ):
        ask(again)
    files = made.parts[0].place / "0"
    np.save(files / "low.npy", np.load(files / "low.npy") + 1)
    with pytest.raises(ScanError, match=r"part 000000 of .* 0/low\.npy has changed"):
        ask(open_scan(made.path, model))
