"""Short lists for messages."""

from collections.abc import Iterable

_SHOWN = 3


def few(items: Iterable) -> str:
    """Name the first items, and say how many more there are."""
    items = list(items)
    shown = ', '.join(str(item) for item in items[:_SHOWN])
    more = len(items) - _SHOWN
    return f'{shown} and {more} more' if more > 0 else shown
