"""The screens: each reads and writes one Session, so any number of them stay linked."""

from grulens.extras import SCREENS, need

need("lab", "a screen", *SCREENS)
