"""The plugin that checks shapes does so, and where there are none it adds nothing to a call."""

import numpy as np
import pytest

from grulens.errors import shown
from grulens.views.figure import raster
from tests.shapes import shaped


def test_a_value_of_another_shape_or_type_is_refused() -> None:
    raster.symmetric(np.ones((2, 3)), floor=1.0)
    with pytest.raises(TypeError, match=r"parameter .values."):
        raster.symmetric(np.ones((2, 3), dtype=np.int64), floor=1.0)


def test_modules_without_shapes_are_left_to_mypy() -> None:
    assert raster.__name__ in shaped()
    assert shown.__module__ not in shaped()
    assert not hasattr(shown, "__wrapped__")
