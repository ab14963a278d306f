"""One accent colour for each role of a signal, the same in every view, and the maps of values.

The accents are Okabe and Ito's colour-blind-safe set (2008): told apart with any of the common
colour deficiencies, and readable on light and dark ground. A signal's map grows out of its
accent, so a picture says by its hue which signal it shows: r and z run from pale to deep, n and h
from brown through almost white at zero to the accent, a difference from blue to red, a weight in
what a state is made of from pale to the state's own hue. Colours in between are mixed in OKLab
(Ottosson 2020), where equal steps look equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Final, TypeVar

import numpy as np
from jaxtyping import Float

from grulens.cells.signal import Signal

T = TypeVar("T")


class BySignal(Mapping[str, T]):
    """Something for each signal of a cell, by the role that the cell gives it.

    A gate that keeps the memory has one colour, whichever kind of cell it is in and whatever it is
    called there.

    Args:
        by_role: for each role; and for what else is drawn, by its own name.

    >>> colors = BySignal({"keep": "blue", "difference": "red"})
    >>> f = Signal("f", "forget gate", 0.0, 1.0, "keep")
    >>> colors[f], colors["keep"], colors["difference"]
    ('blue', 'blue', 'red')
    """

    def __init__(self, by_role: Mapping[str, T]) -> None:
        self._by_role = dict(by_role)

    def __getitem__(self, signal: Signal | str) -> T:
        return self._by_role[signal.role if isinstance(signal, Signal) else signal]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_role)

    def __len__(self) -> int:
        return len(self._by_role)


ACCENT: Final = BySignal(
    {
        "reset": "#D55E00",  # vermilion
        "keep": "#0072B2",  # blue
        "candidate": "#009E73",  # green
        "state": "#CC79A7",  # purple
        "write": "#56B4E9",  # sky blue
        "read": "#A6761D",  # brown
        "memory": "#5E4FA2",  # violet
        "x": "#8C8C8C",  # grey
    }
)


def range_of(signal: Signal) -> tuple[float, float] | None:
    """What a signal can be: fixed, so that a colour means the same value in every picture.

    Returns:
        None for what has no bounds. Of a role whose map has its white at zero, as much on both
        sides.

    >>> range_of(Signal("z", "update gate", 0.0, 1.0, "keep"))
    (0.0, 1.0)
    >>> range_of(Signal("n", "candidate", 0.0, 1.0, "candidate"))
    (-1.0, 1.0)
    """
    if not (isfinite(signal.low) and isfinite(signal.high)):
        return None
    end = max(abs(signal.low), abs(signal.high))
    return (-end, end) if is_diverging(signal) else (signal.low, signal.high)


def is_diverging(signal: Signal) -> bool:
    """Whether the map of a signal goes both ways from zero."""
    return len(_ANCHORS[signal.role]) > 4


#: The output before and after the edits. Orange is the one Okabe-Ito colour no signal uses.
BEFORE: Final = "#8C8C8C"
AFTER: Final = "#E69F00"

#: The numbers of an input, where each is a line.
INPUTS: Final = tuple(ACCENT[role] for role in ("keep", "reset", "candidate", "write", "read"))

#: The two paths of an effect. Grey and blue of one another's lightness would be one grey in print.
DIRECT: Final = "#6F6F6F"
RECURRENT: Final = "#3A9BD9"

#: What speaks for something, and what against it: the two arms of the difference's map.
FOR: Final = "#D6533D"
AGAINST: Final = "#3F7FD0"

#: The ground of a light and of a dark page, as JupyterLab has them.
PAGES: Final = {"light": "#FFFFFF", "dark": "#111111"}

#: Yellow is in none of the maps: what is not a number cannot be taken for a value.
NAN_COLOR: Final = "#F0E442"
BLANK_COLOR: Final = "#00000000"

#: A byte below LEVELS is a value, its middle exactly the middle of the range: zero stays zero.
#: Two more say "not a number" and "no step here".
LEVELS: Final = 253
NAN_CODE: Final = 253
BLANK_CODE: Final = 254

_ANCHORS: Final = {
    "reset": ("#FFF4EA", "#F3A871", "#D55E00", "#551C00"),
    "keep": ("#EFF6FC", "#7DB7E2", "#0072B2", "#00253F"),
    "candidate": ("#6A3A00", "#D08A2E", "#F7F5EF", "#1FA588", "#00574B"),
    "state": ("#7F4300", "#DDA050", "#F7F4F6", "#CC79A7", "#7B1F57"),
    "write": ("#EFF8FD", "#A5D8F3", "#56B4E9", "#0B3A55"),
    "read": ("#FBF5E9", "#DDBF86", "#A6761D", "#3C2803"),
    "memory": ("#6A3A00", "#D08A2E", "#F6F5F8", "#8A7EC4", "#3B2A7A"),
    "weight": ("#FBF2F7", "#E0A5C6", "#B8578F", "#3E0C29"),
    "difference": ("#123C8C", "#5C9AE0", "#F5F5F5", "#E86F58", "#8E1420"),
}

_LMS: Final = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB: Final = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)

Colors = Float[np.ndarray, "color 3"]


def linear(colors: tuple[str, ...]) -> Colors:
    """The light of sRGB colours, 0 to 1 a channel (IEC 61966-2-1).

    >>> linear(("#FFFFFF", "#7F7F7F")).round(2).tolist()
    [[1.0, 1.0, 1.0], [0.21, 0.21, 0.21]]
    """
    bytes_ = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colors]) / 255
    light: Colors = np.where(bytes_ <= 0.04045, bytes_ / 12.92, ((bytes_ + 0.055) / 1.055) ** 2.4)
    return light


def to_oklab(light: Colors) -> Colors:
    """Lightness 0 to 1 and two hue axes of linear sRGB (Ottosson 2020).

    >>> to_oklab(linear(("#FFFFFF",))).round(2)[0, 0].item()
    1.0
    """
    lab: Colors = np.cbrt(light @ _LMS.T) @ _LAB.T
    return lab


def _hex(lab: Colors) -> tuple[str, ...]:
    light = ((lab @ np.linalg.inv(_LAB).T) ** 3) @ np.linalg.inv(_LMS).T
    light = light.clip(0, 1)
    srgb = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return tuple("#" + "".join(f"{c:02X}" for c in row) for row in (srgb * 255).round().astype(int))


def _ramp(anchors: Float[np.ndarray, "anchor 3"], count: int) -> Colors:
    """`count` colours along the anchors, equally far apart to the eye."""
    along = np.r_[0, np.linalg.norm(np.diff(anchors, axis=0), axis=1).cumsum()]
    at = np.linspace(0, along[-1], count)
    return np.stack([np.interp(at, along, anchors[:, i]) for i in range(3)], axis=1)


def _map(anchors: tuple[str, ...]) -> tuple[str, ...]:
    lab = to_oklab(linear(anchors))
    if len(anchors) == 4:
        return _hex(_ramp(lab, LEVELS))
    # a diverging map's arms are mixed apart, so that zero is exactly its middle
    half = LEVELS // 2
    low, high = _ramp(lab[:3], half + 1)[:-1], _ramp(lab[2:], half + 1)
    return _hex(np.concatenate([low, high]))


#: 253 colours for each role, for a "weight" (pale at zero, like a gate) and for "difference".
COLORS: Final = BySignal({name: _map(anchors) for name, anchors in _ANCHORS.items()})

#: The same with the two special codes: what a byte image is drawn with.
PALETTE: Final = BySignal(
    {name: (*colors, NAN_COLOR, BLANK_COLOR) for name, colors in COLORS.items()}
)


def needs_white(colors: tuple[str, ...]) -> tuple[bool, ...]:
    """Whether text on each of these colours is to be white; else black has the higher contrast.

    >>> needs_white(("#7B1F57", "#CC79A7"))
    (True, False)
    """
    # WCAG 2.2 relative luminance: white gives the higher contrast below 0.179
    light = linear(colors) @ np.array([0.2126, 0.7152, 0.0722])
    return tuple(bool(y < 0.179) for y in light)


def mixed(color: str, share: float, page: str) -> str:
    """A colour that lies over a page with an opacity of `share`, as a browser would draw it.

    Text on it keeps its own ink: where the opacity is that of the whole, ink pales as well.

    >>> mixed("#CC79A7", 0.5, "#FFFFFF")
    '#E6BCD3'
    """
    pairs = ((int(color[i : i + 2], 16), int(page[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02X}" for a, b in pairs)


#: For each byte, whether text on its colour is to be white (else black).
WHITE_INK: Final = BySignal(
    {name: (*needs_white(colors), False, False) for name, colors in COLORS.items()}
)
