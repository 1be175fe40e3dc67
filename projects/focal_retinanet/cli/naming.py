"""Short lists for messages."""

from collections.abc import Iterable


def few(items: Iterable, most: int = 3, separator: str = ', ') -> str:
    """Name the first items, and say how many more there are."""
    items = list(items)
    shown = separator.join(str(item) for item in items[:most])
    more = len(items) - most
    return f'{shown} and {more} more' if more > 0 else shown
