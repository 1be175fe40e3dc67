"""Tools write over nothing that they have read, written, or found."""

import pytest

from focal_retinanet.cli.errors import UserError
from focal_retinanet.cli.output_dir import (
    check_figure_file,
    check_output_dir,
    check_output_file,
    check_outputs,
)


def test_an_output_is_neither_an_input_nor_another_output(tmp_path):
    truth, out = tmp_path / 'val.json', tmp_path / 'out.json'
    check_outputs([out, tmp_path / 'out.csv'], [str(truth)])
    for outputs in ([tmp_path / 'x' / '..' / 'val.json'], [out, out]):
        (tmp_path / 'x').mkdir(exist_ok=True)
        with pytest.raises(UserError, match='an input or another output'):
            check_outputs(outputs, [str(truth)])
    with pytest.raises(UserError, match='is a folder'):
        check_outputs([tmp_path], [])
    with pytest.raises(UserError, match='no folder'):
        check_outputs([tmp_path / 'absent' / 'out.json'], [])


def test_a_file_that_exists_is_kept(tmp_path):
    file = tmp_path / 'a.png'
    assert check_output_file(file, overwrite=False) == file
    file.touch()
    assert check_output_file(file, overwrite=True) == file
    with pytest.raises(UserError, match=r'a\.png exists: name another --out, or add'):
        check_output_file(file, overwrite=False)


def test_a_figure_has_a_format_that_can_be_written(tmp_path):
    file = tmp_path / 'curves.PDF'
    assert check_figure_file(file, overwrite=False) == file
    with pytest.raises(UserError, match=r'curves\.gif must end in \.png, \.svg, \.pdf'):
        check_figure_file(tmp_path / 'curves.gif', overwrite=False)
    file.touch()
    with pytest.raises(UserError, match='exists'):
        check_figure_file(file, overwrite=False)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / 'notes').touch()
    for folder in ('notes', 'notes/a/b'):
        with pytest.raises(UserError, match=r'--out-dir .*notes is a file; name a'):
            check_output_dir(tmp_path / folder, overwrite=True)
    with pytest.raises(UserError, match=r'--out .*notes is a file; name a folder'):
        check_output_file(tmp_path / 'notes' / 'a.json', overwrite=True)
    with pytest.raises(UserError, match='is a folder; name a file'):
        check_output_file(tmp_path, overwrite=True)
    assert check_output_dir(tmp_path / 'a' / 'b', overwrite=False)
