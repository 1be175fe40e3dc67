"""A user's mistake ends a tool with one clear line instead of a traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something in the user's files or arguments; says which, and what to do."""


@contextmanager
def clear_errors() -> Iterator[None]:
    """Print a user's mistake and exit with status 1; bugs keep their traceback."""
    try:
        yield
    except (UserError, FileNotFoundError) as error:
        # Of several processes, which all see it, the first one says it.
        sys.exit(f'error: {error}' if os.environ.get('RANK', '0') == '0' else 1)
