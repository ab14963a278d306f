"""Binder's image: what repo2docker makes of this repository, and what it is asked to hold.

Whether postBuild runs on a bare machine, and the notebooks after it, is seen by the project's own
check, which calls it before anything else.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# conda-forge's CPU build has a name of its own
CONDA_NAMES = {"torch": "pytorch-cpu"}


@pytest.fixture(scope="module")
def environment() -> dict[str, SpecifierSet]:
    listed = yaml.safe_load((ROOT / "binder/environment.yml").read_text())["dependencies"]
    # conda writes one = where pip writes two
    wanted = [Requirement(re.sub(r"(?<![<>=!~])=(?!=)", "==", line)) for line in listed]
    return {one.name: one.specifier for one in wanted}


def test_the_environment_asks_for_what_the_project_asks_for(environment) -> None:
    project = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["lab"]
    wanted = {CONDA_NAMES.get(r.name, r.name): r.specifier for r in map(Requirement, project)}
    python = environment.pop("python")
    assert environment.pop("pip") == SpecifierSet()
    assert environment == wanted
    (pinned,) = python
    assert pinned.version in SpecifierSet(PROJECT["requires-python"])


def test_repo2docker_takes_this_environment() -> None:
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Building conda environment for python=3.11" in said
    assert '--file "binder/environment.yml"' in said
    assert "RUN ./binder/postBuild" in said


def test_the_notebooks_are_stored_as_they_are_shown() -> None:
    for path in ROOT.glob("notebooks/**/[0-9]*.ipynb"):
        notebook = json.loads(path.read_text())
        assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}, path
        cells = notebook["cells"]
        assert len(cells) <= 25, path
        assert all(cell["metadata"] == {} for cell in cells), path
        assert all(c["outputs"] or c["execution_count"] for c in cells if c["cell_type"] == "code")
