"""What the tests of formats share; ``layouts.py`` writes their data."""

import pytest


@pytest.fixture
def supervision():
    return pytest.importorskip(
        'supervision', reason='YOLO and Pascal VOC need supervision'
    )
