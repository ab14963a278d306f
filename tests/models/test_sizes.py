"""A run of 100,000 steps: what recording it takes beyond the states that it keeps."""

from tests.memory import needs_peak, peaks

GB = 2**30
STATES = 100_000 * 256 * 4


@needs_peak
def test_a_long_run_is_recorded_and_opened_under_a_gigabyte_beyond_its_states() -> None:
    found = peaks(
        """
import torch
from torch import nn
from grulens import record

rnn, x = nn.GRU(8, 256, batch_first=True), torch.randn(1, 100_000, 8)
mark("before")
with torch.no_grad():
    rnn(x)
mark("plain")
layer = record(rnn, x)["l0"]
mark("recorded")
layer.z
mark("gates")
assert layer.residual < 1e-5
mark("residual")
"""
    )
    beyond = {name: peak - found["before"] - STATES for name, peak in found.items()}
    assert beyond["residual"] < GB, beyond
    # the fused kernel's own peak is the larger one: a recording adds no more than a copy or two
    assert found["recorded"] - found["plain"] < 2.5 * STATES, found
    # r, z and n, and what is needed on the way to them
    assert found["gates"] - found["plain"] < 6 * STATES, found


@needs_peak
def test_an_edited_long_run_too() -> None:
    found = peaks(
        """
import torch
from torch import nn
from grulens import record, scale

rnn, x = nn.GRU(8, 256, batch_first=True), torch.randn(1, 100_000, 8)
mark("before")
layer = record(rnn, x, edits=scale("l0", "z", by=0.5, at=slice(0, 50_000)))["l0"]
mark("recorded")
layer.z
mark("gates")
"""
    )
    beyond = {name: peak - found["before"] - STATES for name, peak in found.items()}
    assert beyond["gates"] < GB, beyond
