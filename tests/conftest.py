"""What every test shares: one Hypothesis profile, and the same random numbers each time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.shapes import check_shapes

CHECKED = "GRULENS_UNCHECKED" not in os.environ  # test_unchecked.py sets it
if CHECKED:
    check_shapes()

# screens are in English here, and in what is started from here, wherever this runs
os.environ["LANGUAGE"] = "en"

settings.register_profile(
    "grulens",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# to look harder than a check of every change can: GRULENS_EXAMPLES=1000 pytest tests/cells
settings.register_profile(
    "search",
    settings.get_profile("grulens"),
    derandomize=False,
    max_examples=int(os.environ.get("GRULENS_EXAMPLES", "25")),
)
settings.load_profile("search" if "GRULENS_EXAMPLES" in os.environ else "grulens")


# Files and folders of which one takes a minute or more. They begin first: of two processes neither
# is then left with one of them at the end (./check, --no-loadscope-reorder)
LONG = (
    "tests/test_unchecked.py",
    "notebooks",
    "tests/widgets/session/test_closed.py",
    "tests/probing/credit/test_gradients.py",
    "tests/demo/test_flip_flop.py",
    "tests/widgets/test_sizes.py",
    "tests/models/test_sizes.py",
    "tests/test_cli.py",
    "tests/test_manual.py",
)


def order(path: str) -> int:
    """The place of a file among those that begin first, or after all of them."""
    return next((n for n, name in enumerate(LONG) if path.startswith(name)), len(LONG))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long files first; and leave tests marked `unchecked` to test_unchecked.py's own run."""
    items.sort(key=lambda item: order(item.nodeid))
    if CHECKED:
        here = [item for item in items if "unchecked" not in item.keywords]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(here)])
        items[:] = here


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manual, built with warnings as errors; both runs of ./check look at one."""
    out = Path(os.environ.get("GRULENS_MANUAL") or tmp_path_factory.mktemp("manual"))
    whole = out / "whole"
    if whole.exists():
        return out / "html"
    docs = Path(__file__).parents[1] / "docs"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(out / "trees"), str(docs), str(out / "html")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    whole.touch()
    return out / "html"
