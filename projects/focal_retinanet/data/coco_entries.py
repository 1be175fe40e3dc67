"""Entries of a COCO file: the keys that each must have, and their values."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from focal_retinanet.cli.naming import few

_ABSENT = object()


@dataclass(frozen=True)
class _Rule:
    """Rule for a value.

    Attributes:
        expected: Description of a valid value.
        types: Its types, as JSON has them; bool is no int.
        condition: Condition that a value of these types must meet, if there is one.
        is_optional: Whether the key may be missing, or its value None.
    """

    expected: str
    types: tuple[type, ...]
    condition: Callable[[object], bool] | None = None
    is_optional: bool = False

    def is_valid(self, value: object) -> bool:
        if self.is_optional and value is None:
            return True
        return type(value) in self.types and (
            self.condition is None or self.condition(value)
        )

    def are_valid(self, values: list) -> bool:
        """Check all values of a key, much faster than one by one."""
        types = set(map(type, values))
        if self.is_optional:
            types -= {type(None)}
        return types <= set(self.types) and (
            self.condition is None or all(map(self.is_valid, set(values)))
        )


class _BoxRule(_Rule):
    """Rule for a box, whose list cannot be hashed."""

    def are_valid(self, values: list) -> bool:
        is_shaped = (
            set(map(type, values)) <= {list}
            and set(map(len, values)) <= {4}
            and set(map(type, chain.from_iterable(values))) <= {int, float}
        )
        if not is_shaped:
            return False
        try:
            numbers = np.fromiter(chain.from_iterable(values), float)
        except OverflowError:  # an integer beyond float64
            return False
        return not np.isinf(numbers).any()


def _is_box(box: list) -> bool:
    # mmdet leaves out a box with NaN, but would train on an infinite width.
    return len(box) == 4 and all(
        type(v) in (int, float) and not abs(v) > sys.float_info.max for v in box
    )


_ID = _Rule('a whole number or a text', (int, str))
_NUMBER_ID = _Rule(
    'a whole number of 64 bits, without quotes, as pycocotools needs it; number the '
    'images and categories 1, 2, 3, ..., in the annotations too',
    (int,),
    lambda value: -(2**63) <= value < 2**63,
)
_SIZE = _Rule(
    'a number of pixels above 0',
    (int, float),
    lambda value: 0 < value <= sys.float_info.max,
)
_TEXT = _Rule('a text', (str,), bool)
IMAGE = dict(id=_NUMBER_ID, file_name=_TEXT, width=_SIZE, height=_SIZE)
ANNOTATION = dict(
    id=_ID,
    image_id=_NUMBER_ID,
    category_id=_NUMBER_ID,
    bbox=_BoxRule('4 finite numbers [x, y, width, height]', (list,), _is_box),
    area=_Rule('a number of pixels', (int, float), is_optional=True),
    iscrowd=_Rule('0 or 1', (int, bool), lambda v: v in (0, 1), is_optional=True),
    ignore=None,  # anything
)
CATEGORY = dict(id=_NUMBER_ID, name=_TEXT)


def read_columns(
    kind: str, entries: list, rules: dict[str, _Rule | None]
) -> tuple[dict[str, list], list[str]]:
    """Check that every entry has valid values, and that no id occurs twice.

    Args:
        kind: Name of an entry, for errors.
        entries: Entries of one list of a COCO file.
        rules: ``IMAGE``, ``ANNOTATION`` or ``CATEGORY``.

    Returns:
        - The values of each key, one per entry and None for a missing optional one:
          lists are read much faster than hundreds of thousands of dicts.
        - The errors.
    """
    errors: list[str] = []
    no_dict = [entry for entry in entries if not isinstance(entry, dict)]
    if no_dict:
        errors.append(f'{kind} {few(no_dict)} is no object with keys and values')
        entries = [entry for entry in entries if isinstance(entry, dict)]
    columns: dict[str, list] = {}
    for key, rule in rules.items():
        default = None if rule is None or rule.is_optional else _ABSENT
        values = columns[key] = [entry.get(key, default) for entry in entries]
        if rule is not None and not rule.are_valid(values):
            errors += _describe_invalid(kind, entries, key, rule, values)
    ids = columns['id']
    if not _ID.are_valid(ids):
        ids = [id_ for id_ in ids if _ID.is_valid(id_)]
    if len(set(ids)) < len(ids):
        double = [id_ for id_, count in Counter(ids).items() if count > 1]
        errors.append(f'{kind} id {few(double)} stands more than once')
    return columns, errors


def _describe_invalid(
    kind: str, entries: list[dict], key: str, rule: _Rule, values: list
) -> Iterator[str]:
    names = [entry.get('id', f'number {i}') for i, entry in enumerate(entries)]
    pairs = list(zip(names, values, strict=True))
    lacking = [name for name, value in pairs if value is _ABSENT]
    wrong = [n for n, v in pairs if v is not _ABSENT and not rule.is_valid(v)]
    if lacking:
        yield f'{kind} {few(lacking)} has no {key!r}'
    if wrong:
        article = 'an' if key[0] in 'ai' else 'a'
        yield f'{kind} {few(wrong)} has {article} {key} that is not {rule.expected}'
