"""Charts of values that leave an axis no room."""

import re

import pytest

from curate.report.charts import HEIGHT, Series, curves


@pytest.mark.parametrize("value", [-4.5, 0.0, 0.4, 0.45, 1.0, 4.0, 4.5])
def test_a_constant_curve_is_drawn_inside_the_chart(value: float) -> None:
    """The only tick of 4.5 is 4.5 itself."""
    chart = curves([Series(name="loss", css="loss", points=[(0, value), (10, value)])])
    heights = {float(height) for height in re.findall(r'cy="([^"]+)"', chart)}
    assert len(heights) == 1 and 0 < heights.pop() < HEIGHT
