"""The colours mean the same everywhere and can be told apart by everyone."""

import numpy as np
import pytest

from grulens.cells import kinds
from grulens.views.figure.palette import (
    ACCENT,
    COLORS,
    LEVELS,
    NAN_COLOR,
    PALETTE,
    WHITE_INK,
    linear,
    range_of,
    to_oklab,
)
from tests.kinds import EVERY

# Viénot, Brettel, Mollon 1999: what is left of linear sRGB without the L or the M cones.
PROTAN = np.array([[0.10889, 0.89111, 0.0], [0.10889, 0.89111, 0.0], [0.00447, -0.00447, 1.0]])
DEUTAN = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])
EYES = {"full": np.eye(3), "protan": PROTAN, "deutan": DEUTAN}


def seen(colors: tuple[str, ...], eyes: str) -> np.ndarray:
    return to_oklab((linear(colors) @ EYES[eyes].T).clip(0, 1))


@pytest.mark.parametrize("signal", ["reset", "keep", "write", "read", "weight"])
def test_a_gates_map_darkens_steadily(signal: str) -> None:
    lightness = seen(COLORS[signal], "full")[:, 0]
    assert (np.diff(lightness) < 0.003).all()
    assert lightness[0] - lightness[-1] > 0.6


@pytest.mark.parametrize("signal", ["candidate", "state", "memory", "difference"])
def test_a_diverging_map_is_lightest_at_exactly_zero(signal: str) -> None:
    lightness = seen(COLORS[signal], "full")[:, 0]
    assert lightness.argmax() == LEVELS // 2
    assert (np.diff(lightness[: LEVELS // 2 + 1]) > -0.003).all()
    assert (np.diff(lightness[LEVELS // 2 :]) < 0.003).all()


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("signal", ["candidate", "state", "memory", "difference"])
def test_plus_and_minus_are_told_apart(signal: str, eyes: str) -> None:
    colors = seen(COLORS[signal], eyes)
    # the same distance from zero on either side, beyond a quarter of the range
    far = LEVELS // 2 - LEVELS // 8
    apart = np.linalg.norm(colors[:far] - colors[::-1][:far], axis=1)
    assert apart.min() > 0.055


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("signal", COLORS)
def test_nan_is_unlike_every_value(signal: str, eyes: str) -> None:
    nan = seen((NAN_COLOR,), eyes)
    assert np.linalg.norm(seen(COLORS[signal], eyes) - nan, axis=1).min() > 0.04


def test_ink_has_contrast() -> None:
    for signal, palette in COLORS.items():
        light = linear(palette) @ [0.2126, 0.7152, 0.0722]
        white = np.array(WHITE_INK[signal][:LEVELS])
        contrast = np.where(white, 1.05 / (light + 0.05), (light + 0.05) / 0.05)
        assert contrast.min() > 4.5


def test_a_palette_has_a_colour_for_every_code() -> None:
    assert {len(palette) for palette in PALETTE.values()} == {LEVELS + 2}
    assert len({palette[LEVELS // 2] for palette in PALETTE.values()}) == len(PALETTE) == 9


def test_what_keeps_the_memory_has_one_colour_in_every_cell() -> None:
    for kind in EVERY:
        for signal in kind.signals:
            assert COLORS[signal] is COLORS[signal.role]
            assert ACCENT[signal] == ACCENT[signal.role]
        assert len({ACCENT[signal] for signal in kind.signals}) == len(kind.signals)
    with pytest.raises(KeyError):
        ACCENT["nothing"]
    signal = {signal.name: signal for signal in kinds.LSTM.signals}
    assert ACCENT[signal["f"]] == ACCENT[kinds.GRU.signals[1]]
    assert (range_of(signal["f"]), range_of(signal["c"])) == ((0.0, 1.0), None)
