"""Mistakes in a config are named with their file and line."""

import pytest

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.read_config import read_config


@pytest.mark.parametrize(
    ('name', 'text', 'says'),
    [
        ('mine.py', 'x = 1\nlr = = 2\n', r'mine\.py, line 2: invalid syntax: lr = = 2'),
        ('mine.py', 'model = dict(\n', r"mine\.py, line 1: '\(' was never closed"),
        ('mine.py', 'x = 1\ny = z\n', r"mine\.py, line 2: NameError: name 'z'"),
        ('mine.py', 'x = 1 / 0\n', r'mine\.py, line 1: ZeroDivisionError'),
        ('mine.txt', 'x = 1\n', r'mine\.txt is no config, which ends in \.py'),
        ('mine.yaml', 'model\n', r'mine\.yaml is no config'),
    ],
)
@pytest.mark.parametrize('inherited', [False, True])
def test_a_mistake_is_named(name, text, says, inherited, tmp_path):
    file = tmp_path / name
    file.write_text(text)
    if inherited:
        file = tmp_path / 'derived.py'
        (tmp_path / 'other.py').write_text('z = 3\n')
        file.write_text(f"_base_ = ['./other.py', './{name}']\n")
        if not name.endswith('.py'):
            pytest.skip('a base of another kind is named by mmengine')
    with pytest.raises(UserError, match=says):
        read_config(file)


def test_a_good_config_and_one_that_is_absent(tmp_path):
    (tmp_path / 'base.py').write_text('x = dict(a=1)\n')
    (tmp_path / 'mine.py').write_text("_base_ = 'base.py'\nx = dict(b=2)\n")
    assert read_config(tmp_path / 'mine.py').x == dict(a=1, b=2)
    with pytest.raises(FileNotFoundError, match=r'absent\.py'):
        read_config(tmp_path / 'absent.py')
    (tmp_path / 'lost.py').write_text("_base_ = 'absent.py'\n")
    with pytest.raises(FileNotFoundError, match=r'absent\.py'):
        read_config(tmp_path / 'lost.py')


def test_a_quote_in_the_name_of_a_folder_is_named(tmp_path):
    file = tmp_path / "John's" / 'mine.py'
    file.parent.mkdir()
    file.write_text("x = 1\nann_file = '{{ fileDirname }}/train.json'\n")
    with pytest.raises(UserError, match=r'mine\.py, line 2: .* are there quotes in it'):
        read_config(file)
