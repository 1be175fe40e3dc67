"""Folders for compiled code that no other user can write to."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_NAME = 'focal_retinanet'


def private_folders(make: bool = False) -> Iterator[Path]:
    """Yield folders that only this user can enter, in order of preference.

    They are in ``$XDG_CACHE_HOME``, in ``~/.cache`` and in the folder for temporary
    files. A folder is skipped if another user could replace it. It may be read-only.

    Args:
        make: Whether to create missing folders.
    """
    for folder in _candidates():
        try:
            if make:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_safe(folder):
                folder.chmod(0o700)
                yield folder
        except OSError:  # missing, read-only disk, file in the way, quota
            continue


def is_private_file(path: Path) -> bool:
    """Whether this user owns the file and no other user can change it."""
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
    # Links are not followed, because another user may have made them.
    status = folder.lstat()
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return ours and all(map(_keeps_what_is_in_it, folder.resolve().parents))


def _keeps_what_is_in_it(folder: Path) -> bool:
    """Whether no other user can replace this user's files in the folder."""
    status = folder.stat()
    # In a container, root may have another number.
    trusted = (0, os.getuid(), os.stat('/').st_uid)
    open_to_others = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
    return status.st_uid in trusted and not open_to_others
