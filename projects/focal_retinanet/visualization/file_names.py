"""File names that do not write over each other."""

from collections.abc import Iterable
from pathlib import Path


def unique_names(names: Iterable[str]) -> list[str]:
    """The same names, but those that stand there already get a number.

    ``a.jpg``, ``a.jpg``, ``a.mp4`` are ``a.jpg``, ``a_2.jpg``, ``a.mp4``.
    """
    unique: dict[str, None] = {}
    # Of each name the number it had last: thousands may be the same.
    numbers: dict[str, int] = {}
    for name in names:
        stem, suffix = Path(name).stem, Path(name).suffix
        candidate, number = name, numbers.get(name, 1)
        while candidate in unique:
            number += 1
            candidate = f'{stem}_{number}{suffix}'
        numbers[name] = number
        unique[candidate] = None
    return list(unique)
