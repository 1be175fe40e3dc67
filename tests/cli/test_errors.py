"""A mistake is said in one line, wherever it was noticed."""

import pytest
from torch.utils.data import DataLoader, Dataset

from focal_retinanet.cli.errors import UserError, clear_errors


class WrongFileError(UserError):
    """One of another kind, with an argument that is no message."""

    def __init__(self, message, code=3):
        super().__init__(message)


class Broken(Dataset):
    def __init__(self, error, cause=None):
        self.error, self.cause = error, cause

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self.error from self.cause


def printed(capsys, raising):
    with pytest.raises(SystemExit) as exit_, clear_errors():
        raising()
    return exit_.value.code


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('kind', [UserError, WrongFileError, FileNotFoundError])
def test_an_error_of_a_worker_is_said_as_any_other(capsys, workers, kind):
    data = Broken(kind('images/a.jpg cannot be decoded'), ValueError('at byte 3'))
    loader = DataLoader(data, num_workers=workers)
    code = printed(capsys, lambda: list(loader))
    assert code == 'error: images/a.jpg cannot be decoded'


def test_all_lines_of_a_message_are_kept(capsys):
    loader = DataLoader(
        Broken(UserError('a.jpg:\n  1 box\nUserError: 2')), num_workers=1
    )
    assert printed(capsys, lambda: list(loader)) == (
        'error: a.jpg:\n  1 box\nUserError: 2'
    )


def test_a_bug_keeps_its_traceback():
    loader = DataLoader(Broken(ZeroDivisionError('x')), num_workers=1)
    with pytest.raises(ZeroDivisionError, match='Original Traceback'), clear_errors():
        list(loader)


def test_of_several_processes_the_first_one_says_it(monkeypatch, capsys):
    def fail():
        raise UserError('no')

    assert printed(capsys, fail) == 'error: no'
    monkeypatch.setenv('RANK', '1')
    assert printed(capsys, fail) == 1


def test_what_the_disk_refuses_is_said_with_its_file(capsys):
    def fail():
        raise PermissionError(13, 'Permission denied', 'work_dirs/mine')

    assert printed(capsys, fail) == 'error: work_dirs/mine: Permission denied'
    with pytest.raises(OSError, match='no file'), clear_errors():
        raise OSError('no file')
