"""Libraries are loaded only from folders that no other user can write to."""

import os
import stat
import tempfile

import pytest

from focal_retinanet.ops.fast_paths import private_folders as module
from focal_retinanet.ops.fast_paths.private_folders import (
    is_private_file,
    private_folders,
)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An empty cache, home and folder for temporary files."""
    for name in ('cache', 'home', 'temporary'):
        (tmp_path / name).mkdir()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'temporary'))
    return tmp_path


def found(places):
    return [str(folder.relative_to(places)) for folder in private_folders(make=True)]


CACHE = 'cache/focal_retinanet'
HOME = 'home/.cache/focal_retinanet'
TEMPORARY = f'temporary/focal_retinanet-{os.getuid()}'


def test_order_and_mode(places):
    assert found(places) == [CACHE, HOME, TEMPORARY]
    for folder in private_folders(make=True):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_folders_are_made_only_on_request(places):
    assert not list(private_folders())
    next(private_folders(make=True))
    assert [str(x) for x in private_folders()] == [str(places / CACHE)]


def no_variable(places, monkeypatch):
    monkeypatch.delenv('XDG_CACHE_HOME')
    return [HOME, TEMPORARY]


def no_home(places, monkeypatch):
    def home():
        raise RuntimeError('Could not determine home directory.')

    monkeypatch.setattr(module.Path, 'home', home)
    return [CACHE, TEMPORARY]


def file_in_the_way(places, monkeypatch):
    (places / 'cache').rmdir()
    (places / 'cache').touch()
    return [HOME, TEMPORARY]


def read_only_home(places, monkeypatch):
    mkdir = module.Path.mkdir

    def refuse(path, **options):
        if places / 'home' in path.parents:
            raise OSError(30, 'Read-only file system', str(path))
        mkdir(path, **options)

    monkeypatch.setattr(module.Path, 'mkdir', refuse)
    return [CACHE, TEMPORARY]


def parent_that_others_may_write_to(places, monkeypatch):
    (places / 'cache').chmod(0o777)
    return [HOME, TEMPORARY]


def sticky_parent(places, monkeypatch):
    (places / 'temporary').chmod(0o1777)  # like /tmp, where others cannot rename ours
    return [CACHE, HOME, TEMPORARY]


def link_to_elsewhere(places, monkeypatch):
    (places / TEMPORARY).symlink_to(places / 'home')
    return [CACHE, HOME]


def folder_of_another_user(places, monkeypatch):
    lstat = module.Path.lstat

    def lstat_of_another_user(path):
        status = lstat(path)
        if path == places / TEMPORARY:
            status = os.stat_result((*status[:4], os.getuid() + 1, *status[5:10]))
        return status

    monkeypatch.setattr(module.Path, 'lstat', lstat_of_another_user)
    return [CACHE, HOME]


@pytest.mark.parametrize(
    'case',
    [
        no_variable,
        no_home,
        file_in_the_way,
        read_only_home,
        parent_that_others_may_write_to,
        sticky_parent,
        link_to_elsewhere,
        folder_of_another_user,
    ],
)
def test_unsafe_or_impossible_folders_are_skipped(case, places, monkeypatch):
    expected = case(places, monkeypatch)
    assert found(places) == expected


def test_folder_that_others_may_read_is_closed(places):
    (places / CACHE).mkdir(mode=0o755)
    assert CACHE in found(places)
    assert stat.S_IMODE((places / CACHE).stat().st_mode) == 0o700


def test_private_file(tmp_path):
    file = tmp_path / 'kernel.so'
    assert not is_private_file(file)
    file.touch(mode=0o755)
    assert is_private_file(file)
    file.chmod(0o775)
    assert not is_private_file(file)
    (tmp_path / 'link.so').symlink_to(file)
    assert not is_private_file(tmp_path / 'link.so')
