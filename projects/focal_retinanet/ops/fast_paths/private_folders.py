"""Folders to keep compiled code in, that no other user can write to."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_NAME = 'focal_retinanet'


def private_folders(make: bool = False) -> Iterator[Path]:
    """Folders that this user alone can enter, in order of preference.

    They are in ``$XDG_CACHE_HOME``, in ``~/.cache`` and in the folder for temporary
    files. One is passed over if another user could put another in its place. It
    may be read-only.

    Args:
        make: make those that are not there and can be made.
    """
    for folder in _candidates():
        try:
            if make:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_safe(folder):
                folder.chmod(0o700)
                yield folder
        except OSError:  # it is not there, a read-only disk, a file in the way, a quota
            continue


def is_private_file(path: Path) -> bool:
    """Whether it is a file that this user has written and no other can change."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid()
    return ours and not status.st_mode & 0o022


def _candidates() -> list[Path]:
    folders = []
    if base := os.environ.get('XDG_CACHE_HOME'):
        folders.append(Path(base) / _NAME)
    with suppress(RuntimeError):  # this user has no home
        folders.append(Path.home() / '.cache' / _NAME)
    with suppress(OSError):  # there is nowhere to write to
        folders.append(Path(tempfile.gettempdir()) / f'{_NAME}-{os.getuid()}')
    return folders


def _is_safe(folder: Path) -> bool:
    # A link is not followed: another user may have put it there.
    status = folder.lstat()
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return ours and all(map(_keeps_what_is_in_it, folder.resolve().parents))


def _keeps_what_is_in_it(folder: Path) -> bool:
    """Whether no other user can replace what this user has in the folder."""
    status = folder.stat()
    # In a container, root may go by another number.
    trusted = (0, os.getuid(), os.stat('/').st_uid)
    open_to_others = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
    return status.st_uid in trusted and not open_to_others
