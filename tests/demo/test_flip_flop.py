import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from grulens import record
from grulens.demo import flip_flop
from grulens.demo.flip_flop import FlipFlopModel, flip_flop_data, train_flip_flop
from grulens.dynamics import find_fixed_points
from grulens.errors import DemoError


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@given(
    st.integers(1, 4), st.integers(1, 30), st.integers(1, 4), st.floats(0, 1), st.integers(0, 99)
)
def test_targets_are_each_channels_last_pulse(batch, time, bits, p, seed):
    inputs, targets = flip_flop_data(batch, time, bits=bits, p=p, generator=seeded(seed))
    assert inputs.shape == targets.shape == (batch, time, bits)
    assert inputs.dtype == targets.dtype == torch.float32
    assert set(inputs.unique().tolist()) <= {-1.0, 0.0, 1.0}
    memory = torch.zeros(batch, bits)
    for step in range(time):
        memory = torch.where(inputs[:, step] != 0, inputs[:, step], memory)
        assert torch.equal(targets[:, step], memory)


def test_p_is_the_chance_of_a_pulse():
    for p in (0.0, 0.1, 0.7, 1.0):
        inputs, _ = flip_flop_data(50, 200, p=p, generator=seeded())
        assert (inputs != 0).float().mean().item() == pytest.approx(p, abs=0.01)
        if p:
            assert (inputs > 0).sum() / (inputs != 0).sum() == pytest.approx(0.5, abs=0.03)


def test_the_generator_decides_and_the_default_is_torchs_own():
    first, _ = flip_flop_data(2, 50, generator=seeded(1))
    assert torch.equal(first, flip_flop_data(2, 50, generator=seeded(1))[0])
    assert not torch.equal(first, flip_flop_data(2, 50, generator=seeded(2))[0])
    with torch.random.fork_rng():
        torch.manual_seed(3)
        drawn, _ = flip_flop_data(2, 50)
        torch.manual_seed(3)
        assert torch.equal(drawn, flip_flop_data(2, 50)[0])


def test_bad_sizes_and_chances_are_named():
    with pytest.raises(DemoError, match=r"p is the chance of a pulse, 0 to 1; got 1\.5"):
        flip_flop_data(1, 1, p=1.5)
    with pytest.raises(DemoError, match="time must be at least 1; got 0"):
        flip_flop_data(1, 0)
    with pytest.raises(DemoError, match=r"noise is a standard deviation, 0 or more; got -0\.1"):
        train_flip_flop(noise=-0.1)


def test_the_model_takes_its_sizes():
    model = FlipFlopModel(units=7, bits=2)
    assert (model.rnn.hidden_size, model.rnn.input_size) == (7, 2)
    assert model(torch.zeros(3, 4, 2)).shape == (3, 4, 2)
    assert FlipFlopModel().rnn.hidden_size == 64


def loss_of(model: FlipFlopModel) -> float:
    inputs, targets = flip_flop_data(32, 40, generator=seeded(7))
    with torch.no_grad():
        return torch.nn.functional.mse_loss(model(inputs), targets).item()


def short(**options) -> FlipFlopModel:
    return train_flip_flop(**{"steps": 3, "batch": 4, "time": 8, "progress": False} | options)


def test_a_short_training_learns():
    assert loss_of(short(steps=60, batch=32, time=32)) < 0.5 * loss_of(short(steps=0))


def test_every_option_of_the_training_changes_the_result():
    plain = short().readout.weight
    assert torch.equal(plain, short().readout.weight)
    for option in ({"seed": 1}, {"steps": 4}, {"batch": 5}, {"time": 9}, {"noise": 0.5}):
        assert not torch.equal(plain, short(**option).readout.weight), option
    assert short(units=5).rnn.hidden_size == 5


def test_training_leaves_torchs_randomness_alone(capsys):
    before = torch.get_rng_state()
    assert not short().training
    assert torch.equal(before, torch.get_rng_state())
    assert capsys.readouterr().err == ""


def test_progress_is_shown_when_asked(capsys):
    short(progress=True)
    assert "flip-flop" in capsys.readouterr().err


def test_an_interrupt_keeps_what_is_learned(monkeypatch):
    calls = 0

    def interrupted(batch, time):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return flip_flop_data(batch, time)

    monkeypatch.setattr(flip_flop, "flip_flop_data", interrupted)
    model = short(steps=10)
    assert not model.training
    assert not torch.equal(model.readout.weight, short(steps=0).readout.weight)


@pytest.mark.parametrize("seed", range(3))
def test_every_memory_is_an_attractor_at_its_own_corner(seed: int) -> None:
    """Sussillo and Barak 2013: 2^3 stable points, and saddles on the ways between them."""
    model = train_flip_flop(seed=seed, progress=False)
    inputs, _ = flip_flop_data(16, 64, generator=seeded(9))
    states = record(model, inputs)["rnn.l0"]
    found = find_fixed_points(states.cell, starts=states.h.flatten(0, 1)[::2], progress=False)
    corners = model.readout(found.states[found.stable].float()).detach()
    assert len(corners) == 8
    assert len({tuple(corner.sign().int().tolist()) for corner in corners}) == 8
    assert corners.abs().min() > 0.5
    saddles = found.unstable_dims[~found.stable]
    assert len(saddles) >= 12  # a cube has so many edges
    assert (saddles == 1).sum() >= 12
    assert found.converged.float().mean() >= 0.99
    assert found.states.abs().max() < 1
