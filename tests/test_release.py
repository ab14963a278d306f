"""What is given away: the wheel, the sdist, and the files that repeat what others say of it."""

from __future__ import annotations

import hashlib
import re
import runpy
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import grulens

ROOT = Path(__file__).parents[1]
SAID = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, BUILT_WITH = SAID["project"], SAID["build-system"]["requires"]
EXTRAS = PROJECT["optional-dependencies"]
# what a package that can be imported is made of here
KINDS = {".css", ".js", ".md", ".po", ".py", ".safetensors", ".typed"}
BUILD = """
import sys
from hatchling.build import build_sdist, build_wheel
print(*(build(sys.argv[1]) for build in (build_sdist, build_wheel)[:int(sys.argv[2])]))
"""


def build(folder: Path, into: Path, count: int) -> list[Path]:
    """The sdist of a folder, and the wheel: as pip and `python -m build` have them made."""
    code = BUILD if count == 2 else BUILD.replace("[:int(sys.argv[2])]", "[1:]")
    command = [sys.executable, "-c", code, str(into), str(count)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [into / name for name in done.stdout.split()]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """The sdist and the wheel."""
    sdist, wheel = build(ROOT, tmp_path_factory.mktemp("dist"), 2)
    return sdist, wheel


def test_the_wheel_holds_the_package_and_nothing_else(built) -> None:
    _, path = built
    package = {p for p in (ROOT / "grulens").rglob("*") if p.is_file() and p.suffix in KINDS}
    wanted = {p.relative_to(ROOT).as_posix(): p for p in package}
    wanted["grulens/demo/01_tour.ipynb"] = ROOT / "notebooks/01_tour.ipynb"
    info = f"grulens-{grulens.__version__}.dist-info"
    wanted[f"{info}/licenses/LICENSE"] = ROOT / "LICENSE"
    made = {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    with zipfile.ZipFile(path) as wheel:
        assert set(wheel.namelist()) == set(wanted) | made
        for name, file in wanted.items():
            assert wheel.read(name) == file.read_bytes(), name
        said = message_from_bytes(wheel.read(f"{info}/METADATA"))
    assert path.name == f"grulens-{grulens.__version__}-py3-none-any.whl"
    assert set(said.get_all("Provides-Extra")) == set(EXTRAS)
    assert said["License-Expression"] == "Apache-2.0"
    assert bool(said.get_all("Project-URL")) == ("urls" in PROJECT)


def test_the_sdist_builds_the_same_wheel(built, tmp_path: Path) -> None:
    sdist, wheel = built
    with tarfile.open(sdist) as file:
        file.extractall(tmp_path, filter="data")
    (inside,) = tmp_path.iterdir()
    names = {p.relative_to(inside).as_posix() for p in inside.rglob("*") if p.is_file()}
    (again,) = build(inside, tmp_path, 1)
    assert (
        hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(wheel.read_bytes()).digest()
    )
    assert {"CITATION.cff", "LICENSE", "README.zh.md", "constraints.txt", "PKG-INFO"} <= names
    assert {"tests/test_release.py", "docs/conf.py", "binder/postBuild", "check"} <= names
    for name in names - {"PKG-INFO"}:
        assert (ROOT / name).read_bytes() == (inside / name).read_bytes(), name
    assert not [n for n in names if n.startswith((".ci/", "docs/built/", "docs/notebooks/"))]
    assert not [n for n in names if "__pycache__" in n]


@pytest.mark.parametrize("address", ["", "https://github.com/someone/something"])
def test_pypi_shows_a_readme_that_leads_to_no_file_beside_it(built, tmp_path, address) -> None:
    with tarfile.open(built[0]) as file:
        file.extractall(tmp_path, filter="data")
    (inside,) = tmp_path.iterdir()
    (inside / "PKG-INFO").unlink()  # hatchling would take the description from there
    project = inside / "pyproject.toml"
    line = re.compile(r'^repository = ".*"$', re.MULTILINE)
    project.write_text(line.sub(f'repository = "{address}"', project.read_text(), count=1))
    subprocess.run([sys.executable, "release/address.py"], cwd=inside, check=True)
    (wheel,) = build(inside, tmp_path, 1)
    with zipfile.ZipFile(wheel) as file:
        name = f"grulens-{grulens.__version__}.dist-info/METADATA"
        said = message_from_bytes(file.read(name))
    assert said["Description-Content-Type"] == "text/markdown"
    assert (said["Project-URL"] is not None) == bool(address)
    shown = said.get_payload(decode=True).decode()
    readme = (inside / "README.md").read_text()
    code = re.compile(r"```.+?```|`.+?`", re.DOTALL)
    target = re.compile(r"(!?)\[[^]]*\]\(([^)]+)\)")
    assert code.findall(shown) == code.findall(readme)
    wanted = []
    for picture, path in target.findall(readme):
        if path.startswith("https:"):
            wanted.append((picture, path))
        else:
            assert (inside / path.partition("#")[0]).exists()
            if address:
                tag = f"v{grulens.__version__}"
                raw = f"https://raw.githubusercontent.com/someone/something/{tag}"
                wanted.append((picture, f"{raw if picture else f'{address}/blob/{tag}'}/{path}"))
    assert target.findall(shown) == wanted
    assert len(wanted) > 20 if address else "](" not in shown.replace("](https:", "")
    if not address:  # the words of a link stay, of a picture nothing does
        assert "CONTRIBUTING.md says how" in shown
        assert shown.startswith("# grulens\n\n`torch.nn.GRU`")


def test_the_version_is_one(built) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    recipe = yaml.safe_load((ROOT / "release/conda/recipe.yaml").read_text(encoding="utf-8"))
    assert citation["version"] == recipe["context"]["version"] == grulens.__version__
    assert citation["license"] == recipe["about"]["license"] == PROJECT["license"]


def test_the_conda_recipe_asks_for_what_the_wheel_asks_for() -> None:
    recipe = yaml.safe_load((ROOT / "release/conda/recipe.yaml").read_text(encoding="utf-8"))
    wanted = recipe["requirements"]

    def lines(requirements: list[str]) -> set[str]:
        parsed = [Requirement(one) for one in requirements]
        names = {"torch": "pytorch"}
        return {f"{names.get(r.name, r.name)} {r.specifier}" for r in parsed}

    def said(listed: list[str]) -> set[str]:
        return {str(Requirement(one)).replace(one.split()[0], f"{one.split()[0]} ", 1)
                for one in listed if not one.startswith("python ")}  # fmt: skip

    assert said(wanted["run"]) == lines(PROJECT["dependencies"])
    assert said(wanted["run_constraints"]) == lines(EXTRAS["lab"])
    assert said(wanted["host"]) - {"pip "} == lines(BUILT_WITH)
    assert f">={recipe['context']['python_min']}" == PROJECT["requires-python"]
    (script,) = recipe["build"]["python"]["entry_points"]
    name, _, target = script.partition(" = ")
    assert PROJECT["scripts"] == {name: target}


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    command = [sys.executable, str(ROOT / "release/oldest.py")]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    pinned = dict(line.split("==") for line in lines)
    assert len(pinned) == len(lines)
    groups = (BUILT_WITH, PROJECT["dependencies"], *EXTRAS.values())
    wanted = [Requirement(one) for group in groups for one in group]
    for one in wanted:
        if one.name != "grulens":
            lowest = [s.version for s in one.specifier if s.operator in {">=", "=="}]
            assert [pinned[one.name]] == lowest, one
    assert set(pinned) == {one.name for one in wanted} - {"grulens"}
    flow = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text(encoding="utf-8"))
    runs = [step.get("run", "") for step in flow["jobs"]["oldest"]["steps"]]
    install = runs.index("python release/oldest.py > oldest.txt") + 1
    assert runs[install] == 'pip install -c oldest.txt -e ".[lab,test]"'
    (tested,) = (run.split() for run in runs if run.startswith("pytest"))
    folders = {
        f"tests/{p.relative_to(ROOT / 'tests').parts[0]}" for p in ROOT.glob("tests/*/**/test_*.py")
    }
    assert {one for one in tested if one.startswith("tests/")} == (
        folders - {"tests/browser"} | {"tests/test_cli.py"}
    )


@pytest.mark.parametrize("second", ['"numpy"', '"numpy<3"', '"numpy>=2.1"'])
def test_what_has_no_lower_bound_or_two_is_refused(second: str) -> None:
    oldest = runpy.run_path(str(ROOT / "release/oldest.py"))["oldest"]
    text = """[build-system]
requires = ["hatchling>=1"]
[project]
name = "p"
dependencies = ["numpy>=2.0"]
[project.optional-dependencies]
"""
    assert oldest(text + 'a = ["p[b]", "numpy>=2.0"]') == ["hatchling==1", "numpy==2.0"]
    with pytest.raises(ValueError, match="expected one lower bound everywhere, not 'numpy"):
        oldest(f"{text}a = [{second}]")


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_the_readme_says_what_each_extra_brings(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| .+ \|$", text, re.MULTILINE) == list(EXTRAS)


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/workflows").iterdir()), ids=lambda p: p.stem
)
def test_a_workflow_may_do_little_and_runs_what_has_a_version(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    flow = yaml.safe_load(text)
    granted = [flow["permissions"], *(job.get("permissions", {}) for job in flow["jobs"].values())]
    assert [g for g in granted if "write" in g.values()] in ([], [{"id-token": "write"}])
    for job in flow["jobs"].values():
        assert job["timeout-minutes"] <= 120
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+", step["uses"])
            assert "${{" not in step.get("run", "").replace("${{ matrix.python }}", "")
    assert "never run" in text.splitlines()[0]


def test_the_workflow_checks_what_check_checks_on_every_python() -> None:
    flow = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text(encoding="utf-8"))
    ran = {step["run"] for job in flow["jobs"].values() for step in job["steps"] if "run" in step}
    for part in re.findall(
        r"^part (.+?)(?: \"\$@\")?$", (ROOT / "check").read_text(), re.MULTILINE
    ):
        assert part.replace('"$@" ', "") in ran
    pythons = flow["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert f">={pythons[0]}" == PROJECT["requires-python"]
    assert pythons == ["3.11", "3.12", "3.13", "3.14"]
