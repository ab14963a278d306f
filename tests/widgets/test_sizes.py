"""Wide layers and long runs in every widget: they show, answer, and send what has a bound."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from grulens import AblationToggles, GateSliders, Lens, NeuronTable, Session, ablate
from grulens.views.figure import raster
from tests.memory import needs_peak, peaks

GB = 2**30
STATES = 100_000 * 256 * 4
UNITS = 2048


class Wide(nn.Module):
    """Class numbers in, logits out, over 2,048 units."""

    labels = tuple("abcdefgh")

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, 4)
        self.rnn = nn.GRU(4, UNITS, batch_first=True)
        self.out = nn.Linear(UNITS, 8)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(self.embed(ids))[0])


@pytest.fixture(scope="module")
def wide() -> Session:
    torch.manual_seed(0)
    return Session(Wide().eval(), torch.randint(0, 8, (1, 40)))


@pytest.fixture(autouse=True)
def _no_edits(wide: Session) -> None:
    wide.set_slots(())
    wide.units, wide.times = (), ()


def errors(panel: object) -> str:
    value: str = panel._errors.value  # type: ignore[attr-defined]
    return value


@pytest.mark.parametrize("order", ["index", "activity", "similarity"])
def test_gate_sliders(wide: Session, order: str) -> None:
    screen = GateSliders(wide)
    screen.order = order
    rows, columns = screen._heat.image.data["image"][0].shape
    assert rows <= 2 * raster.ROWS
    assert columns == 40
    wide.units = (3, 2047)
    screen.controls.sliders["z"].value = 0.5
    assert wide.slots[0].edit.units == (3, 2047)
    assert not torch.equal(wide.now.z[..., 2047], wide.before.z[..., 2047])
    assert not errors(screen)
    screen.close()


def test_neuron_table(wide: Session) -> None:
    screen = NeuronTable(wide)
    screen.find.value = "2000-2047"
    assert screen._table.shown == tuple(range(2000, 2048))
    assert "48 of 2048 units" in screen._count.value
    wide.units = (2047,)
    assert screen._table.source.selected.indices == [2047]
    assert len(screen.to_frame()) == UNITS
    assert not errors(screen)
    screen.close()


def test_ablation_toggles(wide: Session) -> None:
    screen = AblationToggles(wide)
    wide.units = tuple(range(UNITS))
    screen.ablate.click()
    assert float(wide.now.h.abs().max()) == 0
    assert "state of units 0 to 2047 set to 0" in screen.lines[0].words.value
    assert len(screen.lines[0].words.value) < 500
    assert not errors(screen)
    screen.close()


def test_the_lens_and_its_saved_page(wide: Session, tmp_path: Path) -> None:
    lens = Lens(wide)
    wide.add(ablate("rnn.l0", slice(0, 1024), at=slice(5, None)))
    assert "2048 units × 40 steps" in lens._about.value
    html = lens.save(tmp_path / "wide.html").read_text()
    assert len(html) < 8 * 2**20
    assert "ablate(" in html
    assert len(lens.still()) < 2**20
    assert not errors(lens)
    lens.close()


@needs_peak
def test_a_long_run_is_shown_under_a_gigabyte_beyond_its_states() -> None:
    found = peaks(
        """
import torch
from torch import nn
import grulens
from grulens.widgets.lens import Lens

rnn, x = nn.GRU(8, 256, batch_first=True), torch.randn(1, 100_000, 8)
mark("before")
lens = Lens(rnn, x, tokens=[f"t{i}" for i in range(100_000)])
mark("lens")
for signal in "zrnh":
    lens.gates.signal = signal
mark("signals")
picture = lens.gates._heat.image.data["image"][0]
assert picture.size < 2**21, picture.shape
assert not lens._errors.value and not lens.gates._errors.value
assert len(lens.still()) < 2**21
mark("still")
"""
    )
    beyond = {name: peak - found["before"] - STATES for name, peak in found.items()}
    assert beyond["still"] < GB, beyond
