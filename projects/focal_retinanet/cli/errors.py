"""A user's mistake ends a tool with one clear line instead of a traceback."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


class UserError(Exception):
    """A mistake in the user's files or arguments; says where, and what to do."""


@contextmanager
def clear_errors() -> Iterator[None]:
    """Print a user's mistake and exit with status 1; bugs keep their traceback."""
    try:
        yield
    except (UserError, FileNotFoundError) as error:
        _exit(_without_traceback(str(error)))
    except OSError as error:
        if error.filename is None:
            raise
        _exit(f'{error.filename}: {error.strerror}')
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        text = _of_config(error)
        if text is None:
            raise
        _exit(text)


def _of_config(error: Exception) -> str | None:
    """Return what is wrong in a config of which mmengine builds components."""
    # Not at the top: mmengine imports torch, which reads its environment.
    from focal_retinanet.config.unknown_types import describe_unknown_type
    from focal_retinanet.config.wrong_arguments import (
        describe_refused_value,
        describe_wrong_argument,
    )

    if isinstance(error, KeyError):
        text = describe_unknown_type(error)
    elif isinstance(error, TypeError):
        text = describe_wrong_argument(error)
    else:
        text = None
    return text or describe_refused_value(error)


def _exit(text: str) -> NoReturn:
    # All processes of a distributed run see the error; the first one prints it.
    sys.exit(f'error: {text}' if os.environ.get('RANK', '0') == '0' else 1)


def _without_traceback(message: str) -> str:
    """Return the message that an error had in a worker of the data loader.

    torch raises the error again in the process that trains, with the worker's
    traceback as its message.
    """
    caught = re.match(r'Caught (\w+) in .*\.\nOriginal ', message)
    if caught is None:
        return message
    # Tracebacks of its causes come before its own, whose frames are indented.
    own = message.rpartition('Traceback (most recent call last):\n')[2]
    begins = re.search(rf'^(?:\w+\.)*{caught[1]}: ', own, flags=re.MULTILINE)
    return message if begins is None else own[begins.end() :].rstrip('\n')
