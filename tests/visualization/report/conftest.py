"""A report of runs, and its data files read back."""

import contextlib
import io
import json
import re

import pytest
from pycocotools.coco import COCO

from focal_retinanet.visualization.report import write_report


@pytest.fixture
def coco(ground_truth):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(ground_truth))


@pytest.fixture
def report(tmp_path):
    """Function that makes a report; returns its text, folder and warnings."""

    def make(paths, **kwargs):
        said = []
        kwargs.setdefault('num_resamples', 20)
        page = write_report(paths, tmp_path / 'report', warn=said.append, **kwargs)
        return page.read_text(), page.parent, said

    return make


@pytest.fixture
def read_data():
    """Function that returns the content of a data file."""

    def read(file):
        name, text = re.fullmatch(
            r'reportData\["(.*?)"\]=(.*);\n', file.read_text()
        ).groups()
        assert name == file.stem
        return json.loads(text)

    return read
