"""tools/compare.py writes over nothing that it has read or written."""

import runpy
from pathlib import Path

import pytest

from focal_retinanet.cli.errors import UserError

TOOL = Path(__file__).parents[2] / 'tools' / 'compare.py'


def test_an_output_is_neither_an_input_nor_another_output(tmp_path):
    check = runpy.run_path(str(TOOL))['check_outputs']
    truth, out = tmp_path / 'val.json', tmp_path / 'out.json'
    check([out, tmp_path / 'out.csv'], [str(truth)])
    for outputs in ([tmp_path / 'x' / '..' / 'val.json'], [out, out]):
        (tmp_path / 'x').mkdir(exist_ok=True)
        with pytest.raises(UserError, match='an input or another output'):
            check(outputs, [str(truth)])
    with pytest.raises(UserError, match='is a folder'):
        check([tmp_path], [])
    with pytest.raises(UserError, match='no folder'):
        check([tmp_path / 'absent' / 'out.json'], [])
