"""The house: its public names, its error tree, what an import costs, which way imports go."""

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import FrameType, ModuleType

import pytest
import torch
import yaml
from torch import nn

import grulens
from grulens import LayerRecording, Recording, errors
from grulens.cells.kinds.gru import Cell
from grulens.models.call.segment import Segment
from tests.conftest import LONG
from tests.public import HOME, SUBJECTS

ROOT = Path(__file__).parents[1]
spec = spec_from_file_location("house", ROOT / "docs/house.py")
assert spec is not None
assert spec.loader is not None
house = module_from_spec(spec)
spec.loader.exec_module(house)


@pytest.mark.parametrize("part", [grulens, *SUBJECTS], ids=lambda part: part.__name__)
def test_every_public_name_is_there_and_documented(part: ModuleType) -> None:
    assert part.__all__ == sorted(part.__all__)
    for name in part.__all__:
        assert getattr(part, name).__doc__, name
    also = {"__version__"} if part is grulens else set()
    assert part is grulens.adapters or set(dir(part)) == {*part.__all__, *also}
    with pytest.raises(AttributeError, match=rf"module '{part.__name__}' has no attribute 'gates'"):
        _ = part.gates


def test_a_name_is_public_in_one_place_and_what_looks_elsewhere_is_told() -> None:
    everywhere = [name for part in (grulens, *SUBJECTS) for name in part.__all__]
    assert len(everywhere) == len(set(everywhere)) == len(HOME) + len(SUBJECTS)
    for name, home in HOME.items():
        if home is not grulens:
            words = f"module 'grulens' has no attribute '{name}'; it stands in {home.__name__}$"
            with pytest.raises(AttributeError, match=words):
                getattr(grulens, name)


def test_the_parts_by_subject_have_names_and_no_code() -> None:
    for part in SUBJECTS:
        tree = ast.parse(Path(str(part.__file__)).read_text(encoding="utf-8"))
        kinds = {type(node) for node in ast.walk(tree)}
        assert not kinds & {ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.Lambda}, part


def test_importing_it_loads_no_notebook_library() -> None:
    code = (
        "import sys, grulens\n"
        "from grulens.dynamics import lyapunov\n"
        "heavy = {'bokeh', 'ipywidgets', 'IPython', 'anywidget', 'scipy', 'pandas', 'onnx'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "grulens.memory.GateMemory\n"
        "print({'bokeh', 'ipywidgets'} <= set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split("\n")[:2] == ["[]", "True"]


def test_from_record_to_a_gate_is_a_walk_through_the_nine_files_that_are_named() -> None:
    """Whatever stands above the calls that keep a state, hold a layer, and compute its gates."""
    stations = (Segment.__post_init__, LayerRecording.__init__, Recording.__getitem__, Cell.replay)
    codes = [inspect.unwrap(one).__code__ for one in stations]
    passed: dict[str, None] = {}

    def note(frame: FrameType | None, event: str, _: object) -> None:
        assert frame is not None
        if event != "call" or frame.f_code not in codes:
            return
        codes.remove(frame.f_code)
        stack = []
        while frame is not None:
            stack.append(frame.f_code.co_filename)
            frame = frame.f_back
        package = f"{ROOT / 'grulens'}/"
        passed.update(dict.fromkeys(p.removeprefix(package) for p in stack[::-1] if package in p))

    rnn, x = nn.GRU(2, 3), torch.zeros(4, 1, 2)
    sys.setprofile(note)
    try:
        _ = grulens.record(rnn, x)["l0"].z
    finally:
        sys.setprofile(None)
    assert not codes
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    walk = text.partition("2. Follow one recording")[2].partition("\n3.")[0]
    assert set(re.findall(r"`(?:grulens/)?(\w+/[\w/]+\.py)`", walk)) == set(passed)
    assert len(passed) <= 9


# the packages that come with the screens, pandas by way of bokeh
ABSENT = ("anywidget", "bokeh", "IPython", "ipykernel", "ipywidgets", "jupyterlab", "nbconvert",
          "nbformat", "pandas", "traitlets")  # fmt: skip
ALONE = """
import doctest, sys
from types import ModuleType
for name in {absent}:
    sys.modules[name] = None  # as Python itself marks what cannot be imported

import torch, grulens
from grulens.errors import MissingPackageError

flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
runner, finder, screens = doctest.DocTestRunner(optionflags=flags), doctest.DocTestFinder(), {{}}
parts = [grulens, *(part for part in vars(grulens).values() if hasattr(part, "__all__"))]
for part in parts:
    for name in set(part.__all__) - {{"load_ipython_extension", "unload_ipython_extension"}}:
        try:
            value = getattr(part, name)
        except MissingPackageError as error:
            screens[name] = str(error)
            continue
        if not isinstance(value, ModuleType):
            for test in finder.find(value, name, globs=vars(sys.modules[value.__module__]).copy()):
                torch.manual_seed(0)
                runner.run(test)
assert not runner.failures and runner.tries > 100, (runner.failures, runner.tries)
print(screens)
"""


def test_analysis_needs_none_of_the_packages_of_the_screens() -> None:
    """In a process where they cannot be imported, every example of every function still holds."""
    code = ALONE.format(absent=ABSENT)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    screens = ast.literal_eval(done.stdout)
    assert {"Lens", "GateSliders", "Session", "plot"} <= set(screens)
    parts = [grulens, *(part for part in vars(grulens).values() if hasattr(part, "__all__"))]
    for part in parts:
        for name in part.__all__:
            home = getattr(getattr(part, name), "__module__", "")
            assert home.startswith("grulens.widgets.") == (name in screens), name
    (said,) = set(screens.values())
    assert said == (
        "a screen needs anywidget, bokeh, IPython, ipywidgets and traitlets: "
        'pip install "grulens[lab]"'
    )


def test_the_drawn_tree_of_errors_is_the_real_one() -> None:
    drawn = set(re.findall(r"^\s*(?:[│ ]*[├└]── )?(\w+(?:Error|Warning))\b", errors.__doc__, re.M))
    real = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert drawn == real
    for name in real:
        kind = UserWarning if name.endswith("Warning") else errors.GrulensError
        assert issubclass(getattr(errors, name), kind)


def test_the_files_that_begin_first_are_there() -> None:
    assert [name for name in LONG if not (ROOT / name).exists()] == []


def test_the_house_is_drawn_as_it_is() -> None:
    """Its folders and files, its layers, and, by the imports as they are, what imports what."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (drawn,) = house.DRAWING.findall(text)
    assert drawn == house.drawing(), "python docs/house.py"
    layer, stack = 0, ["grulens"]
    at: dict[str, int] = {}
    for line in drawn.splitlines()[1:]:
        indent, begins, name = re.match(r"((?:    )*)(▼ |  )(\S+)", line).groups()  # type: ignore[union-attr]
        stack[len(indent) // 4 + 1 :] = [name.removesuffix(".py").removesuffix("/")]
        layer += begins == "▼ "
        at[".".join(stack)] = layer
        assert (ROOT / Path(*stack[:-1]) / name).exists(), line
    for folder in ("grulens", *(f"grulens.{name}" for name in house.FLOORS)):
        there = {f"{folder}.{path.stem}" for path in (ROOT / folder.replace(".", "/")).iterdir()
                 if path.suffix == ".py" or (path / "__init__.py").exists()}  # fmt: skip
        assert there - set(at) == {f"{folder}.__init__"}
        for importer, imported in imports():
            one, other = importer, imported
            if one.startswith(f"{folder}.") and other.startswith(f"{folder}."):
                depth = folder.count(".") + 2
                one, other = (".".join(name.split(".")[:depth]) for name in (one, other))
                assert one == other or at[one] < at[other], (importer, imported)


def imports() -> Iterator[tuple[str, str]]:
    """Which file of grulens imports which, when it runs."""
    for path in sorted((ROOT / "grulens").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
        while todo:
            node = todo.pop()
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                todo += node.orelse
                continue
            todo += ast.iter_child_nodes(node)
            if isinstance(node, ast.ImportFrom):
                yield from ((name, f"{node.module}.{alias.name}") for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from ((name, alias.name) for alias in node.names)


def test_what_contributing_names_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    flow = text[text.index("## How data flows") : text.index("## How we write")]
    named = re.findall(r"(?:[a-z_0-9-]+/)+(?:[a-z_0-9-]+\.(?:py|md|ipynb))?", flow)
    assert len(named) > 15
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "grulens" / name).exists(), name


def test_what_runs_before_a_commit_runs_here() -> None:
    """The hooks are programs of this environment, and no repository is fetched for them."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (local,) = config["repos"]
    assert local["repo"] == "local"
    for hook in local["hooks"]:
        assert hook["language"] == "system"
        program, *options = hook["entry"].split()
        files = [] if hook.get("pass_filenames") is False else ["docs/house.py"]
        done = subprocess.run(
            [str(Path(sys.executable).with_name(program)), *options, *files],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    env = {"PYTHONPATH": str(folder), "PATH": str(Path(sys.executable).parent)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the house, to break."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "grulens", tmp_path / "grulens")
    kept = lint(tmp_path)
    assert kept.returncode == 0, kept.stdout
    return tmp_path


@pytest.mark.parametrize(
    ("folder", "imported"),
    [
        ("cells", "models"),
        ("views.figure", "views.gates"),
        ("views.memory", "views.credit"),  # beside each other: neither may
        ("models.restore", "models.adapters"),
    ],
)
def test_imports_point_down_only_and_the_check_can_fail(
    copied: Path, folder: str, imported: str
) -> None:
    upwards = copied / "grulens" / folder.replace(".", "/") / "upwards.py"
    upwards.write_text(f"import grulens.{imported}\n")
    broken = lint(copied)
    assert broken.returncode != 0
    assert f"grulens.{folder} is not allowed to import grulens.{imported}" in broken.stdout


def test_a_circle_and_a_file_in_no_layer_are_found(copied: Path) -> None:
    folder = copied / "grulens/views/units"
    (folder / "one.py").write_text("import grulens.views.units.other\n")
    (folder / "other.py").write_text("import grulens.views.units.one\n")
    assert "Nothing imports in a circle, however deep BROKEN" in lint(copied).stdout
    (folder / "other.py").write_text("")
    (copied / "grulens/views/utils.py").write_text("")
    assert "- grulens.views.utils" in lint(copied).stdout
