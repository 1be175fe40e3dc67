"""File names that do not overwrite each other, and pictures of earlier runs."""

import re
from collections.abc import Iterable
from pathlib import Path


def unique_names(names: Iterable[str]) -> list[str]:
    """Return the names, with a number in each repetition.

    ``a.jpg``, ``a.jpg``, ``a.mp4`` become ``a.jpg``, ``a_2.jpg``, ``a.mp4``. A name
    that occurs later is no repetition's: ``a.jpg``, ``a.jpg``, ``a_2.jpg`` become
    ``a.jpg``, ``a_3.jpg``, ``a_2.jpg``.
    """
    names = list(names)
    taken = set(names)
    unique: dict[str, None] = {}
    # Last number of each name, since thousands may be equal.
    numbers: dict[str, int] = {}
    for name in names:
        stem, suffix = Path(name).stem, Path(name).suffix
        candidate, number = name, numbers.get(name, 1)
        while candidate in unique or (candidate != name and candidate in taken):
            number += 1
            candidate = f'{stem}_{number}{suffix}'
        numbers[name] = number
        unique[candidate] = None
    return list(unique)


def delete_numbered_pictures(folder: Path) -> None:
    """Delete the pictures of an earlier run in a folder, which need not exist.

    They are files whose names begin with three digits or more and an underscore, and
    end in ``.png``. All other files stay.
    """
    for file in folder.glob('*.png'):
        if re.match(r'\d{3,}_', file.name) and file.is_file():
            file.unlink()
