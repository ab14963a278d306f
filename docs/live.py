"""The saved lenses that the manual shows: made anew in every build, by `lens.save` itself."""

from __future__ import annotations

from pathlib import Path

from grulens import Lens, clamp
from grulens.demo import load

TEXT = '''def greet(name):
    """Say hello to the person."""
    print(name)
    return len(name)
'''


def save_all(folder: Path) -> None:
    """Write `tour.html` and `held.html` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lens = Lens(load().model, TEXT)
    lens.session.units = [137]
    lens.save(folder / "tour.html")
    lens.session.add(clamp("rnn.l0", "z", 137, value=1.0, at=slice(TEXT.index("hello"), None)))
    lens.save(folder / "held.html")
    lens.close()
