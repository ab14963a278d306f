"""A recording is a value: it is copied and pickled, and goes to another process."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from grulens import ablate, record, scale
from grulens.errors import RecordingError
from grulens.models.recording import NOT_SAVED, NOT_SEEN, Recording


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for step in x.unbind(1):
            h = self.cell(step, h)
        return h


RUNS: dict[str, Callable[[], Recording]] = {
    "GRU": lambda: record(nn.GRU(3, 4, 2, bidirectional=True), torch.randn(5, 2, 3)),
    "dropout": lambda: record(nn.GRU(3, 4, 3, dropout=0.5), torch.randn(5, 2, 3)),
    "packed": lambda: record(nn.GRU(3, 4), pack_sequence([torch.randn(n, 3) for n in (4, 2)])),
    "LSTM": lambda: record(nn.LSTM(3, 4, 2), torch.randn(5, 2, 3)),
    "loop": lambda: record(Loop(), torch.randn(2, 5, 3)),
    "edited": lambda: record(
        nn.GRU(3, 4, 2), torch.randn(5, 2, 3), edits=[scale("l0", "z", by=0.5), ablate("l1", 2)]
    ),
    "autocast": lambda: torch.autocast("cpu")(record)(nn.GRU(3, 4), torch.randn(5, 2, 3)),
}
WAYS: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("run", RUNS)
def test_a_copy_of_a_recording_holds_the_same_signals(run: str, way: str) -> None:
    one = RUNS[run]()
    other = WAYS[way](one)
    assert list(other) == list(one)
    assert other.edits == one.edits
    for name, layer in one.items():
        with torch.no_grad():
            for signal in (*layer.names, "h_prev", "state", "mask"):
                assert torch.equal(getattr(other[name], signal), getattr(layer, signal)), signal
        assert other[name].residual == layer.residual
        assert other[name].h.data_ptr() != layer.h.data_ptr()


def test_a_copy_knows_that_nobody_saw_the_output() -> None:
    layers = RUNS["GRU"]()
    for missing, words in ((NOT_SEEN, "was not seen"), (NOT_SAVED, "was not saved with it")):
        again = pickle.loads(pickle.dumps(Recording(layers, missing)))
        with pytest.raises(RecordingError, match=words):
            _ = again.output


def mean(run: Recording) -> Tensor:
    return run["l0"].z.mean()


def test_a_recording_goes_to_another_process() -> None:
    run = record(nn.GRU(3, 4), torch.randn(5, 2, 3))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert torch.equal(pool.apply(mean, (run,)), mean(run))
