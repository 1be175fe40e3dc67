"""The folder of a report, in which nothing goes but what a report wrote."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from focal_retinanet.cli.errors import UserError

#: Folders that a report writes besides index.html.
FOLDERS = ('charts', 'data', 'images', 'static')
#: List of the files that a report wrote into them.
FILES = Path('static/files.json')


def check_own_files(out: Path) -> None:
    """Check that the folders of a report hold nothing but an earlier report.

    Raises:
        UserError: They hold another file.
    """
    foreign = sorted(_files(out) - _listed(out))
    if foreign:
        raise UserError(
            f'{out / foreign[0]} is not of an earlier report, and a report writes '
            f'into {out / Path(foreign[0]).parts[0]}: name another --out-dir'
        )


@contextmanager
def replaced_files(out: Path) -> Iterator[None]:
    """Delete the files of an earlier report, and list what the block writes.

    Raises:
        UserError: The folders of a report hold another file.
    """
    check_own_files(out)
    for name in _listed(out):
        (out / name).unlink(missing_ok=True)
    try:
        yield
    finally:  # what a report that failed wrote can go, too
        file = out / FILES
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        file.write_text(json.dumps(sorted(_files(out)), indent=0), encoding='utf-8')


def _files(out: Path) -> set[str]:
    return {
        path.relative_to(out).as_posix()
        for folder in FOLDERS
        for path in (out / folder).rglob('*')
        if not path.is_dir()
    }


def _listed(out: Path) -> set[str]:
    """Return the files that an earlier report listed and that are still there."""
    file = out / FILES
    if not file.is_file():
        return set()
    try:
        return _files(out) & set(json.loads(file.read_text(encoding='utf-8')))
    except (ValueError, TypeError):  # another program's file of this name
        return set()
