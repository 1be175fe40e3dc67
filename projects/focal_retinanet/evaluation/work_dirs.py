"""Work directories of one seed or several, and the scalars that mmengine logs there."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from focal_retinanet.cli.errors import UserError

#: Logs in a work directory: one folder for the start and for each resume.
SCALARS = '*/vis_data/scalars.json'

T = TypeVar('T')


class NotInWorkDirError(UserError):
    """A work directory does not have the wanted file."""


def read_work_dirs(
    paths: Sequence[str | Path],
    read: Callable[[Path], T],
    skip: tuple[type[Exception], ...],
    nothing: str,
) -> tuple[list[tuple[str, list[T]]], list[str]]:
    """Read models of one seed or several.

    A folder with ``seed-*`` in it, as ``tools/sweep.py`` makes them, is one model
    with several seeds.

    Args:
        paths: Work directories, folders of seeds, or files.
        read: Function that reads one seed's work directory, or a file.
        skip: Errors that leave a seed out.
        nothing: Message if nothing is left.

    Returns:
        Name and seeds of each model, in the order of the paths; and the messages of
        the errors that left something out. The name is the last part of the path, or
        the whole path where names would be equal.

    Raises:
        FileNotFoundError: There is no such path.
        UserError: Nothing is left.
    """
    found, left_out = [], []
    for path in map(Path, paths):
        seeds = []
        folders = sorted(path.glob('seed-*'), key=lambda f: (len(f.name), f.name))
        for place in folders or [path]:
            try:
                if not place.exists():
                    raise FileNotFoundError(f'there is no {place}')
                seeds.append(read(place))
            except skip as error:
                left_out.append(str(error))
        if seeds:
            name = path.stem if path.is_file() else path.resolve().name
            found.append((path, name, seeds))
    if not found:
        raise UserError('\n'.join([nothing, *left_out]))
    names = [name for _, name, _ in found]
    return [
        (str(path) if names.count(name) > 1 else name, seeds)
        for path, name, seeds in found
    ], left_out


def read_scalars(file: Path) -> list[dict]:
    """Read a log of scalars, one JSON object per line, each with its 'step'.

    An incomplete last line is left out: the run was killed or is still writing.

    Raises:
        UserError: The file is not such a log.
    """
    try:
        lines = file.read_text().splitlines()
    except ValueError as error:  # not UTF-8
        raise UserError(f'{file} is not a log: {error}') from error
    records = []
    for number, text in enumerate(lines, 1):
        try:
            record = json.loads(text)
        except ValueError as error:
            if number == len(lines):
                break
            raise UserError(f'{file}, line {number}, is not JSON: {error}') from error
        if not isinstance(record, dict) or not isinstance(record.get('step'), int):
            raise UserError(
                f'{file}, line {number}, is not part of a log: it has no integer `step`'
            )
        records.append(record)
    return records
