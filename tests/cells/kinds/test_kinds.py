"""What every kind of cell is held to, a new one too: its file is found, and this asks it all."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import grulens
from grulens import Recording, clamp, record, scale, shift
from grulens.adapters import RecurrentCell, StepAdapter, kinds, register
from grulens.cells.kinds import KINDS
from grulens.errors import FileError
from grulens.views.figure.palette import PALETTE
from tests.kinds import EVERY, Loop, Step, made

ROOT = Path(__file__).parents[3]
ONE_STATE = [kind for kind in EVERY if len(kind.states) == 1]


def test_a_kind_is_found_by_what_it_is_called() -> None:
    files = {path.stem for path in Path(str(kinds.__file__)).parent.glob("[!_]*.py")}
    assert {kind.__module__.rpartition(".")[2] for kind in EVERY} == files
    assert len(EVERY) == len(files) >= 3
    for name, kind in KINDS.items():
        assert getattr(kinds, name) is kind
        assert kind.kind == name
    with pytest.raises(AttributeError, match=r"no kind of cell 'XRNN'; it has GRU, LSTM, .*RNN"):
        _ = kinds.XRNN


def test_a_new_kind_is_one_file(tmp_path: Path) -> None:
    """The class of the manual's page as a file of the house: nothing else is told of it."""
    page = (ROOT / "docs/how-to/a-new-kind-of-cell.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert block
    lines = [line[4:] for line in block[1].splitlines() if line.startswith((">>>", "..."))]
    shutil.copytree(ROOT / "grulens", tmp_path / "grulens")
    for name in ("pyproject.toml", "CONTRIBUTING.md", "docs/house.py", "tests/kinds.py",
                 "tests/conftest.py", "tests/shapes.py",
                 "tests/cells/kinds/test_kinds.py"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    text = "\n".join(lines).replace("grulens.adapters", "grulens.cells.cell")
    (tmp_path / "grulens/cells/kinds/mgu.py").write_text(f'"""The MGU."""\n{text}\n')
    for command in (
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        [sys.executable, "docs/house.py"],
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not one_file",
         "tests/cells/kinds/test_kinds.py"],
        [sys.executable, "-c", "from grulens.adapters import kinds; print(kinds.MGU.kind)"],
    ):  # fmt: skip
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "MGU\n"
    drawn = (tmp_path / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert drawn == (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@settings(max_examples=40)
@given(st.sampled_from(EVERY), st.integers(0, 99), st.integers(1, 4))
def test_its_signals_are_what_it_says_of_them(
    kind: type[RecurrentCell], seed: int, units: int
) -> None:
    cell, x = made(kind, seed, units), torch.randn(3, 5, 2).double()
    states = [torch.randn(3, cell.state_size).double().clamp(-1, 1)]
    seen: list[str] = []

    def unchanged(name: str, value: Tensor, before: bool) -> Tensor:
        seen.append(name)
        return value

    for t in range(5):
        seen.clear()
        states.append(cell.step(cell.project(x[:, t]), states[-1], unchanged))
        # each is asked for in order, before its activation too
        assert seen == [s.name for s in kind.signals for _ in range(1 + s.activated)]
        assert torch.equal(states[-1], cell.step(cell.project(x[:, t]), states[-2]))
    found = cell.replay(x, torch.stack(states[:-1], 1))
    assert [*found, "h"] == [signal.name for signal in kind.signals]
    found["h"] = torch.stack(states[1:], 1)[..., :units]
    for signal in kind.signals:
        assert found[signal.name].shape == (3, 5, units)
        assert (found[signal.name] >= signal.low).all()
        assert (found[signal.name] <= signal.high).all()
    assert set(kind.states) <= set(found)
    assert kind.states[0] == kind.signals[-1].name == "h"


class Read(Loop):
    """A model that steps a cell of some kind, and reads its last state."""

    def __init__(self, cell: RecurrentCell) -> None:
        super().__init__(cell)
        self.head = nn.Linear(cell.hidden_size, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(super().forward(x))
        return out


@pytest.mark.parametrize("kind", ONE_STATE, ids=lambda kind: kind.kind)
def test_it_is_recorded_edited_swept_shown_and_saved(
    kind: type[RecurrentCell], tmp_path: Path
) -> None:
    register(Step, StepAdapter(lambda module: module.of))
    try:
        model, x = Read(made(kind, 0, 4)), torch.randn(2, 5, 2).double()
        run = record(model, x)
        again = Recording.load(run.save(tmp_path / "run"))
        assert type(again["cell"].cell) is kind
        for signal in kind.signals:
            assert run["cell"].signal(signal.name).shape == (2, 5, 4)
            assert torch.equal(run["cell"].signal(signal.name), again["cell"].signal(signal.name))
            for edit in (
                clamp("cell", signal.name, 1, value=0.5, at=2),
                scale("cell", signal.name, 1, by=0.5, at=2),
                shift("cell", signal.name, 1, by=0.5, at=2),
            ):
                edited = record(model, x, edits=edit)
                assert torch.allclose(edited["cell"].h[:, :2], run["cell"].h[:, :2])
                assert not torch.allclose(edited.output, run.output)
        swept = grulens.sweep(model, x, layer="cell", progress=False)
        assert torch.allclose(
            swept.effect[1], record(model, x, edits=grulens.ablate("cell", 1)).output - run.output
        )
        lens = grulens.Lens(model, x)
        for signal in kind.signals:
            lens.gates.signal = signal.name
            assert f"{signal.words} {signal.name}" in lens.gates._heat.root.title.text
            assert list(lens.gates._heat.mapper.palette) == list(PALETTE[signal.role])
        assert "data:image/png" in lens.still()
        assert lens.save(tmp_path / "lens.html").stat().st_size > 10_000
        lens.close()
    finally:
        register(Step, None)


def test_a_saved_run_of_a_kind_that_is_not_loaded_says_so(tmp_path: Path) -> None:
    path = record(nn.RNN(2, 3, batch_first=True), torch.randn(1, 4, 2)).save(tmp_path / "run")
    path.write_bytes(path.read_bytes().replace(b'"RNN\\', b'"XNN\\'))
    with pytest.raises(FileError, match="holds a 'XNN', and no such RecurrentCell is loaded"):
        Recording.load(path)
