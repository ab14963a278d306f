"""What a killed writer left is deleted, and what somebody writes is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from grulens.probing.corpus import making


def test_only_what_nobody_will_go_on_with_is_deleted(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    mine = [making.beside(tmp_path / name) for name in ("000000", "000001", "scan.json")]
    left = [
        one.with_name(one.name.replace(f"~{os.getpid()}~", f"~{gone.pid}~"))
        for one in mine
    ]  # fmt: skip
    away = [one.with_name(one.name.replace("~", "~far", 1)) for one in left]
    for one in (*mine, *left, *away):
        if "json" in one.name:
            one.write_text("x")
        else:
            (one / "0").mkdir(parents=True)
    others = [tmp_path / name for name in (".hidden", "a~b~1~c", ".model~x~?~y")]
    for one in others:
        one.write_text("x")
    (tmp_path / "000001").mkdir()
    making.sweep(tmp_path)
    stay = {mine[0], mine[2], away[0], away[2], *others, tmp_path / "000001"}
    assert set(tmp_path.iterdir()) == stay
    making.sweep(tmp_path / "nowhere")
