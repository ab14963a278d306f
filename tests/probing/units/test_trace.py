"""Causal tracing on networks whose answer to it is known by construction."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from grulens import plot, trace_patch
from grulens.errors import EditError, PositionError, ReadoutError, SourceError, StoppedWarning
from grulens.probing.units import batched_runs


class Latch(nn.Module):
    """Two units that keep what came with a go signal; the answer is 2 of the first + the second.

    Input (value, go). Without go z saturates at 1 and the state stays; with it z is 0 and the
    state becomes tanh(value): exactly, for the gate's logit is +-1000.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 2, batch_first=True).double()
        self.ran = 0
        with torch.no_grad():
            for parameter in self.rnn.parameters():
                parameter.zero_()
            self.rnn.bias_ih_l0[2:4] = 1000.0
            self.rnn.weight_ih_l0[2:4, 2] = -2000.0
            self.rnn.weight_ih_l0[4, 0] = 1.0
            self.rnn.weight_ih_l0[5, 1] = 1.0

    def forward(self, x: Tensor, *, twice: bool = True) -> Tensor:
        self.ran += 1
        h = self.rnn(x)[0][:, -1]
        return (2.0 if twice else 1.0) * h[:, 0] + h[:, 1]


def pulse(at: int, first: float, second: float, steps: int = 7) -> Tensor:
    x = torch.zeros(1, steps, 3, dtype=torch.float64)
    x[0, at] = torch.tensor([first, second, 1.0])
    return x


CLEAN, CORRUPTED = pulse(3, 0.5, -0.5), pulse(3, -1.0, 1.5)


def answer(output: Tensor) -> Tensor:
    return output


def near(share: Tensor, want: list[int]) -> None:
    np.testing.assert_allclose(share, want, atol=1e-12)


def test_all_is_recovered_from_the_pulse_on_and_nothing_before() -> None:
    found = trace_patch(Latch(), CLEAN, CORRUPTED, "rnn.l0", answer, progress=False)
    near(found.share[0, :, 0], [0, 0, 0, 1, 1, 1, 1])
    assert (found.units, found.times) == ((None,), tuple(range(7)))
    np.testing.assert_allclose(found.clean, [2 * np.tanh(0.5) + np.tanh(-0.5)])
    np.testing.assert_allclose(found.corrupted, [2 * np.tanh(-1.0) + np.tanh(1.5)])


def test_each_block_recovers_its_own_part() -> None:
    found = trace_patch(Latch(), CLEAN, CORRUPTED, "rnn.l0", answer, block=1, progress=False)
    first, second = 2 * (np.tanh(0.5) - np.tanh(-1.0)), np.tanh(-0.5) - np.tanh(1.5)
    want = np.outer([first, second], np.arange(7) >= 3) / (first + second)
    np.testing.assert_allclose(found.share[..., 0], want, atol=1e-12)
    assert found.share[1, 3, 0] < 0, "a part can lead away from the clean answer"
    assert found.blocks == ("unit 0", "unit 1")


def test_units_times_and_signal_choose_what_is_patched() -> None:
    latch = Latch()
    one = trace_patch(
        latch, CLEAN, CORRUPTED, "rnn.l0", answer, units=-1, times=[5, 1], progress=False
    )
    assert (one.units, one.times) == (((1,),), (5, 1))
    whole = trace_patch(latch, CLEAN, CORRUPTED, "rnn.l0", answer, block=1, progress=False)
    np.testing.assert_allclose(one.share[0], whole.share[1, [5, 1]])
    # the candidate counts where the gate lets it in, and nowhere else
    n = trace_patch(latch, CLEAN, CORRUPTED, "rnn.l0", answer, signal="n", progress=False)
    near(n.share[0, :, 0], [0, 0, 0, 1, 0, 0, 0])
    z = trace_patch(latch, CLEAN, CORRUPTED, "rnn.l0", answer, signal="z", progress=False)
    near(z.share[0, :, 0], [0] * 7)


def test_rows_are_traced_apart_and_one_clean_row_serves_for_all() -> None:
    both = torch.cat([pulse(2, -1.0, 0.0), pulse(5, 1.0, 1.0)])
    # in the second run the pulse comes later: until then the corrupted state is written over
    cleans = torch.cat([pulse(2, 0.5, 0.0), pulse(5, -1.0, 0.5)])
    found = trace_patch(Latch(), cleans, both, "rnn.l0", answer, progress=False)
    assert found.share.shape == (1, 7, 2)
    near(found.share[0, :, 0], [0, 0, 1, 1, 1, 1, 1])
    near(found.share[0, :, 1], [0, 0, 0, 0, 0, 1, 1])
    one = trace_patch(Latch(), cleans[:1], both, "rnn.l0", answer, progress=False)
    # row 1: the clean row's state is written over by this row's own pulse, and after it the
    # clean row's is the whole answer again
    near(one.share[0, :, 1], [0, 0, 0, 0, 0, 1, 1])
    total = trace_patch(
        Latch(), cleans, both, "rnn.l0", lambda output: output.sum(), progress=False
    )
    assert total.share.shape == (1, 7)
    assert float(total.share[0, -1]) == pytest.approx(1.0)


def test_arguments_are_one_several_or_named() -> None:
    whole = trace_patch(Latch(), CLEAN, CORRUPTED, "rnn.l0", answer, progress=False)
    some = trace_patch(Latch(), (CLEAN,), (CORRUPTED,), "rnn.l0", answer, progress=False)
    assert torch.equal(whole.clean, some.clean)
    once = trace_patch(
        Latch(), {"x": CLEAN, "twice": False}, {"x": CORRUPTED, "twice": False}, "rnn.l0", answer,
        progress=False,
    )  # fmt: skip
    np.testing.assert_allclose(once.clean, [np.tanh(0.5) + np.tanh(-0.5)], atol=1e-12)


def test_a_packed_input_is_one_argument() -> None:
    torch.manual_seed(0)
    rnn = nn.GRU(3, 4, batch_first=True)

    def packed(seed: int, lengths: list[int]) -> object:
        x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(seed))
        return pack_padded_sequence(x, lengths, batch_first=True)

    def last(output: tuple[object, Tensor]) -> Tensor:
        return output[1][0].sum(1)

    found = trace_patch(rnn, packed(0, [5, 3]), packed(1, [5, 3]), "l0", last, progress=False)
    np.testing.assert_allclose(found.share[0, 4, 0], 1.0, rtol=1e-4)
    np.testing.assert_allclose(found.share[0, 2, 1], 1.0, rtol=1e-4)
    assert found.share[0, 3:, 1].abs().max() < 1e-6, "past a row's end there is nothing to patch"
    with pytest.raises(SourceError, match=r"row 1 has 3 steps in the clean run .* and 4 in"):
        trace_patch(rnn, packed(0, [5, 3]), packed(1, [5, 4]), "l0", last, progress=False)


def test_what_cannot_be_traced_is_said_before_anything_long() -> None:
    latch = Latch()

    def fails(error: type[Exception], words: str, *args: object, **options: object) -> None:
        clean, corrupted, readout = (*args, *(CLEAN, CORRUPTED, answer)[len(args) :])
        before = latch.ran
        with pytest.raises(error, match=words):
            trace_patch(latch, clean, corrupted, "rnn.l0", readout, progress=False, **options)  # type: ignore[arg-type]
        assert latch.ran - before <= 2

    nothing = r"gives 0\.462117 for the clean run and 0\.462117 .* in row 0: .*nothing to recover"
    fails(ReadoutError, nothing, CLEAN, CLEAN)
    lengths = r"row 0 has 7 steps in the clean run of layer 'rnn\.l0' and 6 in the corrupted"
    fails(SourceError, lengths, CLEAN, pulse(3, 1.0, 1.0, steps=6))
    fails(SourceError, "has 2 rows and the corrupted one 1", torch.cat([CLEAN, CLEAN]))
    fails(ReadoutError, r"one number a row, \(batch,\), or one number, \(\); it returned \(1, 1\)",
          CLEAN, CORRUPTED, lambda output: output[:, None])  # fmt: skip
    fails(ReadoutError, "must return a floating tensor", CLEAN, CORRUPTED, lambda output: 3)
    fails(ReadoutError, "gives nan for", CLEAN, CORRUPTED, lambda output: output * float("nan"))
    fails(EditError, "block must be a positive int or None, got 0", block=0)
    fails(PositionError, "names no unit", units=[])
    fails(PositionError, "unit 2 is out of range", units=2)


def test_an_interrupt_keeps_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0

    def readout(output: Tensor) -> Tensor:
        nonlocal seen
        seen += 1
        if seen > 14:
            raise KeyboardInterrupt
        return output

    monkeypatch.setattr(batched_runs, "runs_at_once", lambda *_: 2)
    with pytest.warns(StoppedWarning, match=r"trace_patch stopped after \d of 7 runs"):
        found = trace_patch(Latch(), CLEAN, CORRUPTED, "rnn.l0", readout, progress=False)
    done = int(found.done.sum())
    assert 0 < done < 7
    assert torch.equal(found.share[..., 0].isnan(), ~found.done)
    assert found.note == f"stopped after {done} of 7 runs"
    assert found.note in repr(found)
    assert found.note in found._repr_html_()
    assert found._repr_html_().count("<tr>") == 1 + done
    view = plot(found)
    assert found.note in str(view.document.to_json())
    view.close()


def test_it_shows_itself_in_words_numbers_and_html() -> None:
    found = trace_patch(Latch(), CLEAN, CORRUPTED, "rnn.l0", answer, block=1, progress=False)
    assert repr(found) == "Trace('rnn.l0', 2 blocks, 7 steps)"
    frame = found.to_frame()
    assert list(frame.columns) == ["units", "time", "row", "share"]
    row = frame[(frame["units"] == "unit 1") & (frame["time"] == 4)]
    assert row["share"].item() == float(found.share[1, 4, 0])
    html = found._repr_html_()
    assert "recovered share, h of rnn.l0: the 10 largest of 14" in html
    assert html.index("unit 0") < html.index("unit 1")
