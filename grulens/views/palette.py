"""One accent colour per signal, the same in every view, and the maps that values are drawn with.

The accents are Okabe and Ito's colour-blind-safe set (2008): told apart with any of the common
colour deficiencies, and readable on light and dark ground.
"""

from __future__ import annotations

from typing import Final

SIGNALS: Final = ("r", "z", "n", "h")

ACCENT: Final = {
    "r": "#D55E00",  # vermilion
    "z": "#0072B2",  # blue
    "n": "#009E73",  # green
    "h": "#CC79A7",  # purple
    "x": "#8C8C8C",  # grey
}

NAME: Final = {
    "x": "input",
    "h_prev": "state before",
    "r": "reset gate",
    "z": "update gate",
    "n": "candidate",
    "h": "state",
}
